/**
 * A value as it lies: a row of pieces of 64 KiB, the last one shorter, each in a slot of its own, so that a
 * value of a gibibyte needs no gibibyte in a row and goes away page by page. A value grows at its end, as
 * uploads do, and at each length takes what a value of that length takes: its last piece moves to a larger
 * slot when it must.
 */
import { PIECE_SIZE_BYTES, pieceCountOf, slotBytes, slottedBytes } from './size-classes.ts';
import { NO_SLOT, type ValueMemory } from './value-memory.ts';

/** Bytes charged for the list of pieces of a value that has several: its objects, and 8 for each piece. */
const LIST_SIZE_BYTES = 256;
const LIST_ENTRY_SIZE_BYTES = 8;

/** Bytes charged for a value of `bytes` bytes, notes included. */
export function valueChargeBytes(bytes: number): number {
  const pieceCount = pieceCountOf(bytes);
  const listBytes = pieceCount > 1 ? LIST_SIZE_BYTES + pieceCount * LIST_ENTRY_SIZE_BYTES : 0;
  return slottedBytes(bytes) + listBytes;
}

/** One value, which may grow. */
export class Pieces {
  readonly #memory: ValueMemory;
  #references = new Uint32Array(1).fill(NO_SLOT);
  #sizeBytes = 0;

  constructor(memory: ValueMemory) {
    this.#memory = memory;
  }

  /** Bytes written. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** The slot of a value of one piece, which is the caller's from now on; {@link NO_SLOT}: it has no bytes. */
  handOver(): number {
    return this.#references[0] as number;
  }

  /**
   * Adds at most 65536 bytes at the end.
   *
   * @returns false, with nothing changed, when the machine has no room
   */
  append(bytes: Uint8Array): boolean {
    if (bytes.length === 0) return true;
    const tailBytes = this.#sizeBytes % PIECE_SIZE_BYTES;
    const here = Math.min(bytes.length, PIECE_SIZE_BYTES - tailBytes);
    const there = bytes.length - here;
    const next = there === 0 ? NO_SLOT : this.#memory.take(there);
    if (there > 0 && next === NO_SLOT) return false;
    if (!this.#growTail(tailBytes, here)) {
      if (there > 0) this.#memory.free(next, 0);
      return false;
    }
    const tail = Math.floor(this.#sizeBytes / PIECE_SIZE_BYTES);
    const slot = this.#references[tail] as number;
    this.#memory.write(slot, tailBytes, there === 0 ? bytes : bytes.subarray(0, here));
    if (there > 0) {
      this.#set(tail + 1, next);
      this.#memory.write(next, 0, bytes.subarray(here));
    }
    this.#sizeBytes += bytes.length;
    return true;
  }

  /** Copies a range, which lies inside the value, to the start of `into`. */
  read(offset: number, length: number, into: Uint8Array): void {
    let done = 0;
    while (done < length) {
      const at = (offset + done) % PIECE_SIZE_BYTES;
      const count = Math.min(length - done, PIECE_SIZE_BYTES - at);
      const slot = this.#references[Math.floor((offset + done) / PIECE_SIZE_BYTES)] as number;
      this.#memory.read(slot, at, count, into, done);
      done += count;
    }
  }

  /** Wipes and frees every piece. */
  free(): void {
    const count = pieceCountOf(this.#sizeBytes);
    for (let piece = 0; piece < count; piece += 1) {
      const bytes = Math.min(PIECE_SIZE_BYTES, this.#sizeBytes - piece * PIECE_SIZE_BYTES);
      this.#memory.free(this.#references[piece] as number, bytes);
    }
    this.#references = new Uint32Array(1).fill(NO_SLOT);
    this.#sizeBytes = 0;
  }

  /** Makes the last piece, or a new one, long enough for `more` bytes behind `tailBytes`. */
  #growTail(tailBytes: number, more: number): boolean {
    const tail = Math.floor(this.#sizeBytes / PIECE_SIZE_BYTES);
    if (tailBytes > 0 && slotBytes(tailBytes) === slotBytes(tailBytes + more)) return true;
    const larger = this.#memory.take(tailBytes + more);
    if (larger === NO_SLOT) return false;
    if (tailBytes > 0) {
      const old = this.#references[tail] as number;
      this.#memory.move(old, larger, tailBytes);
      this.#memory.free(old, tailBytes);
    }
    this.#set(tail, larger);
    return true;
  }

  #set(piece: number, reference: number): void {
    if (piece >= this.#references.length) {
      const longer = new Uint32Array(this.#references.length * 2);
      longer.set(this.#references);
      this.#references = longer;
    }
    this.#references[piece] = reference;
  }
}
