/**
 * Open directories and readdir. Entries come in the order of their serial numbers, and the cookie of an
 * entry is its serial number: it stays good whatever else comes and goes, in any handle, for telldir
 * and seekdir. A handle looks at cookie 0 which serial number is the newest, and shows no entry behind
 * it, so that who makes names while reading does not read for ever.
 *
 * A handle also remembers the entry that it showed last, so as not to search for its place. When that
 * entry ends, the memory moves to the one before.
 */
import { touchRead } from './attributes.ts';
import { SERIAL_RESERVED } from './dentries.ts';
import { Errno } from './errno.ts';
import { FileMode, isDirectory } from './file-mode.ts';
import { InodeWord } from './inodes.ts';
import type { DirectoryEntrySink } from './operations.ts';
import type { Tree } from './tree.ts';

/** Cookies of the two names that are no entries. */
const COOKIE_SELF = 1;
const COOKIE_ABOVE = SERIAL_RESERVED;

/** Open directories at most; the kernel's own limit of open files is less. */
const HANDLE_COUNT_MAX = 2 ** 20;

interface Handle {
  readonly slot: number;
  /** No entry with a greater serial number is shown. */
  limit: number;
  /** Every entry with a serial number up to this one was shown, the last of them being `entry`, -1 for none. */
  shown: number;
  entry: number;
}

/** See the top of the file. */
export class Directories {
  readonly #tree: Tree;
  readonly #handles = new Map<number, Handle>();
  #lastHandle = 0;

  constructor(tree: Tree) {
    this.#tree = tree;
    tree.onEntryGone = (directory, entry) => this.#onEntryGone(directory, entry);
  }

  /** @returns fh, or a negative errno */
  open(nodeid: number): number {
    const slot = this.#tree.slotOf(nodeid);
    if (slot === -1) return -Errno.ESTALE;
    const { inodes } = this.#tree;
    if (!isDirectory(inodes.mode(slot))) return -Errno.ENOTDIR;
    if (this.#handles.size >= HANDLE_COUNT_MAX) return -Errno.ENOMEM;
    inodes.setWord(slot, InodeWord.OPENS, inodes.word(slot, InodeWord.OPENS) + 1);
    this.#lastHandle += 1;
    const limit = this.#tree.dentries.lastSerial;
    this.#handles.set(this.#lastHandle, { slot, limit, shown: COOKIE_ABOVE, entry: -1 });
    return this.#lastHandle;
  }

  /** Ends a handle. */
  release(fh: number): void {
    const handle = this.#handles.get(fh);
    if (handle === undefined) return;
    this.#handles.delete(fh);
    const { inodes } = this.#tree;
    inodes.setWord(handle.slot, InodeWord.OPENS, inodes.word(handle.slot, InodeWord.OPENS) - 1);
    this.#tree.reap(handle.slot);
  }

  /** Ends every handle. */
  releaseAll(): void {
    for (const fh of [...this.#handles.keys()]) this.release(fh);
  }

  /** See `FileOperations.readDirectory`. */
  read(fh: number, cookie: number, sink: DirectoryEntrySink): number {
    const handle = this.#handles.get(fh);
    if (handle === undefined) return -Errno.EBADF;
    const { inodes, dentries } = this.#tree;
    if (inodes.links(handle.slot) === 0) return -Errno.ENOENT;
    if (cookie === 0) {
      handle.limit = dentries.lastSerial;
      handle.shown = COOKIE_ABOVE;
      handle.entry = -1;
      touchRead(this.#tree, handle.slot);
    }
    if (cookie < COOKIE_SELF) {
      if (!sink.onEntry(handle.slot + 1, '.', FileMode.S_IFDIR, COOKIE_SELF)) return 0;
    }
    if (cookie < COOKIE_ABOVE) {
      const above = inodes.parent(handle.slot) + 1;
      if (!sink.onEntry(above, '..', FileMode.S_IFDIR, COOKIE_ABOVE)) return 0;
    }
    this.#showEntries(handle, Math.max(cookie, COOKIE_ABOVE), sink);
    return 0;
  }

  #showEntries(handle: Handle, cookie: number, sink: DirectoryEntrySink): void {
    const { inodes, dentries } = this.#tree;
    // The sink may look names up, but changes nothing.
    let entry = this.#entryBehind(handle, cookie);
    while (entry !== -1) {
      const serial = dentries.serial(entry);
      if (serial > handle.limit) return;
      const child = dentries.child(entry);
      const type = inodes.mode(child) & FileMode.S_IFMT;
      if (!sink.onEntry(child + 1, dentries.name(entry), type, serial)) return;
      handle.shown = serial;
      handle.entry = entry;
      entry = dentries.next(entry);
    }
  }

  /** The first entry with a serial number above `cookie`. */
  #entryBehind(handle: Handle, cookie: number): number {
    const { dentries } = this.#tree;
    const known = cookie >= handle.shown && handle.entry !== -1;
    let entry = known ? dentries.next(handle.entry) : dentries.first(handle.slot);
    while (entry !== -1 && dentries.serial(entry) <= cookie) entry = dentries.next(entry);
    return entry;
  }

  #onEntryGone(directory: number, entry: number): void {
    if (this.#tree.inodes.word(directory, InodeWord.OPENS) === 0) return;
    for (const handle of this.#handles.values()) {
      if (handle.entry === entry) handle.entry = this.#tree.dentries.previous(entry);
    }
  }
}
