/**
 * Room inside one arena: first fit over a sorted list of free runs, merged as they come back. The
 * arena is sparse, so a gap costs address space and no RAM; first fit is good enough, and leases
 * nearly all have the same size. Pure; the unit is whatever the caller counts (file pages).
 */
interface Extent {
  start: number;
  length: number;
}

/** The free runs of `[0, size)`. */
export class Extents {
  readonly #size: number;
  readonly #free: Extent[];

  /** @param size - units in all, all free */
  constructor(size: number) {
    this.#size = size;
    this.#free = [{ start: 0, length: size }];
  }

  /** True when nothing is taken. */
  get empty(): boolean {
    return this.#free[0]?.length === this.#size;
  }

  /**
   * Takes `length` units.
   *
   * @returns where they start, or -1 when no free run is that long
   */
  take(length: number): number {
    const index = this.#free.findIndex((extent) => extent.length >= length);
    const extent = this.#free[index];
    if (extent === undefined) return -1;
    const { start } = extent;
    extent.start += length;
    extent.length -= length;
    if (extent.length === 0) this.#free.splice(index, 1);
    return start;
  }

  /** Gives back a run exactly as {@link Extents.take} returned it. */
  give(start: number, length: number): void {
    const found = this.#free.findIndex((extent) => extent.start > start);
    const index = found === -1 ? this.#free.length : found;
    const before = this.#free[index - 1];
    const after = this.#free[index];
    const joinsBefore = before !== undefined && before.start + before.length === start;
    const joinsAfter = after !== undefined && start + length === after.start;
    if (joinsBefore && joinsAfter) {
      before.length += length + after.length;
      this.#free.splice(index, 1);
    } else if (joinsBefore) {
      before.length += length;
    } else if (joinsAfter) {
      after.start = start;
      after.length += length;
    } else {
      this.#free.splice(index, 0, { start, length });
    }
  }
}
