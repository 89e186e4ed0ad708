/**
 * A store of file bytes in the memory of this process: sparse pages in Maps, simple enough to be believed.
 * The naive twin of the real store, and what tests of the file system above it stand on. Completions come
 * before the call returns, or later and out of order; calls can be made to fail.
 */
import type { NativeBuffer } from '../../common/native-memory.ts';
import type { FileCompletionSink, FileStore, FileStoreRoom } from '../../fuse-fs/operations.ts';

const PAGE = 4096;
const EIO = 5;
const ENOSPC = 28;

/** How a memory store may misbehave. */
export interface MemoryFileStoreOptions {
  /** Quota, pages; 2^20 unless given. */
  pageCount?: number;
  /** Milliseconds until a call ends; undefined or a negative number ends it before it returns. */
  delayMs?: () => number;
  /** The errno with which a call ends, 0 for none; nothing is done then. */
  failure?: (operation: 'read' | 'write' | 'truncate' | 'punch' | 'copy' | 'sync') => number;
}

/** See the top of the file. */
export class MemoryFileStore implements FileStore {
  readonly #sink: FileCompletionSink;
  readonly #pageCount: number;
  /** For each file its pages, `undefined` where only room is promised. */
  readonly #files = new Map<number, Map<number, Uint8Array | undefined>>();
  readonly options: MemoryFileStoreOptions;
  /** Files of which bytes count as lost. */
  readonly damaged = new Set<number>();
  /** The files that were removed, in order. */
  readonly removed: number[] = [];
  /** Syncs that ended. */
  syncCount = 0;
  closed = false;

  constructor(sink: FileCompletionSink, options: MemoryFileStoreOptions = {}) {
    this.#sink = sink;
    this.#pageCount = options.pageCount ?? 2 ** 20;
    this.options = options;
  }

  read(
    tag: number,
    file: number,
    offset: number,
    length: number,
    into: NativeBuffer,
    intoOffset: number,
  ): void {
    this.#run('read', tag, () => {
      if (this.damaged.has(file)) return -EIO;
      into.bytes.set(this.#bytes(file, offset, length), intoOffset);
      return length;
    });
  }

  locate(): boolean {
    return false;
  }

  write(
    tag: number,
    file: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    size: number,
  ): void {
    // Taken at once: who writes may use the buffer again only at the end, but the order is that of the calls.
    const bytes = Uint8Array.from(from.bytes.subarray(fromOffset, fromOffset + length));
    const failed = this.options.failure?.('write') ?? 0;
    const result = failed === 0 ? this.#put(file, offset, bytes, size) : -failed;
    this.#end(tag, result);
  }

  truncate(tag: number, file: number, newSize: number): void {
    this.#run('truncate', tag, () => {
      const pages = this.#files.get(file);
      for (const page of [...(pages?.keys() ?? [])]) {
        if (page * PAGE >= newSize) pages?.delete(page);
      }
      pages?.get(Math.floor(newSize / PAGE))?.fill(0, newSize % PAGE);
      return 0;
    });
  }

  punch(tag: number, file: number, offset: number, length: number): void {
    this.#run('punch', tag, () => {
      const pages = this.#files.get(file);
      for (const [page, bytes] of [...(pages ?? [])]) {
        const start = Math.max(0, offset - page * PAGE);
        const end = Math.min(PAGE, offset + length - page * PAGE);
        if (start === 0 && end === PAGE) pages?.delete(page);
        else if (start < end) bytes?.fill(0, start, end);
      }
      return 0;
    });
  }

  reserve(file: number, offset: number, length: number): number {
    const pages = this.#pages(file);
    const first = Math.floor(offset / PAGE);
    const end = Math.ceil((offset + length) / PAGE);
    if (end - first > this.#pageCount) return -ENOSPC;
    let missing = 0;
    for (let page = first; page < end; page += 1) if (!pages.has(page)) missing += 1;
    if (this.room().usedPageCount + missing > this.#pageCount) return -ENOSPC;
    for (let page = first; page < end; page += 1) if (!pages.has(page)) pages.set(page, undefined);
    return 0;
  }

  copy(
    tag: number,
    file: number,
    offset: number,
    newFile: number,
    newOffset: number,
    length: number,
  ): void {
    this.#run('copy', tag, () => {
      const bytes = Uint8Array.from(this.#bytes(file, offset, length));
      return this.#put(newFile, newOffset, bytes, Number.MAX_SAFE_INTEGER);
    });
  }

  seekData(file: number, offset: number, size: number): number {
    const pages = this.#files.get(file);
    for (let at = offset; at < size; at = (Math.floor(at / PAGE) + 1) * PAGE) {
      if (pages?.get(Math.floor(at / PAGE)) !== undefined) return at;
    }
    return size;
  }

  seekHole(file: number, offset: number, size: number): number {
    const pages = this.#files.get(file);
    for (let at = offset; at < size; at = (Math.floor(at / PAGE) + 1) * PAGE) {
      if (pages?.get(Math.floor(at / PAGE)) === undefined) return at;
    }
    return size;
  }

  remove(file: number): void {
    this.removed.push(file);
    this.#files.delete(file);
    this.damaged.delete(file);
  }

  blocks(file: number): number {
    return (this.#files.get(file)?.size ?? 0) * 8;
  }

  sync(tag: number): void {
    this.#run('sync', tag, () => {
      this.syncCount += 1;
      return 0;
    });
  }

  room(): FileStoreRoom {
    let usedPageCount = 0;
    for (const pages of this.#files.values()) usedPageCount += pages.size;
    return { pageCount: this.#pageCount, usedPageCount };
  }

  isDamaged(file: number): boolean {
    return this.damaged.has(file);
  }

  close(): void {
    this.closed = true;
  }

  #pages(file: number): Map<number, Uint8Array | undefined> {
    const pages = this.#files.get(file) ?? new Map<number, Uint8Array | undefined>();
    this.#files.set(file, pages);
    return pages;
  }

  #bytes(file: number, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const pages = this.#files.get(file);
    for (let at = offset; at < offset + length;) {
      const end = Math.min(offset + length, (Math.floor(at / PAGE) + 1) * PAGE);
      const page = pages?.get(Math.floor(at / PAGE));
      if (page !== undefined) {
        bytes.set(page.subarray(at % PAGE, (at % PAGE) + end - at), at - offset);
      }
      at = end;
    }
    return bytes;
  }

  #put(file: number, offset: number, bytes: Uint8Array, size: number): number {
    const end = offset + bytes.length;
    const pages = this.#pages(file);
    if (size < offset) pages.get(Math.floor(size / PAGE))?.fill(0, size % PAGE);
    if (this.reserve(file, offset, bytes.length) < 0) return -ENOSPC;
    for (let at = offset; at < end;) {
      const next = Math.min(end, (Math.floor(at / PAGE) + 1) * PAGE);
      const index = Math.floor(at / PAGE);
      const page = pages.get(index) ?? new Uint8Array(PAGE);
      pages.set(index, page);
      page.set(bytes.subarray(at - offset, next - offset), at % PAGE);
      at = next;
    }
    return bytes.length;
  }

  #run(
    operation: 'read' | 'truncate' | 'punch' | 'copy' | 'sync',
    tag: number,
    work: () => number,
  ): void {
    const failed = this.options.failure?.(operation) ?? 0;
    this.#end(tag, failed === 0 ? work() : -failed);
  }

  #end(tag: number, result: number): void {
    const delay = this.options.delayMs?.() ?? -1;
    if (delay < 0) this.#sink.onFileDone(tag, result);
    else setTimeout(() => this.#sink.onFileDone(tag, result), delay);
  }
}
