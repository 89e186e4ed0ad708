/**
 * The requests of one connection that are not answered yet, as columns of typed arrays. A request
 * lives in a slot, and the number of the slot is the tag of its page call, so that neither a request
 * nor its completion makes an object. Free slots form a list through the same column that links the
 * replies waiting for room in the output: a slot is never in both.
 */

/** The end of a list of slots. */
export const NO_SLOT = -1;

/** A fixed number of request slots. The columns are written by the owner of the slot only. */
export class RequestSlots {
  /** Slots in the table. */
  readonly capacity: number;
  /** Request type. */
  readonly command: Uint16Array;
  /** Command flags. */
  readonly flags: Uint16Array;
  /** First half of the cookie. */
  readonly cookieHigh: Uint32Array;
  /** Second half of the cookie. */
  readonly cookieLow: Uint32Array;
  /** First half of the offset as sent. */
  readonly offsetHigh: Uint32Array;
  /** Second half of the offset as sent. */
  readonly offsetLow: Uint32Array;
  /** Offset in bytes. */
  readonly offset: Float64Array;
  /** Length in bytes. */
  readonly length: Float64Array;
  /** Number of the pooled buffer that the slot holds, or -1. */
  readonly buffer: Int32Array;
  /** NBD error of the reply. */
  readonly error: Uint32Array;
  /** The next slot of the list that the slot is in, or {@link NO_SLOT}. */
  readonly next: Int32Array;
  #free = 0;
  #usedCount = 0;

  /** @param capacity - the most requests in flight, at least 1 */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.command = new Uint16Array(capacity);
    this.flags = new Uint16Array(capacity);
    this.cookieHigh = new Uint32Array(capacity);
    this.cookieLow = new Uint32Array(capacity);
    this.offsetHigh = new Uint32Array(capacity);
    this.offsetLow = new Uint32Array(capacity);
    this.offset = new Float64Array(capacity);
    this.length = new Float64Array(capacity);
    this.buffer = new Int32Array(capacity).fill(-1);
    this.error = new Uint32Array(capacity);
    this.next = new Int32Array(capacity);
    for (let slot = 0; slot < capacity; slot += 1) this.next[slot] = slot + 1;
    this.next[capacity - 1] = NO_SLOT;
  }

  /** Slots in use. */
  get usedCount(): number {
    return this.#usedCount;
  }

  /** Takes a free slot, or returns {@link NO_SLOT}. */
  take(): number {
    const slot = this.#free;
    if (slot === NO_SLOT) return NO_SLOT;
    this.#free = this.next[slot] ?? NO_SLOT;
    this.next[slot] = NO_SLOT;
    this.#usedCount += 1;
    return slot;
  }

  /** Gives a slot back. It must be in use and in no list. */
  release(slot: number): void {
    this.next[slot] = this.#free;
    this.#free = slot;
    this.#usedCount -= 1;
  }
}

/** A first-in, first-out list of slots through {@link RequestSlots.next}. */
export class SlotQueue {
  readonly #slots: RequestSlots;
  #head = NO_SLOT;
  #tail = NO_SLOT;

  /** @param slots - the table whose slots are queued */
  constructor(slots: RequestSlots) {
    this.#slots = slots;
  }

  /** True when no slot waits. */
  get empty(): boolean {
    return this.#head === NO_SLOT;
  }

  /** Appends a slot, which must be in use and in no list. */
  push(slot: number): void {
    this.#slots.next[slot] = NO_SLOT;
    if (this.#head === NO_SLOT) this.#head = slot;
    else this.#slots.next[this.#tail] = slot;
    this.#tail = slot;
  }

  /** Takes the first slot, or returns {@link NO_SLOT}. */
  shift(): number {
    const slot = this.#head;
    if (slot === NO_SLOT) return NO_SLOT;
    this.#head = this.#slots.next[slot] ?? NO_SLOT;
    this.#slots.next[slot] = NO_SLOT;
    return slot;
  }
}
