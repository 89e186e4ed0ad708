/**
 * How often and how long the garbage collector stopped this thread, which is the one that serves
 * pages: while it runs, no page moves. The page path makes no object, so what comes is the control
 * path's doing, and this is how one sees that it stays so.
 */
import { PerformanceObserver, constants, type PerformanceEntry } from 'node:perf_hooks';
import v8 from 'node:v8';
import type { GarbageCollectionInfo } from '../common/rpc-process.ts';

/** Bytes in use in every space of the heap but the one for new objects. */
function oldHeapBytes(): number {
  return v8
    .getHeapSpaceStatistics()
    .filter(({ space_name: name }) => !name.startsWith('new_'))
    .reduce((sum, { space_used_size: bytes }) => sum + bytes, 0);
}

/** Counts collections from its making on. */
export class GarbageCollectionWatch {
  readonly #observer: PerformanceObserver;
  #count = 0;
  #majorCount = 0;
  #totalUs = 0;
  #longestUs = 0;

  /** Starts to count. */
  constructor() {
    this.#observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        const { duration, detail } = entry as PerformanceEntry & { detail?: { kind?: number } };
        const us = Math.round(duration * 1000);
        this.#count += 1;
        if (detail?.kind === constants.NODE_PERFORMANCE_GC_MAJOR) this.#majorCount += 1;
        this.#totalUs += us;
        if (us > this.#longestUs) this.#longestUs = us;
      }
    });
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  /** What was counted so far. */
  get info(): GarbageCollectionInfo {
    return {
      count: this.#count,
      majorCount: this.#majorCount,
      totalUs: this.#totalUs,
      longestUs: this.#longestUs,
      oldHeapBytes: oldHeapBytes(),
    };
  }

  /** Ends counting. */
  close(): void {
    this.#observer.disconnect();
  }
}
