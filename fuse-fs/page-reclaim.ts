/**
 * The way of a page from the file that gave it up to the next one. Reads and writes that were under way
 * when it was given up may still touch it, so it is handed out again only when they have ended: pages
 * wait for a grace period, as in RCU (McKenney and Slingwine, 1998). Calls under way belong to one of two
 * generations; a period begins by turning new calls to the other generation, and ends with the last call
 * of the old one. Pages given up meanwhile wait for the next period.
 *
 * Then the page is free, but its bytes are still at the providers. A little later, so that pages that are
 * taken again at once are not trimmed in vain, runs of those that are still free are trimmed.
 */
import type { PageAllocator } from './page-allocator.ts';
import { RunList } from './run-list.ts';

/** From the first page that becomes free until free pages are trimmed, milliseconds. */
const TRIM_DELAY_MS = 20;

/** Pages trimmed in one turn; the rest follows in the next, so that requests are answered between. */
const TRIM_TURN_PAGE_COUNT_MAX = 16_384;

/** Runs to look at at most; beyond, all of the volume is looked at. */
const STALE_RUN_COUNT_MAX = 65_536;

/** Trims under way at most. */
const TRIM_ACTIVE_MAX = 64;

/** What the reclaimer needs of its store. */
export interface ReclaimHost {
  /** Trims pages; {@link PageReclaim.onTrimmed} tells the end. */
  trim(slot: number, first: number, count: number): void;
  /** Runs a task later. */
  after(delayMs: number, task: () => void): void;
  /** Pages became free. */
  onPagesFree(): void;
}

/** The pages between files. */
export class PageReclaim {
  readonly #allocator: PageAllocator;
  readonly #host: ReclaimHost;
  /** Calls under way of each generation. */
  readonly #callCounts = new Uint32Array(2);
  #generation: 0 | 1 = 0;
  #inPeriod = false;
  /** Given up in this period, and before it began. */
  #waiting = new RunList();
  #draining = new RunList();
  /** Where stale free pages may be. */
  readonly #stale = new RunList();
  #sweepPlanned = false;
  readonly #sweepTask = (): void => this.#sweep();
  readonly #trimFirsts = new Uint32Array(TRIM_ACTIVE_MAX);
  readonly #trimCounts = new Uint32Array(TRIM_ACTIVE_MAX);
  /** Slots of trims that are not under way. */
  readonly #trimSlots = Uint8Array.from({ length: TRIM_ACTIVE_MAX }, (_, slot) => slot);
  #trimSlotCount = TRIM_ACTIVE_MAX;
  #trimmingPageCount = 0;
  #closed = false;

  /** @param host - its calls may come before a call of this returns */
  constructor(allocator: PageAllocator, host: ReclaimHost) {
    this.#allocator = allocator;
    this.#host = host;
  }

  /** Pages that no file has and that are not free yet; they will be, by themselves. */
  get pendingPageCount(): number {
    return this.#waiting.pageCount + this.#draining.pageCount + this.#trimmingPageCount;
  }

  /** A call that touches pages begins. @returns its generation, for {@link PageReclaim.leave} */
  enter(): 0 | 1 {
    this.#callCounts[this.#generation] = (this.#callCounts[this.#generation] as number) + 1;
    return this.#generation;
  }

  /** It has ended. */
  leave(generation: number): void {
    this.#callCounts[generation] = (this.#callCounts[generation] as number) - 1;
    if (this.#inPeriod && generation !== this.#generation) this.#endPeriods();
  }

  /** A file gives pages up. */
  giveUp(first: number, count: number): void {
    this.#waiting.push(first, count);
    if (!this.#inPeriod) {
      this.#beginPeriod();
      this.#endPeriods();
    }
  }

  /** The trim of a slot has ended. */
  onTrimmed(slot: number, trimmed: boolean): void {
    const count = this.#trimCounts[slot] as number;
    this.#trimmingPageCount -= count;
    this.#trimSlots[this.#trimSlotCount] = slot;
    this.#trimSlotCount += 1;
    this.#allocator.giveTrimmed(this.#trimFirsts[slot] as number, count, trimmed);
    if (this.#stale.length > 0) this.#plan(0);
    this.#host.onPagesFree();
  }

  /** No more trims. */
  close(): void {
    this.#closed = true;
  }

  #beginPeriod(): void {
    const empty = this.#draining;
    this.#draining = this.#waiting;
    this.#waiting = empty;
    this.#generation = this.#generation === 0 ? 1 : 0;
    this.#inPeriod = true;
  }

  /** Ends the period if its calls have ended, and the next one if there were none. */
  #endPeriods(): void {
    let freed = false;
    while (this.#inPeriod && this.#callCounts[this.#generation === 0 ? 1 : 0] === 0) {
      const runs = this.#draining;
      for (let index = 0; index < runs.length; index += 1) {
        this.#allocator.give(runs.first(index), runs.count(index));
        this.#stale.push(runs.first(index), runs.count(index));
      }
      runs.clear();
      freed = true;
      this.#inPeriod = false;
      if (this.#waiting.length > 0) this.#beginPeriod();
    }
    if (!freed) return;
    if (this.#stale.length > STALE_RUN_COUNT_MAX) {
      this.#stale.clear();
      this.#stale.push(0, this.#allocator.pageCount);
    }
    this.#plan(TRIM_DELAY_MS);
    this.#host.onPagesFree();
  }

  #plan(delayMs: number): void {
    if (this.#sweepPlanned || this.#closed) return;
    this.#sweepPlanned = true;
    this.#host.after(delayMs, this.#sweepTask);
  }

  /** Trims runs of free pages that still have bytes at providers. */
  #sweep(): void {
    this.#sweepPlanned = false;
    let budget = TRIM_TURN_PAGE_COUNT_MAX;
    while (!this.#closed && this.#stale.length > 0 && this.#trimSlotCount > 0 && budget > 0) {
      const last = this.#stale.length - 1;
      const first = this.#stale.first(last);
      const end = first + Math.min(budget, this.#stale.count(last));
      const page = this.#allocator.nextStale(first, end);
      const count = page === end ? 0 : this.#allocator.takeStale(page, end);
      this.#stale.shorten(page + count - first);
      budget -= page + count - first;
      if (count > 0) this.#trim(page, count);
    }
    // Without a slot the end of a trim goes on.
    if (this.#stale.length > 0 && this.#trimSlotCount > 0) this.#plan(0);
  }

  #trim(first: number, count: number): void {
    this.#trimSlotCount -= 1;
    const slot = this.#trimSlots[this.#trimSlotCount] as number;
    this.#trimFirsts[slot] = first;
    this.#trimCounts[slot] = count;
    this.#trimmingPageCount += count;
    this.#host.trim(slot, first, count);
  }
}
