/**
 * The smallest honest file system, for tests of the transport alone: one directory of regular files
 * held in memory of a fixed size, with delays and defects on demand. It follows the contract of
 * fuse-fs/operations.ts; what it does not have ends with ENOSYS.
 */
import type { NativeBuffer } from '../../common/native-memory.ts';
import { Errno } from '../../fuse-fs/errno.ts';
import {
  AttributeBit,
  type AttributeChange,
  type Attributes,
  type Caller,
  type DirectoryEntrySink,
  type FileCompletionSink,
  NOT_IN_PLACE,
  type FileOperations,
  type FileSystemStatistics,
} from '../../fuse-fs/operations.ts';

const FILE_SIZE_MAX_BYTES = 64 * 2 ** 20;

interface File {
  name: string | undefined;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  bytes: Buffer;
  lookups: number;
  handles: number;
  modifySeconds: number;
  attributes: Map<string, string>;
}

/** How it may misbehave. */
export interface FlatFilesOptions {
  /** Milliseconds until a call ends that may wait; undefined or negative ends it before it returns. */
  delayMs?: (operation: string) => number;
  /** Throws from inside a call. */
  defect?: (operation: string) => void;
}

/** See the top of the file. */
export class FlatFiles implements FileOperations {
  /** Nodes of which the kernel is said to hold bytes back. */
  readonly dirty = new Set<number>();
  /** By nodeid, from 2. */
  readonly files = new Map<number, File>();
  /** Handles of directories. */
  directoryHandles = 0;
  readonly #sink: FileCompletionSink;
  readonly #options: FlatFilesOptions;
  #nextNodeid = 2;

  constructor(sink: FileCompletionSink, options: FlatFilesOptions = {}) {
    this.#sink = sink;
    this.#options = options;
  }

  lookup(parent: number, name: string): number {
    this.#options.defect?.('lookup');
    if (parent !== 1) return -Errno.ENOTDIR;
    const nodeid = this.#find(name);
    if (nodeid > 0) this.files.get(nodeid)!.lookups += 1;
    return nodeid;
  }

  forget(nodeid: number, count: number): void {
    this.#options.defect?.('forget');
    const file = this.files.get(nodeid);
    if (file === undefined) return;
    file.lookups -= count;
    this.#reap(nodeid, file);
  }

  generation(): number {
    return 1;
  }

  attributes(nodeid: number, into: Attributes): number {
    const file = this.files.get(nodeid);
    if (file === undefined && nodeid !== 1) return -Errno.ESTALE;
    into.nodeid = nodeid;
    into.mode = file?.mode ?? 0o040777;
    into.linkCount = file === undefined ? 2 : file.name === undefined ? 0 : 1;
    into.uid = file?.uid ?? 0;
    into.gid = file?.gid ?? 0;
    into.rdev = 0;
    into.size = file?.size ?? 0;
    into.blocks = Math.ceil(into.size / 4096) * 8;
    into.accessSeconds = into.modifySeconds = into.changeSeconds = file?.modifySeconds ?? 0;
    into.accessNanoseconds = into.modifyNanoseconds = into.changeNanoseconds = 0;
    return 0;
  }

  changeAttributes(tag: number, _caller: Caller, nodeid: number, change: AttributeChange): void {
    const { valid, mode, size, modifySeconds } = change;
    this.#later('changeAttributes', tag, () => {
      const file = this.files.get(nodeid);
      if (file === undefined) return nodeid === 1 ? 0 : -Errno.ESTALE;
      if ((valid & AttributeBit.SIZE) !== 0) {
        if (size > FILE_SIZE_MAX_BYTES) return -Errno.EFBIG;
        this.#grow(file, size);
        file.bytes.fill(0, Math.min(size, file.size), Math.max(size, file.size));
        file.size = size;
      }
      if ((valid & AttributeBit.MODE) !== 0) file.mode = 0o100000 | (mode & 0o7777);
      if ((valid & AttributeBit.MTIME) !== 0) file.modifySeconds = modifySeconds;
      return 0;
    });
  }

  readLink(): number {
    return -Errno.EINVAL;
  }

  symlink(): number {
    return -Errno.ENOSYS;
  }

  makeNode(caller: Caller, parent: number, name: string, mode: number, umask: number): number {
    this.#options.defect?.('makeNode');
    if (parent !== 1) return -Errno.ENOTDIR;
    if (this.#find(name) > 0) return -Errno.EEXIST;
    const nodeid = this.#nextNodeid;
    this.#nextNodeid += 1;
    this.files.set(nodeid, {
      name,
      mode: mode & ~umask,
      uid: caller.uid,
      gid: caller.gid,
      size: 0,
      bytes: Buffer.alloc(4096),
      lookups: 1,
      handles: 0,
      modifySeconds: Math.floor(Date.now() / 1000),
      attributes: new Map(),
    });
    return nodeid;
  }

  makeDirectory(): number {
    return -Errno.ENOSYS;
  }

  makeTemporary(caller: Caller, parent: number, mode: number, umask: number): number {
    const nodeid = this.makeNode(caller, parent, ` ${this.#nextNodeid}`, mode, umask);
    if (nodeid > 0) this.files.get(nodeid)!.name = undefined;
    return nodeid;
  }

  unlink(parent: number, name: string): number {
    const nodeid = parent === 1 ? this.#find(name) : -Errno.ENOTDIR;
    if (nodeid < 0) return nodeid;
    const file = this.files.get(nodeid)!;
    file.name = undefined;
    this.#reap(nodeid, file);
    return 0;
  }

  removeDirectory(): number {
    return -Errno.ENOTDIR;
  }

  rename(parent: number, name: string, newParent: number, newName: string, flags: number): number {
    const nodeid = this.#find(name);
    if (nodeid < 0) return nodeid;
    if (parent !== 1 || newParent !== 1 || flags > 1) return -Errno.EINVAL;
    const other = this.#find(newName);
    if (other > 0 && flags === 1) return -Errno.EEXIST;
    if (other > 0) this.unlink(1, newName);
    this.files.get(nodeid)!.name = newName;
    return 0;
  }

  link(): number {
    return -Errno.ENOSYS;
  }

  open(nodeid: number): number {
    const file = this.files.get(nodeid);
    if (file === undefined) return -Errno.ESTALE;
    file.handles += 1;
    return nodeid;
  }

  release(fh: number): void {
    const file = this.files.get(fh);
    if (file === undefined) return;
    file.handles -= 1;
    this.#reap(fh, file);
  }

  read(
    tag: number,
    nodeid: number,
    offset: number,
    length: number,
    into: NativeBuffer,
    intoOffset: number,
  ): void {
    this.#later('read', tag, () => {
      const file = this.files.get(nodeid);
      if (file === undefined) return -Errno.ESTALE;
      const count = Math.max(0, Math.min(length, file.size - offset));
      file.bytes.copy(into.bytes, intoOffset, offset, offset + count);
      return count;
    });
  }

  readInPlace(): number {
    return NOT_IN_PLACE;
  }

  write(
    tag: number,
    nodeid: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
  ): void {
    this.#later('write', tag, () => {
      const file = this.files.get(nodeid);
      if (file === undefined) return -Errno.ESTALE;
      if (offset + length > FILE_SIZE_MAX_BYTES) return -Errno.EFBIG;
      this.#grow(file, offset + length);
      from.bytes.copy(file.bytes, offset, fromOffset, fromOffset + length);
      file.size = Math.max(file.size, offset + length);
      return length;
    });
  }

  allocate(tag: number): void {
    this.#later('allocate', tag, () => -Errno.EOPNOTSUPP);
  }

  copyRange(
    tag: number,
    nodeid: number,
    offset: number,
    newNodeid: number,
    newOffset: number,
    length: number,
  ): void {
    this.#later('copyRange', tag, () => {
      const from = this.files.get(nodeid);
      const to = this.files.get(newNodeid);
      if (from === undefined || to === undefined) return -Errno.ESTALE;
      const count = Math.max(0, Math.min(length, from.size - offset));
      if (newOffset + count > FILE_SIZE_MAX_BYTES) return -Errno.EFBIG;
      this.#grow(to, newOffset + count);
      from.bytes.copy(to.bytes, newOffset, offset, offset + count);
      to.size = Math.max(to.size, newOffset + count);
      return count;
    });
  }

  seek(nodeid: number, offset: number, whence: number): number {
    const size = this.files.get(nodeid)?.size ?? 0;
    if (offset >= size) return -Errno.ENXIO;
    return whence === 3 ? offset : size;
  }

  mayBeDirty(nodeid: number): boolean {
    return this.dirty.has(nodeid);
  }

  sync(tag: number): void {
    this.#later('sync', tag, () => 0);
  }

  openDirectory(nodeid: number): number {
    if (nodeid !== 1) return -Errno.ENOTDIR;
    this.directoryHandles += 1;
    return 1;
  }

  releaseDirectory(): void {
    this.directoryHandles -= 1;
  }

  readDirectory(_fh: number, cookie: number, sink: DirectoryEntrySink): number {
    if (cookie < 1 && !sink.onEntry(1, '.', 0o040000, 1)) return 0;
    if (cookie < 2 && !sink.onEntry(1, '..', 0o040000, 2)) return 0;
    for (const [nodeid, file] of this.files) {
      if (file.name === undefined || nodeid + 1 <= cookie) continue;
      if (!sink.onEntry(nodeid, file.name, file.mode, nodeid + 1)) return 0;
    }
    return 0;
  }

  setAttribute(_caller: Caller, nodeid: number, name: string, value: string): number {
    const file = this.files.get(nodeid);
    if (file === undefined) return -Errno.EOPNOTSUPP;
    file.attributes.set(name, value);
    return 0;
  }

  getAttribute(nodeid: number, name: string): string | number {
    return this.files.get(nodeid)?.attributes.get(name) ?? -Errno.ENODATA;
  }

  listAttributes(nodeid: number): string | number {
    const names = [...(this.files.get(nodeid)?.attributes.keys() ?? [])];
    return names.map((name) => `${name}\0`).join('');
  }

  removeAttribute(_caller: Caller, nodeid: number, name: string): number {
    return this.files.get(nodeid)?.attributes.delete(name) === true ? 0 : -Errno.ENODATA;
  }

  statistics(into: FileSystemStatistics): void {
    into.blockCount = into.inodeCount = 1000;
    into.freeBlockCount = into.freeInodeCount = 900;
  }

  #find(name: string): number {
    for (const [nodeid, file] of this.files) if (file.name === name) return nodeid;
    return -Errno.ENOENT;
  }

  #reap(nodeid: number, file: File): void {
    if (file.name === undefined && file.lookups <= 0 && file.handles <= 0) {
      this.files.delete(nodeid);
    }
  }

  #grow(file: File, size: number): void {
    if (size <= file.bytes.length) return;
    const bytes = Buffer.alloc(2 * size);
    file.bytes.copy(bytes);
    file.bytes = bytes;
  }

  #later(operation: string, tag: number, work: () => number): void {
    this.#options.defect?.(operation);
    const delay = this.#options.delayMs?.(operation) ?? -1;
    if (delay < 0) this.#sink.onFileDone(tag, work());
    else setTimeout(() => this.#sink.onFileDone(tag, work()), delay);
  }
}
