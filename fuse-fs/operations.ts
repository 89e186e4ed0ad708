/**
 * What a transport (the kernel's FUSE protocol, or fuse-native) asks of the file system, and what the
 * file system asks of the store of its bytes. A transport knows requests and replies, the file system
 * knows names, inodes and POSIX, the store knows where a file's pages lie in the volume.
 *
 * Calls that touch only metadata end at once: all of it is in this process, which is the only writer.
 * Their results are numbers: zero or more for success, a negative errno for failure. Calls that may
 * wait for the pool take a `tag`, the caller's own number for the request, and end exactly once through a
 * {@link FileCompletionSink}, perhaps before they return. No call makes an object for a page.
 *
 * Names, link targets, names of extended attributes and their values are strings of one character for
 * each byte (latin1): the kernel's names are bytes, not text. Times are whole seconds (negative before
 * 1970, up to 2^53) and nanoseconds. Offsets and sizes are bytes, whole numbers up to 2^53 - 1.
 */
import type { NativeBuffer } from '../common/native-memory.ts';
import type { IoVectors } from './io-vectors.ts';

/** What {@link FileOperations.readInPlace} returns when the bytes must be read; no errno is so large. */
export const NOT_IN_PLACE = -4096;

/** The root directory's nodeid (fuse.h `FUSE_ROOT_ID`). */
export const ROOT_NODEID = 1;

/** Who makes a request; the transport may use one object for all. */
export interface Caller {
  /** User. */
  uid: number;
  /** Group. */
  gid: number;
  /** Process or thread, for locks and logs only. */
  pid: number;
}

/** What stat(2) tells; the caller's object, filled in. */
export interface Attributes {
  /** The inode number, which is the nodeid. */
  nodeid: number;
  /** Type and permission bits, `st_mode`. */
  mode: number;
  /** Hard links. */
  linkCount: number;
  /** Owner. */
  uid: number;
  /** Group. */
  gid: number;
  /** Device number as the kernel encodes it (`new_encode_dev`). */
  rdev: number;
  /** Bytes. */
  size: number;
  /** Units of 512 bytes that are really taken. */
  blocks: number;
  /** Seconds of the last access. */
  accessSeconds: number;
  /** Nanoseconds of it. */
  accessNanoseconds: number;
  /** Seconds of the last change of contents. */
  modifySeconds: number;
  /** Nanoseconds of it. */
  modifyNanoseconds: number;
  /** Seconds of the last change of anything. */
  changeSeconds: number;
  /** Nanoseconds of it. */
  changeNanoseconds: number;
}

/** Attributes that are not filled in yet. */
export function emptyAttributes(): Attributes {
  return {
    ...{ nodeid: 0, mode: 0, linkCount: 0, uid: 0, gid: 0, rdev: 0, size: 0, blocks: 0 },
    ...{ accessSeconds: 0, accessNanoseconds: 0, modifySeconds: 0, modifyNanoseconds: 0 },
    ...{ changeSeconds: 0, changeNanoseconds: 0 },
  };
}

/** Bits of {@link AttributeChange.valid}, equal to `FATTR_*` of fuse.h. */
export const AttributeBit = {
  MODE: 1,
  UID: 2,
  GID: 4,
  SIZE: 8,
  ATIME: 16,
  MTIME: 32,
  FH: 64,
  ATIME_NOW: 128,
  MTIME_NOW: 256,
  LOCKOWNER: 512,
  CTIME: 1024,
  KILL_SUIDGID: 2048,
} as const;

/** What setattr is to change: the fields that `valid` names. The caller's object, borrowed for the call. */
export interface AttributeChange {
  /** Bits of {@link AttributeBit}. */
  valid: number;
  /** New permission bits; type bits are ignored. */
  mode: number;
  /** New owner. */
  uid: number;
  /** New group. */
  gid: number;
  /** New size, bytes. */
  size: number;
  /** As in {@link Attributes}. */
  accessSeconds: number;
  /** As in {@link Attributes}. */
  accessNanoseconds: number;
  /** As in {@link Attributes}. */
  modifySeconds: number;
  /** As in {@link Attributes}. */
  modifyNanoseconds: number;
  /** As in {@link Attributes}; the kernel sends it with the writeback cache. */
  changeSeconds: number;
  /** As in {@link Attributes}. */
  changeNanoseconds: number;
}

/** A change of nothing. */
export function emptyChange(): AttributeChange {
  return {
    ...{ valid: 0, mode: 0, uid: 0, gid: 0, size: 0, accessSeconds: 0, accessNanoseconds: 0 },
    ...{ modifySeconds: 0, modifyNanoseconds: 0, changeSeconds: 0, changeNanoseconds: 0 },
  };
}

/** What statfs(2) tells; the caller's object, filled in. */
export interface FileSystemStatistics {
  /** Blocks of 4096 bytes in all: the quota. */
  blockCount: number;
  /** Blocks that can still be written: no more than the pool can take now. */
  freeBlockCount: number;
  /** Inodes in all. */
  inodeCount: number;
  /** Inodes that can still be made. */
  freeInodeCount: number;
}

/** Takes the ends of calls that may wait for the pool. */
export interface FileCompletionSink {
  /**
   * Call `tag` ended; buffers lent to it are the caller's again.
   *
   * @param result - bytes read, written or copied (0 for calls that move none), or a negative errno
   */
  onFileDone(tag: number, result: number): void;
}

/** One entry of a directory, as readDirectory reports it. */
export interface DirectoryEntrySink {
  /**
   * An entry.
   *
   * @param cookie - where to go on after this entry (`d_off`), more than 0
   * @param mode - the type bits of its mode
   * @returns false when there was no room: the entry will come again, and no more follow now
   */
  onEntry(nodeid: number, name: string, mode: number, cookie: number): boolean;
}

/**
 * The file system, for transports. The kernel checks permissions (`default_permissions`); this does
 * what the kernel leaves to a file system: link counts, sticky times, set-user-id bits that fall,
 * set-group-id directories, default ACLs, quota.
 */
export interface FileOperations {
  /** Finds a name; on success the node has one lookup more, until {@link FileOperations.forget}. @returns nodeid */
  lookup(parent: number, name: string): number;
  /** Takes back `count` lookups; a node without links, lookups and open handles ends. */
  forget(nodeid: number, count: number): void;
  /** The number that tells this node from an earlier one of the same nodeid. */
  generation(nodeid: number): number;
  /** @returns 0 */
  attributes(nodeid: number, into: Attributes): number;
  /** Changes attributes; a change of size may wait for the pool. Ends with 0. */
  changeAttributes(tag: number, caller: Caller, nodeid: number, change: AttributeChange): void;
  /** @returns the target, or a negative errno */
  readLink(nodeid: number): string | number;
  /** @returns nodeid, with one lookup */
  symlink(caller: Caller, parent: number, name: string, target: string): number;
  /** Makes a file, fifo, socket or device. @returns nodeid, with one lookup */
  makeNode(
    caller: Caller,
    parent: number,
    name: string,
    mode: number,
    umask: number,
    rdev: number,
  ): number;
  /** @returns nodeid, with one lookup */
  makeDirectory(caller: Caller, parent: number, name: string, mode: number, umask: number): number;
  /** A regular file without a name (O_TMPFILE). @returns nodeid, with one lookup */
  makeTemporary(caller: Caller, parent: number, mode: number, umask: number): number;
  /** @returns 0 */
  unlink(parent: number, name: string): number;
  /** @returns 0 */
  removeDirectory(parent: number, name: string): number;
  /** @param flags - `RENAME_NOREPLACE` (1), `RENAME_EXCHANGE` (2), `RENAME_WHITEOUT` (4) @returns 0 */
  rename(parent: number, name: string, newParent: number, newName: string, flags: number): number;
  /** @returns the same nodeid, with one lookup */
  link(nodeid: number, newParent: number, newName: string): number;

  /**
   * A handle on a regular file keeps it alive without a name. O_TRUNC is the caller's to carry out,
   * by a change of size.
   *
   * @returns fh, 1 or more
   */
  open(nodeid: number, flags: number): number;
  /** Ends a handle of {@link FileOperations.open}. */
  release(fh: number): void;
  /** Reads; ends with the bytes read, fewer than `length` only at the end of the file. */
  read(
    tag: number,
    nodeid: number,
    offset: number,
    length: number,
    into: NativeBuffer,
    intoOffset: number,
  ): void;
  /**
   * Reads without a copy: appends to `into` where the bytes lie in memory of this process, good until the next
   * call of the file system.
   *
   * @returns bytes as {@link FileOperations.read} ends with, a negative errno, or {@link NOT_IN_PLACE}
   */
  readInPlace(nodeid: number, offset: number, length: number, into: IoVectors): number;
  /**
   * Writes; ends with the bytes written, all or an error.
   *
   * @param killPrivileges - the caller may not keep set-user-id and set-group-id bits (`FUSE_WRITE_KILL_SUIDGID`)
   * @param fromCache - the kernel writes its cache back (`FUSE_WRITE_CACHE`): times are the kernel's
   */
  write(
    tag: number,
    nodeid: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    killPrivileges: boolean,
    fromCache: boolean,
  ): void;
  /**
   * Ends with 0.
   *
   * @param mode - `FALLOC_FL_*`
   * @param killPrivileges - as in `FileOperations.write`; the kernel does not say, so who is not root may not
   */
  allocate(
    tag: number,
    nodeid: number,
    mode: number,
    offset: number,
    length: number,
    killPrivileges: boolean,
  ): void;
  /**
   * copy_file_range(2); ends with the bytes copied.
   *
   * @param killPrivileges - as in `FileOperations.allocate`
   */
  copyRange(
    tag: number,
    nodeid: number,
    offset: number,
    newNodeid: number,
    newOffset: number,
    length: number,
    killPrivileges: boolean,
  ): void;
  /** @param whence - `SEEK_DATA` (3) or `SEEK_HOLE` (4) @returns the offset */
  seek(nodeid: number, offset: number, whence: number): number;
  /**
   * True while a handle is open that can write: with its writeback cache the kernel may then hold bytes,
   * and a size, that have not come yet, and a transport makes it write them before it asks for
   * `FileOperations.seek`.
   */
  mayBeDirty(nodeid: number): boolean;
  /** Ends with 0 when all that was written to the file is on all promised copies. */
  sync(tag: number, nodeid: number): void;

  /** @returns fh, 1 or more */
  openDirectory(nodeid: number): number;
  /** Ends a handle of {@link FileOperations.openDirectory}. */
  releaseDirectory(fh: number): void;
  /**
   * Reports entries behind `cookie` (0 for the first), `.` and `..` among them; an entry that is there
   * all the time comes exactly once, whatever else changes. From cookie 0 the handle looks anew.
   *
   * @returns 0
   */
  readDirectory(fh: number, cookie: number, sink: DirectoryEntrySink): number;

  /** @param flags - `XATTR_CREATE` (1), `XATTR_REPLACE` (2) @returns 0 */
  setAttribute(
    caller: Caller,
    nodeid: number,
    name: string,
    value: string,
    flags: number,
    killSetGid: boolean,
  ): number;
  /** @returns the value, or a negative errno (`ENODATA`) */
  getAttribute(nodeid: number, name: string): string | number;
  /** @returns the names, each with a NUL behind it, or a negative errno */
  listAttributes(nodeid: number): string | number;
  /** @returns 0 */
  removeAttribute(caller: Caller, nodeid: number, name: string): number;

  /** Fills in the room of the whole file system. */
  statistics(into: FileSystemStatistics): void;
}

/** What the store says of its room; all counts are pages of 4096 bytes. */
export interface FileStoreRoom {
  /** The quota. */
  readonly pageCount: number;
  /** Pages that hold data or are promised by fallocate. */
  readonly usedPageCount: number;
}

/**
 * The bytes of regular files, by a number that the file system chooses (a dense index from 0; a slot of
 * the inode table). A file that was never written has no bytes and needs no call. Sizes are the file
 * system's: it never reads beyond the size, and the store answers holes with zeroes. The file system lets
 * a call that changes where bytes lie (truncate, punch, allocate, remove) begin whenever the kernel asks;
 * the store sees to it that reads and writes that are under way never touch another file's bytes.
 */
export interface FileStore {
  /** Reads; ends with `length`, or `-EIO` when bytes of the range are lost. */
  read(
    tag: number,
    file: number,
    offset: number,
    length: number,
    into: NativeBuffer,
    intoOffset: number,
  ): void;
  /**
   * Appends to `into` where the bytes lie, if all of them lie in memory of this process: good until the next call.
   *
   * @returns false, with nothing appended, when they must be read
   */
  locate(file: number, offset: number, length: number, into: IoVectors): boolean;
  /**
   * Writes; ends with `length`, or `-ENOSPC` (nothing written), `-EIO`.
   *
   * @param size - the size of the file before: what lies behind it counts as zeroes
   */
  write(
    tag: number,
    file: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    size: number,
  ): void;
  /** Drops what lies behind `newSize`, so that it reads as zeroes should the file grow again. Ends with 0. */
  truncate(tag: number, file: number, newSize: number): void;
  /** Makes a range a hole (whole pages) or zeroes (edges). Ends with 0. */
  punch(tag: number, file: number, offset: number, length: number): void;
  /** Promises room for a range, so that a write there cannot fail with ENOSPC. @returns 0 or `-ENOSPC` */
  reserve(file: number, offset: number, length: number): number;
  /** Copies a range that does not overlap, holes stay holes. Ends with `length`. */
  copy(
    tag: number,
    file: number,
    offset: number,
    newFile: number,
    newOffset: number,
    length: number,
  ): void;
  /** The first byte at or behind `offset` that is data (not a hole), or `size` when there is none. */
  seekData(file: number, offset: number, size: number): number;
  /** The first byte at or behind `offset` that is a hole, or `size`: behind a file is a hole. */
  seekHole(file: number, offset: number, size: number): number;
  /** Forgets the file; its number may be used again at once. */
  remove(file: number): void;
  /** Units of 512 bytes that the file takes. */
  blocks(file: number): number;
  /** Ends with 0 when every write that ended before is on all promised copies. */
  sync(tag: number): void;
  /** The room now. */
  room(): FileStoreRoom;
  /** True when bytes of the file were found lost. */
  isDamaged(file: number): boolean;
  /** Ends; calls under way end with `-EIO` or as they would. */
  close(): void;
}
