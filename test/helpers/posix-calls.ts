/**
 * The file system calls of Linux for tests that judge a file system: what Node does not offer
 * (rename flags, fallocate, extended attributes, locks, inotify, raw names) and what it hides (the exact
 * errno, nanoseconds, times before 1970). Each call gives its result, or the errno negated, so that a
 * refusal is a value which a table can hold.
 *
 * Names are strings (UTF-8) or bytes. Identities change for the calling thread alone, by the raw calls.
 */
import koffi from 'koffi';
import { errnoName } from '../../common/libc.ts';

const libc = koffi.load(null);

/** A path: text, or the bytes of a name that is not text. */
export type PathName = string | Buffer;

const NUL = Buffer.alloc(1);

/** The path as C wants it. */
function terminated(path: PathName): Buffer {
  return Buffer.concat([typeof path === 'string' ? Buffer.from(path) : path, NUL]);
}

type Argument = number | bigint | string | Buffer | null;

/** Binds a function of the C library; failures come back as `-errno`. */
function bind(signature: string): (...args: Argument[]) => number {
  const raw = libc.func(signature) as (...args: Argument[]) => number | bigint;
  return (...args) => {
    const result = Number(raw(...args));
    return result < 0 ? -koffi.errno() : result;
  };
}

/** Has two names. */
const EAGAIN = 11;

/** The name of a result: `ENOENT` for a refusal, the number itself otherwise. */
export function outcome(result: number): string | number {
  if (result >= 0) return result;
  return -result === EAGAIN ? 'EAGAIN' : errnoName(-result);
}

/** Flags of open(2): Linux `include/uapi/asm-generic/fcntl.h`; two differ on arm64. */
const ARM64 = process.arch === 'arm64';
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DIRECT: ARM64 ? 0o200000 : 0o40000,
  DIRECTORY: ARM64 ? 0o40000 : 0o200000,
  NOFOLLOW: ARM64 ? 0o100000 : 0o400000,
  NOATIME: 0o1000000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
  TMPFILE: 0o20000000 | (ARM64 ? 0o40000 : 0o200000),
} as const;

/** Types of `st_mode`: `include/uapi/linux/stat.h`. */
export const S_IF = {
  SOCK: 0o140000,
  LNK: 0o120000,
  REG: 0o100000,
  BLK: 0o060000,
  DIR: 0o040000,
  CHR: 0o020000,
  FIFO: 0o010000,
  MASK: 0o170000,
} as const;

/** Flags of renameat2(2): `include/uapi/linux/fcntl.h`. */
export const RENAME = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;

/** Modes of fallocate(2): `include/uapi/linux/falloc.h`. */
export const FALLOCATE = {
  KEEP_SIZE: 1,
  PUNCH_HOLE: 2,
  COLLAPSE_RANGE: 8,
  ZERO_RANGE: 16,
  INSERT_RANGE: 32,
} as const;

/** lseek(2). */
export const SEEK = { SET: 0, CUR: 1, END: 2, DATA: 3, HOLE: 4 } as const;

/** The directory that relative names start from. */
export const AT_FDCWD = -100;
/** linkat(2) follows the name of an open file; utimensat(2) does not follow a link. */
export const AT = { SYMLINK_NOFOLLOW: 0x100, REMOVEDIR: 0x200, SYMLINK_FOLLOW: 0x400 } as const;
/** Nanoseconds that mean the time now, and no change: `include/uapi/linux/stat.h`. */
export const UTIME = { NOW: 0x3fffffff, OMIT: 0x3ffffffe } as const;
/** setxattr(2). */
export const XATTR = { CREATE: 1, REPLACE: 2 } as const;

const openatCall = bind('int openat(int dir, const void *path, int flags, uint32_t mode)');
const closeCall = bind('int close(int fd)');
const readCall = bind('int64_t pread64(int fd, void *into, size_t length, int64_t offset)');
const writeCall = bind('int64_t pwrite64(int fd, const void *from, size_t length, int64_t offset)');
const appendCall = bind('int64_t write(int fd, const void *from, size_t length)');
const nextCall = bind('int64_t read(int fd, void *into, size_t length)');
const mkdiratCall = bind('int mkdirat(int dir, const void *path, uint32_t mode)');
const mknodCall = bind('int mknod(const void *path, uint32_t mode, uint64_t device)');
const unlinkatCall = bind('int unlinkat(int dir, const void *path, int flags)');
const rmdirCall = bind('int rmdir(const void *path)');
const symlinkCall = bind('int symlink(const void *target, const void *path)');
const linkatCall = bind(
  'int linkat(int fromDir, const void *from, int toDir, const void *to, int flags)',
);
const renameCall = bind('int rename(const void *from, const void *to)');
const renameat2Call = bind(
  'int renameat2(int fromDir, const void *from, int toDir, const void *to, uint32_t flags)',
);
const readlinkCall = bind('int64_t readlink(const void *path, void *into, size_t length)');
const chmodCall = bind('int chmod(const void *path, uint32_t mode)');
const fchmodCall = bind('int fchmod(int fd, uint32_t mode)');
const chownCall = bind('int chown(const void *path, uint32_t uid, uint32_t gid)');
const lchownCall = bind('int lchown(const void *path, uint32_t uid, uint32_t gid)');
const truncateCall = bind('int truncate64(const void *path, int64_t size)');
const ftruncateCall = bind('int ftruncate64(int fd, int64_t size)');
const utimensatCall = bind(
  'int utimensat(int dir, const void *path, const void *times, int flags)',
);
const statxCall = bind(
  'int statx(int dir, const void *path, int flags, uint32_t mask, void *into)',
);
const accessCall = bind('int faccessat(int dir, const void *path, int mode, int flags)');
const lseekCall = bind('int64_t lseek64(int fd, int64_t offset, int whence)');
const fallocateCall = bind('int fallocate64(int fd, int mode, int64_t offset, int64_t length)');
const copyRangeCall = bind(
  'int64_t copy_file_range(int from, void *fromOffset, int to, void *toOffset, size_t length, uint32_t flags)',
);
const fsyncCall = bind('int fsync(int fd)');
const fdatasyncCall = bind('int fdatasync(int fd)');
const syncfsCall = bind('int syncfs(int fd)');
const lsetxattrCall = bind(
  'int lsetxattr(const void *path, const char *name, const void *value, size_t size, int flags)',
);
const lgetxattrCall = bind(
  'int64_t lgetxattr(const void *path, const char *name, void *into, size_t size)',
);
const llistxattrCall = bind('int64_t llistxattr(const void *path, void *into, size_t size)');
const lremovexattrCall = bind('int lremovexattr(const void *path, const char *name)');
const flockCall = bind('int flock(int fd, int operation)');
const fcntlCall = bind('int fcntl(int fd, int command, void *argument)');
const statfsCall = bind('int statfs64(const void *path, void *into)');
const getdentsCall = bind('int64_t getdents64(int fd, void *into, size_t length)');
const inotifyInitCall = bind('int inotify_init1(int flags)');
const inotifyAddCall = bind('int inotify_add_watch(int fd, const void *path, uint32_t mask)');
const msyncCall = bind('int msync(uintptr_t address, size_t length, int flags)');
const umaskCall = bind('uint32_t umask(uint32_t mask)');
const syscallCall = bind('long syscall(long number, long a, long b, long c)');
const setgroupsCall = bind('long syscall(long number, size_t count, const void *groups)');

/** openat(2). @returns the descriptor */
export function open(path: PathName, flags: number, mode = 0o644, dir = AT_FDCWD): number {
  return openatCall(dir, terminated(path), flags | O.CLOEXEC, mode);
}
/** close(2), which reports errors of writing on some file systems. */
export function close(fd: number): number {
  return closeCall(fd);
}
/** pread(2) into all of the buffer. */
export function pread(fd: number, into: Buffer, offset: number | bigint): number {
  return readCall(fd, into, into.length, offset);
}
/** pwrite(2) of all of the buffer. */
export function pwrite(fd: number, from: Buffer | string, offset: number | bigint): number {
  const bytes = typeof from === 'string' ? Buffer.from(from) : from;
  return writeCall(fd, bytes, bytes.length, offset);
}
/** write(2) at the position of the descriptor. */
export function write(fd: number, from: Buffer | string): number {
  const bytes = typeof from === 'string' ? Buffer.from(from) : from;
  return appendCall(fd, bytes, bytes.length);
}
/** read(2) at the position of the descriptor. */
export function read(fd: number, into: Buffer): number {
  return nextCall(fd, into, into.length);
}
/** mkdirat(2). */
export function mkdir(path: PathName, mode = 0o755, dir = AT_FDCWD): number {
  return mkdiratCall(dir, terminated(path), mode);
}
/** mknod(2); `device` as `makedev` gives it. */
export function mknod(path: PathName, mode: number, device = 0): number {
  return mknodCall(terminated(path), mode, device);
}
/** unlinkat(2) without flags. */
export function unlink(path: PathName, dir = AT_FDCWD): number {
  return unlinkatCall(dir, terminated(path), 0);
}
/** rmdir(2). */
export function rmdir(path: PathName): number {
  return rmdirCall(terminated(path));
}
/** unlinkat(2) with AT_REMOVEDIR. */
export function rmdirAt(path: PathName, dir: number): number {
  return unlinkatCall(dir, terminated(path), AT.REMOVEDIR);
}
/** symlink(2). */
export function symlink(target: PathName, path: PathName): number {
  return symlinkCall(terminated(target), terminated(path));
}
/** link(2). */
export function link(from: PathName, to: PathName, flags = 0): number {
  return linkatCall(AT_FDCWD, terminated(from), AT_FDCWD, terminated(to), flags);
}
/** rename(2), or renameat2(2) when there are flags. */
export function rename(from: PathName, to: PathName, flags?: number): number {
  if (flags === undefined) return renameCall(terminated(from), terminated(to));
  return renameat2Call(AT_FDCWD, terminated(from), AT_FDCWD, terminated(to), flags);
}
/** readlink(2). @returns the target as bytes in latin1, or `-errno` */
export function readlink(path: PathName): string | number {
  const into = Buffer.alloc(5000);
  const length = readlinkCall(terminated(path), into, into.length);
  return length < 0 ? length : into.toString('latin1', 0, length);
}
/** chmod(2). */
export function chmod(path: PathName, mode: number): number {
  return chmodCall(terminated(path), mode);
}
/** fchmod(2). */
export function fchmod(fd: number, mode: number): number {
  return fchmodCall(fd, mode);
}
/** chown(2); -1 leaves an id as it is. */
export function chown(path: PathName, uid: number, gid: number): number {
  return chownCall(terminated(path), uid >>> 0, gid >>> 0);
}
/** lchown(2). */
export function lchown(path: PathName, uid: number, gid: number): number {
  return lchownCall(terminated(path), uid >>> 0, gid >>> 0);
}
/** truncate(2). */
export function truncate(path: PathName, size: number | bigint): number {
  return truncateCall(terminated(path), size);
}
/** ftruncate(2). */
export function ftruncate(fd: number, size: number | bigint): number {
  return ftruncateCall(fd, size);
}

/** A time to set: seconds since 1970 (negative before) and nanoseconds, or one of {@link UTIME}. */
export type TimeSpec = readonly [seconds: number, nanoseconds: number];

/** utimensat(2). */
export function utimens(path: PathName, access: TimeSpec, modify: TimeSpec, flags = 0): number {
  const times = Buffer.alloc(32);
  [...access, ...modify].forEach((word, i) => times.writeBigInt64LE(BigInt(word), i * 8));
  return utimensatCall(AT_FDCWD, terminated(path), times, flags);
}

/** What statx(2) tells. */
export interface Status {
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  ino: bigint;
  size: number;
  blocks: number;
  /** Major and minor number of a device node. */
  rdev: readonly [number, number];
  /** Major and minor number of the file system. */
  dev: readonly [number, number];
  atime: TimeSpec;
  mtime: TimeSpec;
  ctime: TimeSpec;
}

/** The layout of `struct statx`, `include/uapi/linux/stat.h`. */
function parseStatus(bytes: Buffer): Status {
  const time = (at: number): TimeSpec => [
    Number(bytes.readBigInt64LE(at)),
    bytes.readUInt32LE(at + 8),
  ];
  return {
    mode: bytes.readUInt16LE(28),
    nlink: bytes.readUInt32LE(16),
    uid: bytes.readUInt32LE(20),
    gid: bytes.readUInt32LE(24),
    ino: bytes.readBigUInt64LE(32),
    size: Number(bytes.readBigUInt64LE(40)),
    blocks: Number(bytes.readBigUInt64LE(48)),
    rdev: [bytes.readUInt32LE(128), bytes.readUInt32LE(132)],
    dev: [bytes.readUInt32LE(136), bytes.readUInt32LE(140)],
    atime: time(64),
    ctime: time(96),
    mtime: time(112),
  };
}

const STATX_BASIC_STATS = 0x7ff;
const AT_EMPTY_PATH = 0x1000;

/** lstat(2) by statx(2). @returns the status, or `-errno` */
export function lstat(path: PathName, dir = AT_FDCWD): Status | number {
  const into = Buffer.alloc(256);
  const result = statxCall(dir, terminated(path), AT.SYMLINK_NOFOLLOW, STATX_BASIC_STATS, into);
  return result < 0 ? result : parseStatus(into);
}
/** stat(2) by statx(2). */
export function stat(path: PathName): Status | number {
  const into = Buffer.alloc(256);
  const result = statxCall(AT_FDCWD, terminated(path), 0, STATX_BASIC_STATS, into);
  return result < 0 ? result : parseStatus(into);
}
/** fstat(2) by statx(2). */
export function fstat(fd: number): Status | number {
  const into = Buffer.alloc(256);
  const result = statxCall(fd, NUL, AT_EMPTY_PATH, STATX_BASIC_STATS, into);
  return result < 0 ? result : parseStatus(into);
}
/** faccessat(2) with the effective identity. */
export function access(path: PathName, mode: number): number {
  const AT_EACCESS = 0x200;
  return accessCall(AT_FDCWD, terminated(path), mode, AT_EACCESS);
}
/** lseek(2). */
export function lseek(fd: number, offset: number | bigint, whence: number): number {
  return lseekCall(fd, offset, whence);
}
/** fallocate(2). */
export function fallocate(
  fd: number,
  mode: number,
  offset: number | bigint,
  length: number | bigint,
): number {
  return fallocateCall(fd, mode, offset, length);
}
/** copy_file_range(2) at given offsets. */
export function copyRange(
  from: number,
  fromOffset: number,
  to: number,
  toOffset: number,
  length: number,
  flags = 0,
): number {
  const offsets = [fromOffset, toOffset].map((offset) => {
    const word = Buffer.alloc(8);
    word.writeBigInt64LE(BigInt(offset));
    return word;
  }) as [Buffer, Buffer];
  return copyRangeCall(from, offsets[0], to, offsets[1], length, flags);
}
/** fsync(2). */
export function fsync(fd: number): number {
  return fsyncCall(fd);
}
/** fdatasync(2). */
export function fdatasync(fd: number): number {
  return fdatasyncCall(fd);
}
/** syncfs(2). */
export function syncfs(fd: number): number {
  return syncfsCall(fd);
}
/** lsetxattr(2). */
export function setxattr(path: PathName, name: string, value: Buffer | string, flags = 0): number {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  return lsetxattrCall(terminated(path), name, bytes, bytes.length, flags);
}
/** lgetxattr(2). @returns the value, or `-errno` */
export function getxattr(path: PathName, name: string, room = 65536): Buffer | number {
  const into = Buffer.alloc(room);
  const length = lgetxattrCall(terminated(path), name, into, room);
  return length < 0 ? length : into.subarray(0, length);
}
/** lgetxattr(2) that only asks for the size. */
export function xattrSize(path: PathName, name: string): number {
  return lgetxattrCall(terminated(path), name, null, 0);
}
/** llistxattr(2). @returns the names, sorted, or `-errno` */
export function listxattr(path: PathName): string[] | number {
  const into = Buffer.alloc(65536);
  const length = llistxattrCall(terminated(path), into, into.length);
  if (length < 0) return length;
  return into.toString('latin1', 0, length).split('\0').slice(0, -1).sort();
}
/** lremovexattr(2). */
export function removexattr(path: PathName, name: string): number {
  return lremovexattrCall(terminated(path), name);
}

/** flock(2). */
export const LOCK = { SH: 1, EX: 2, NB: 4, UN: 8 } as const;
/** flock(2). */
export function flock(fd: number, operation: number): number {
  return flockCall(fd, operation);
}
/** Commands of fcntl(2) for locks and leases, and the types of a lock. */
export const F = {
  GETFL: 3,
  SETFL: 4,
  GETLK: 5,
  SETLK: 6,
  OFD_GETLK: 36,
  OFD_SETLK: 37,
  RDLCK: 0,
  WRLCK: 1,
  UNLCK: 2,
} as const;

/**
 * fcntl(2) with a `struct flock`.
 *
 * @returns for a GETLK the type of the lock that stands in the way ({@link F}), else 0
 */
export function lockRange(
  fd: number,
  command: number,
  type: number,
  start: number,
  length: number,
): number {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(type, 0);
  lock.writeBigInt64LE(BigInt(start), 8);
  lock.writeBigInt64LE(BigInt(length), 16);
  const result = fcntlCall(fd, command, lock);
  if (result < 0) return result;
  return command === F.GETLK || command === F.OFD_GETLK ? lock.readInt16LE(0) : 0;
}

/** What statfs(2) tells, in its own units. */
export interface RoomStatus {
  blockSize: number;
  blocks: number;
  free: number;
  available: number;
  files: number;
  freeFiles: number;
  nameLengthMax: number;
}

/** statfs(2). @returns the room, or `-errno` */
export function statfs(path: PathName): RoomStatus | number {
  const into = Buffer.alloc(120);
  const result = statfsCall(terminated(path), into);
  if (result < 0) return result;
  const word = (index: number): number => Number(into.readBigInt64LE(index * 8));
  return {
    blockSize: word(1),
    blocks: word(2),
    free: word(3),
    available: word(4),
    files: word(5),
    freeFiles: word(6),
    nameLengthMax: word(8),
  };
}

/** An entry of a directory. */
export interface DirectoryEntry {
  ino: bigint;
  /** Where reading goes on behind it. */
  offset: bigint;
  /** `DT_*`. */
  type: number;
  /** Bytes in latin1. */
  name: string;
}

/** getdents64(2), once. @returns entries, none at the end, or `-errno` */
export function getdents(fd: number, room = 32768): DirectoryEntry[] | number {
  const into = Buffer.alloc(room);
  const length = getdentsCall(fd, into, room);
  if (length < 0) return length;
  const entries: DirectoryEntry[] = [];
  for (let at = 0; at < length; at += into.readUInt16LE(at + 16)) {
    entries.push({
      ino: into.readBigUInt64LE(at),
      offset: into.readBigInt64LE(at + 8),
      type: into.readUInt8(at + 18),
      name: into.toString('latin1', at + 19, into.indexOf(0, at + 19)),
    });
  }
  return entries;
}

/** All names in a directory but `.` and `..`, sorted. @throws Error when the directory cannot be read */
export function listDirectory(path: PathName): string[] {
  const fd = open(path, O.RDONLY | O.DIRECTORY);
  if (fd < 0) throw new Error(`open: ${outcome(fd)}`);
  const names: string[] = [];
  for (;;) {
    const entries = getdents(fd, 1 << 20);
    if (typeof entries === 'number') throw new Error(`getdents64: ${outcome(entries)}`);
    if (entries.length === 0) break;
    for (const { name } of entries) if (name !== '.' && name !== '..') names.push(name);
  }
  close(fd);
  return names.sort();
}

/** inotify(7): what a watch may tell. */
export const IN = {
  MODIFY: 2,
  ATTRIB: 4,
  CLOSE_WRITE: 8,
  OPEN: 0x20,
  MOVED_FROM: 0x40,
  MOVED_TO: 0x80,
  CREATE: 0x100,
  DELETE: 0x200,
  DELETE_SELF: 0x400,
  ISDIR: 0x40000000,
} as const;

/** inotify_init1(2), not blocking. */
export function inotifyInit(): number {
  return inotifyInitCall(0o4000 | O.CLOEXEC);
}
/** inotify_add_watch(2). */
export function inotifyAdd(fd: number, path: PathName, mask: number): number {
  return inotifyAddCall(fd, terminated(path), mask);
}
/** Events that wait at an inotify descriptor. */
export function inotifyRead(fd: number): { mask: number; name: string }[] {
  const into = Buffer.alloc(65536);
  const length = nextCall(fd, into, into.length);
  const events: { mask: number; name: string }[] = [];
  for (let at = 0; at < length; at += 16 + into.readUInt32LE(at + 12)) {
    const nameLength = into.readUInt32LE(at + 12);
    const name = into.toString('latin1', at + 16, at + 16 + nameLength).replace(/\0+$/, '');
    events.push({ mask: into.readUInt32LE(at + 4), name });
  }
  return events;
}
/** msync(2) with MS_SYNC. */
export function msync(address: number, length: number): number {
  return msyncCall(address, length, 4);
}
/** umask(2). @returns the mask before */
export function umask(mask: number): number {
  return umaskCall(mask);
}

/** Numbers of the raw calls: x86-64, arm64. */
const SYS = ARM64
  ? { setresuid: 147, setresgid: 149, setgroups: 159 }
  : { setresuid: 117, setresgid: 119, setgroups: 116 };

function identity(uid: number, gid: number, groups: readonly number[]): void {
  const list = Buffer.alloc(4 * groups.length);
  groups.forEach((group, i) => list.writeUInt32LE(group, 4 * i));
  const wantsRoot = uid === 0;
  // Root first when it comes back, last when it goes: the other calls need it.
  const results = [
    wantsRoot ? syscallCall(SYS.setresuid, 0, 0, 0) : 0,
    setgroupsCall(SYS.setgroups, groups.length, list),
    syscallCall(SYS.setresgid, gid, gid, 0),
    wantsRoot ? 0 : syscallCall(SYS.setresuid, uid, uid, 0),
  ];
  const failed = results.find((result) => result < 0);
  if (failed !== undefined) throw new Error(`identity ${uid}:${gid}: ${outcome(failed)}`);
}

/** Runs as another user, with no privileges, and comes back as root; needs root. */
export function asUser<T>(
  uid: number,
  gid: number,
  body: () => T,
  groups: readonly number[] = [],
): T {
  identity(uid, gid, groups);
  try {
    return body();
  } finally {
    identity(0, 0, [0]);
  }
}
