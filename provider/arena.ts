/**
 * One sparse tmpfs file, mapped shared: the RAM behind many slabs. Two hazards rule this file.
 *
 * *A touch allocates.* Reading or writing a hole of a tmpfs file through a mapping gives it a page
 * (even a read does), so callers touch only what they reserved, and know by their own bookkeeping
 * what that is (live-pages.ts).
 *
 * *A touch that cannot allocate kills.* When the tmpfs is full, a touch is answered with SIGBUS. So
 * each range is reserved before its first write with `MADV_POPULATE_WRITE`, which reports the same
 * failure as an errno; kernels before 5.14 do not know it and get fallocate(2). Reserving is exact,
 * page by page, so an unwritten page costs no RAM. Numbers: docs/adr/0003-provider-memory.md.
 */
import fs from 'node:fs';
import koffi from 'koffi';
import { FALLOC, MMAN, madvise, mmap, munmap, tryFallocate, tryMadvise } from '../common/libc.ts';
import { MemcloudError } from '../common/errors.ts';

/** A mapped file. Offsets are bytes from its start and, like lengths, multiples of 4096. */
export class Arena {
  /** Where the file is. */
  readonly path: string;
  /** Bytes of the mapping. */
  readonly sizeBytes: number;
  /** Address of byte 0 of the file, valid until {@link Arena.close}. */
  readonly address: number;
  /** Bytes that live pages hold, kept by the slabs in the arena. */
  residentBytes = 0;
  readonly #fd: number;
  #canPopulate: boolean;

  /**
   * Creates the file, which must not exist, readable by its owner only.
   *
   * @param canPopulate - false reserves as on kernels before 5.14
   * @throws MemcloudError `ERR_NATIVE`; node's own error when the file cannot be made
   */
  constructor(path: string, sizeBytes: number, canPopulate = true) {
    this.#canPopulate = canPopulate;
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.#fd = fs.openSync(path, 'wx+', 0o600);
    try {
      fs.ftruncateSync(this.#fd, sizeBytes);
      this.address = mmap({
        length: sizeBytes,
        protection: MMAN.PROT_READ | MMAN.PROT_WRITE,
        flags: MMAN.MAP_SHARED,
        fd: this.#fd,
        offset: 0,
      });
    } catch (error) {
      this.#removeFile();
      throw error;
    }
    madvise(this.address, sizeBytes, MMAN.MADV_DONTDUMP);
  }

  /**
   * Makes the range safe to write. On failure a part of it may have been allocated: the caller
   * punches what it does not hold.
   *
   * @returns false when the tmpfs or the machine has no room
   */
  reserve(offsetBytes: number, lengthBytes: number): boolean {
    if (this.#canPopulate) {
      const errno = tryMadvise(this.address + offsetBytes, lengthBytes, MMAN.MADV_POPULATE_WRITE);
      if (errno === 0) return true;
      if (errno !== koffi.os.errno['EINVAL']) return false;
      this.#canPopulate = false;
    }
    return tryFallocate(this.#fd, FALLOC.ALLOCATE, offsetBytes, lengthBytes) === 0;
  }

  /**
   * Gives the RAM of the range back to the system; it then reads as zeroes.
   *
   * @throws MemcloudError `ERR_NATIVE`
   */
  punch(offsetBytes: number, lengthBytes: number): void {
    const mode = FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE;
    const errno = tryFallocate(this.#fd, mode, offsetBytes, lengthBytes);
    if (errno !== 0) {
      throw new MemcloudError('ERR_NATIVE', `fallocate to punch a hole failed: errno ${errno}`);
    }
  }

  /** Unmaps and removes the file. The caller has wiped it; no address in it may be used again. */
  close(): void {
    munmap(this.address, this.sizeBytes);
    this.#removeFile();
  }

  #removeFile(): void {
    fs.closeSync(this.#fd);
    fs.rmSync(this.path, { force: true });
  }
}
