/**
 * Which bytes of a read have come. In structured replies the server chooses the chunks and their
 * order; the read is whole only when every byte came exactly once, and a server that sends a byte
 * twice or forgets one must not pass for one that answered.
 */

/** The most separate runs that are tracked; a sane server sends a few, in order. */
const RUN_COUNT_MAX = 1024;

/** A set of disjoint runs of bytes below a length. */
export class Coverage {
  readonly #length: number;
  /** Start and end by turns, ascending; runs that touch are one. */
  readonly #edges: number[] = [];

  /** @param length - bytes to be covered */
  constructor(length: number) {
    this.#length = length;
  }

  /** True when every byte has come. */
  get complete(): boolean {
    if (this.#length === 0) return true;
    const [start, end] = this.#edges;
    return this.#edges.length === 2 && start === 0 && end === this.#length;
  }

  /** Adds `[start, end)`. Returns false, and changes nothing, when it is empty, out of range, overlaps or is one run too many. */
  add(start: number, end: number): boolean {
    if (start < 0 || end <= start || end > this.#length) return false;
    // The number of edges at or before `start`: even means that `start` lies outside every run.
    let low = 0;
    let high = this.#edges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#edges[middle] ?? 0) <= start) low = middle + 1;
      else high = middle;
    }
    if (low % 2 !== 0 || (this.#edges[low] ?? Infinity) < end) return false;
    const joinsBefore = low > 0 && this.#edges[low - 1] === start;
    const joinsAfter = this.#edges[low] === end;
    if (joinsBefore && joinsAfter) this.#edges.splice(low - 1, 2);
    else if (joinsBefore) this.#edges[low - 1] = end;
    else if (joinsAfter) this.#edges[low] = start;
    else if (this.#edges.length >= 2 * RUN_COUNT_MAX) return false;
    else this.#edges.splice(low, 0, start, end);
    return true;
  }
}
