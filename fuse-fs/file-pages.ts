/**
 * Which pages of the volume a file has: finding how many it lacks, giving it new ones, taking them away,
 * and noting that they hold bytes. Walks the page table run by run; nothing here waits for the device.
 */
import type { Damage } from './page-damage.ts';
import type { PageAllocator } from './page-allocator.ts';
import type { PageReclaim } from './page-reclaim.ts';
import type { PageTable } from './page-table.ts';

/** The tables that say where files lie. */
export interface FilePagesState {
  readonly table: PageTable;
  readonly allocator: PageAllocator;
  readonly reclaim: PageReclaim;
  readonly damage: Damage;
}

/** The pages of files. Ranges are pages of a file, `[first, end)`. */
export class FilePages {
  readonly #state: FilePagesState;

  /** @param state - the tables, shared */
  constructor(state: FilePagesState) {
    this.#state = state;
  }

  /** Pages of `[first, end)` that a file does not have. */
  holeCount(file: number, first: number, end: number): number {
    const { table } = this.#state;
    let holes = 0;
    for (let page = first; page < end;) {
      const count = table.run(file, page, end);
      if (table.runPage === -1) holes += count;
      page += count;
    }
    return holes;
  }

  /** Gives a file pages without bytes where it has holes; there must be as many free. */
  fillHoles(file: number, first: number, end: number): void {
    const { table, allocator } = this.#state;
    for (let page = first; page < end;) {
      const count = table.run(file, page, end);
      let done = table.runPage === -1 ? 0 : count;
      while (done < count) {
        const before = page + done === 0 ? -1 : table.get(file, page + done - 1);
        const volumePage = allocator.find(before === -1 ? -1 : before + 1);
        const taken = allocator.take(volumePage, count - done);
        table.set(file, page + done, taken, volumePage);
        done += taken;
      }
      page += count;
    }
  }

  /** Makes pages `[first, end)` of a file holes; with `unwrittenOnly` those that hold no bytes. */
  drop(file: number, first: number, end: number, unwrittenOnly: boolean): void {
    const { table, allocator, reclaim, damage } = this.#state;
    for (let page = first; page < end;) {
      let count = table.run(file, page, end);
      const volumePage = table.runPage;
      if (volumePage !== -1) {
        if (unwrittenOnly) {
          count = allocator.writtenRunEnd(volumePage, volumePage + count) - volumePage;
        }
        if (!unwrittenOnly || !allocator.isWritten(volumePage)) {
          table.clear(file, page, count);
          damage.mend(volumePage, count);
          reclaim.giveUp(volumePage, count);
        }
      }
      page += count;
    }
  }

  /** A write of pages ended: they hold bytes. */
  noteWritten(file: number, first: number, end: number): void {
    const { table, allocator, damage } = this.#state;
    for (let page = first; page < end;) {
      const count = table.run(file, page, end);
      if (table.runPage !== -1) {
        allocator.setWritten(table.runPage, count);
        damage.mend(table.runPage, count);
      }
      page += count;
    }
  }

  /** Pages were read: they are not lost. */
  noteMended(file: number, first: number, end: number): void {
    const { table, damage } = this.#state;
    for (let page = first; page < end;) {
      const count = table.run(file, page, end);
      if (table.runPage !== -1) damage.mend(table.runPage, count);
      page += count;
    }
  }
}
