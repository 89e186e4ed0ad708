/**
 * Slots for pieces of values in the provider's memory. Arenas of 256 MiB of address space are cut into
 * runs of 1 MiB; a run holds slots of one size class until its last one is free. Address space costs
 * nothing: RAM is taken page by page when a slot that lies on it is taken, and a page on which no slot is
 * left goes back to the system, but for a stock of {@link IDLE_SIZE_MAX_BYTES} that spares two system
 * calls for each object that comes and goes.
 *
 * A slot is wiped when it is freed, so every byte that no piece covers is zero. In a run the lowest free
 * slot is taken first, which keeps the upper pages free to go.
 */
import { MemcloudError } from '../common/errors.ts';
import type { ObjectArena, ObjectMemory } from '../common/objects.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import { SLOT_SIZES_BYTES, classOf } from './size-classes.ts';
import {
  NO_BITS,
  RUN_PAGE_COUNT,
  RUN_SIZE_BYTES,
  clearBit,
  emptyRun,
  lowestFree,
  setBit,
  type Run,
} from './slot-run.ts';

/** Runs of an arena: 256 MiB of address space. */
const ARENA_RUN_COUNT = 256;
/** Slots of the smallest class in a run; a reference is a run's number times this, plus a slot's. */
const RUN_SLOT_COUNT_MAX = 16384;
/** Runs in all, so that a reference has 32 bits and one is left for "none": 256 GiB. */
const RUN_COUNT_MAX = 2 ** 18 - ARENA_RUN_COUNT;
/** Pages that are taken from the system at once at most, when a run grows. */
const RESERVE_PAGE_COUNT = 8;
/**
 * Bytes of pages without a slot that are kept for the next objects at most. When there are more, half of it
 * stays: what goes then goes in long stretches, which is a hundred times cheaper than page by page.
 */
const IDLE_SIZE_MAX_BYTES = 8 * 2 ** 20;

/** No slot: the reference of a value without bytes. */
export const NO_SLOT = 0xffff_ffff;

/** The slots of one store. */
export class ValueMemory {
  readonly #memory: ObjectMemory;
  /** By number; undefined: the number's arena is gone. */
  readonly #runs: (Run | undefined)[] = [];
  /** Runs of no class. */
  readonly #emptyRuns: Run[] = [];
  readonly #openRuns: Run[][] = SLOT_SIZES_BYTES.map(() => []);
  readonly #freeArenaNumbers: number[] = [];
  #idlePageCount = 0;
  #reservedPageCount = 0;
  #takenBytes = 0;

  constructor(memory: ObjectMemory) {
    this.#memory = memory;
  }

  /** Bytes of slots that are taken. */
  get takenBytes(): number {
    return this.#takenBytes;
  }

  /** Bytes of RAM that are ours, idle ones among them. */
  get reservedBytes(): number {
    return this.#reservedPageCount * PAGE_SIZE_BYTES;
  }

  /** Bytes on pages in use that no slot covers. */
  get looseBytes(): number {
    return this.reservedBytes - this.#idlePageCount * PAGE_SIZE_BYTES - this.#takenBytes;
  }

  /**
   * Takes a slot for a piece of 1 to 65536 bytes; its bytes are zero.
   *
   * @returns its reference, or {@link NO_SLOT} when the machine has no room
   */
  take(pieceBytes: number): number {
    const sizeClass = classOf(pieceBytes);
    const reference = this.#tryTake(sizeClass);
    if (reference !== NO_SLOT || this.#idlePageCount === 0) return reference;
    // What idles in runs of other classes may be all that is missing.
    this.trim();
    return this.#tryTake(sizeClass);
  }

  /**
   * Moves what lies in a slot to the lowest free slot of its size, if that is lower.
   *
   * @param usedBytes - its bytes
   * @returns where it lies now
   */
  lower(reference: number, usedBytes: number): number {
    const run = this.#runOf(reference);
    let lowest = run;
    for (const each of this.#openRuns[run.sizeClass] as Run[]) {
      if (each.number < lowest.number) lowest = each;
    }
    if (lowest === run && run.freeCount === 0) return reference;
    const target = lowest.number * RUN_SLOT_COUNT_MAX + lowestFree(lowest);
    if (target >= reference || this.#takeIn(lowest) === NO_SLOT) return reference;
    this.move(reference, target, usedBytes);
    this.free(reference, usedBytes);
    return target;
  }

  #tryTake(sizeClass: number): number {
    const run = this.#openRuns[sizeClass]?.at(-1) ?? this.#openRun(sizeClass);
    return run === undefined ? NO_SLOT : this.#takeIn(run);
  }

  /** Takes the lowest free slot of a run that has one. */
  #takeIn(run: Run): number {
    const slot = lowestFree(run);
    const sizeBytes = SLOT_SIZES_BYTES[run.sizeClass] as number;
    if (!this.#reserve(run, slot * sizeBytes, sizeBytes)) {
      if (run.freeCount === run.slotCount) this.#closeRun(run);
      return NO_SLOT;
    }
    setBit(run.taken, slot);
    run.freeCount -= 1;
    if (run.freeCount === 0) this.#removeOpen(run);
    this.#countUse(run, slot * sizeBytes, sizeBytes, 1);
    this.#takenBytes += sizeBytes;
    return run.number * RUN_SLOT_COUNT_MAX + slot;
  }

  /** Wipes the first `usedBytes` of a slot, which are all that was written, and frees it. */
  free(reference: number, usedBytes: number): void {
    const run = this.#runOf(reference);
    const sizeBytes = SLOT_SIZES_BYTES[run.sizeClass] as number;
    const slot = reference % RUN_SLOT_COUNT_MAX;
    const start = run.offsetBytes + slot * sizeBytes;
    run.arena.bytes.fill(0, start, start + usedBytes);
    clearBit(run.taken, slot);
    run.hintWord = Math.min(run.hintWord, slot >>> 5);
    run.freeCount += 1;
    this.#takenBytes -= sizeBytes;
    this.#countUse(run, slot * sizeBytes, sizeBytes, -1);
    if (run.freeCount === 1) this.#addOpen(run);
    if (this.#idlePageCount * PAGE_SIZE_BYTES > IDLE_SIZE_MAX_BYTES) this.#shed();
    if (run.freeCount === run.slotCount) this.#closeRun(run);
  }

  /** Bytes of the slot. */
  sizeOf(reference: number): number {
    return SLOT_SIZES_BYTES[this.#runOf(reference).sizeClass] as number;
  }

  /** Writes into a slot, at most to its end. */
  write(reference: number, offset: number, bytes: Uint8Array): void {
    const run = this.#runOf(reference);
    run.arena.bytes.set(bytes, this.#startOf(run, reference) + offset);
  }

  /** Wipes a part of a slot. */
  wipe(reference: number, offset: number, length: number): void {
    const run = this.#runOf(reference);
    const start = this.#startOf(run, reference) + offset;
    run.arena.bytes.fill(0, start, start + length);
  }

  /** Copies `length` bytes out of a slot to `into` at `intoOffset`. */
  read(
    reference: number,
    offset: number,
    length: number,
    into: Uint8Array,
    intoOffset: number,
  ): void {
    const run = this.#runOf(reference);
    const start = this.#startOf(run, reference) + offset;
    run.arena.bytes.copy(into, intoOffset, start, start + length);
  }

  /** Bytes of a slot where they lie: until it is freed or moved, and no longer. */
  view(reference: number, offset: number, length: number): Buffer {
    const run = this.#runOf(reference);
    const start = this.#startOf(run, reference) + offset;
    return run.arena.bytes.subarray(start, start + length);
  }

  /** Copies the first `length` bytes of a slot to the start of another. */
  move(from: number, to: number, length: number): void {
    const target = this.#runOf(to);
    const start = this.#startOf(target, to);
    this.read(from, 0, length, target.arena.bytes, start);
  }

  /**
   * Gives every page without a slot back to the system, and arenas without a run.
   *
   * @returns whether there was such a page
   */
  trim(): boolean {
    const isIdle = this.#idlePageCount > 0;
    for (const run of this.#runs) if (run !== undefined) this.#releaseIdle(run);
    const emptyByArena = new Map<ObjectArena, number>();
    for (const { arena } of this.#emptyRuns) {
      emptyByArena.set(arena, (emptyByArena.get(arena) ?? 0) + 1);
    }
    for (const [arena, count] of emptyByArena) {
      if (count === ARENA_RUN_COUNT) this.#giveArenaBack(arena);
    }
    return isIdle;
  }

  /** Gives everything back. No reference may be used again. */
  close(): void {
    const arenas = new Set<ObjectArena>();
    for (const run of this.#runs) if (run !== undefined) arenas.add(run.arena);
    for (const arena of arenas) this.#memory.giveArenaBack(arena);
    this.#runs.length = 0;
    this.#emptyRuns.length = 0;
    this.#freeArenaNumbers.length = 0;
    for (const open of this.#openRuns) open.length = 0;
    this.#idlePageCount = 0;
    this.#reservedPageCount = 0;
    this.#takenBytes = 0;
  }

  #runOf(reference: number): Run {
    const run = this.#runs[Math.floor(reference / RUN_SLOT_COUNT_MAX)];
    if (run === undefined) throw new MemcloudError('ERR_INTERNAL', 'objects: a slot of no run');
    return run;
  }

  #startOf(run: Run, reference: number): number {
    const slot = reference % RUN_SLOT_COUNT_MAX;
    return run.offsetBytes + slot * (SLOT_SIZES_BYTES[run.sizeClass] as number);
  }

  #openRun(sizeClass: number): Run | undefined {
    if (this.#emptyRuns.length === 0 && !this.#takeArena()) return undefined;
    const run = this.#emptyRuns.pop() as Run;
    run.sizeClass = sizeClass;
    run.slotCount = Math.floor(RUN_SIZE_BYTES / (SLOT_SIZES_BYTES[sizeClass] as number));
    run.freeCount = run.slotCount;
    run.taken = new Uint32Array(Math.ceil(run.slotCount / 32));
    run.hintWord = 0;
    this.#addOpen(run);
    return run;
  }

  /** The run has no slot left: it may serve another class. */
  #closeRun(run: Run): void {
    this.#removeOpen(run);
    run.taken = NO_BITS;
    this.#emptyRuns.push(run);
  }

  #takeArena(): boolean {
    const arenaNumber = this.#freeArenaNumbers.pop() ?? this.#runs.length / ARENA_RUN_COUNT;
    if ((arenaNumber + 1) * ARENA_RUN_COUNT > RUN_COUNT_MAX) return false;
    const arena = this.#tryArena();
    if (arena === undefined) {
      this.#freeArenaNumbers.push(arenaNumber);
      return false;
    }
    const first = arenaNumber * ARENA_RUN_COUNT;
    for (let index = ARENA_RUN_COUNT - 1; index >= 0; index -= 1) {
      this.#emptyRuns.push(emptyRun(arena, first + index, index * RUN_SIZE_BYTES));
    }
    for (const run of this.#emptyRuns.slice(-ARENA_RUN_COUNT).reverse()) {
      this.#runs[run.number] = run;
    }
    return true;
  }

  /** No new file, no new address space: the same as no room. */
  #tryArena(): ObjectArena | undefined {
    try {
      return this.#memory.takeArena(ARENA_RUN_COUNT * RUN_SIZE_BYTES);
    } catch (error) {
      if (error instanceof MemcloudError) return undefined;
      throw error;
    }
  }

  #giveArenaBack(arena: ObjectArena): void {
    const runs = this.#emptyRuns.filter((run) => run.arena === arena);
    const others = this.#emptyRuns.filter((run) => run.arena !== arena);
    this.#emptyRuns.length = 0;
    this.#emptyRuns.push(...others);
    for (const run of runs) this.#runs[run.number] = undefined;
    const first = Math.min(...runs.map((run) => run.number));
    this.#freeArenaNumbers.push(first / ARENA_RUN_COUNT);
    this.#memory.giveArenaBack(arena);
  }

  #addOpen(run: Run): void {
    const open = this.#openRuns[run.sizeClass] as Run[];
    run.place = open.length;
    open.push(run);
  }

  #removeOpen(run: Run): void {
    const open = this.#openRuns[run.sizeClass] as Run[];
    const last = open.pop() as Run;
    if (last !== run) {
      open[run.place] = last;
      last.place = run.place;
    }
    run.place = -1;
  }

  /** Makes the pages under a range ours to touch, and a few behind them. */
  #reserve(run: Run, offset: number, length: number): boolean {
    const end = pageAfter(offset + length);
    let first = Math.floor(offset / PAGE_SIZE_BYTES);
    while (first < end && run.reserved[first] === 1) first += 1;
    if (first === end) return true;
    let last = end;
    const ahead = Math.min(RUN_PAGE_COUNT, Math.max(end, first + RESERVE_PAGE_COUNT));
    while (last < ahead && run.reserved[last] === 0) last += 1;
    if (!this.#reservePages(run, first, last)) {
      if (last === end || !this.#reservePages(run, first, end)) return false;
      last = end;
    }
    for (let page = first; page < last; page += 1) {
      if (run.reserved[page] === 1) continue;
      run.reserved[page] = 1;
      run.idleCount += 1;
      this.#idlePageCount += 1;
      this.#reservedPageCount += 1;
    }
    return true;
  }

  /** Some of the pages may be ours already, which changes nothing. */
  #reservePages(run: Run, first: number, end: number): boolean {
    const offset = run.offsetBytes + first * PAGE_SIZE_BYTES;
    return run.arena.reserve(offset, (end - first) * PAGE_SIZE_BYTES);
  }

  #countUse(run: Run, offset: number, length: number, change: 1 | -1): void {
    const end = pageAfter(offset + length);
    for (let page = Math.floor(offset / PAGE_SIZE_BYTES); page < end; page += 1) {
      const before = run.uses[page] as number;
      run.uses[page] = before + change;
      if (before !== 0 && before + change !== 0) continue;
      run.idleCount -= change;
      this.#idlePageCount -= change;
    }
  }

  /** Gives idle pages back, those of the upper runs first, until half of the stock is left. */
  #shed(): void {
    for (let number = this.#runs.length - 1; number >= 0; number -= 1) {
      if (this.#idlePageCount * PAGE_SIZE_BYTES <= IDLE_SIZE_MAX_BYTES / 2) return;
      const run = this.#runs[number];
      if (run !== undefined) this.#releaseIdle(run);
    }
  }

  /** Gives the idle pages of a run back, each stretch of them by one call. */
  #releaseIdle(run: Run): void {
    let first = 0;
    const end = run.idleCount > 0 ? RUN_PAGE_COUNT : 0;
    while (first < end) {
      let last = first;
      while (last < end && run.reserved[last] === 1 && run.uses[last] === 0) last += 1;
      if (last > first) {
        const bytes = (last - first) * PAGE_SIZE_BYTES;
        run.arena.release(run.offsetBytes + first * PAGE_SIZE_BYTES, bytes);
        run.reserved.fill(0, first, last);
        run.idleCount -= last - first;
        this.#idlePageCount -= last - first;
        this.#reservedPageCount -= last - first;
      }
      first = last + 1;
    }
  }
}

/** The number of the first page behind the byte before `offset`. */
function pageAfter(offset: number): number {
  return Math.ceil(offset / PAGE_SIZE_BYTES);
}
