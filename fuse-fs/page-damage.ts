/**
 * Pages of files whose bytes the pool has lost, as reads found out. A page is mended when it is written
 * anew, given up, or read after all. Empty in a healthy mount. Pure.
 */

/** The pages. */
export class Damage {
  /** Volume page -> file. */
  readonly #files = new Map<number, number>();
  /** File -> lost pages. */
  readonly #counts = new Map<number, number>();

  /** True when no page is lost: the common case, asked before the walks below. */
  get isEmpty(): boolean {
    return this.#files.size === 0;
  }

  /** True when the file has lost pages. */
  has(file: number): boolean {
    return this.#counts.has(file);
  }

  /** A page of a file is lost. */
  add(file: number, volumePage: number): void {
    if (this.#files.has(volumePage)) return;
    this.#files.set(volumePage, file);
    this.#counts.set(file, (this.#counts.get(file) ?? 0) + 1);
  }

  /** Pages were written, read or given up. */
  mend(firstVolumePage: number, count: number): void {
    if (this.#files.size === 0) return;
    for (let page = firstVolumePage; page < firstVolumePage + count; page += 1) {
      const file = this.#files.get(page);
      if (file === undefined) continue;
      this.#files.delete(page);
      const left = (this.#counts.get(file) ?? 1) - 1;
      if (left === 0) this.#counts.delete(file);
      else this.#counts.set(file, left);
    }
  }
}
