/**
 * Which pages of the volume are taken by files, and which of those hold bytes. Pages are handed out in
 * runs: next to a page that the caller names, so that a file written from front to back lies in one
 * piece, or else next-fit. Next-fit goes over the lower part of the volume only, a third more than what is
 * taken: the volume leases memory by slabs, and pages strewn over all of it would lease all of it.
 *
 * A taken page starts without bytes, whatever the volume has there: it counts as zeroes until a write
 * of it has ended. A free page whose bytes may still lie at providers is stale; `PageReclaim` trims those.
 */
import { PageBits } from '../common/page-bits.ts';
import { FreeBits } from './free-bits.ts';

/** Pages of a volume at most: what a word of the page table can name. 2 TiB. */
export const VOLUME_PAGE_COUNT_MAX = 2 ** 29 - 1;

/** Next-fit goes over no less than this: a slab. */
const SPAN_PAGE_COUNT_MIN = 4096;

/** The pages of one volume. Ranges are trusted. */
export class PageAllocator {
  /** Pages in all. */
  readonly pageCount: number;
  readonly #free: FreeBits;
  /** Taken pages: holds bytes. Free pages: stale. */
  readonly #written: PageBits;
  #cursor = 0;
  #span = SPAN_PAGE_COUNT_MIN;

  /** @param pageCount - 1 to {@link VOLUME_PAGE_COUNT_MAX}; more are left unused */
  constructor(pageCount: number) {
    this.pageCount = Math.min(pageCount, VOLUME_PAGE_COUNT_MAX);
    this.#free = new FreeBits(this.pageCount);
    this.#written = new PageBits(this.pageCount);
  }

  /** Pages that can be taken now. */
  get freeCount(): number {
    return this.#free.setCount;
  }

  /** Bytes of memory. */
  get sizeBytes(): number {
    return this.#free.sizeBytes + Math.ceil(this.pageCount / 32) * 4;
  }

  /**
   * Finds a free page; there must be one.
   *
   * @param hint - the page that suits best, or -1
   */
  find(hint: number): number {
    if (hint >= 0 && hint < this.pageCount && this.#free.isSet(hint)) return hint;
    let page = this.#cursor < this.#span ? this.#free.next(this.#cursor) : -1;
    if (page === -1 || page >= this.#span) {
      const takenCount = this.pageCount - this.freeCount;
      this.#span = Math.max(SPAN_PAGE_COUNT_MIN, Math.ceil((takenCount * 4) / 3));
      page = this.#free.next(0);
    }
    this.#cursor = page;
    return page;
  }

  /** Takes the run of free pages from `first` on, at most `countMax`. @returns how many */
  take(first: number, countMax: number): number {
    const end = this.#free.runEnd(first, Math.min(this.pageCount, first + countMax));
    this.#free.clear(first, end);
    this.#written.clear(first, end);
    if (this.#cursor >= first && this.#cursor < end) this.#cursor = end;
    return end - first;
  }

  /** Gives taken pages back; they are stale. */
  give(first: number, count: number): void {
    this.#written.set(first, first + count);
    this.#free.set(first, first + count);
  }

  /** A write of taken pages has ended: they hold bytes. */
  setWritten(first: number, count: number): void {
    this.#written.set(first, first + count);
  }

  /** True when a taken page holds bytes; without, it reads as zeroes. */
  isWritten(page: number): boolean {
    return this.#written.isSet(page);
  }

  /** One past the run of taken pages from `first` on that all hold bytes, or all do not; at most `end`. */
  writtenRunEnd(first: number, end: number): number {
    return this.#written.runEnd(first, end);
  }

  /** The first page of `[first, end)` that is free and stale, or `end`. */
  nextStale(first: number, end: number): number {
    let page = this.#written.nextSet(first, end);
    while (page < end && !this.#free.isSet(page)) page = this.#written.nextSet(page + 1, end);
    return page;
  }

  /** Takes free stale pages from `first` on, at most to `end`, to trim them. @returns how many */
  takeStale(first: number, end: number): number {
    const stop = Math.min(this.#free.runEnd(first, end), this.#written.runEnd(first, end));
    this.#free.clear(first, stop);
    return stop - first;
  }

  /** Gives back what {@link PageAllocator.takeStale} took; still stale if the trim failed. */
  giveTrimmed(first: number, count: number, trimmed: boolean): void {
    if (trimmed) this.#written.clear(first, first + count);
    this.#free.set(first, first + count);
  }
}
