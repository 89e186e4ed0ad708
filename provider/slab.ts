/**
 * One slab: a run of sealed pages in an arena, back to back, so that any run of pages is one copy.
 * It keeps the invariant of live-pages.ts (a file page is allocated exactly while a live page lies
 * on it) together with a second one: every byte of an allocated file page that no live page covers
 * is zero. Dead pages are therefore never touched, and a new slab on the same room reads as zeroes.
 *
 * Ranges and buffers are trusted here; ram-store.ts checks them.
 */
import { copyMemory, zeroMemory } from '../common/libc.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';
import type { Arena } from './arena.ts';
import { LivePages, endFilePageOf, firstFilePageOf } from './live-pages.ts';

/** Bytes of the arena that a slab of `pageCount` pages takes: whole file pages, 16 MiB + 64 KiB for 4096. */
export function slabFileBytes(pageCount: number): number {
  return endFilePageOf(pageCount) * PAGE_SIZE_BYTES;
}

/** A slab. It starts empty and must be wiped before its room is given to another. */
export class Slab {
  /** The file that it lies in. */
  readonly arena: Arena;
  /** Bytes from the start of the arena, a multiple of 4096. */
  readonly offsetBytes: number;
  /** Pages, 1 to 65536. */
  readonly pageCount: number;
  /** The epoch of the last page call (`RamStore.epoch`): a small integer, so that stamping makes nothing. */
  lastUse = 0;
  readonly #address: number;
  readonly #live: LivePages;

  constructor(arena: Arena, offsetBytes: number, pageCount: number) {
    this.arena = arena;
    this.offsetBytes = offsetBytes;
    this.pageCount = pageCount;
    this.#address = arena.address + offsetBytes;
    this.#live = new LivePages(pageCount);
  }

  /** Bytes of RAM that the pages hold, exact. */
  get residentBytes(): number {
    return this.#live.filePageCount * PAGE_SIZE_BYTES;
  }

  /** Copies pages out to `to`, an address with room for them; pages never written are zero bytes. */
  read(firstPage: number, pageCount: number, to: number): void {
    const live = this.#live;
    const from = this.#address + firstPage * SEALED_PAGE_SIZE_BYTES;
    if (live.countIn(firstPage, pageCount) === pageCount) {
      copyMemory(to, from, pageCount * SEALED_PAGE_SIZE_BYTES);
      return;
    }
    const endPage = firstPage + pageCount;
    for (let page = firstPage; page < endPage;) {
      const runEnd = live.runEnd(page, endPage);
      const skip = (page - firstPage) * SEALED_PAGE_SIZE_BYTES;
      const length = (runEnd - page) * SEALED_PAGE_SIZE_BYTES;
      if (live.isLive(page)) copyMemory(to + skip, from + skip, length);
      else zeroMemory(to + skip, length);
      page = runEnd;
    }
  }

  /**
   * Copies pages in from the address `from`.
   *
   * @returns false, with nothing changed, when there is no RAM for pages written the first time
   */
  write(firstPage: number, pageCount: number, from: number): boolean {
    const live = this.#live;
    if (live.countIn(firstPage, pageCount) < pageCount) {
      const first = firstFilePageOf(firstPage);
      const end = endFilePageOf(firstPage + pageCount);
      const offset = this.offsetBytes + first * PAGE_SIZE_BYTES;
      if (!this.arena.reserve(offset, (end - first) * PAGE_SIZE_BYTES)) {
        this.#punchFree(first, end);
        return false;
      }
      const held = live.filePageCount;
      live.add(firstPage, pageCount);
      this.arena.residentBytes += (live.filePageCount - held) * PAGE_SIZE_BYTES;
    }
    const to = this.#address + firstPage * SEALED_PAGE_SIZE_BYTES;
    copyMemory(to, from, pageCount * SEALED_PAGE_SIZE_BYTES);
    return true;
  }

  /** Zeroes pages and gives back every file page that no live page lies on any more. */
  trim(firstPage: number, pageCount: number): void {
    const live = this.#live;
    if (live.countIn(firstPage, pageCount) === 0) return;
    const endPage = firstPage + pageCount;
    for (let page = firstPage; page < endPage;) {
      const runEnd = live.runEnd(page, endPage);
      if (live.isLive(page)) {
        const address = this.#address + page * SEALED_PAGE_SIZE_BYTES;
        zeroMemory(address, (runEnd - page) * SEALED_PAGE_SIZE_BYTES);
      }
      page = runEnd;
    }
    const held = live.filePageCount;
    live.remove(firstPage, pageCount);
    this.arena.residentBytes -= (held - live.filePageCount) * PAGE_SIZE_BYTES;
    this.#punchFree(firstFilePageOf(firstPage), endFilePageOf(endPage));
  }

  /** Zeroes everything and gives all RAM back. */
  wipe(): void {
    this.trim(0, this.pageCount);
  }

  #punchFree(firstFilePage: number, endFilePage: number): void {
    for (let at = firstFilePage; at < endFilePage;) {
      const runEnd = this.#live.heldRunEnd(at, endFilePage);
      if (!this.#live.isHeld(at)) {
        const offset = this.offsetBytes + at * PAGE_SIZE_BYTES;
        this.arena.punch(offset, (runEnd - at) * PAGE_SIZE_BYTES);
      }
      at = runEnd;
    }
  }
}
