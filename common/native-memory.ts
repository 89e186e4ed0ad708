/**
 * Memory outside the V8 heap with a fixed address: what page data passes through. The garbage
 * collector never moves it, it can be locked against swapping, and foreign functions take its
 * address as a number, so that no object is made for a page.
 */
import { MMAN, mmap, munmap, madvise, tryMadvise, tryMlock, viewMemory } from './libc.ts';
import { PAGE_SIZE_BYTES } from './units.ts';

/** A run of bytes with both its faces: a view for JavaScript, an address for foreign functions. */
export interface NativeBuffer {
  /** The bytes. */
  readonly bytes: Buffer;
  /** The address of `bytes[0]`. */
  readonly address: number;
}

/** An anonymous mapping, zeroed by the kernel, kept until {@link NativeMemory.free}. */
export class NativeMemory implements NativeBuffer {
  readonly bytes: Buffer;
  readonly address: number;
  /** True when the kernel holds the mapping in RAM (`mlock2` with `MLOCK_ONFAULT`). */
  readonly locked: boolean;
  readonly #lengthBytes: number;
  readonly #secret: boolean;

  /**
   * @param sizeBytes - at least 1; rounded up to whole pages
   * @param options - `lock`: ask the kernel never to swap it out; a refusal leaves `locked` false.
   *   `secret`: also keep it out of core dumps, and zero it when it is freed
   * @throws MemcloudError `ERR_NATIVE` when there is no memory
   */
  constructor(sizeBytes: number, options: { lock?: boolean; secret?: boolean } = {}) {
    this.#lengthBytes = Math.ceil(sizeBytes / PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES;
    this.address = mmap({
      length: this.#lengthBytes,
      protection: MMAN.PROT_READ | MMAN.PROT_WRITE,
      flags: MMAN.MAP_PRIVATE | MMAN.MAP_ANONYMOUS | MMAN.MAP_NORESERVE,
      fd: -1,
      offset: 0,
    });
    this.bytes = viewMemory(this.address, this.#lengthBytes);
    this.locked =
      options.lock === true && tryMlock(this.address, this.#lengthBytes, MMAN.MLOCK_ONFAULT);
    this.#secret = options.secret === true;
    if (this.#secret) madvise(this.address, this.#lengthBytes, MMAN.MADV_DONTDUMP);
  }

  /**
   * Takes the memory from the kernel now, rather than page by page at the first touch, which may come
   * when there is none. The bytes stay as they are.
   */
  populate(): void {
    if (tryMadvise(this.address, this.#lengthBytes, MMAN.MADV_POPULATE_WRITE) === 0) return;
    // Linux before 5.14.
    for (let at = 0; at < this.#lengthBytes; at += PAGE_SIZE_BYTES) {
      this.bytes[at] = this.bytes[at] as number;
    }
  }

  /**
   * Unmaps, and zeroes before if it is secret. (Others are not: to zero megabytes of a buffer that was
   * never touched would fault in every page, for each stranger that opens a connection.) Neither
   * `bytes` nor a view of it may be used afterwards: that is a crash.
   */
  free(): void {
    if (this.#secret) this.bytes.fill(0);
    munmap(this.address, this.#lengthBytes);
  }
}
