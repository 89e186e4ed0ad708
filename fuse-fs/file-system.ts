/**
 * The file system: what transports ask ({@link FileOperations}), joined from its parts, each of which does
 * one kind of operation on the {@link Tree}. All metadata is in this process and in RAM, so all
 * that is not about bytes of files ends at once; bytes are the store's.
 */
import { attributes, touchRead } from './attributes.ts';
import { Contents } from './contents.ts';
import { damagedPaths, type DamagedFiles } from './damage.ts';
import { Directories } from './directories.ts';
import { Errno } from './errno.ts';
import {
  getAttribute,
  listAttributes,
  removeAttribute,
  setAttribute,
} from './extended-attributes.ts';
import { FileMode, isSymbolicLink, PERMISSION_BITS } from './file-mode.ts';
import { InodeNumber, InodeWord } from './inodes.ts';
import type { IoVectors } from './io-vectors.ts';
import { makeDirectory, makeNode, makeSymbolicLink, makeTemporary } from './making.ts';
import { forget, link, lookup, removeDirectory, rename, unlink } from './naming.ts';
import type {
  AttributeChange,
  Attributes,
  Caller,
  DirectoryEntrySink,
  FileCompletionSink,
  FileOperations,
  FileStore,
  FileSystemStatistics,
} from './operations.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { statistics } from './statistics.ts';
import { ROOT_SLOT, Tree, type WallClock } from './tree.ts';

const PAGE_BYTES = 4096;

/** Inodes that even the smallest file system has, and the most that one has unless told otherwise. */
const INODE_COUNT_DEFAULT_MIN = 1024;
const INODE_COUNT_DEFAULT_MAX = 2 ** 24;

/** Bytes of metadata for each inode of the limit, unless told otherwise: more than a long name needs. */
const METADATA_BYTES_PER_INODE = 512;

/** Bytes of metadata besides: some extended attributes of the greatest size. */
const METADATA_BYTES_BASE = 2 ** 20;

/** What a file system is made of. */
export interface FileSystemOptions {
  /**
   * Makes the store, whose calls must end through `sink`. None ends before it returns.
   */
  readonly openStore: (sink: FileCompletionSink) => FileStore;
  /** The wall clock. */
  readonly clock: WallClock;
  /** Quota, bytes: what the bounds of metadata come from. */
  readonly sizeBytes: number;
  /** Owner of the root directory. */
  readonly uid: number;
  /** Group of the root directory. */
  readonly gid: number;
  /** Permission bits of the root directory. */
  readonly mode: number;
  /** 32 random bits, against prepared names. */
  readonly hashSeed: number;
  /** Inodes at most; one for each page of the quota unless given, 1024 to 2^24. */
  readonly inodeCountMax?: number;
  /** Bytes of metadata in use at most; 512 for each inode, and 1 MiB, unless given. */
  readonly metadataBytesMax?: number;
}

/** See the top of the file. */
export class FileSystem implements FileOperations {
  readonly #tree: Tree;
  readonly #contents: Contents;
  readonly #directories: Directories;
  #sink: FileCompletionSink | undefined;

  constructor(options: FileSystemOptions) {
    const pageCount = Math.floor(options.sizeBytes / PAGE_BYTES);
    const inodeCountMax =
      options.inodeCountMax ??
      Math.min(Math.max(pageCount, INODE_COUNT_DEFAULT_MIN), INODE_COUNT_DEFAULT_MAX);
    const { uid, gid } = options;
    const storeSink: FileCompletionSink = {
      onFileDone: (tag, result) => this.#contents.storeSink.onFileDone(tag, result),
    };
    this.#tree = new Tree({
      store: options.openStore(storeSink),
      clock: options.clock,
      limits: {
        inodeCountMax,
        metadataBytesMax:
          options.metadataBytesMax ??
          inodeCountMax * METADATA_BYTES_PER_INODE + METADATA_BYTES_BASE,
      },
      hashSeed: options.hashSeed,
      root: { uid, gid, mode: FileMode.S_IFDIR | (options.mode & PERMISSION_BITS) },
    });
    this.#contents = new Contents(this.#tree, {
      onFileDone: (tag, result) => this.#sink?.onFileDone(tag, result),
    });
    this.#directories = new Directories(this.#tree);
  }

  /** Says where calls end: before the first call that may wait. */
  connect(sink: FileCompletionSink): void {
    this.#sink = sink;
  }

  /** Inodes in use, the root among them. */
  get inodeCount(): number {
    return this.#tree.inodes.count;
  }

  /** Bytes of memory that the metadata takes. */
  get metadataBytes(): number {
    return this.#tree.bytes;
  }

  /** Files of which bytes are lost; looks at every inode. @param limit - paths at most */
  damagedPaths(limit: number): DamagedFiles {
    return damagedPaths(this.#tree, limit);
  }

  /**
   * The kernel that asked is gone with its mount, and has not said that it forgets: its handles and lookups
   * end here, and with them what has no name. No call may be under way. Another mount may follow.
   */
  disconnect(): void {
    this.#sink = undefined;
    this.#contents.releaseAll();
    this.#directories.releaseAll();
    const { inodes } = this.#tree;
    for (let slot = 0; slot < inodes.slotEnd; slot += 1) {
      if (slot === ROOT_SLOT || !inodes.isLive(slot)) continue;
      inodes.setNumber(slot, InodeNumber.LOOKUPS, 0);
      this.#tree.reap(slot);
    }
  }

  /** Ends the store. */
  close(): void {
    this.#tree.store.close();
  }

  lookup(parent: number, name: string): number {
    return lookup(this.#tree, parent, name);
  }

  forget(nodeid: number, count: number): void {
    forget(this.#tree, nodeid, count);
  }

  generation(nodeid: number): number {
    const slot = this.#tree.slotOf(nodeid);
    return slot === -1 ? 0 : this.#tree.inodes.word(slot, InodeWord.GENERATION);
  }

  attributes(nodeid: number, into: Attributes): number {
    return attributes(this.#tree, nodeid, into);
  }

  changeAttributes(tag: number, _caller: Caller, nodeid: number, change: AttributeChange): void {
    this.#contents.change(tag, nodeid, change);
  }

  readLink(nodeid: number): string | number {
    const slot = this.#tree.slotOf(nodeid);
    if (slot === -1) return -Errno.ESTALE;
    const { inodes, cells } = this.#tree;
    if (!isSymbolicLink(inodes.mode(slot))) return -Errno.EINVAL;
    touchRead(this.#tree, slot);
    return cells.get(inodes.word(slot, InodeWord.KIN), inodes.size(slot));
  }

  symlink(caller: Caller, parent: number, name: string, target: string): number {
    return makeSymbolicLink(this.#tree, caller, parent, name, target);
  }

  makeNode(
    caller: Caller,
    parent: number,
    name: string,
    mode: number,
    umask: number,
    rdev: number,
  ): number {
    return makeNode(this.#tree, caller, parent, name, mode, umask, rdev);
  }

  makeDirectory(caller: Caller, parent: number, name: string, mode: number, umask: number): number {
    return makeDirectory(this.#tree, caller, parent, name, mode, umask);
  }

  makeTemporary(caller: Caller, parent: number, mode: number, umask: number): number {
    return makeTemporary(this.#tree, caller, parent, mode, umask);
  }

  unlink(parent: number, name: string): number {
    return unlink(this.#tree, parent, name);
  }

  removeDirectory(parent: number, name: string): number {
    return removeDirectory(this.#tree, parent, name);
  }

  rename(parent: number, name: string, newParent: number, newName: string, flags: number): number {
    return rename(this.#tree, parent, name, newParent, newName, flags);
  }

  link(nodeid: number, newParent: number, newName: string): number {
    return link(this.#tree, nodeid, newParent, newName);
  }

  open(nodeid: number, flags: number): number {
    return this.#contents.open(nodeid, flags);
  }

  release(fh: number): void {
    this.#contents.release(fh);
  }

  read(
    tag: number,
    nodeid: number,
    offset: number,
    length: number,
    into: NativeBuffer,
    intoOffset: number,
  ): void {
    this.#contents.read(tag, nodeid, offset, length, into, intoOffset);
  }

  readInPlace(nodeid: number, offset: number, length: number, into: IoVectors): number {
    return this.#contents.readInPlace(nodeid, offset, length, into);
  }

  write(
    tag: number,
    nodeid: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    killPrivileges: boolean,
    fromCache: boolean,
  ): void {
    this.#contents.write(tag, nodeid, offset, length, from, fromOffset, killPrivileges, fromCache);
  }

  allocate(
    tag: number,
    nodeid: number,
    mode: number,
    offset: number,
    length: number,
    killPrivileges: boolean,
  ): void {
    this.#contents.allocate(tag, nodeid, mode, offset, length, killPrivileges);
  }

  copyRange(
    tag: number,
    nodeid: number,
    offset: number,
    newNodeid: number,
    newOffset: number,
    length: number,
    killPrivileges: boolean,
  ): void {
    this.#contents.copyRange(tag, nodeid, offset, newNodeid, newOffset, length, killPrivileges);
  }

  seek(nodeid: number, offset: number, whence: number): number {
    return this.#contents.seek(nodeid, offset, whence);
  }

  mayBeDirty(nodeid: number): boolean {
    return this.#contents.mayBeDirty(nodeid);
  }

  sync(tag: number, nodeid: number): void {
    this.#contents.sync(tag, nodeid);
  }

  openDirectory(nodeid: number): number {
    return this.#directories.open(nodeid);
  }

  releaseDirectory(fh: number): void {
    this.#directories.release(fh);
  }

  readDirectory(fh: number, cookie: number, sink: DirectoryEntrySink): number {
    return this.#directories.read(fh, cookie, sink);
  }

  setAttribute(
    _caller: Caller,
    nodeid: number,
    name: string,
    value: string,
    flags: number,
    killSetGid: boolean,
  ): number {
    return setAttribute(this.#tree, nodeid, name, value, flags, killSetGid);
  }

  getAttribute(nodeid: number, name: string): string | number {
    return getAttribute(this.#tree, nodeid, name);
  }

  listAttributes(nodeid: number): string | number {
    return listAttributes(this.#tree, nodeid);
  }

  removeAttribute(_caller: Caller, nodeid: number, name: string): number {
    return removeAttribute(this.#tree, nodeid, name);
  }

  statistics(into: FileSystemStatistics): void {
    statistics(this.#tree, into, this.#contents.wasOpened);
  }
}
