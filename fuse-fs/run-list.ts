/** A growing list of runs of pages in typed arrays, emptied as a whole or from its end. Pure. */

const LENGTH_FIRST = 64;

/** The list. */
export class RunList {
  #firsts = new Uint32Array(LENGTH_FIRST);
  #counts = new Uint32Array(LENGTH_FIRST);
  #length = 0;
  #pageCount = 0;

  /** Runs on the list. */
  get length(): number {
    return this.#length;
  }

  /** Pages in all runs. */
  get pageCount(): number {
    return this.#pageCount;
  }

  /** Appends a run, or makes the last one longer. */
  push(first: number, count: number): void {
    this.#pageCount += count;
    const last = this.#length - 1;
    if (last >= 0 && (this.#firsts[last] as number) + (this.#counts[last] as number) === first) {
      this.#counts[last] = (this.#counts[last] as number) + count;
      return;
    }
    if (this.#length === this.#firsts.length) {
      this.#firsts = longer(this.#firsts);
      this.#counts = longer(this.#counts);
    }
    this.#firsts[this.#length] = first;
    this.#counts[this.#length] = count;
    this.#length += 1;
  }

  /** First page of run `index`. */
  first(index: number): number {
    return this.#firsts[index] as number;
  }

  /** Pages of run `index`. */
  count(index: number): number {
    return this.#counts[index] as number;
  }

  /** Takes pages from the front of the last run; the run goes when it is empty. */
  shorten(count: number): void {
    const last = this.#length - 1;
    this.#pageCount -= count;
    this.#firsts[last] = (this.#firsts[last] as number) + count;
    this.#counts[last] = (this.#counts[last] as number) - count;
    if (this.#counts[last] === 0) this.#length -= 1;
  }

  /** Takes every run off. */
  clear(): void {
    this.#length = 0;
    this.#pageCount = 0;
  }
}

function longer(array: Uint32Array): Uint32Array<ArrayBuffer> {
  const copy = new Uint32Array(array.length * 2);
  copy.set(array);
  return copy;
}
