/**
 * How much room a value takes. A value is cut into pieces of at most 64 KiB; each piece lies in a slot of
 * the smallest class that holds it. Classes are the powers of two from 64 B to 64 KiB with three steps
 * between each two, so a slot is at most a quarter larger than its piece (jemalloc, "Size classes"); a
 * long value wastes only in its last piece. Pure.
 */

/** Bytes of a piece, and of the largest slot. */
export const PIECE_SIZE_BYTES = 65536;
/** Bytes of the smallest slot. */
const SLOT_SIZE_MIN_BYTES = 64;
/** Every class is a multiple of this. */
const STEP_BYTES = 16;

/** Bytes of a slot of each class, rising. */
export const SLOT_SIZES_BYTES: readonly number[] = makeSizes();

/** Class of each number of steps of 16 bytes. */
const classBySteps = makeClassTable();

/** The smallest class whose slots hold a piece of 1 to 65536 bytes. */
export function classOf(pieceBytes: number): number {
  return classBySteps[Math.ceil(pieceBytes / STEP_BYTES)] as number;
}

/** Bytes that a piece of 0 to 65536 bytes takes; 0 for none. */
export function slotBytes(pieceBytes: number): number {
  return pieceBytes === 0 ? 0 : (SLOT_SIZES_BYTES[classOf(pieceBytes)] as number);
}

/** Pieces of `bytes` bytes. */
export function pieceCountOf(bytes: number): number {
  return Math.ceil(bytes / PIECE_SIZE_BYTES);
}

/** Bytes that `bytes` bytes take, in slots. */
export function slottedBytes(bytes: number): number {
  const whole = Math.floor(bytes / PIECE_SIZE_BYTES);
  return whole * PIECE_SIZE_BYTES + slotBytes(bytes - whole * PIECE_SIZE_BYTES);
}

function makeSizes(): number[] {
  const sizes = [SLOT_SIZE_MIN_BYTES];
  for (let power = SLOT_SIZE_MIN_BYTES; power < PIECE_SIZE_BYTES; power *= 2) {
    for (let quarter = 1; quarter <= 4; quarter += 1) sizes.push(power + (power / 4) * quarter);
  }
  return sizes;
}

function makeClassTable(): Uint8Array {
  const table = new Uint8Array(PIECE_SIZE_BYTES / STEP_BYTES + 1);
  let sizeClass = 0;
  for (let steps = 0; steps < table.length; steps += 1) {
    if (steps * STEP_BYTES > (SLOT_SIZES_BYTES[sizeClass] as number)) sizeClass += 1;
    table[steps] = sizeClass;
  }
  return table;
}
