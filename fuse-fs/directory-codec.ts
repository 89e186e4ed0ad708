/**
 * Packs the entries of a directory into a reply: `struct fuse_dirent` for READDIR, `struct
 * fuse_direntplus` (a whole answer to LOOKUP before each) for READDIRPLUS, every record padded to eight
 * bytes. An entry that does not fit is refused before anything happens for it, so that the lookup that
 * READDIRPLUS counts for an entry is counted exactly when the kernel gets it. `.` and `..` count none.
 */
import { FuseOutSize } from './constants.ts';
import type { Attributes, DirectoryEntrySink, FileOperations } from './operations.ts';
import { encodeEmptyEntryOut, encodeEntryOut, encodeU64 } from './reply-codec.ts';

/** `d_type` is the type bits of the mode, four bits of them: `S_DT` of Linux `include/linux/fs_types.h`. */
const TYPE_SHIFT = 12;
const TYPE_MASK = 0o17;

/** `FUSE_DIRENT_ALIGN`. */
function aligned(size: number): number {
  return (size + 7) & ~7;
}

/** Looks a name up for the kernel: the sink of READDIRPLUS needs no more of a file system. */
export type EntryLookup = Pick<FileOperations, 'lookup' | 'attributes' | 'generation'>;

/** One for a session, used again for each reply. */
export class DirectoryPacker implements DirectoryEntrySink {
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #attributes: Attributes;
  #lookup: EntryLookup | undefined;
  #directory = 0;
  #begin = 0;
  #at = 0;
  #end = 0;

  /**
   * @param bytes - where replies are made
   * @param words - the same memory
   * @param attributes - scratch
   */
  constructor(bytes: Uint8Array, words: Uint32Array, attributes: Attributes) {
    this.#bytes = bytes;
    this.#words = words;
    this.#attributes = attributes;
  }

  /**
   * Begins a reply.
   *
   * @param at - byte offset, a multiple of 8
   * @param size - bytes at most
   * @param lookup - for READDIRPLUS; undefined makes it a READDIR
   */
  begin(at: number, size: number, directory: number, lookup: EntryLookup | undefined): void {
    this.#begin = at;
    this.#at = at;
    this.#end = at + size;
    this.#directory = directory;
    this.#lookup = lookup;
  }

  /** Bytes packed since {@link DirectoryPacker.begin}. */
  get size(): number {
    return this.#at - this.#begin;
  }

  onEntry(nodeid: number, name: string, mode: number, cookie: number): boolean {
    const plus = this.#lookup !== undefined;
    const nameOffset = plus ? FuseOutSize.fuse_direntplus : FuseOutSize.fuse_dirent;
    const size = aligned(nameOffset + name.length);
    if (this.#at + size > this.#end) return false;
    if (plus) this.#packEntry(name);
    const bytes = this.#bytes;
    const direntAt = this.#at + nameOffset - FuseOutSize.fuse_dirent;
    const word = direntAt / 4;
    encodeU64(this.#words, word, nodeid);
    encodeU64(this.#words, word + 2, cookie);
    this.#words[word + 4] = name.length;
    this.#words[word + 5] = (mode >>> TYPE_SHIFT) & TYPE_MASK;
    let at = this.#at + nameOffset;
    for (let index = 0; index < name.length; index += 1) bytes[at++] = name.charCodeAt(index);
    this.#at += size;
    while (at < this.#at) bytes[at++] = 0;
    return true;
  }

  #packEntry(name: string): void {
    const word = this.#at / 4;
    if (name === '.' || name === '..') {
      encodeEmptyEntryOut(this.#words, word);
      return;
    }
    const lookup = this.#lookup as EntryLookup;
    const nodeid = lookup.lookup(this.#directory, name);
    if (nodeid < 0 || lookup.attributes(nodeid, this.#attributes) < 0) {
      // Gone meanwhile: the kernel takes the name alone from an entry without a node.
      encodeEmptyEntryOut(this.#words, word);
      return;
    }
    encodeEntryOut(this.#words, word, this.#attributes, lookup.generation(nodeid));
  }
}
