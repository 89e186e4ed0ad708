/**
 * The operations of libfuse 2, by path, on top of {@link FileOperations}. Requests end by a reply
 * function: zero, a count or a negative errno. In the order of fuse.h `struct fuse_operations`.
 */
import { Errno } from './errno.ts';
import type {
  ExtendedOperations,
  NativeOperations,
  NativeReply,
  NativeStat,
} from './native-binding.ts';
import { NATIVE_REQUEST_SIZE_MAX, type NativeCalls } from './native-calls.ts';
import { NativePaths, bytesOfText, textOfBytes } from './native-paths.ts';
import {
  AttributeBit,
  emptyAttributes,
  emptyChange,
  type AttributeChange,
  type Caller,
  type FileOperations,
} from './operations.ts';

const S_IFREG = 0o100000;
const O_RDWR = 2;
const CUT = AttributeBit.SIZE | AttributeBit.FH;
/** chown(2): leave this one as it is. */
const UNCHANGED_ID = 0xffffffff;
const MS_PER_SECOND = 1000;
const NS_PER_MS = 1e6;
const BLOCK_SIZE_BYTES = 4096;
const NAME_SIZE_MAX = 255;
const UINT32_MAX = 0xffffffff;
/** Handles pass the package as signed numbers. */
const HANDLE_MAX = 0x7fffffff;
/** Without FUSE_POSIX_ACL the kernel would store them and not heed them. */
const ACL_PREFIX = 'system.posix_acl_';

const milliseconds = (seconds: number, nanoseconds: number): number =>
  Math.max(0, seconds * MS_PER_SECOND + Math.floor(nanoseconds / NS_PER_MS));

/** Serves requests by path; see the top of the file. */
export class NativeServer implements ExtendedOperations {
  /** Requests that were answered or are under way. */
  requestCount = 0;
  readonly #files: FileOperations;
  readonly #calls: NativeCalls;
  readonly #paths: NativePaths;
  readonly #caller: Caller;
  /** Node of each open handle, and how often the same handle is open. */
  readonly #handles = new Map<number, number>();
  readonly #attributes = emptyAttributes();

  /** @param caller - to whom what is made belongs: the package does not say who asks */
  constructor(files: FileOperations, calls: NativeCalls, caller: Caller) {
    this.#files = files;
    this.#calls = calls;
    this.#paths = new NativePaths(files);
    this.#caller = caller;
  }

  /** The table for the package. */
  operations(): NativeOperations {
    return { ...this.#nameOperations(), ...this.#attributeOperations(), ...this.#dataOperations() };
  }

  #nameOperations() {
    const [files, paths, caller] = [this.#files, this.#paths, this.#caller];
    /** Ends a request that made a node: its lookup goes back. */
    const made = (nodeid: number): number => {
      if (nodeid < 0) return nodeid;
      files.forget(nodeid, 1);
      return 0;
    };
    return {
      readlink: (path: string, reply: NativeReply) => {
        this.requestCount += 1;
        const target = paths.at(path, (nodeid) => files.readLink(nodeid));
        if (typeof target === 'number') reply(target);
        else reply(0, textOfBytes(target));
      },
      mknod: (path: string, mode: number, rdev: number, reply: NativeReply) =>
        this.#end(
          reply,
          paths.in(path, (parent, name) =>
            made(files.makeNode(caller, parent, name, mode, 0, rdev)),
          ),
        ),
      mkdir: (path: string, mode: number, reply: NativeReply) =>
        this.#end(
          reply,
          paths.in(path, (parent, name) =>
            made(files.makeDirectory(caller, parent, name, mode, 0)),
          ),
        ),
      unlink: (path: string, reply: NativeReply) =>
        this.#end(
          reply,
          paths.in(path, (parent, name) => files.unlink(parent, name)),
        ),
      rmdir: (path: string, reply: NativeReply) =>
        this.#end(
          reply,
          paths.in(path, (parent, name) => files.removeDirectory(parent, name)),
        ),
      symlink: (target: string, path: string, reply: NativeReply) =>
        this.#end(
          reply,
          paths.in(path, (parent, name) =>
            made(files.symlink(caller, parent, name, bytesOfText(target))),
          ),
        ),
      rename: (from: string, to: string, reply: NativeReply) =>
        this.#end(
          reply,
          paths.in(from, (parent, name) =>
            paths.in(to, (newParent, newName) => files.rename(parent, name, newParent, newName, 0)),
          ),
        ),
      link: (from: string, to: string, reply: NativeReply) =>
        this.#end(
          reply,
          paths.at(from, (nodeid) =>
            paths.in(to, (parent, name) => made(files.link(nodeid, parent, name))),
          ),
        ),
      readdir: (path: string, reply: NativeReply) => this.#readDirectory(path, reply),
    };
  }

  #attributeOperations() {
    return {
      getattr: (path: string, reply: NativeReply) => {
        this.requestCount += 1;
        const stat = {} as NativeStat;
        const result = this.#paths.at(path, (nodeid) => this.#fill(nodeid, stat));
        reply(result, stat);
      },
      statfs: (_path: string, reply: NativeReply) => this.#statistics(reply),
      chmod: (path: string, mode: number, reply: NativeReply) =>
        this.#change(path, { ...emptyChange(), valid: AttributeBit.MODE, mode }, reply),
      chown: (path: string, uid: number, gid: number, reply: NativeReply) => {
        const valid =
          (uid === UNCHANGED_ID ? 0 : AttributeBit.UID) |
          (gid === UNCHANGED_ID ? 0 : AttributeBit.GID);
        this.#change(path, { ...emptyChange(), valid, uid, gid }, reply);
      },
      // The second time is the first again; see the top of native-transport.ts.
      utimens: (path: string, accessMs: number, _modifyMs: number, reply: NativeReply) => {
        const seconds = Math.floor(accessMs / MS_PER_SECOND);
        const nanoseconds = Math.floor(accessMs - seconds * MS_PER_SECOND) * NS_PER_MS;
        const change: AttributeChange = {
          ...emptyChange(),
          valid: AttributeBit.ATIME | AttributeBit.MTIME,
          accessSeconds: seconds,
          accessNanoseconds: nanoseconds,
          modifySeconds: seconds,
          modifyNanoseconds: nanoseconds,
        };
        this.#change(path, change, reply);
      },
      truncate: (path: string, size: number, reply: NativeReply) =>
        // Opening with O_TRUNC comes as this too, and moves the times of a file that is empty already.
        this.#change(path, { ...emptyChange(), valid: CUT, size }, reply),
      setxattr: (
        path: string,
        name: string,
        value: Buffer,
        _position: number,
        flags: number,
        reply: NativeReply,
      ) => {
        const bytes = value.toString('latin1');
        const set = (nodeid: number): number => {
          if (name.startsWith(ACL_PREFIX)) return -Errno.EOPNOTSUPP;
          const key = bytesOfText(name);
          return this.#files.setAttribute(this.#caller, nodeid, key, bytes, flags, false);
        };
        this.#end(reply, this.#paths.at(path, set));
      },
      removexattr: (path: string, name: string, reply: NativeReply) =>
        this.#end(
          reply,
          this.#paths.at(path, (nodeid) =>
            this.#files.removeAttribute(this.#caller, nodeid, bytesOfText(name)),
          ),
        ),
      fgetattr: () => undefined,
      getxattr: () => undefined,
      listxattr: () => undefined,
    };
  }

  #dataOperations() {
    return {
      create: (path: string, mode: number, reply: NativeReply) => this.#create(path, mode, reply),
      open: (path: string, flags: number, reply: NativeReply) => {
        this.requestCount += 1;
        this.#answerOpen(
          reply,
          this.#paths.at(path, (nodeid) => this.#open(nodeid, flags)),
        );
      },
      release: (_path: string, fh: number, reply: NativeReply) => {
        if (this.#handles.delete(fh)) this.#files.release(fh);
        this.#end(reply, 0);
      },
      read: (
        _path: string,
        fh: number,
        into: Buffer,
        length: number,
        offset: number,
        reply: NativeReply,
      ) => this.#read(fh, into, length, offset, reply),
      write: (
        _path: string,
        fh: number,
        from: Buffer,
        length: number,
        offset: number,
        reply: NativeReply,
      ) => this.#write(fh, from, length, offset, reply),
      ftruncate: (_path: string, fh: number, size: number, reply: NativeReply) => {
        this.requestCount += 1;
        const nodeid = this.#handles.get(fh);
        if (nodeid === undefined) return reply(-Errno.EBADF);
        this.#changeNode(nodeid, { ...emptyChange(), valid: CUT, size }, reply);
      },
      fsync: (_path: string, _dataOnly: number, fh: number, reply: NativeReply) => {
        this.requestCount += 1;
        const nodeid = this.#handles.get(fh);
        if (nodeid === undefined) return reply(-Errno.EBADF);
        this.#calls.call((tag) => this.#files.sync(tag, nodeid), reply);
      },
    };
  }

  attributesOf(fh: number, into: NativeStat): number {
    this.requestCount += 1;
    const nodeid = this.#handles.get(fh);
    return nodeid === undefined ? -Errno.EBADF : this.#fill(nodeid, into);
  }

  getAttribute(path: string, name: string): string | number {
    this.requestCount += 1;
    if (name.startsWith(ACL_PREFIX)) return -Errno.EOPNOTSUPP;
    return this.#paths.at(path, (nodeid) => this.#files.getAttribute(nodeid, bytesOfText(name)));
  }

  listAttributes(path: string): string | number {
    this.requestCount += 1;
    return this.#paths.at(path, (nodeid) => this.#files.listAttributes(nodeid));
  }

  #end(reply: NativeReply, result: number): void {
    this.requestCount += 1;
    reply(result);
  }

  #fill(nodeid: number, into: NativeStat): number {
    const from = this.#attributes;
    const result = this.#files.attributes(nodeid, from);
    if (result < 0) return result;
    into.mode = from.mode;
    into.uid = from.uid;
    into.gid = from.gid;
    into.size = from.size;
    into.nlink = from.linkCount;
    into.ino = from.nodeid;
    into.rdev = from.rdev;
    into.blksize = BLOCK_SIZE_BYTES;
    into.blocks = from.blocks;
    into.atime = milliseconds(from.accessSeconds, from.accessNanoseconds);
    into.mtime = milliseconds(from.modifySeconds, from.modifyNanoseconds);
    into.ctime = milliseconds(from.changeSeconds, from.changeNanoseconds);
    return 0;
  }

  #statistics(reply: NativeReply): void {
    this.requestCount += 1;
    const room = { blockCount: 0, freeBlockCount: 0, inodeCount: 0, freeInodeCount: 0 };
    this.#files.statistics(room);
    const free = Math.min(room.freeBlockCount, UINT32_MAX);
    const freeInodes = Math.min(room.freeInodeCount, UINT32_MAX);
    reply(0, {
      bsize: BLOCK_SIZE_BYTES,
      frsize: BLOCK_SIZE_BYTES,
      blocks: Math.min(room.blockCount, UINT32_MAX),
      bfree: free,
      bavail: free,
      files: Math.min(room.inodeCount, UINT32_MAX),
      ffree: freeInodes,
      favail: freeInodes,
      namemax: NAME_SIZE_MAX,
    });
  }

  #readDirectory(path: string, reply: NativeReply): void {
    this.requestCount += 1;
    const names: string[] = [];
    const stats: Pick<NativeStat, 'mode' | 'ino'>[] = [];
    const list = (nodeid: number): number => {
      const fh = this.#files.openDirectory(nodeid);
      if (fh < 0) return fh;
      const onEntry = (ino: number, name: string, mode: number): boolean => {
        names.push(textOfBytes(name));
        stats.push({ mode, ino });
        return true;
      };
      const result = this.#files.readDirectory(fh, 0, { onEntry });
      this.#files.releaseDirectory(fh);
      return result;
    };
    const result = this.#paths.at(path, list);
    if (result < 0) reply(result);
    else reply(0, names, stats);
  }

  #change(path: string, change: AttributeChange, reply: NativeReply): void {
    this.requestCount += 1;
    const nodeid = this.#paths.take(path);
    if (nodeid < 0) return reply(nodeid);
    this.#changeNode(nodeid, change, (result) => {
      this.#paths.giveBack(nodeid);
      reply(result);
    });
  }

  #changeNode(nodeid: number, change: AttributeChange, reply: NativeReply): void {
    if (change.size > Number.MAX_SAFE_INTEGER) return reply(-Errno.EFBIG);
    const begin = (tag: number): void =>
      this.#files.changeAttributes(tag, this.#caller, nodeid, change);
    this.#calls.call(begin, reply);
  }

  #create(path: string, mode: number, reply: NativeReply): void {
    this.requestCount += 1;
    const create = (parent: number, name: string): number => {
      const type = S_IFREG | (mode & 0o7777);
      const nodeid = this.#files.makeNode(this.#caller, parent, name, type, 0, 0);
      if (nodeid < 0) return nodeid;
      const fh = this.#open(nodeid, O_RDWR);
      this.#files.forget(nodeid, 1);
      return fh;
    };
    this.#answerOpen(reply, this.#paths.in(path, create));
  }

  #open(nodeid: number, flags: number): number {
    const fh = this.#files.open(nodeid, flags);
    if (fh > HANDLE_MAX) {
      this.#files.release(fh);
      return -Errno.ENOMEM;
    }
    if (fh > 0) this.#handles.set(fh, nodeid);
    return fh;
  }

  #answerOpen(reply: NativeReply, fh: number): void {
    if (fh < 0) reply(fh);
    else reply(0, fh);
  }

  #read(fh: number, into: Buffer, length: number, offset: number, reply: NativeReply): void {
    this.requestCount += 1;
    const nodeid = this.#handles.get(fh);
    if (nodeid === undefined) return reply(-Errno.EBADF);
    if (length > NATIVE_REQUEST_SIZE_MAX) return reply(-Errno.EIO);
    if (offset + length > Number.MAX_SAFE_INTEGER) return reply(0);
    this.#calls.callWithBuffer(
      (tag, buffer) => this.#files.read(tag, nodeid, offset, length, buffer, 0),
      (result, buffer) => {
        if (result > 0) buffer.bytes.copy(into, 0, 0, result);
        reply(result);
      },
    );
  }

  #write(fh: number, from: Buffer, length: number, offset: number, reply: NativeReply): void {
    this.requestCount += 1;
    const nodeid = this.#handles.get(fh);
    if (nodeid === undefined) return reply(-Errno.EBADF);
    if (length > NATIVE_REQUEST_SIZE_MAX) return reply(-Errno.EIO);
    // The package makes one number of two halves, which holds no more than this exactly.
    if (offset + length > Number.MAX_SAFE_INTEGER) return reply(-Errno.EFBIG);
    this.#calls.callWithBuffer(
      (tag, buffer) => {
        from.copy(buffer.bytes, 0, 0, length);
        this.#files.write(tag, nodeid, offset, length, buffer, 0, false, false);
      },
      (result) => reply(result),
    );
  }
}
