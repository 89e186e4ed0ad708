/**
 * What a volume knows of each of its pages: 13 bytes in typed arrays, zero pages of which the
 * kernel has not even backed (a thin volume of 64 GiB costs what is touched). A page is a hole, or
 * filled with one repeated 64-bit word and kept nowhere, or stored sealed on providers. The newest
 * bytes of any page may still be in the ring, which then holds its slot number.
 *
 * The two version words do double duty: versions come from one counter of the volume, so a page
 * that is not sealed needs none, and its words hold the fill pattern instead.
 *
 * The arrays are shared memory, so that several I/O threads can serve one volume later.
 */

/** Where the bytes of a page are. */
export const PageState = {
  /** Never written or trimmed: reads as zeroes. */
  HOLE: 0,
  /** One 64-bit word over and over, kept in the version words. */
  FILLED: 1,
  /** Sealed under its version, on the slab's replica set or in the ring. */
  SEALED: 2,
  /** Every copy is gone. */
  LOST: 3,
} as const;

/** One of the values of {@link PageState}. */
export type PageStateValue = (typeof PageState)[keyof typeof PageState];

/** Bytes of metadata that a {@link PageMap} keeps for each page. */
export const PAGE_MAP_BYTES_PER_PAGE = 1 + 4 + 4 + 4;

/** Bytes of a page in {@link PageMap.copyOut}. */
export const PAGE_RECORD_BYTES = 1 + 4 + 4;

function bytesOf(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** The per-page arrays of one volume. Page numbers are not checked: the callers have done so. */
export class PageMap {
  /** Pages in the volume. */
  readonly pageCount: number;
  readonly #state: Uint8Array;
  readonly #wordLow: Uint32Array;
  readonly #wordHigh: Uint32Array;
  /** Ring slot plus one, so that zeroed memory means none. */
  readonly #ringSlot: Uint32Array;

  /** @param pageCount - 1 to 2^32 - 1 */
  constructor(pageCount: number) {
    this.pageCount = pageCount;
    this.#state = new Uint8Array(new SharedArrayBuffer(pageCount));
    this.#wordLow = new Uint32Array(new SharedArrayBuffer(pageCount * 4));
    this.#wordHigh = new Uint32Array(new SharedArrayBuffer(pageCount * 4));
    this.#ringSlot = new Uint32Array(new SharedArrayBuffer(pageCount * 4));
  }

  /** Where the bytes of the page are. */
  state(page: number): PageStateValue {
    return this.#state[page] as PageStateValue;
  }

  /** Low 32 bits of the version (SEALED) or of the fill word (FILLED). */
  wordLow(page: number): number {
    return this.#wordLow[page] as number;
  }

  /** High 32 bits of the version (SEALED) or of the fill word (FILLED). */
  wordHigh(page: number): number {
    return this.#wordHigh[page] as number;
  }

  /** The ring slot with the newest bytes of the page, or -1. */
  ringSlot(page: number): number {
    return (this.#ringSlot[page] as number) - 1;
  }

  /** Records that slot `slot` of the ring holds the newest bytes; -1 for none. */
  setRingSlot(page: number, slot: number): void {
    this.#ringSlot[page] = slot + 1;
  }

  /** Sets the state and both words. */
  set(page: number, state: PageStateValue, wordLow: number, wordHigh: number): void {
    this.#state[page] = state;
    this.#wordLow[page] = wordLow;
    this.#wordHigh[page] = wordHigh;
  }

  /**
   * Copies what is known of a run of pages out, without the ring slots: `pageCount` states, then the
   * low words, then the high words, little endian; {@link PAGE_RECORD_BYTES} for each page.
   */
  copyOut(firstPage: number, pageCount: number, into: Buffer): void {
    const end = firstPage + pageCount;
    into.set(this.#state.subarray(firstPage, end));
    into.set(bytesOf(this.#wordLow.subarray(firstPage, end)), pageCount);
    into.set(bytesOf(this.#wordHigh.subarray(firstPage, end)), pageCount * 5);
  }

  /** Takes back what {@link PageMap.copyOut} gave; the states were checked. */
  copyIn(firstPage: number, pageCount: number, from: Buffer): void {
    const end = firstPage + pageCount;
    this.#state.set(from.subarray(0, pageCount), firstPage);
    const low = bytesOf(this.#wordLow.subarray(firstPage, end));
    low.set(from.subarray(pageCount, pageCount * 5));
    bytesOf(this.#wordHigh.subarray(firstPage, end)).set(from.subarray(pageCount * 5));
  }

  /** True when the page reads as zeroes without asking anybody. */
  isZero(page: number): boolean {
    const state = this.#state[page];
    return (
      state === PageState.HOLE ||
      (state === PageState.FILLED && this.#wordLow[page] === 0 && this.#wordHigh[page] === 0)
    );
  }

  /** The end of the run of pages after `page`, at most `end`, that are in the same state. */
  runEnd(page: number, end: number): number {
    const state = this.#state[page];
    const zero = this.isZero(page);
    let at = page + 1;
    while (at < end && this.#state[at] === state && this.isZero(at) === zero) at += 1;
    return at;
  }
}
