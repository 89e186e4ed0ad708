/**
 * Which sealed pages of a slab hold data, one bit each, and from that alone which 4 KiB pages of
 * the backing file are resident.
 *
 * Sealed pages are 4112 bytes and lie back to back, so their borders walk through the file pages:
 * sealed page p covers the bytes [4112 p, 4112 p + 4112), and a file page is shared by at most two
 * of them. The store keeps one rule: a file page is allocated if and only if a live sealed page
 * lies on it. So nothing else has to be remembered, the resident bytes are exact, and a file page
 * goes back to the system with the second of its two sealed pages, in whatever pieces they are
 * trimmed. (With "punch what lies whole inside the range" instead, page-wise trims would give back
 * nothing, because almost no file page lies inside one sealed page.)
 *
 * Pure: no memory is touched here.
 */
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';

/** The first file page that the sealed page `page` lies on; file pages are counted from the slab's start. */
export function firstFilePageOf(page: number): number {
  return Math.floor((page * SEALED_PAGE_SIZE_BYTES) / PAGE_SIZE_BYTES);
}

/** One past the last file page that the sealed pages before `endPage` lie on: 4112 for 4096 pages. */
export function endFilePageOf(endPage: number): number {
  return Math.ceil((endPage * SEALED_PAGE_SIZE_BYTES) / PAGE_SIZE_BYTES);
}

function countBits(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return (((bits + (bits >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/** Bits `[first, first + count)` of a word; `count` is 1 to 32. */
function maskOf(first: number, count: number): number {
  return count === 32 ? -1 : ((1 << count) - 1) << first;
}

/** The live pages of one slab. Ranges are trusted: the store has checked them. */
export class LivePages {
  /** Pages in the slab. */
  readonly pageCount: number;
  readonly #words: Uint32Array;
  #liveCount = 0;
  #filePageCount = 0;

  /** @param pageCount - 1 to 65536; all pages start dead */
  constructor(pageCount: number) {
    this.pageCount = pageCount;
    this.#words = new Uint32Array(LivePages.sizeBytes(pageCount) / 4);
  }

  /** Bytes of the bit map of `pageCount` pages. */
  static sizeBytes(pageCount: number): number {
    return Math.ceil(pageCount / 32) * 4;
  }

  /** Pages that hold data. */
  get liveCount(): number {
    return this.#liveCount;
  }

  /** File pages that a live page lies on: what is resident. */
  get filePageCount(): number {
    return this.#filePageCount;
  }

  /** True when `page` holds data. */
  isLive(page: number): boolean {
    return ((this.#wordAt(page >>> 5) >>> (page & 31)) & 1) === 1;
  }

  /** How many of the pages `[first, first + count)` hold data. */
  countIn(first: number, count: number): number {
    let total = 0;
    for (let at = first, left = count; left > 0;) {
      const length = Math.min(32 - (at & 31), left);
      total += countBits(this.#wordAt(at >>> 5) & maskOf(at & 31, length));
      at += length;
      left -= length;
    }
    return total;
  }

  /** One past the run of pages from `from` on that are all as live or as dead as `from` is; at most `end`. */
  runEnd(from: number, end: number): number {
    const live = this.isLive(from);
    let at = from + 1;
    while (at < end && this.isLive(at) === live) at += 1;
    return at;
  }

  /** True when a live page lies on file page `filePage`. */
  isHeld(filePage: number): boolean {
    const startBytes = filePage * PAGE_SIZE_BYTES;
    const first = Math.floor(startBytes / SEALED_PAGE_SIZE_BYTES);
    if (this.isLive(first)) return true;
    const last = Math.floor((startBytes + PAGE_SIZE_BYTES - 1) / SEALED_PAGE_SIZE_BYTES);
    return last !== first && last < this.pageCount && this.isLive(last);
  }

  /** One past the run of file pages from `from` on that are all as held or as free as `from` is; at most `end`. */
  heldRunEnd(from: number, end: number): number {
    const held = this.isHeld(from);
    let at = from + 1;
    while (at < end && this.isHeld(at) === held) at += 1;
    return at;
  }

  /** Marks `[first, first + count)` live. */
  add(first: number, count: number): void {
    const held = this.#heldAround(first, count);
    this.#liveCount += count - this.countIn(first, count);
    for (let at = first, left = count; left > 0;) {
      const length = Math.min(32 - (at & 31), left);
      this.#words[at >>> 5] = this.#wordAt(at >>> 5) | maskOf(at & 31, length);
      at += length;
      left -= length;
    }
    this.#filePageCount += this.#heldAround(first, count) - held;
  }

  /** Marks `[first, first + count)` dead. */
  remove(first: number, count: number): void {
    const held = this.#heldAround(first, count);
    this.#liveCount -= this.countIn(first, count);
    for (let at = first, left = count; left > 0;) {
      const length = Math.min(32 - (at & 31), left);
      this.#words[at >>> 5] = this.#wordAt(at >>> 5) & ~maskOf(at & 31, length);
      at += length;
      left -= length;
    }
    this.#filePageCount += this.#heldAround(first, count) - held;
  }

  #heldAround(first: number, count: number): number {
    const end = endFilePageOf(first + count);
    let held = 0;
    for (let filePage = firstFilePageOf(first); filePage < end; filePage += 1) {
      if (this.isHeld(filePage)) held += 1;
    }
    return held;
  }

  #wordAt(index: number): number {
    return this.#words[index] ?? 0;
  }
}
