/**
 * The names: entries (directory, name) -> inode, 40 bytes each, the name in byte cells. Two structures run
 * through the entries:
 *
 * - a hash table with chains, grown and shrunk by *linear hashing* (W. Litwin, 1980): each insertion
 *   that makes it too full splits one bucket, each removal that makes it too empty joins two, so
 *   that no call ever waits for a whole table to be moved;
 * - for each directory a list of its entries in the order of their serial numbers, which never repeat
 *   and only rise. A serial number is therefore a place in the directory that stays good whatever
 *   comes and goes: the cookie of readdir.
 *
 * The hash is seeded, so that nobody can prepare names that all fall into one bucket.
 */
import type { ByteCells } from './byte-cells.ts';
import { InodeWord, type Inodes } from './inodes.ts';
import { RecordTable } from './record-table.ts';

/** The float64 of an entry. */
const SERIAL = 0;

/** The words of an entry; slots of entries are plus one, 0 is none. */
const Word = {
  PARENT: 2,
  CHILD: 3,
  NAME: 4,
  NAME_LENGTH: 5,
  HASH: 6,
  NEXT: 7,
  PREVIOUS: 8,
  CHAIN: 9,
} as const;

const RECORD_WORDS = 10;

/** Bytes of an entry and its share of the hash table, without the name. */
export const DENTRY_BYTES = RECORD_WORDS * 4 + 4;

const BUCKET_COUNT_MIN = 256;
const BUCKETS_PER_CHUNK_BITS = 12;
const BUCKETS_PER_CHUNK = 1 << BUCKETS_PER_CHUNK_BITS;

/** Serial numbers up to this one are left for `.` and `..`. */
export const SERIAL_RESERVED = 2;

/** See the top of the file. */
export class Dentries {
  readonly #table = new RecordTable(RECORD_WORDS, Word.NEXT);
  readonly #inodes: Inodes;
  readonly #cells: ByteCells;
  readonly #seed: number;
  readonly #buckets: Uint32Array[] = [new Uint32Array(BUCKETS_PER_CHUNK)];
  #bucketCount = BUCKET_COUNT_MIN;
  /** The greatest power of two that is at most the count of buckets. */
  #roundSize = BUCKET_COUNT_MIN;
  #lastSerial = SERIAL_RESERVED;

  /**
   * @param inodes - whose FIRST_ENTRY and LAST_ENTRY this keeps
   * @param cells - where names go
   * @param seed - of the hash: 32 random bits
   */
  constructor(inodes: Inodes, cells: ByteCells, seed: number) {
    this.#inodes = inodes;
    this.#cells = cells;
    this.#seed = seed | 0;
  }

  /** Entries. */
  get count(): number {
    return this.#table.count;
  }

  /** Bytes taken from the system, without the names. */
  get bytes(): number {
    return this.#table.bytes + this.#buckets.length * BUCKETS_PER_CHUNK * 4;
  }

  /** The newest serial number. */
  get lastSerial(): number {
    return this.#lastSerial;
  }

  /** @returns the entry, or -1 */
  find(parent: number, name: string): number {
    const hash = this.#hash(parent, name);
    let next = this.#head(this.#bucketOf(hash));
    while (next !== 0) {
      const entry = next - 1;
      if (
        this.#table.word(entry, Word.HASH) === hash &&
        this.#table.word(entry, Word.PARENT) === parent &&
        this.#table.word(entry, Word.NAME_LENGTH) === name.length &&
        this.#cells.equals(this.#table.word(entry, Word.NAME), name)
      ) {
        return entry;
      }
      next = this.#table.word(entry, Word.CHAIN);
    }
    return -1;
  }

  /** Adds an entry that is not there, behind all others of the directory. @returns the entry */
  add(parent: number, name: string, child: number): number {
    const entry = this.#table.allocate();
    const hash = this.#hash(parent, name);
    this.#lastSerial += 1;
    this.#table.setNumber(entry, SERIAL, this.#lastSerial);
    this.#table.setWord(entry, Word.PARENT, parent);
    this.#table.setWord(entry, Word.CHILD, child);
    this.#table.setWord(entry, Word.NAME, this.#cells.put(name));
    this.#table.setWord(entry, Word.NAME_LENGTH, name.length);
    this.#table.setWord(entry, Word.HASH, hash);
    const last = this.#inodes.word(parent, InodeWord.LAST_ENTRY);
    this.#table.setWord(entry, Word.PREVIOUS, last);
    if (last === 0) this.#inodes.setWord(parent, InodeWord.FIRST_ENTRY, entry + 1);
    else this.#table.setWord(last - 1, Word.NEXT, entry + 1);
    this.#inodes.setWord(parent, InodeWord.LAST_ENTRY, entry + 1);
    const bucket = this.#bucketOf(hash);
    this.#table.setWord(entry, Word.CHAIN, this.#head(bucket));
    this.#setHead(bucket, entry + 1);
    if (this.#table.count > this.#bucketCount) this.#split();
    return entry;
  }

  /** Removes an entry. */
  remove(entry: number): void {
    this.#unchain(entry);
    const parent = this.#table.word(entry, Word.PARENT);
    const next = this.#table.word(entry, Word.NEXT);
    const previous = this.#table.word(entry, Word.PREVIOUS);
    if (previous === 0) this.#inodes.setWord(parent, InodeWord.FIRST_ENTRY, next);
    else this.#table.setWord(previous - 1, Word.NEXT, next);
    if (next === 0) this.#inodes.setWord(parent, InodeWord.LAST_ENTRY, previous);
    else this.#table.setWord(next - 1, Word.PREVIOUS, previous);
    this.#cells.free(this.#table.word(entry, Word.NAME));
    this.#table.free(entry);
    // Two at a time, to keep up: there are up to two buckets for each entry that goes.
    for (let joined = 0; joined < 2 && this.#isTooWide(); joined += 1) this.#join();
  }

  /** True when the directory has no entries. */
  isEmpty(directory: number): boolean {
    return this.#inodes.word(directory, InodeWord.FIRST_ENTRY) === 0;
  }

  /** The first entry of a directory, or -1. */
  first(directory: number): number {
    return this.#inodes.word(directory, InodeWord.FIRST_ENTRY) - 1;
  }

  /** The entry behind this one in its directory, or -1. */
  next(entry: number): number {
    return this.#table.word(entry, Word.NEXT) - 1;
  }

  /** The entry before this one in its directory, or -1. */
  previous(entry: number): number {
    return this.#table.word(entry, Word.PREVIOUS) - 1;
  }

  /** The serial number of an entry, more than {@link SERIAL_RESERVED}. */
  serial(entry: number): number {
    return this.#table.number(entry, SERIAL);
  }

  /** Its inode. */
  child(entry: number): number {
    return this.#table.word(entry, Word.CHILD);
  }

  /** Lets the name mean another inode. */
  setChild(entry: number, child: number): void {
    this.#table.setWord(entry, Word.CHILD, child);
  }

  /** Its name. */
  name(entry: number): string {
    return this.#cells.get(
      this.#table.word(entry, Word.NAME),
      this.#table.word(entry, Word.NAME_LENGTH),
    );
  }

  /** MurmurHash3 (A. Appleby), its mixing step for each character: 32 bits. */
  #hash(parent: number, name: string): number {
    let hash = this.#seed ^ Math.imul(parent + 1, 0x9e3779b1);
    for (let index = 0; index < name.length; index += 1) {
      let mixed = Math.imul(name.charCodeAt(index), 0xcc9e2d51);
      mixed = Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593);
      hash ^= mixed;
      hash = (Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64) | 0;
    }
    hash ^= hash >>> 16;
    hash = Math.imul(hash, 0x85ebca6b);
    hash ^= hash >>> 13;
    hash = Math.imul(hash, 0xc2b2ae35);
    return (hash ^ (hash >>> 16)) >>> 0;
  }

  #bucketOf(hash: number): number {
    const bucket = (hash & (this.#roundSize * 2 - 1)) >>> 0;
    return bucket < this.#bucketCount ? bucket : bucket - this.#roundSize;
  }

  #head(bucket: number): number {
    return (this.#buckets[bucket >>> BUCKETS_PER_CHUNK_BITS] as Uint32Array)[
      bucket & (BUCKETS_PER_CHUNK - 1)
    ] as number;
  }

  #setHead(bucket: number, next: number): void {
    (this.#buckets[bucket >>> BUCKETS_PER_CHUNK_BITS] as Uint32Array)[
      bucket & (BUCKETS_PER_CHUNK - 1)
    ] = next;
  }

  #unchain(entry: number): void {
    const bucket = this.#bucketOf(this.#table.word(entry, Word.HASH));
    const after = this.#table.word(entry, Word.CHAIN);
    let at = this.#head(bucket);
    if (at === entry + 1) {
      this.#setHead(bucket, after);
      return;
    }
    while (this.#table.word(at - 1, Word.CHAIN) !== entry + 1) {
      at = this.#table.word(at - 1, Word.CHAIN);
    }
    this.#table.setWord(at - 1, Word.CHAIN, after);
  }

  #isTooWide(): boolean {
    return this.#bucketCount > BUCKET_COUNT_MIN && this.#table.count < this.#bucketCount >>> 1;
  }

  /** One bucket more: it takes its part of the bucket `roundSize` below. */
  #split(): void {
    const added = this.#bucketCount;
    if (added % BUCKETS_PER_CHUNK === 0) this.#buckets.push(new Uint32Array(BUCKETS_PER_CHUNK));
    const from = added - this.#roundSize;
    this.#bucketCount += 1;
    let next = this.#head(from);
    let stays = 0;
    let goes = 0;
    while (next !== 0) {
      const entry = next - 1;
      next = this.#table.word(entry, Word.CHAIN);
      if (this.#bucketOf(this.#table.word(entry, Word.HASH)) === added) {
        this.#table.setWord(entry, Word.CHAIN, goes);
        goes = entry + 1;
      } else {
        this.#table.setWord(entry, Word.CHAIN, stays);
        stays = entry + 1;
      }
    }
    this.#setHead(from, stays);
    this.#setHead(added, goes);
    if (this.#bucketCount === this.#roundSize * 2) this.#roundSize *= 2;
  }

  /** One bucket less: its entries go to the bucket `roundSize` below. */
  #join(): void {
    if (this.#bucketCount === this.#roundSize) this.#roundSize /= 2;
    this.#bucketCount -= 1;
    const removed = this.#bucketCount;
    const into = removed - this.#roundSize;
    let next = this.#head(removed);
    this.#setHead(removed, 0);
    while (next !== 0) {
      const entry = next - 1;
      next = this.#table.word(entry, Word.CHAIN);
      this.#table.setWord(entry, Word.CHAIN, this.#head(into));
      this.#setHead(into, entry + 1);
    }
    if (removed % BUCKETS_PER_CHUNK === 0) this.#buckets.pop();
  }
}
