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

/** Throws for the errno of the call that just failed. */
export function throwErrno(call: string): never {
  const errno = koffi.errno();
  throw new MemcloudError('ERR_NATIVE', `${call} failed: ${E_NAMES[errno] ?? `errno ${errno}`}`);
}

const mmapCall = libc.func(
  'uintptr_t mmap(uintptr_t addr, size_t length, int prot, int flags, int fd, int64_t offset)',
);
const munmapCall = libc.func('int munmap(uintptr_t addr, size_t length)');
const madviseCall = libc.func('int madvise(uintptr_t addr, size_t length, int advice)');
const mlock2Call = libc.func('int mlock2(uintptr_t addr, size_t length, unsigned int flags)');

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
