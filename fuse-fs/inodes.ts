/**
 * The inodes: 96 bytes each in a {@link RecordTable}. A nodeid of the protocol is the slot plus one, the
 * number of a file for the store is the slot. A slot is used again as soon as its inode has ended; the
 * generation, drawn from one counter, tells the two apart.
 *
 * A free record has mode 0, which no file has. The word KIN means what the type needs: the parent of a
 * directory (a slot), the target of a symbolic link (a string of the byte cells), for a regular
 * file 1 when it never had a name and may still be given one (O_TMPFILE).
 */
import { RecordTable } from './record-table.ts';

/** The float64 of an inode. */
export const InodeNumber = {
  /** Bytes. */
  SIZE: 0,
  /** Seconds. */
  ACCESS_SECONDS: 1,
  MODIFY_SECONDS: 2,
  CHANGE_SECONDS: 3,
  /** References that the kernel holds. */
  LOOKUPS: 4,
} as const;

/** The words of an inode, behind its numbers. */
export const InodeWord = {
  MODE: 10,
  LINKS: 11,
  UID: 12,
  GID: 13,
  /** Of a device its number, of a regular file the open handles that can write. */
  RDEV: 14,
  ACCESS_NANOSECONDS: 15,
  MODIFY_NANOSECONDS: 16,
  CHANGE_NANOSECONDS: 17,
  /** Open handles. */
  OPENS: 18,
  GENERATION: 19,
  /** First extended attribute plus one. */
  XATTRS: 20,
  /** See the top of the file. */
  KIN: 21,
  /** First and last entry of a directory, plus one. */
  FIRST_ENTRY: 22,
  LAST_ENTRY: 23,
} as const;

const RECORD_WORDS = 24;

/** Bytes of an inode. */
export const INODE_BYTES = RECORD_WORDS * 4;

/** See the top of the file. */
export class Inodes extends RecordTable {
  #generation = 0;

  constructor() {
    super(RECORD_WORDS, InodeWord.LINKS);
  }

  /** Makes an inode, all zero but for these. @param mode - not 0 @returns its slot */
  add(mode: number, uid: number, gid: number, rdev: number): number {
    const slot = this.allocate();
    this.#generation = (this.#generation + 1) >>> 0;
    this.setWord(slot, InodeWord.GENERATION, this.#generation);
    this.setWord(slot, InodeWord.MODE, mode);
    this.setWord(slot, InodeWord.UID, uid);
    this.setWord(slot, InodeWord.GID, gid);
    this.setWord(slot, InodeWord.RDEV, rdev);
    return slot;
  }

  /** True when the slot, any number, holds an inode. */
  isLive(slot: number): boolean {
    return Number.isInteger(slot) && this.isMapped(slot) && this.word(slot, InodeWord.MODE) !== 0;
  }

  /** Type and permission bits. */
  mode(slot: number): number {
    return this.word(slot, InodeWord.MODE);
  }

  /** Hard links. */
  links(slot: number): number {
    return this.word(slot, InodeWord.LINKS);
  }

  /** Adds to the hard links, perhaps a negative number. */
  addLinks(slot: number, count: number): void {
    this.setWord(slot, InodeWord.LINKS, this.links(slot) + count);
  }

  /** Bytes. */
  size(slot: number): number {
    return this.number(slot, InodeNumber.SIZE);
  }

  /** Sets the bytes. */
  setSize(slot: number, size: number): void {
    this.setNumber(slot, InodeNumber.SIZE, size);
  }

  /** The directory above a directory; the root is above itself. */
  parent(directory: number): number {
    return this.word(directory, InodeWord.KIN);
  }
}
