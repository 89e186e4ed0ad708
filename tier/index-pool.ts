/**
 * Numbers for things in flight. Tables of typed arrays name their rows by small numbers, which this
 * pool hands out and takes back; it grows by doubling, so that in the steady state nothing is made.
 */
import { MemcloudError } from '../common/errors.ts';

/** Hands out row numbers from 0 on. */
export class IndexPool {
  readonly #capacityMax: number;
  readonly #grow: (capacity: number) => void;
  #free: Int32Array;
  #freeCount = 0;
  #capacity = 0;

  /**
   * @param options - `capacity` rows at the start, `capacityMax` the bound
   * @param grow - makes the table's arrays `capacity` long, keeping what is there
   */
  constructor(
    options: { capacity: number; capacityMax: number },
    grow: (capacity: number) => void,
  ) {
    this.#capacityMax = options.capacityMax;
    this.#grow = grow;
    this.#free = new Int32Array(0);
    this.#extend(options.capacity);
  }

  /** Rows that exist, in use or not. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Rows in use. */
  get usedCount(): number {
    return this.#capacity - this.#freeCount;
  }

  /** Takes a row. @throws MemcloudError `ERR_INTERNAL` above the bound, which callers never reach */
  take(): number {
    if (this.#freeCount === 0) this.#extend(this.#capacity * 2);
    this.#freeCount -= 1;
    return this.#free[this.#freeCount] as number;
  }

  /** Gives a row back. */
  give(index: number): void {
    this.#free[this.#freeCount] = index;
    this.#freeCount += 1;
  }

  #extend(capacity: number): void {
    if (capacity > this.#capacityMax) {
      throw new MemcloudError(
        'ERR_INTERNAL',
        `requests in flight: expected at most ${this.#capacityMax}`,
      );
    }
    this.#grow(capacity);
    const free = new Int32Array(capacity);
    for (let index = capacity - 1; index >= this.#capacity; index -= 1) {
      free[this.#freeCount] = index;
      this.#freeCount += 1;
    }
    this.#free = free;
    this.#capacity = capacity;
  }
}

/** A copy of a typed array, `capacity` long. */
export function extended<T extends Uint8Array | Int32Array | Uint32Array | Float64Array>(
  array: T,
  capacity: number,
): T {
  const longer = new (array.constructor as new (length: number) => T)(capacity);
  longer.set(array);
  return longer;
}
