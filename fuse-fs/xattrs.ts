/**
 * Extended attributes: for each inode a list of records of 20 bytes, sorted as tmpfs lists them (ACLs
 * first, then by name), with names and values in byte cells. Knows no meaning of any name.
 */
import { cellBytesFor, type ByteCells } from './byte-cells.ts';
import { InodeWord, type Inodes } from './inodes.ts';
import { RecordTable } from './record-table.ts';

const Word = { NEXT: 0, NAME: 1, NAME_LENGTH: 2, VALUE: 3, VALUE_LENGTH: 4 } as const;

const RECORD_WORDS = 5;
const RECORD_BYTES = RECORD_WORDS * 4;

/** Bytes that an attribute of these lengths takes. */
export function xattrBytesFor(nameLength: number, valueLength: number): number {
  return RECORD_BYTES + cellBytesFor(nameLength) + cellBytesFor(valueLength);
}

function comesBefore(name: string, other: string): boolean {
  const system = name.startsWith('system.');
  return system === other.startsWith('system.') ? name < other : system;
}

/** See the top of the file. */
export class Xattrs {
  readonly #table = new RecordTable(RECORD_WORDS, Word.NEXT);
  readonly #inodes: Inodes;
  readonly #cells: ByteCells;

  /** @param inodes - whose XATTRS this keeps */
  constructor(inodes: Inodes, cells: ByteCells) {
    this.#inodes = inodes;
    this.#cells = cells;
  }

  /** Bytes of records in use. */
  get usedBytes(): number {
    return this.#table.count * RECORD_BYTES;
  }

  /** Bytes taken from the system, without names and values. */
  get bytes(): number {
    return this.#table.bytes;
  }

  /** True when the inode has any. */
  hasAny(slot: number): boolean {
    return this.#inodes.word(slot, InodeWord.XATTRS) !== 0;
  }

  /** The value, or undefined. */
  get(slot: number, name: string): string | undefined {
    const at = this.#find(slot, name);
    return at === -1 ? undefined : this.#value(at);
  }

  /** Bytes that the attribute takes now; 0 when there is none. */
  bytesOf(slot: number, name: string): number {
    const at = this.#find(slot, name);
    return at === -1 ? 0 : xattrBytesFor(name.length, this.#table.word(at, Word.VALUE_LENGTH));
  }

  /** Sets an attribute, new or old. */
  set(slot: number, name: string, value: string): void {
    const at = this.#find(slot, name);
    if (at === -1) {
      this.#insert(slot, name, value);
      return;
    }
    this.#cells.free(this.#table.word(at, Word.VALUE));
    this.#table.setWord(at, Word.VALUE, this.#cells.put(value));
    this.#table.setWord(at, Word.VALUE_LENGTH, value.length);
  }

  /** Removes an attribute. @returns false when there was none */
  remove(slot: number, name: string): boolean {
    let previous = -1;
    let at = this.#inodes.word(slot, InodeWord.XATTRS) - 1;
    while (at !== -1 && !this.#isNamed(at, name)) {
      previous = at;
      at = this.#table.word(at, Word.NEXT) - 1;
    }
    if (at === -1) return false;
    this.#setNext(slot, previous, this.#table.word(at, Word.NEXT));
    this.#free(at);
    return true;
  }

  /** Removes all, when the inode ends. */
  removeAll(slot: number): void {
    let next = this.#inodes.word(slot, InodeWord.XATTRS);
    while (next !== 0) {
      const at = next - 1;
      next = this.#table.word(at, Word.NEXT);
      this.#free(at);
    }
    this.#inodes.setWord(slot, InodeWord.XATTRS, 0);
  }

  /** The names, each with a NUL behind it. */
  names(slot: number): string {
    let names = '';
    let next = this.#inodes.word(slot, InodeWord.XATTRS);
    while (next !== 0) {
      names += `${this.#name(next - 1)}\0`;
      next = this.#table.word(next - 1, Word.NEXT);
    }
    return names;
  }

  /** The length of {@link Xattrs.names}. */
  namesLength(slot: number): number {
    let length = 0;
    let next = this.#inodes.word(slot, InodeWord.XATTRS);
    while (next !== 0) {
      length += this.#table.word(next - 1, Word.NAME_LENGTH) + 1;
      next = this.#table.word(next - 1, Word.NEXT);
    }
    return length;
  }

  #find(slot: number, name: string): number {
    let at = this.#inodes.word(slot, InodeWord.XATTRS) - 1;
    while (at !== -1 && !this.#isNamed(at, name)) at = this.#table.word(at, Word.NEXT) - 1;
    return at;
  }

  #isNamed(at: number, name: string): boolean {
    return (
      this.#table.word(at, Word.NAME_LENGTH) === name.length &&
      this.#cells.equals(this.#table.word(at, Word.NAME), name)
    );
  }

  #name(at: number): string {
    return this.#cells.get(this.#table.word(at, Word.NAME), this.#table.word(at, Word.NAME_LENGTH));
  }

  #value(at: number): string {
    return this.#cells.get(
      this.#table.word(at, Word.VALUE),
      this.#table.word(at, Word.VALUE_LENGTH),
    );
  }

  #insert(slot: number, name: string, value: string): void {
    let previous = -1;
    let next = this.#inodes.word(slot, InodeWord.XATTRS);
    while (next !== 0 && comesBefore(this.#name(next - 1), name)) {
      previous = next - 1;
      next = this.#table.word(previous, Word.NEXT);
    }
    const at = this.#table.allocate();
    this.#table.setWord(at, Word.NEXT, next);
    this.#table.setWord(at, Word.NAME, this.#cells.put(name));
    this.#table.setWord(at, Word.NAME_LENGTH, name.length);
    this.#table.setWord(at, Word.VALUE, this.#cells.put(value));
    this.#table.setWord(at, Word.VALUE_LENGTH, value.length);
    this.#setNext(slot, previous, at + 1);
  }

  #setNext(slot: number, previous: number, next: number): void {
    if (previous === -1) this.#inodes.setWord(slot, InodeWord.XATTRS, next);
    else this.#table.setWord(previous, Word.NEXT, next);
  }

  #free(at: number): void {
    this.#cells.free(this.#table.word(at, Word.NAME));
    this.#cells.free(this.#table.word(at, Word.VALUE));
    this.#table.free(at);
  }
}
