/**
 * The requests that wait for the pool, in a table of fixed size: what the kernel must be answered with
 * when the file system calls back with the request's tag. A tag is a slot's index and how often the slot
 * was used, so that an end that comes twice, or after the slot was given up, meets nothing.
 */
import type { FuseRequest } from './codec.ts';
import { SLOT_COUNT } from './constants.ts';

const INDEX_BITS = 7;
const INDEX_MASK = SLOT_COUNT - 1;
/** Tags stay below 2^30: small integers to V8. */
const GENERATION_MASK = 2 ** 23 - 1;

/** What a slot is. */
export const SlotState = {
  /** Nobody's. */
  FREE: 0,
  /** The file system works on it, the kernel waits. */
  UNDER_WAY: 1,
  /** The file system works on it, but the kernel has its answer already (an interrupt). */
  ANSWERED: 2,
} as const;

/** See the top of the file. Arrays are indexed by slot. */
export class RequestTable {
  /** {@link SlotState} values. */
  readonly state = new Uint8Array(SLOT_COUNT);
  readonly opcode = new Uint16Array(SLOT_COUNT);
  readonly uniqueLow = new Uint32Array(SLOT_COUNT);
  readonly uniqueHigh = new Uint32Array(SLOT_COUNT);
  readonly nodeid = new Float64Array(SLOT_COUNT);
  /** The handle that an open has made. */
  readonly fh = new Float64Array(SLOT_COUNT);
  /** Where an lseek begins, and its `whence`. */
  readonly offset = new Float64Array(SLOT_COUNT);
  readonly whence = new Uint32Array(SLOT_COUNT);
  /** When the kernel said that nobody waits any more; 0 while it has not. */
  readonly interruptedAtMs = new Float64Array(SLOT_COUNT);
  readonly #generation = new Uint32Array(SLOT_COUNT);
  readonly #free = Uint8Array.from({ length: SLOT_COUNT }, (_, index) => INDEX_MASK - index);
  #freeCount = SLOT_COUNT;

  /** Slots in use. */
  get busyCount(): number {
    return SLOT_COUNT - this.#freeCount;
  }

  /** True when {@link RequestTable.take} would find a slot. */
  get hasRoom(): boolean {
    return this.#freeCount > 0;
  }

  /** Takes a slot for a request; the one given back last, whose memory is warm. There must be room. */
  take(request: FuseRequest): number {
    this.#freeCount -= 1;
    const slot = this.#free[this.#freeCount] as number;
    this.state[slot] = SlotState.UNDER_WAY;
    this.opcode[slot] = request.opcode;
    this.uniqueLow[slot] = request.uniqueLow;
    this.uniqueHigh[slot] = request.uniqueHigh;
    this.nodeid[slot] = request.nodeid;
    this.fh[slot] = 0;
    this.offset[slot] = request.offset;
    this.whence[slot] = request.flags;
    this.interruptedAtMs[slot] = 0;
    return slot;
  }

  /** The tag of a slot, for the file system. */
  tag(slot: number): number {
    return ((this.#generation[slot] as number) << INDEX_BITS) | slot;
  }

  /** The slot of a tag, or -1 when it has ended before. */
  slot(tag: number): number {
    const slot = tag & INDEX_MASK;
    const same = this.#generation[slot] === tag >>> INDEX_BITS;
    return same && this.state[slot] !== SlotState.FREE ? slot : -1;
  }

  /** The slot of the kernel's `unique`, or -1. */
  find(uniqueLow: number, uniqueHigh: number): number {
    for (let slot = 0; slot < SLOT_COUNT; slot += 1) {
      if (
        this.state[slot] === SlotState.UNDER_WAY &&
        this.uniqueLow[slot] === uniqueLow &&
        this.uniqueHigh[slot] === uniqueHigh
      ) {
        return slot;
      }
    }
    return -1;
  }

  /** Gives a slot back; its tag is dead from now on. */
  give(slot: number): void {
    this.state[slot] = SlotState.FREE;
    this.#generation[slot] = ((this.#generation[slot] as number) + 1) & GENERATION_MASK;
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
  }
}
