/**
 * Which pages are being read, changed and written back (a write that covers only part of a page).
 * Writers of such a page take turns; almost always nobody holds a lock, and asking costs one
 * comparison.
 */

/** Locks by page number, first come first served. */
export class PageLocks {
  /** The end of the last turn that was asked for, for each locked page. */
  readonly #last = new Map<number, Promise<void>>();

  /** True when no page is locked. */
  get idle(): boolean {
    return this.#last.size === 0;
  }

  /** True when a page of the run is locked. */
  overlaps(firstPage: number, pageCount: number): boolean {
    for (const page of this.#last.keys()) {
      if (page >= firstPage && page < firstPage + pageCount) return true;
    }
    return false;
  }

  /** Resolves when none of the locks that lie in the run now is held any more. */
  async settled(firstPage: number, pageCount: number): Promise<void> {
    const held: Promise<void>[] = [];
    for (const [page, last] of this.#last) {
      if (page >= firstPage && page < firstPage + pageCount) held.push(last);
    }
    await Promise.all(held);
  }

  /** Runs `task` alone on `page`. */
  async run<T>(page: number, task: () => Promise<T>): Promise<T> {
    const before = this.#last.get(page);
    const done = deferred();
    this.#last.set(page, done.promise);
    await before;
    try {
      return await task();
    } finally {
      if (this.#last.get(page) === done.promise) this.#last.delete(page);
      done.resolve();
    }
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}
