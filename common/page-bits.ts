/**
 * One bit for each page of a device or slab, and how many are set. Ranges are trusted. Pure.
 */

const ALL = 0xffff_ffff;

/** The bits. */
export class PageBits {
  readonly #words: Uint32Array;
  #setCount = 0;

  /** @param pageCount - at least 1; all bits start clear */
  constructor(pageCount: number) {
    this.#words = new Uint32Array(Math.ceil(pageCount / 32));
  }

  /** The bits as bytes, a copy: bit `n` of a page is bit `n % 8` of byte `n / 8`. */
  toBytes(): Buffer {
    const { buffer, byteOffset, byteLength } = this.#words;
    return Buffer.from(new Uint8Array(buffer, byteOffset, byteLength));
  }

  /** The bits that {@link PageBits.toBytes} gave of so many pages; a wrong length throws RangeError. */
  static fromBytes(pageCount: number, bytes: Buffer): PageBits {
    const bits = new PageBits(pageCount);
    if (bytes.length !== bits.#words.byteLength) {
      throw new RangeError(`bits of ${pageCount} pages: got ${bytes.length} bytes`);
    }
    for (let page = 0; page < pageCount; page += 1) {
      if ((((bytes[page >>> 3] as number) >>> (page & 7)) & 1) === 1) bits.set(page, page + 1);
    }
    return bits;
  }

  /** Bits that are set. */
  get setCount(): number {
    return this.#setCount;
  }

  /** True when the bit of `page` is set. */
  isSet(page: number): boolean {
    return ((this.#wordAt(Math.floor(page / 32)) >>> (page % 32)) & 1) === 1;
  }

  /** Sets the bits `[first, end)`. */
  set(first: number, end: number): void {
    for (let page = first; page < end; page += 1) {
      const index = Math.floor(page / 32);
      const word = this.#wordAt(index);
      const bit = 1 << (page % 32);
      if ((word & bit) !== 0) continue;
      this.#words[index] = word | bit;
      this.#setCount += 1;
    }
  }

  /** Clears the bits `[first, end)`. */
  clear(first: number, end: number): void {
    for (let page = first; page < end; page += 1) {
      const index = Math.floor(page / 32);
      const word = this.#wordAt(index);
      const bit = 1 << (page % 32);
      if ((word & bit) === 0) continue;
      this.#words[index] = word & ~bit;
      this.#setCount -= 1;
    }
  }

  /** The first page in `[from, end)` whose bit is set, or `end`. */
  nextSet(from: number, end: number): number {
    let at = from;
    while (at < end) {
      if (at % 32 === 0 && this.#wordAt(at / 32) === 0) at += 32;
      else if (this.isSet(at)) return at;
      else at += 1;
    }
    return end;
  }

  /** One past the run of bits from `from` on that are all as the bit of `from`; at most `end`. */
  runEnd(from: number, end: number): number {
    const set = this.isSet(from);
    const same = set ? ALL : 0;
    let at = from + 1;
    while (at < end) {
      if (at % 32 === 0 && this.#wordAt(at / 32) === same) at += 32;
      else if (this.isSet(at) === set) at += 1;
      else return at;
    }
    return end;
  }

  #wordAt(index: number): number {
    return this.#words[index] ?? 0;
  }
}
