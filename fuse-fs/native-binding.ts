/**
 * The package fuse-native (libfuse 2, path by path) as far as we use it: loading it, and mending what
 * would do harm. It is optional: no other part of the program needs it. Two of its faults are mended
 * here, by replacing methods that it does not document, which its exact pin allows:
 *
 * - `getxattr` and `listxattr` answer with the length of the whole value although the caller's buffer
 *   is shorter, and libfuse then sends that many bytes of the heap. They answer `ERANGE` here.
 * - `fgetattr` asks for the path although the file may have none any more.
 *
 * Its options are a string for libfuse in the end, and `subtype` goes in unchecked; that is how
 * `big_writes` (requests of 128 KiB, not 4) and `use_ino` (hard links show one inode number) get there.
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import koffi from 'koffi';
import { MemcloudError } from '../common/errors.ts';

/** Ends an operation: zero, a count, or a negative errno; then what the operation gives. */
export type NativeReply = (result: number, value?: unknown, more?: unknown) => void;

/** What getattr gives: numbers of stat(2), times in milliseconds since 1970, none before. */
export interface NativeStat {
  /** `st_mode`. */
  mode: number;
  /** Owner. */
  uid: number;
  /** Group. */
  gid: number;
  /** Bytes. */
  size: number;
  /** Hard links. */
  nlink: number;
  /** Inode number, 32 bits. */
  ino: number;
  /** Device number as the kernel encodes it. */
  rdev: number;
  /** Bytes of a good request. */
  blksize: number;
  /** Units of 512 bytes. */
  blocks: number;
  /** Last access. */
  atime: number;
  /** Last change of contents. */
  mtime: number;
  /** Last change of anything. */
  ctime: number;
}

/** The operations that we serve. Buffers are libfuse's, lent until the reply. */
export interface NativeOperations {
  /** stat(2). */
  getattr(path: string, reply: NativeReply): void;
  /** The names in a directory. */
  readdir(path: string, reply: NativeReply): void;
  /** Where a symbolic link points. */
  readlink(path: string, reply: NativeReply): void;
  /** statfs(2). */
  statfs(path: string, reply: NativeReply): void;
  /** Makes a file that is no directory. */
  mknod(path: string, mode: number, rdev: number, reply: NativeReply): void;
  /** Makes a directory. */
  mkdir(path: string, mode: number, reply: NativeReply): void;
  /** Takes a name away. */
  unlink(path: string, reply: NativeReply): void;
  /** Takes an empty directory away. */
  rmdir(path: string, reply: NativeReply): void;
  /** Makes a symbolic link at `path`. */
  symlink(target: string, path: string, reply: NativeReply): void;
  /** rename(2). */
  rename(from: string, to: string, reply: NativeReply): void;
  /** Makes a second name. */
  link(from: string, to: string, reply: NativeReply): void;
  /** Sets permissions. */
  chmod(path: string, mode: number, reply: NativeReply): void;
  /** Sets owner and group; -1 leaves one as it is. */
  chown(path: string, uid: number, gid: number, reply: NativeReply): void;
  /** Sets the times of access and change. */
  utimens(path: string, accessMs: number, modifyMs: number, reply: NativeReply): void;
  /** Sets the length by name. */
  truncate(path: string, size: number, reply: NativeReply): void;
  /** Sets the length of an open file. */
  ftruncate(path: string, fh: number, size: number, reply: NativeReply): void;
  /** Makes a file and opens it. */
  create(path: string, mode: number, reply: NativeReply): void;
  /** Opens a file. */
  open(path: string, flags: number, reply: NativeReply): void;
  /** Ends an open file. */
  release(path: string, fh: number, reply: NativeReply): void;
  /** Reads into `into`, from `offset`. */
  read(
    path: string,
    fh: number,
    into: Buffer,
    length: number,
    offset: number,
    reply: NativeReply,
  ): void;
  /** Writes from `from`, at `offset`. */
  write(
    path: string,
    fh: number,
    from: Buffer,
    length: number,
    offset: number,
    reply: NativeReply,
  ): void;
  /** Waits until what was written lies where it is to stay. */
  fsync(path: string, dataOnly: number, fh: number, reply: NativeReply): void;
  /** Sets an extended attribute. */
  setxattr(
    path: string,
    name: string,
    value: Buffer,
    position: number,
    flags: number,
    reply: NativeReply,
  ): void;
  /** Removes an extended attribute. */
  removexattr(path: string, name: string, reply: NativeReply): void;
  /** Named so that the package asks libfuse for them; {@link ExtendedOperations} are what runs. */
  fgetattr(): void;
  /** See `fgetattr`. */
  getxattr(): void;
  /** See `fgetattr`. */
  listxattr(): void;
}

/** Operations that replace the package's own way of serving them. */
export interface ExtendedOperations {
  /** Fills in `into`; @returns 0 or a negative errno */
  attributesOf(fh: number, into: NativeStat): number;
  /** @returns the value, one character for each byte, or a negative errno */
  getAttribute(path: string, name: string): string | number;
  /** @returns the names, each with a NUL behind it, or a negative errno */
  listAttributes(path: string): string | number;
}

/** Options of a mount that we set, all of them strings: the package drops what is falsy. */
export interface NativeOptions {
  /** No deadlines: one that passes would end the request while its buffer is still in use. */
  timeout: false;
  allowOther: boolean;
  defaultPermissions: boolean;
  fsname: string;
  subtype: string;
  attrTimeout: string;
  entryTimeout: string;
  kernelCache: boolean;
}

type Signal = (result: number, ...payload: unknown[]) => void;

/** A mount of the package. */
export interface NativeMount {
  /** Mounts; `done` hears when it is there or why it is not. */
  mount(done: (error: Error | null) => void): void;
  /** Answers for an open file. */
  _op_fgetattr(signal: Signal, path: string, fh: number): void;
  /** Answers with the value of an extended attribute. */
  _op_getxattr(signal: Signal, path: string, name: string, into: Buffer): void;
  /** Answers with the names of all. */
  _op_listxattr(signal: Signal, path: string, into: Buffer): void;
}

/** The package's class. */
export type NativeClass = new (
  directory: string,
  operations: NativeOperations,
  options: Partial<NativeOptions>,
) => NativeMount;

const PACKAGE = 'fuse-native';
const ERANGE = 34;
const UINT32 = 2 ** 32;

/**
 * Loads the package.
 *
 * @throws MemcloudError `ERR_MOUNT_TRANSPORT` when it is not installed or cannot be loaded here
 */
export function loadFuseNative(): NativeClass {
  const require = createRequire(import.meta.url);
  let manifest: string;
  try {
    manifest = require.resolve(`${PACKAGE}/package.json`);
  } catch (cause) {
    throw new MemcloudError(
      'ERR_MOUNT_TRANSPORT',
      `the transport "native" needs the optional package ${PACKAGE}, which is not installed:` +
        ' install it (npm install --include=optional), or leave --fuse-transport out',
      { cause },
    );
  }
  try {
    return require(PACKAGE) as NativeClass;
  } catch (first) {
    try {
      loadBundledLibrary(path.dirname(manifest));
      return require(PACKAGE) as NativeClass;
    } catch {
      throw new MemcloudError(
        'ERR_MOUNT_TRANSPORT',
        `the package ${PACKAGE} cannot be loaded on this machine (it has a binary for x86-64 glibc` +
          ` only, and wants libfuse.so.2): ${first instanceof Error ? first.message : String(first)}`,
        { cause: first },
      );
    }
  }
}

/** The binary asks the loader for `libfuse.so.2`: a library of that soname that is already there will do. */
function loadBundledLibrary(packageDirectory: string): void {
  koffi.load(path.join(packageDirectory, 'prebuilds', `linux-${process.arch}`, 'libfuse.so'));
}

/** The 18 numbers in which the package passes what stat(2) tells (its `populate_stat`). */
export function encodeStat(stat: NativeStat): Uint32Array {
  const { mode, uid, gid, size, nlink, ino, rdev, blksize, blocks } = stat;
  const halves = (value: number): [number, number] => [value % UINT32, Math.floor(value / UINT32)];
  const times = [stat.atime, stat.mtime, stat.ctime].flatMap((ms) => halves(Math.max(0, ms)));
  return Uint32Array.from([
    ...[mode, uid, gid, ...halves(size), 0, nlink, ino % UINT32, rdev, blksize],
    ...[...halves(blocks), ...times],
  ]);
}

/** Puts `value` into the caller's buffer; one of no length asks how long the value is. */
function answerValue(signal: Signal, value: string | number, into: Buffer): void {
  const lend = into.buffer;
  if (typeof value === 'number') signal(value, lend);
  else if (into.length === 0) signal(value.length, lend);
  else if (value.length > into.length) signal(-ERANGE, lend);
  else signal(into.write(value, 'latin1'), lend);
}

/** Replaces what the package would do wrong; see the top of the file. */
export function mend(mount: NativeMount, operations: ExtendedOperations): void {
  const stat: NativeStat = {
    ...{ mode: 0, uid: 0, gid: 0, size: 0, nlink: 0, ino: 0, rdev: 0, blksize: 0, blocks: 0 },
    ...{ atime: 0, mtime: 0, ctime: 0 },
  };
  mount._op_fgetattr = (signal, _path, fh) =>
    signal(operations.attributesOf(fh, stat), encodeStat(stat));
  mount._op_getxattr = (signal, path, name, into) =>
    answerValue(signal, operations.getAttribute(path, name), into);
  mount._op_listxattr = (signal, path, into) =>
    answerValue(signal, operations.listAttributes(path), into);
}
