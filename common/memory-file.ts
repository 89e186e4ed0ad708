/**
 * Memory with a file descriptor and no name (memfd_create(2)): what one process leaves to the next.
 * It never lies on a disk: the mapping is locked in each process that has it, as far as that may, and
 * on a machine that swaps the daemon's group has no swap (common/kit.ts). Its size is sealed, so that
 * whoever reads it cannot be killed by somebody who cuts it short.
 */
import fs from 'node:fs';
import koffi from 'koffi';
import { MemcloudError } from './errors.ts';
import { MMAN, madvise, mmap, munmap, throwErrno, tryMlock, viewMemory } from './libc.ts';
import type { NativeBuffer } from './native-memory.ts';
import { PAGE_SIZE_BYTES } from './units.ts';

const libc = koffi.load(null);
const memfdCreateCall = libc.func('int memfd_create(const char *name, unsigned int flags)');
const fcntlCall = libc.func('int fcntl(int fd, int command, int argument)');

/** Linux `include/uapi/linux/memfd.h`; NOEXEC_SEAL since 6.3. */
const MFD_CLOEXEC = 0x1;
const MFD_ALLOW_SEALING = 0x2;
const MFD_NOEXEC_SEAL = 0x8;
/** Linux `include/uapi/linux/fcntl.h`. */
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SEAL = 0x1;
const F_SEAL_SHRINK = 0x2;
const F_SEAL_GROW = 0x4;
const SIZE_SEALS = F_SEAL_SHRINK | F_SEAL_GROW;

/** The most that one file holds: Node 20 has no larger Buffer. */
export const MEMORY_FILE_SIZE_MAX_BYTES = 2 ** 32 - PAGE_SIZE_BYTES;

function createDescriptor(name: string): number {
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const fd = memfdCreateCall(name, flags | MFD_NOEXEC_SEAL) as number;
  if (fd >= 0) return fd;
  const older = memfdCreateCall(name, flags) as number;
  if (older < 0) throwErrno('memfd_create');
  return older;
}

/** The memory, mapped; whoever has it must {@link MemoryFile.close} it. */
export class MemoryFile implements NativeBuffer {
  /** The descriptor, ours until {@link MemoryFile.close}. */
  readonly fd: number;
  /** All of it, shared with whoever else has it. */
  readonly bytes: Buffer;
  readonly address: number;
  /** True when this process keeps it in RAM. */
  readonly locked: boolean;
  #open = true;

  private constructor(fd: number, sizeBytes: number) {
    this.fd = fd;
    this.address = mmap({
      length: sizeBytes,
      protection: MMAN.PROT_READ | MMAN.PROT_WRITE,
      flags: MMAN.MAP_SHARED,
      fd,
      offset: 0,
    });
    this.locked = tryMlock(this.address, sizeBytes, MMAN.MLOCK_ONFAULT);
    madvise(this.address, sizeBytes, MMAN.MADV_DONTDUMP);
    this.bytes = viewMemory(this.address, sizeBytes);
  }

  /**
   * Makes one, zeroed.
   *
   * @param name - for people who look into /proc
   * @param sizeBytes - 1 to {@link MEMORY_FILE_SIZE_MAX_BYTES}
   * @throws MemcloudError `ERR_HANDOVER` above the bound, `ERR_NATIVE`
   */
  static create(name: string, sizeBytes: number): MemoryFile {
    if (!(sizeBytes >= 1 && sizeBytes <= MEMORY_FILE_SIZE_MAX_BYTES)) {
      throw new MemcloudError('ERR_HANDOVER', `${name}: ${sizeBytes} bytes do not fit in one file`);
    }
    const fd = createDescriptor(name);
    try {
      fs.ftruncateSync(fd, sizeBytes);
      if (fcntlCall(fd, F_ADD_SEALS, SIZE_SEALS | F_SEAL_SEAL) !== 0) throwErrno('fcntl(SEAL)');
      return new MemoryFile(fd, sizeBytes);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  /**
   * Maps what another process made.
   *
   * @param fd - ours from now on; also when this fails, then closed
   * @throws MemcloudError `ERR_HANDOVER` when it is no such file, `ERR_NATIVE`
   */
  static adopt(fd: number): MemoryFile {
    try {
      const seals = fcntlCall(fd, F_GET_SEALS, 0) as number;
      const { size } = fs.fstatSync(fd);
      const sealed = seals >= 0 && (seals & SIZE_SEALS) === SIZE_SEALS;
      if (!sealed || size < 1 || size > MEMORY_FILE_SIZE_MAX_BYTES) {
        throw new MemcloudError('ERR_HANDOVER', 'expected memory of a sealed size');
      }
      return new MemoryFile(fd, size);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  /** Zeroes it, for every process that has it. */
  wipe(): void {
    this.bytes.fill(0);
  }

  /** Unmaps it and closes the descriptor. No view of `bytes` may be used afterwards: that is a crash. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    munmap(this.address, this.bytes.length);
    fs.closeSync(this.fd);
  }
}
