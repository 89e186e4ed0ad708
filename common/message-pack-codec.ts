/**
 * MessagePack for the messages that come by the ten thousand: plain values, written into one buffer that
 * is used again and again, read in place with strings that were seen before made only once. It writes
 * what any reader takes, and reads all that our own ends write; the rest (extensions, cut or hostile
 * bytes, depth) it declines, and `common/rpc-codec.ts` asks msgpackr, which is its slow twin in the tests.
 * (docs/adr/0014-rpc-hot-path.md has what this is worth.)
 *
 * https://github.com/msgpack/msgpack/blob/master/spec.md
 */

/** First bytes of the formats: spec.md "Formats". */
const Format = {
  FIXMAP: 0x80,
  FIXARRAY: 0x90,
  FIXSTR: 0xa0,
  NIL: 0xc0,
  FALSE: 0xc2,
  TRUE: 0xc3,
  BIN8: 0xc4,
  BIN16: 0xc5,
  BIN32: 0xc6,
  FLOAT64: 0xcb,
  UINT8: 0xcc,
  UINT16: 0xcd,
  UINT32: 0xce,
  UINT64: 0xcf,
  INT8: 0xd0,
  INT16: 0xd1,
  INT32: 0xd2,
  STR8: 0xd9,
  STR16: 0xda,
  STR32: 0xdb,
  ARRAY16: 0xdc,
  ARRAY32: 0xdd,
  MAP16: 0xde,
  MAP32: 0xdf,
} as const;

const TWO_32 = 2 ** 32;
const INITIAL_SIZE_BYTES = 64 * 1024;
/** Once empty, a buffer that had to grow beyond this is given up. */
const KEPT_SIZE_MAX_BYTES = 1024 * 1024;
/** Longer text is handed to Node whole. */
const SHORT_TEXT_MAX = 48;

/** Writes values one behind the other into a buffer that grows as it must. */
export class MessagePackWriter {
  /** The buffer; only `[0, end)` means anything, until the next write. */
  bytes = Buffer.allocUnsafeSlow(INITIAL_SIZE_BYTES);
  /** Where the next byte goes. */
  end = 0;

  /** Forgets what was written; what was taken from {@link bytes} is overwritten from now on. */
  clear(): void {
    this.end = 0;
    if (this.bytes.length > KEPT_SIZE_MAX_BYTES) {
      this.bytes = Buffer.allocUnsafeSlow(INITIAL_SIZE_BYTES);
    }
  }

  /** Leaves room for a 32-bit length. @returns where it is */
  beginFrame(): number {
    this.#reserve(4);
    this.end += 4;
    return this.end - 4;
  }

  /** Writes the length of all that came since {@link beginFrame}. @returns it */
  endFrame(start: number): number {
    const length = this.end - start - 4;
    this.bytes.writeUInt32BE(length, start);
    return length;
  }

  /** Bytes as they are: something that was encoded before. */
  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.bytes.set(bytes, this.end);
    this.end += bytes.length;
  }

  /**
   * Any plain value: null, booleans, numbers, strings, `Uint8Array` as binary, arrays and objects, whose
   * undefined fields are left out. Undefined itself is nil.
   */
  value(value: unknown): void {
    switch (typeof value) {
      case 'string':
        this.#text(value);
        return;
      case 'number':
        this.#number(value);
        return;
      case 'boolean':
        this.#reserve(1);
        this.bytes[this.end++] = value ? Format.TRUE : Format.FALSE;
        return;
      case 'object':
        if (value !== null) {
          this.#object(value);
          return;
        }
        break;
      default:
        break;
    }
    this.#reserve(1);
    this.bytes[this.end++] = Format.NIL;
  }

  #object(value: object): void {
    if (value instanceof Uint8Array) {
      this.#binary(value);
    } else if (Array.isArray(value)) {
      this.#length(value.length, Format.FIXARRAY, Format.ARRAY16);
      for (const item of value) this.value(item);
    } else {
      this.#map(value as Record<string, unknown>);
    }
  }

  #map(fields: Record<string, unknown>): void {
    let count = 0;
    for (const key in fields) if (fields[key] !== undefined) count += 1;
    this.#length(count, Format.FIXMAP, Format.MAP16);
    for (const key in fields) {
      const value = fields[key];
      if (value === undefined) continue;
      this.#text(key);
      this.value(value);
    }
  }

  /** The head of an array or map. */
  #length(count: number, fix: number, format16: number): void {
    this.#reserve(5);
    if (count < 16) {
      this.bytes[this.end++] = fix + count;
    } else if (count < 0x10000) {
      this.bytes[this.end++] = format16;
      this.end = this.bytes.writeUInt16BE(count, this.end);
    } else {
      this.bytes[this.end++] = format16 + 1;
      this.end = this.bytes.writeUInt32BE(count, this.end);
    }
  }

  #binary(value: Uint8Array): void {
    const { length } = value;
    this.#reserve(length + 5);
    if (length < 0x100) {
      this.bytes[this.end++] = Format.BIN8;
      this.bytes[this.end++] = length;
    } else if (length < 0x10000) {
      this.bytes[this.end++] = Format.BIN16;
      this.end = this.bytes.writeUInt16BE(length, this.end);
    } else {
      this.bytes[this.end++] = Format.BIN32;
      this.end = this.bytes.writeUInt32BE(length, this.end);
    }
    this.bytes.set(value, this.end);
    this.end += length;
  }

  #text(value: string): void {
    const { length } = value;
    if (length <= SHORT_TEXT_MAX && this.#asciiText(value, length)) return;
    // A UTF-16 code unit becomes three bytes at most.
    this.#reserve(length * 3 + 5);
    const size = Buffer.byteLength(value);
    if (size < 32) {
      this.bytes[this.end++] = Format.FIXSTR + size;
    } else if (size < 0x100) {
      this.bytes[this.end++] = Format.STR8;
      this.bytes[this.end++] = size;
    } else if (size < 0x10000) {
      this.bytes[this.end++] = Format.STR16;
      this.end = this.bytes.writeUInt16BE(size, this.end);
    } else {
      this.bytes[this.end++] = Format.STR32;
      this.end = this.bytes.writeUInt32BE(size, this.end);
    }
    this.end += this.bytes.write(value, this.end, size, 'utf8');
  }

  /** Short text of one byte a character, without a call into C++. @returns false when it is another kind */
  #asciiText(value: string, length: number): boolean {
    this.#reserve(length + 2);
    const { bytes } = this;
    let at = this.end;
    if (length < 32) {
      bytes[at++] = Format.FIXSTR + length;
    } else {
      bytes[at++] = Format.STR8;
      bytes[at++] = length;
    }
    for (let index = 0; index < length; index += 1) {
      const code = value.charCodeAt(index);
      if (code > 0x7f) return false;
      bytes[at++] = code;
    }
    this.end = at;
    return true;
  }

  #number(value: number): void {
    this.#reserve(9);
    const { bytes } = this;
    if (value >= 0 && value < TWO_32 && Number.isInteger(value) && !Object.is(value, -0)) {
      if (value < 0x80) {
        bytes[this.end++] = value;
      } else if (value < 0x100) {
        bytes[this.end++] = Format.UINT8;
        bytes[this.end++] = value;
      } else if (value < 0x10000) {
        bytes[this.end++] = Format.UINT16;
        this.end = bytes.writeUInt16BE(value, this.end);
      } else {
        bytes[this.end++] = Format.UINT32;
        this.end = bytes.writeUInt32BE(value, this.end);
      }
    } else if (value > 0 && Number.isSafeInteger(value)) {
      bytes[this.end++] = Format.UINT64;
      this.end = bytes.writeUInt32BE(Math.floor(value / TWO_32), this.end);
      this.end = bytes.writeUInt32BE(value % TWO_32, this.end);
    } else {
      bytes[this.end++] = Format.FLOAT64;
      this.end = bytes.writeDoubleBE(value, this.end);
    }
  }

  #reserve(length: number): void {
    if (this.end + length <= this.bytes.length) return;
    let size = this.bytes.length;
    while (size < this.end + length) size *= 2;
    const grown = Buffer.allocUnsafeSlow(size);
    this.bytes.copy(grown, 0, 0, this.end);
    this.bytes = grown;
  }
}

/** What {@link MessagePackReader.read} returns for bytes that it does not read. */
export const DECLINED: unique symbol = Symbol('declined');

const DEPTH_MAX = 16;
/** Strings that were read before, by a hash of a few of their bytes; a power of two. */
const KNOWN_COUNT = 1024;
const KNOWN_TEXT_MAX = 48;
const WORD_SIZE_BYTES = 4;
const KNOWN_WORD_COUNT = KNOWN_TEXT_MAX / WORD_SIZE_BYTES;

/** Reads one value; keeps nothing of the bytes but short strings. */
export class MessagePackReader {
  readonly #borrows: boolean;
  readonly #known: string[] = new Array<string>(KNOWN_COUNT).fill('');
  /** The bytes of those strings: their length, and so many words for each. */
  readonly #knownLengths = new Uint8Array(KNOWN_COUNT);
  readonly #knownWords = new Int32Array(KNOWN_COUNT * KNOWN_WORD_COUNT);
  #bytes: Buffer = Buffer.alloc(0);
  #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, 0);
  #at = 0;
  #end = 0;
  #declined = false;

  /** @param borrows - binary is left where it lies, and is overwritten with the bytes that are read */
  constructor(borrows = false) {
    this.#borrows = borrows;
  }

  /**
   * Reads the value that fills `[start, end)` exactly.
   *
   * @param bytes - borrowed until the return: binary is copied, unless the reader borrows
   * @returns the value, or {@link DECLINED} when the bytes are not a plain value that fills the range
   */
  read(bytes: Buffer, start: number, end: number): unknown {
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    }
    this.#at = start;
    this.#end = end;
    this.#declined = false;
    const value = this.#value(0);
    return this.#declined || this.#at !== end ? DECLINED : value;
  }

  #decline(): undefined {
    this.#declined = true;
    this.#at = this.#end;
    return undefined;
  }

  #value(depth: number): unknown {
    if (this.#at >= this.#end) return this.#decline();
    const first = this.#bytes[this.#at++] as number;
    if (first < Format.FIXMAP) return first;
    if (first >= 0xe0) return first - 0x100;
    if (first < Format.FIXARRAY) return this.#map(first & 0x0f, depth);
    if (first < Format.FIXSTR) return this.#array(first & 0x0f, depth);
    if (first < Format.NIL) return this.#text(first & 0x1f);
    return this.#long(first, depth);
  }

  #long(first: number, depth: number): unknown {
    switch (first) {
      case Format.NIL:
        return null;
      case Format.FALSE:
        return false;
      case Format.TRUE:
        return true;
      case Format.BIN8:
        return this.#binary(this.#uint(1));
      case Format.BIN16:
        return this.#binary(this.#uint(2));
      case Format.BIN32:
        return this.#binary(this.#uint(4));
      case Format.FLOAT64:
        return this.#float();
      case Format.UINT8:
        return this.#uint(1);
      case Format.UINT16:
        return this.#uint(2);
      case Format.UINT32:
        return this.#uint(4);
      case Format.UINT64:
        return this.#uint64();
      case Format.INT8:
        return (this.#uint(1) << 24) >> 24;
      case Format.INT16:
        return (this.#uint(2) << 16) >> 16;
      case Format.INT32:
        return this.#uint(4) | 0;
      case Format.STR8:
        return this.#text(this.#uint(1));
      case Format.STR16:
        return this.#text(this.#uint(2));
      case Format.STR32:
        return this.#text(this.#uint(4));
      case Format.ARRAY16:
        return this.#array(this.#uint(2), depth);
      case Format.MAP16:
        return this.#map(this.#uint(2), depth);
      default:
        return this.#decline();
    }
  }

  #uint(size: number): number {
    const at = this.#at;
    if (at + size > this.#end) {
      this.#decline();
      return 0;
    }
    this.#at = at + size;
    const bytes = this.#bytes;
    if (size === 1) return bytes[at] as number;
    return size === 2 ? bytes.readUInt16BE(at) : bytes.readUInt32BE(at);
  }

  /** Above 2^53 - 1 a number would not be the one that was sent. */
  #uint64(): number {
    const value = this.#uint(4) * TWO_32 + this.#uint(4);
    if (!Number.isSafeInteger(value)) this.#decline();
    return value;
  }

  #float(): number {
    if (this.#at + 8 > this.#end) {
      this.#decline();
      return 0;
    }
    this.#at += 8;
    return this.#bytes.readDoubleBE(this.#at - 8);
  }

  #binary(length: number): Buffer | undefined {
    const at = this.#at;
    if (at + length > this.#end) return this.#decline();
    this.#at = at + length;
    if (this.#borrows) return this.#bytes.subarray(at, at + length);
    const copy = Buffer.allocUnsafe(length);
    this.#bytes.copy(copy, 0, at, at + length);
    return copy;
  }

  #text(length: number): string | undefined {
    const at = this.#at;
    if (at + length > this.#end) return this.#decline();
    this.#at = at + length;
    if (length === 0) return '';
    if (length > KNOWN_TEXT_MAX) return this.#bytes.toString('utf8', at, at + length);
    const bytes = this.#bytes;
    const hash =
      length * 31 +
      (bytes[at] as number) * 7 +
      (bytes[at + (length >> 1)] as number) * 53 +
      (bytes[at + length - 1] as number) * 173;
    const place = hash & (KNOWN_COUNT - 1);
    if (this.#isKnown(place, at, length)) return this.#known[place];
    const text = bytes.toString('utf8', at, at + length);
    this.#note(place, at, length, text);
    return text;
  }

  /** Word by word: a loop over characters was the dearest part of reading an answer. */
  #isKnown(place: number, at: number, length: number): boolean {
    if (this.#knownLengths[place] !== length) return false;
    const words = this.#knownWords;
    const view = this.#view;
    let word = place * KNOWN_WORD_COUNT;
    let from = at;
    const last = at + length - WORD_SIZE_BYTES;
    for (; from <= last; from += WORD_SIZE_BYTES) {
      if (view.getInt32(from) !== words[word]) return false;
      word += 1;
    }
    return from === at + length || this.#lastWord(from, at + length) === words[word];
  }

  /** The bytes behind the last whole word, fewer than a word. */
  #lastWord(start: number, end: number): number {
    let word = 0;
    for (let at = start; at < end; at += 1) word = (word << 8) | (this.#bytes[at] as number);
    return word;
  }

  #note(place: number, at: number, length: number, text: string): void {
    this.#known[place] = text;
    this.#knownLengths[place] = length;
    let word = place * KNOWN_WORD_COUNT;
    let from = at;
    for (; from <= at + length - WORD_SIZE_BYTES; from += WORD_SIZE_BYTES) {
      this.#knownWords[word] = this.#view.getInt32(from);
      word += 1;
    }
    if (from < at + length) this.#knownWords[word] = this.#lastWord(from, at + length);
  }

  #array(count: number, depth: number): unknown[] | undefined {
    // Each entry has a byte at least: nothing is made of a count that cannot be true.
    if (depth >= DEPTH_MAX || count > this.#end - this.#at) return this.#decline();
    const array: unknown[] = [];
    for (let index = 0; index < count; index += 1) array.push(this.#value(depth + 1));
    return array;
  }

  #map(count: number, depth: number): Record<string, unknown> | undefined {
    if (depth >= DEPTH_MAX || count * 2 > this.#end - this.#at) return this.#decline();
    const map: Record<string, unknown> = {};
    for (let index = 0; index < count; index += 1) {
      const key = this.#value(DEPTH_MAX);
      if (typeof key !== 'string' || key === '__proto__') return this.#decline();
      map[key] = this.#value(depth + 1);
    }
    return map;
  }
}

/** The value with binary of its own: what a borrowing {@link MessagePackReader} read, to be kept. */
export function withOwnBinary(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return value.map(withOwnBinary);
  // Dates and the like are msgpackr's, which copies, and must be refused for what they are.
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  const entries = Object.entries(value).map(([key, item]) => [key, withOwnBinary(item)]);
  return Object.fromEntries(entries) as unknown;
}
