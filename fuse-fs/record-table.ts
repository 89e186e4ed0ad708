/**
 * Records of fixed size by slot number, outside the V8 heap: the ground of all tables of the file
 * system. Records lie in chunks of 4096, each one ArrayBuffer, so that a million of them cost a
 * few hundred objects, growing never copies what is there, and a chunk that empties goes back.
 * New records take the lowest chunk with room: after a burst the high chunks empty and are freed.
 *
 * A record is words of 32 bits; words two by two can be read as one float64, and all as bytes. Within
 * a chunk free records are a list, linked through one word of each. Slots are trusted.
 */

const CHUNK_BITS = 12;

/** Records of a chunk. */
export const RECORDS_PER_CHUNK = 1 << CHUNK_BITS;

const INDEX_MASK = RECORDS_PER_CHUNK - 1;

/** See the top of the file. */
export class RecordTable {
  readonly #recordWords: number;
  readonly #linkWord: number;
  readonly #words: (Uint32Array | undefined)[] = [];
  readonly #numbers: (Float64Array | undefined)[] = [];
  readonly #bytes: (Buffer | undefined)[] = [];
  /** For each chunk: index plus one of the first free record, records ever used, records in use. */
  readonly #freeHead: number[] = [];
  readonly #usedEnd: number[] = [];
  readonly #liveCount: number[] = [];
  /** No chunk below has room. */
  #roomHint = 0;
  /** A chunk that is kept although it may be empty, so that a record at a border does not cost a chunk each time. */
  #spareChunk = -1;
  #count = 0;
  #chunkCount = 0;

  /**
   * @param recordWords - words of a record; even when float64 are kept in it
   * @param linkWord - the word by which free records are linked
   */
  constructor(recordWords: number, linkWord: number) {
    this.#recordWords = recordWords;
    this.#linkWord = linkWord;
  }

  /** Records in use. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of a record. */
  get recordBytes(): number {
    return this.#recordWords * 4;
  }

  /** Bytes taken from the system. */
  get bytes(): number {
    return this.#chunkCount * RECORDS_PER_CHUNK * this.recordBytes;
  }

  /** One past the highest slot that may be in use. */
  get slotEnd(): number {
    return this.#words.length * RECORDS_PER_CHUNK;
  }

  /** Takes a record, all zero. @returns its slot */
  allocate(): number {
    let chunk = this.#roomHint;
    while (this.#liveCount[chunk] === RECORDS_PER_CHUNK) chunk += 1;
    this.#roomHint = chunk;
    const words = this.#words[chunk] ?? this.#addChunk(chunk);
    const free = this.#freeHead[chunk] as number;
    let index = free - 1;
    if (free === 0) {
      index = this.#usedEnd[chunk] as number;
      this.#usedEnd[chunk] = index + 1;
    } else {
      const at = index * this.#recordWords + this.#linkWord;
      this.#freeHead[chunk] = words[at] as number;
      words[at] = 0;
    }
    this.#liveCount[chunk] = (this.#liveCount[chunk] as number) + 1;
    this.#count += 1;
    return chunk * RECORDS_PER_CHUNK + index;
  }

  /** Gives a record back; it is zeroed but for the link. */
  free(slot: number): void {
    const chunk = slot >>> CHUNK_BITS;
    const words = this.#words[chunk] as Uint32Array;
    const index = slot & INDEX_MASK;
    const at = index * this.#recordWords;
    words.fill(0, at, at + this.#recordWords);
    words[at + this.#linkWord] = this.#freeHead[chunk] as number;
    this.#freeHead[chunk] = index + 1;
    this.#liveCount[chunk] = (this.#liveCount[chunk] as number) - 1;
    this.#count -= 1;
    this.#roomHint = Math.min(this.#roomHint, chunk);
    if (this.#liveCount[chunk] === 0) this.#onEmpty(chunk);
  }

  /** True when the slot lies in memory: it is or was a record. */
  isMapped(slot: number): boolean {
    return slot >= 0 && this.#words[Math.floor(slot / RECORDS_PER_CHUNK)] !== undefined;
  }

  /** A word of a record. */
  word(slot: number, word: number): number {
    return (this.#words[slot >>> CHUNK_BITS] as Uint32Array)[
      (slot & INDEX_MASK) * this.#recordWords + word
    ] as number;
  }

  /** Sets a word of a record, modulo 2^32. */
  setWord(slot: number, word: number, value: number): void {
    (this.#words[slot >>> CHUNK_BITS] as Uint32Array)[
      (slot & INDEX_MASK) * this.#recordWords + word
    ] = value;
  }

  /** The float64 number `index` of a record: its words `2 * index` and the next. */
  number(slot: number, index: number): number {
    return (this.#numbers[slot >>> CHUNK_BITS] as Float64Array)[
      (slot & INDEX_MASK) * (this.#recordWords >>> 1) + index
    ] as number;
  }

  /** Sets what {@link RecordTable.number} reads. */
  setNumber(slot: number, index: number, value: number): void {
    (this.#numbers[slot >>> CHUNK_BITS] as Float64Array)[
      (slot & INDEX_MASK) * (this.#recordWords >>> 1) + index
    ] = value;
  }

  /** The bytes of the record's chunk, valid while the record is in use. */
  chunkBytes(slot: number): Buffer {
    return this.#bytes[slot >>> CHUNK_BITS] as Buffer;
  }

  /** Where the record begins in {@link RecordTable.chunkBytes}. */
  byteOffset(slot: number): number {
    return (slot & INDEX_MASK) * this.#recordWords * 4;
  }

  #addChunk(chunk: number): Uint32Array {
    const memory = new ArrayBuffer(RECORDS_PER_CHUNK * this.recordBytes);
    const words = new Uint32Array(memory);
    this.#words[chunk] = words;
    this.#numbers[chunk] = new Float64Array(memory);
    this.#bytes[chunk] = Buffer.from(memory);
    this.#freeHead[chunk] = 0;
    this.#usedEnd[chunk] = 0;
    this.#liveCount[chunk] = 0;
    this.#chunkCount += 1;
    return words;
  }

  #onEmpty(chunk: number): void {
    const spare = this.#spareChunk;
    if (spare === chunk) return;
    if (spare === -1 || this.#words[spare] === undefined || this.#liveCount[spare] !== 0) {
      this.#spareChunk = chunk;
      return;
    }
    const dropped = Math.max(spare, chunk);
    this.#spareChunk = Math.min(spare, chunk);
    this.#words[dropped] = undefined;
    this.#numbers[dropped] = undefined;
    this.#bytes[dropped] = undefined;
    this.#freeHead[dropped] = 0;
    this.#usedEnd[dropped] = 0;
    this.#chunkCount -= 1;
    while (this.#words.length > 0 && this.#words[this.#words.length - 1] === undefined) {
      this.#words.pop();
      this.#liveCount.pop();
    }
  }
}
