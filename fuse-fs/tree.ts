/**
 * What all operations work on: the tables, the budget, the clock, and the life of an inode. An inode ends
 * when it has no links, the kernel holds no reference to it and no handle is open; then, and only
 * then, its bytes go back to the store.
 *
 * Metadata is bounded twice: by a count of inodes, as tmpfs does, and by bytes, since names and extended
 * attributes have no fixed size. Beyond either there is ENOSPC, so that no user of the mount can eat the
 * machine's memory with empty files.
 */
import { ByteCells, cellBytesFor } from './byte-cells.ts';
import { Dentries, DENTRY_BYTES } from './dentries.ts';
import { Errno } from './errno.ts';
import { isDirectory, isRegular, isSymbolicLink } from './file-mode.ts';
import { INODE_BYTES, InodeNumber, Inodes, InodeWord } from './inodes.ts';
import { ROOT_NODEID, type FileStore } from './operations.ts';
import { Xattrs } from './xattrs.ts';

/** The wall clock: taken once for each operation. */
export interface WallClock {
  /** Reads the clock into the two fields. */
  sample(): void;
  /** Seconds since 1970 at the last sample. */
  readonly seconds: number;
  /** Nanoseconds of that second. */
  readonly nanoseconds: number;
}

/** The bounds of the metadata. */
export interface TreeLimits {
  /** Inodes, the root among them. */
  readonly inodeCountMax: number;
  /** Bytes of records, names and extended attributes in use. */
  readonly metadataBytesMax: number;
}

/** Times to set to now. */
export const Touch = { ACCESS: 1, MODIFY: 2, CHANGE: 4 } as const;

/** Bytes that an entry adds to the size of its directory; a directory without any has two (tmpfs `BOGO_DIRENT_SIZE`). */
export const ENTRY_SIZE_BYTES = 20;

/** The slot of the root directory. */
export const ROOT_SLOT = ROOT_NODEID - 1;

/** See the top of the file. */
export class Tree {
  readonly inodes = new Inodes();
  readonly cells = new ByteCells();
  readonly dentries: Dentries;
  readonly xattrs: Xattrs;
  readonly clock: WallClock;
  readonly limits: TreeLimits;
  readonly store: FileStore;
  /** Inodes that lost their last name and are not at their end. */
  readonly orphans = new Set<number>();
  /** Called before an entry ends, for who reads the directory. */
  onEntryGone: (directory: number, entry: number) => void = () => undefined;

  constructor(options: {
    store: FileStore;
    clock: WallClock;
    limits: TreeLimits;
    hashSeed: number;
    root: { uid: number; gid: number; mode: number };
  }) {
    this.dentries = new Dentries(this.inodes, this.cells, options.hashSeed);
    this.xattrs = new Xattrs(this.inodes, this.cells);
    this.store = options.store;
    this.clock = options.clock;
    this.limits = options.limits;
    this.clock.sample();
    const { uid, gid, mode } = options.root;
    const root = this.addInode(mode, uid, gid, 0);
    this.inodes.setWord(root, InodeWord.LINKS, 2);
    this.inodes.setSize(root, 2 * ENTRY_SIZE_BYTES);
    this.inodes.setWord(root, InodeWord.KIN, root);
    this.inodes.setNumber(root, InodeNumber.LOOKUPS, 1);
  }

  /** Bytes of metadata in use. */
  get usedBytes(): number {
    return (
      this.inodes.count * INODE_BYTES +
      this.dentries.count * DENTRY_BYTES +
      this.xattrs.usedBytes +
      this.cells.usedBytes
    );
  }

  /** Bytes of memory that the tables have taken. */
  get bytes(): number {
    return this.inodes.bytes + this.dentries.bytes + this.xattrs.bytes + this.cells.bytes;
  }

  /** The slot of a nodeid, or -1 when there is no such inode. */
  slotOf(nodeid: number): number {
    return this.inodes.isLive(nodeid - 1) ? nodeid - 1 : -1;
  }

  /** The slot of a directory in which names can be made, or a negative errno. */
  directoryOf(nodeid: number): number {
    const slot = this.slotOf(nodeid);
    if (slot === -1) return -Errno.ESTALE;
    if (!isDirectory(this.inodes.mode(slot))) return -Errno.ENOTDIR;
    return this.inodes.links(slot) === 0 ? -Errno.ENOENT : slot;
  }

  /** True when so many inodes, and so many bytes of records and text, can be added. */
  hasRoom(inodeCount: number, bytes: number): boolean {
    return (
      this.inodes.count + inodeCount <= this.limits.inodeCountMax &&
      this.usedBytes + inodeCount * INODE_BYTES + bytes <= this.limits.metadataBytesMax
    );
  }

  /** The bytes that an entry with such a name takes. */
  entryBytes(name: string): number {
    return DENTRY_BYTES + cellBytesFor(name.length);
  }

  /** Makes an inode of which all times are the clock's last. */
  addInode(mode: number, uid: number, gid: number, rdev: number): number {
    const slot = this.inodes.add(mode, uid, gid, rdev);
    this.touch(slot, Touch.ACCESS | Touch.MODIFY | Touch.CHANGE);
    return slot;
  }

  /** Sets times to the clock's last. @param times - bits of {@link Touch} */
  touch(slot: number, times: number): void {
    const { seconds, nanoseconds } = this.clock;
    if ((times & Touch.ACCESS) !== 0) {
      this.inodes.setNumber(slot, InodeNumber.ACCESS_SECONDS, seconds);
      this.inodes.setWord(slot, InodeWord.ACCESS_NANOSECONDS, nanoseconds);
    }
    if ((times & Touch.MODIFY) !== 0) {
      this.inodes.setNumber(slot, InodeNumber.MODIFY_SECONDS, seconds);
      this.inodes.setWord(slot, InodeWord.MODIFY_NANOSECONDS, nanoseconds);
    }
    if ((times & Touch.CHANGE) !== 0) {
      this.inodes.setNumber(slot, InodeNumber.CHANGE_SECONDS, seconds);
      this.inodes.setWord(slot, InodeWord.CHANGE_NANOSECONDS, nanoseconds);
    }
  }

  /** Adds a name for a file to a directory, whose size and times follow. */
  addEntry(directory: number, name: string, child: number): void {
    this.dentries.add(directory, name, child);
    this.inodes.setSize(directory, this.inodes.size(directory) + ENTRY_SIZE_BYTES);
    this.touch(directory, Touch.MODIFY | Touch.CHANGE);
  }

  /** Adds to the kernel's references. @returns the nodeid */
  addLookup(slot: number): number {
    this.inodes.setNumber(
      slot,
      InodeNumber.LOOKUPS,
      this.inodes.number(slot, InodeNumber.LOOKUPS) + 1,
    );
    return slot + 1;
  }

  /** The last name of an inode went. */
  orphan(slot: number): void {
    this.orphans.add(slot);
    this.reap(slot);
  }

  /** Ends an inode if nothing holds it. */
  reap(slot: number): void {
    if (
      this.inodes.links(slot) !== 0 ||
      this.inodes.word(slot, InodeWord.OPENS) !== 0 ||
      this.inodes.number(slot, InodeNumber.LOOKUPS) !== 0
    ) {
      return;
    }
    const mode = this.inodes.mode(slot);
    this.orphans.delete(slot);
    this.xattrs.removeAll(slot);
    if (isSymbolicLink(mode)) this.cells.free(this.inodes.word(slot, InodeWord.KIN));
    this.inodes.free(slot);
    if (isRegular(mode)) this.store.remove(slot);
  }
}
