/**
 * The C library through koffi: the system calls that Node does not offer and that more than one
 * folder needs. Each binding throws `ERR_NATIVE` with the name of the errno when the call fails.
 * Addresses are plain numbers (user space ends below 2^48), which koffi passes on with no
 * allocation; see docs/adr/0002-libcrypto-through-koffi.md.
 */
import koffi from 'koffi';
import { MemcloudError } from './errors.ts';

const libc = koffi.load(null);

const E_NAMES = Object.fromEntries(
  Object.entries(koffi.os.errno).map(([name, number]) => [number, name]),
);

/** The name of an errno: `ENOENT`; `errno 4711` for one that has none. */
export function errnoName(errno: number): string {
  return E_NAMES[errno] ?? `errno ${errno}`;
}

/** Throws for the errno of the call that just failed. */
export function throwErrno(call: string): never {
  throw new MemcloudError('ERR_NATIVE', `${call} failed: ${errnoName(koffi.errno())}`);
}

const mmapCall = libc.func(
  'uintptr_t mmap(uintptr_t addr, size_t length, int prot, int flags, int fd, int64_t offset)',
);
const munmapCall = libc.func('int munmap(uintptr_t addr, size_t length)');
const madviseCall = libc.func('int madvise(uintptr_t addr, size_t length, int advice)');
const mlock2Call = libc.func('int mlock2(uintptr_t addr, size_t length, unsigned int flags)');
const memcpyCall = libc.func('void memcpy(uintptr_t to, uintptr_t from, size_t length)');
const memsetCall = libc.func('void memset(uintptr_t to, int byte, size_t length)');
const fallocateCall = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
const setsockoptCall = libc.func(
  'int setsockopt(int fd, int level, int option, void *value, uint32_t length)',
);
const receiveCall = libc.func('intptr_t recv(int fd, uintptr_t to, size_t length, int flags)');
const sendCall = libc.func('intptr_t send(int fd, uintptr_t from, size_t length, int flags)');
const yieldCall = libc.func('int sched_yield()');
const flockCall = libc.func('int flock(int fd, int operation)');
const dup2Call = libc.func('int dup2(int from, int to)');
const mountCall = libc.func(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
);
const umountCall = libc.func('int umount2(const char *target, int flags)');

/** Memory mapping constants: Linux `include/uapi/asm-generic/mman-common.h` and `mman.h`. */
export const MMAN = {
  PROT_READ: 1,
  PROT_WRITE: 2,
  MAP_SHARED: 0x01,
  MAP_PRIVATE: 0x02,
  MAP_ANONYMOUS: 0x20,
  MAP_NORESERVE: 0x4000,
  MADV_REMOVE: 9,
  MADV_DONTDUMP: 16,
  MADV_POPULATE_WRITE: 23,
  MLOCK_ONFAULT: 1,
} as const;

const MAP_FAILED = 2 ** 64;

/**
 * mmap(2).
 *
 * @param options - `fd` -1 with MAP_ANONYMOUS; `offset` a multiple of the page size
 * @returns the address
 * @throws MemcloudError `ERR_NATIVE`
 */
export function mmap(options: {
  length: number;
  protection: number;
  flags: number;
  fd: number;
  offset: number;
}): number {
  const { length, protection, flags, fd, offset } = options;
  const address = Number(mmapCall(0, length, protection, flags, fd, offset));
  if (address >= MAP_FAILED - 4096) throwErrno('mmap');
  return address;
}

/** munmap(2). No view of the range may be used afterwards. */
export function munmap(address: number, length: number): void {
  if (munmapCall(address, length) !== 0) throwErrno('munmap');
}

/** madvise(2). */
export function madvise(address: number, length: number, advice: number): void {
  if (madviseCall(address, length, advice) !== 0) throwErrno('madvise');
}

/** mlock2(2). Returns false when the limit (RLIMIT_MEMLOCK) or the kernel refuses. */
export function tryMlock(address: number, length: number, flags: number): boolean {
  return mlock2Call(address, length, flags) === 0;
}

/** A view of `length` bytes of memory at `address`. The memory must stay mapped while the view lives. */
export function viewMemory(address: number, length: number): Buffer {
  return Buffer.from(koffi.view(BigInt(address), length));
}

/** madvise(2). Returns 0, or the errno when the kernel refuses. */
export function tryMadvise(address: number, length: number, advice: number): number {
  return madviseCall(address, length, advice) === 0 ? 0 : koffi.errno();
}

/**
 * memcpy(3): the one copy that makes no object (`Buffer.copy` makes a view for each call that
 * copies a part). The caller has checked both ranges; they may not overlap.
 */
export function copyMemory(to: number, from: number, length: number): void {
  memcpyCall(to, from, length);
}

/** memset(3) with zero bytes. The caller has checked the range. */
export function zeroMemory(address: number, length: number): void {
  memsetCall(address, 0, length);
}

/** Modes of fallocate(2): Linux `include/uapi/linux/falloc.h`. */
export const FALLOC = {
  ALLOCATE: 0,
  KEEP_SIZE: 0x01,
  PUNCH_HOLE: 0x02,
} as const;

/** fallocate(2), tried again when a signal cuts it short. Returns 0, or the errno. */
export function tryFallocate(fd: number, mode: number, offset: number, length: number): number {
  for (let attempt = 1; ; attempt += 1) {
    if (fallocateCall(fd, mode, offset, length) === 0) return 0;
    const errno = koffi.errno();
    if (errno !== koffi.os.errno['EINTR'] || attempt === INTERRUPTED_ATTEMPT_COUNT_MAX)
      return errno;
  }
}

const INTERRUPTED_ATTEMPT_COUNT_MAX = 100;

/** Takes the exclusive lock of an open file, flock(2). Returns false when another open file has it. */
export function tryLockFile(fd: number): boolean {
  const LOCK_EX = 2;
  const LOCK_NB = 4;
  return flockCall(fd, LOCK_EX | LOCK_NB) === 0;
}

/** Makes the descriptor `to` another name of `from`, dup2(2). @throws MemcloudError `ERR_NATIVE` */
export function duplicateDescriptor(from: number, to: number): void {
  if (dup2Call(from, to) < 0) throwErrno('dup2');
}

/** Flags of mount(2) and umount2(2): Linux `include/uapi/linux/mount.h`, `include/linux/fs.h`. */
export const MOUNT = {
  MS_NOSUID: 2,
  MS_NODEV: 4,
  MS_NOEXEC: 8,
  MS_REMOUNT: 32,
  MNT_DETACH: 2,
} as const;

/** mount(2). @throws MemcloudError `ERR_NATIVE`, also when the caller may not mount */
export function mount(options: {
  source: string;
  target: string;
  type: string;
  flags: number;
  data: string;
}): void {
  const { source, target, type, flags, data } = options;
  if (mountCall(source, target, type, flags, data) !== 0) throwErrno('mount');
}

/** umount2(2). Returns false when nothing was unmounted. */
export function tryUnmount(target: string, flags: number): boolean {
  return umountCall(target, flags) === 0;
}

/** Linux `include/linux/socket.h`. */
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/**
 * recv(2) of a stream socket that does not block.
 *
 * @param to - address of the room
 * @returns how many bytes came; 0 for none, for an end, which is there the next time too, and for an error, which
 *   the kernel tells once: whoever reads next sees an end
 */
export function tryReceive(fd: number, to: number, length: number): number {
  return Math.max(0, receiveCall(fd, to, length, MSG_DONTWAIT) as number);
}

/**
 * send(2) of a stream socket that does not block.
 *
 * @param from - address of the bytes
 * @returns how many bytes the kernel took; 0 when it takes none now, or never again
 */
export function trySend(fd: number, from: number, length: number): number {
  return Math.max(0, sendCall(fd, from, length, MSG_DONTWAIT | MSG_NOSIGNAL) as number);
}

/** sched_yield(2): lets what else wants this processor have it first. */
export function yieldProcessor(): void {
  yieldCall();
}

/** setsockopt(2). Returns 0, or the errno when the kernel refuses. */
export function trySetSocketOption(
  fd: number,
  level: number,
  option: number,
  value: Uint8Array,
): number {
  return setsockoptCall(fd, level, option, value, value.length) === 0 ? 0 : koffi.errno();
}

const getsockoptCall = libc.func(
  'int getsockopt(int fd, int level, int option, _Out_ void *value, _Inout_ uint32_t *length)',
);

/** Linux `include/uapi/asm-generic/socket.h`. */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_PEERGROUPS = 59;
/** NGROUPS_MAX of Linux is 65 536; nobody with more than this many groups needs the one that we look for. */
const PEER_GROUP_COUNT_MAX = 4096;

/** Who is at the other end of a Unix socket, as the kernel noted when it was connected. */
export interface PeerCredentials {
  /** Process id; 0 when it is of another PID namespace. */
  readonly pid: number;
  /** User id. */
  readonly uid: number;
  /** Group id. */
  readonly gid: number;
  /** Supplementary groups; empty where the kernel does not tell. */
  readonly groups: readonly number[];
}

/** SO_PEERCRED and SO_PEERGROUPS of unix(7). @throws MemcloudError `ERR_NATIVE` when it is no such socket */
export function peerCredentials(fd: number): PeerCredentials {
  const credentials = Buffer.alloc(12);
  if (getsockoptCall(fd, SOL_SOCKET, SO_PEERCRED, credentials, [credentials.length]) !== 0) {
    throwErrno('getsockopt SO_PEERCRED');
  }
  const groups = Buffer.alloc(PEER_GROUP_COUNT_MAX * 4);
  const length = [groups.length];
  const known = getsockoptCall(fd, SOL_SOCKET, SO_PEERGROUPS, groups, length) === 0;
  return {
    pid: credentials.readInt32LE(0),
    uid: credentials.readUInt32LE(4),
    gid: credentials.readUInt32LE(8),
    groups: known
      ? Array.from({ length: (length[0] ?? 0) / 4 }, (_, index) => groups.readUInt32LE(index * 4))
      : [],
  };
}

const groupStruct = koffi.struct({
  name: 'char *',
  password: 'char *',
  gid: 'uint32_t',
  members: 'void *',
});
const getgrnamCall = libc.func('getgrnam', koffi.pointer(groupStruct), ['str']);

/** The id of a group by its name, getgrnam(3); undefined when there is none. */
export function groupId(name: string): number | undefined {
  const found: unknown = getgrnamCall(name);
  if (found === null) return undefined;
  return (koffi.decode(found, groupStruct) as { gid: number }).gid;
}
