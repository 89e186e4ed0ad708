/**
 * The bytes of files on a block device: {@link FileStore} over one queue. This file takes calls, keeps
 * those back that must wait (for an earlier change of the same pages, for pages that are becoming free, or
 * because enough are under way), and tells their ends; page-calls.ts does what they ask.
 *
 * Changes of a file that touch the same page take effect one after the other, in the order of the calls.
 * Reads wait for nobody: a page reads as it was before or after a change under way, and never as a page
 * of another file, because a page passes from file to file only through page-reclaim.ts.
 */
import { addressIn } from '../common/aead.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import {
  IoStatus,
  type BlockCompletionSink,
  type BlockDevice,
  type BlockQueue,
  type IoStatusValue,
} from '../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import { BouncePages } from './bounce-pages.ts';
import { Damage } from './page-damage.ts';
import { Errno } from './errno.ts';
import { FilePages } from './file-pages.ts';
import { resultOf } from './io-errno.ts';
import type { IoVectors } from './io-vectors.ts';
import type { FileCompletionSink, FileStore, FileStoreRoom } from './operations.ts';
import { PageAllocator } from './page-allocator.ts';
import { PageCalls } from './page-calls.ts';
import { PagePlaces } from './page-places.ts';
import { COPY_ACTIVE_MAX, PageCopies } from './page-copy.ts';
import { PageReclaim } from './page-reclaim.ts';
import { PageTable } from './page-table.ts';
import { SMALL_VOLUME_PAGE_COUNT_MAX, SmallFiles } from './small-files.ts';
import { CallKind, NO_FILE, RowQueue, StoreRequests } from './store-requests.ts';
import type { StoreState } from './store-state.ts';

/** Calls under way at most, not counting the steps of copies; others wait. */
const ACTIVE_CALL_COUNT_MAX = 128;

/** Device tags from here on are trims, `TRIM_TAG_FIRST + slot`; those below are `row * 4 + part`. */
const TRIM_TAG_FIRST = 2 ** 31;

/** Device tags from here on are writes of small files. */
const SMALL_TAG_FIRST = 2 ** 30;

/** The part of a device tag that says flush. */
const FLUSH_PART = 3;

/** How the store may be tuned, for tests. */
export interface PageFileStoreOptions {
  /** Runs a task later; `setTimeout` unless told. */
  readonly after?: (delayMs: number, task: () => void) => void;
  /** Small files share pages; true unless told, or the volume is too large for it. */
  readonly packsSmallFiles?: boolean;
}

function afterByTimer(delayMs: number, task: () => void): void {
  setTimeout(task, delayMs).unref();
}

/** See the top of the file. */
export class PageFileStore implements FileStore, BlockCompletionSink {
  readonly #sink: FileCompletionSink;
  readonly #queue: BlockQueue;
  readonly #state: StoreState;
  readonly #calls: PageCalls;
  readonly #copies: PageCopies;
  readonly #places: PagePlaces;
  readonly #waiting = new RowQueue();
  #activeCount = 0;
  #resuming = false;
  #resumeAgain = false;
  #closed = false;
  #freed = false;

  /**
   * @param device - stays the caller's to close; its size is the quota. Nobody else writes to it
   * @param sink - told of the ends of calls
   */
  constructor(device: BlockDevice, sink: FileCompletionSink, options: PageFileStoreOptions = {}) {
    this.#sink = sink;
    this.#queue = device.openQueue(this);
    const allocator = new PageAllocator(Math.floor(device.sizeBytes / PAGE_SIZE_BYTES));
    const queue = this.#queue;
    const reclaim = new PageReclaim(allocator, {
      trim: (slot, first, count) =>
        queue.trim(TRIM_TAG_FIRST + slot, first * PAGE_SIZE_BYTES, count * PAGE_SIZE_BYTES),
      after: options.after ?? afterByTimer,
      onPagesFree: () => this.#resume(),
    });
    const files = { table: new PageTable(), allocator, reclaim, damage: new Damage() };
    const onWritten = (row: number, status: IoStatusValue): void =>
      this.#calls.onSmallWritten(row, status);
    const small =
      options.packsSmallFiles === false || allocator.pageCount > SMALL_VOLUME_PAGE_COUNT_MAX
        ? undefined
        : new SmallFiles({ allocator, reclaim, queue, tagFirst: SMALL_TAG_FIRST, onWritten });
    this.#state = {
      ...files,
      pages: new FilePages(files),
      small,
      requests: new StoreRequests(),
      bounce: new BouncePages((ACTIVE_CALL_COUNT_MAX + COPY_ACTIVE_MAX) * 2),
      queue,
    };
    this.#places = new PagePlaces(this.#state);
    const onCallDone = (row: number, result: number): void => this.#end(row, result);
    this.#calls = new PageCalls(this.#state, onCallDone);
    this.#copies = new PageCopies(this.#state, {
      startStep: (row) => this.#submit(row),
      onCallDone,
    });
  }

  /** Bytes of the tables that say where files lie. */
  get metadataBytes(): number {
    const { table, allocator, small } = this.#state;
    return table.sizeBytes + allocator.sizeBytes + (small?.sizeBytes ?? 0);
  }

  /** @inheritDoc */
  read(
    tag: number,
    file: number,
    offset: number,
    length: number,
    into: NativeBuffer,
    intoOffset: number,
  ): void {
    addressIn(into, intoOffset, length);
    const row = this.#take(CallKind.READ, tag, file, offset, length);
    if (row === -1) return;
    this.#state.requests.buffer[row] = into;
    this.#state.requests.bufferOffset[row] = intoOffset;
    this.#submit(row);
  }

  /** @inheritDoc */
  locate(file: number, offset: number, length: number, into: IoVectors): boolean {
    return !this.#closed && this.#places.locate(file, offset, length, into);
  }

  /** @inheritDoc */
  write(
    tag: number,
    file: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    size: number,
  ): void {
    addressIn(from, fromOffset, length);
    const row = this.#take(CallKind.WRITE, tag, file, offset, length);
    if (row === -1) return;
    const { requests } = this.#state;
    requests.buffer[row] = from;
    requests.bufferOffset[row] = fromOffset;
    requests.size[row] = size;
    this.#submit(row);
  }

  /** @inheritDoc */
  truncate(tag: number, file: number, newSize: number): void {
    const row = this.#take(CallKind.TRUNCATE, tag, file, newSize, Infinity);
    if (row !== -1) this.#submit(row);
  }

  /** @inheritDoc */
  punch(tag: number, file: number, offset: number, length: number): void {
    const row = this.#take(CallKind.PUNCH, tag, file, offset, length);
    if (row !== -1) this.#submit(row);
  }

  /** @inheritDoc */
  reserve(file: number, offset: number, length: number): number {
    if (this.#closed) return -Errno.EIO;
    const first = Math.floor(offset / PAGE_SIZE_BYTES);
    const end = Math.ceil((offset + length) / PAGE_SIZE_BYTES);
    const needed = this.#state.pages.holeCount(file, first, end);
    if (needed > this.#state.allocator.freeCount) return -Errno.ENOSPC;
    if (needed > 0) this.#state.pages.fillHoles(file, first, end);
    return 0;
  }

  /** @inheritDoc */
  copy(
    tag: number,
    file: number,
    offset: number,
    newFile: number,
    newOffset: number,
    length: number,
  ): void {
    const row = this.#take(CallKind.COPY, tag, newFile, newOffset, length);
    if (row === -1) return;
    this.#state.requests.sourceFile[row] = file;
    this.#state.requests.sourceOffset[row] = offset;
    this.#submit(row);
  }

  /** @inheritDoc */
  seekData(file: number, offset: number, size: number): number {
    const { table, allocator, small } = this.#state;
    if (offset < PAGE_SIZE_BYTES && small?.has(file) === true) return offset;
    const end = Math.ceil(size / PAGE_SIZE_BYTES);
    for (let page = Math.floor(offset / PAGE_SIZE_BYTES); page < end;) {
      let count = table.run(file, page, end);
      const volumePage = table.runPage;
      if (volumePage !== -1) {
        if (allocator.isWritten(volumePage)) return Math.max(offset, page * PAGE_SIZE_BYTES);
        count = allocator.writtenRunEnd(volumePage, volumePage + count) - volumePage;
      }
      page += count;
    }
    return size;
  }

  /** @inheritDoc */
  seekHole(file: number, offset: number, size: number): number {
    const { table, allocator, small } = this.#state;
    const end = Math.ceil(size / PAGE_SIZE_BYTES);
    let page = Math.floor(offset / PAGE_SIZE_BYTES);
    if (page === 0 && small?.has(file) === true) page = 1;
    while (page < end) {
      const count = table.run(file, page, end);
      const volumePage = table.runPage;
      if (volumePage === -1 || !allocator.isWritten(volumePage)) {
        return Math.max(offset, page * PAGE_SIZE_BYTES);
      }
      page += allocator.writtenRunEnd(volumePage, volumePage + count) - volumePage;
    }
    return size;
  }

  /** @inheritDoc */
  remove(file: number): void {
    this.#state.requests.forgetFile(file);
    this.#calls.forget(file);
    this.#resume();
  }

  /** @inheritDoc */
  blocks(file: number): number {
    const { table, small } = this.#state;
    const bytes = table.filePageCount(file) * PAGE_SIZE_BYTES + (small?.takenBytes(file) ?? 0);
    return bytes / 512;
  }

  /** @inheritDoc */
  sync(tag: number): void {
    const row = this.#take(CallKind.SYNC, tag, NO_FILE, 0, 1);
    if (row !== -1) this.#queue.flush(row * 4 + FLUSH_PART);
  }

  /** @inheritDoc */
  room(): FileStoreRoom {
    const { allocator, table, small } = this.#state;
    const usedPageCount = table.pageCount + (small?.pageCount ?? 0);
    return { pageCount: allocator.pageCount, usedPageCount };
  }

  /** @inheritDoc */
  isDamaged(file: number): boolean {
    return this.#state.damage.has(file);
  }

  /** @inheritDoc */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#state.reclaim.close();
    while (this.#waiting.length > 0) this.#end(this.#waiting.shift(), -Errno.EIO);
    this.#queue.close();
    this.#freeIfIdle();
  }

  /** @inheritDoc */
  onBlockDone(tag: number, status: IoStatusValue): void {
    if (tag >= TRIM_TAG_FIRST) {
      this.#state.reclaim.onTrimmed(tag - TRIM_TAG_FIRST, status === IoStatus.OK);
      return;
    }
    if (tag >= SMALL_TAG_FIRST) {
      this.#state.small?.onDeviceDone(tag - SMALL_TAG_FIRST, status);
      this.#resume();
      return;
    }
    const part = tag % 4;
    const row = (tag - part) / 4;
    if (part === FLUSH_PART) this.#end(row, resultOf(status));
    else this.#calls.onDeviceDone(row, part, status);
  }

  /** Makes a row for a call, or ends the call at once and returns -1. */
  #take(
    kind: (typeof CallKind)[keyof typeof CallKind],
    tag: number,
    file: number,
    offset: number,
    length: number,
  ): number {
    if (length === 0) {
      this.#sink.onFileDone(tag, 0);
      return -1;
    }
    const row = this.#closed ? -1 : this.#state.requests.take(kind, tag, file, offset, length);
    if (row === -1) this.#sink.onFileDone(tag, this.#closed ? -Errno.EIO : -Errno.ENOMEM);
    return row;
  }

  /** Starts a call, or lets it wait. */
  #submit(row: number): void {
    const { requests } = this.#state;
    const offset = requests.offset[row] as number;
    const stop = offset + (requests.length[row] as number);
    requests.firstPage[row] = Math.floor(offset / PAGE_SIZE_BYTES);
    requests.endPage[row] = Math.ceil(stop / PAGE_SIZE_BYTES);
    if (this.#isChange(row)) requests.link(row);
    if (!this.#tryStart(row)) this.#waiting.push(row);
  }

  /** True for calls that change a file for themselves; the steps of a copy have its place. */
  #isChange(row: number): boolean {
    const { requests } = this.#state;
    return requests.kind[row] !== CallKind.READ && requests.parent[row] === -1;
  }

  /** Starts a call if it can start now. */
  #tryStart(row: number): boolean {
    const { requests, reclaim, allocator } = this.#state;
    const kind = requests.kind[row];
    const isStep = requests.parent[row] !== -1;
    if (!isStep && this.#activeCount >= ACTIVE_CALL_COUNT_MAX) return false;
    if (this.#closed || requests.file[row] === NO_FILE) {
      this.#end(row, -Errno.EIO);
      return true;
    }
    if (this.#isChange(row) && requests.isBlocked(row)) {
      // What it waits for may write behind the size that it was told.
      requests.size[row] = Infinity;
      return false;
    }
    if (kind === CallKind.COPY && !this.#copies.hasRoom) return false;
    const neededCount = this.#calls.neededPageCount(row);
    const shortCount = neededCount - allocator.freeCount;
    if (shortCount > 0 && shortCount <= reclaim.pendingPageCount) return false;
    if (shortCount > 0) {
      this.#end(row, -Errno.ENOSPC);
      return true;
    }
    requests.active[row] = 1;
    if (!isStep) this.#activeCount += 1;
    if (kind === CallKind.COPY) {
      this.#copies.start(row);
      return true;
    }
    requests.generation[row] = reclaim.enter();
    if (kind === CallKind.READ) this.#calls.startRead(row);
    else if (kind === CallKind.WRITE) this.#calls.startWrite(row, neededCount);
    else this.#calls.startClear(row);
    return true;
  }

  /** Ends a call. */
  #end(row: number, result: number): void {
    const { requests, reclaim, bounce } = this.#state;
    const tag = requests.tag[row] as number;
    const parent = requests.parent[row] as number;
    const isActive = requests.active[row] === 1;
    const hasGeneration = isActive && requests.kind[row] !== CallKind.COPY;
    const generation = requests.generation[row] as number;
    for (let index = row * 2; index < row * 2 + 2; index += 1) {
      if (requests.partBounce[index] !== -1) bounce.give(requests.partBounce[index] as number);
    }
    if (this.#isChange(row) && requests.kind[row] !== CallKind.SYNC) requests.unlink(row);
    requests.give(row);
    if (isActive && parent === -1) this.#activeCount -= 1;
    // The caller first: it enters the new size, which calls that start below may depend on.
    if (parent === -1) this.#sink.onFileDone(tag, result);
    else this.#copies.onStepDone(parent, result);
    if (hasGeneration) reclaim.leave(generation);
    this.#resume();
    this.#freeIfIdle();
  }

  /** Something ended or pages came free: calls that wait may start. */
  #resume(): void {
    if (this.#waiting.length === 0) return;
    this.#resumeAgain = true;
    if (this.#resuming) return;
    this.#resuming = true;
    while (this.#resumeAgain) {
      this.#resumeAgain = false;
      for (let left = this.#waiting.length; left > 0 && this.#waiting.length > 0; left -= 1) {
        const row = this.#waiting.shift();
        if (!this.#tryStart(row)) this.#waiting.push(row);
      }
    }
    this.#resuming = false;
  }

  #freeIfIdle(): void {
    if (!this.#closed || this.#freed || this.#state.requests.usedCount > 0) return;
    this.#freed = true;
    this.#copies.free();
    this.#state.bounce.memory.free();
    this.#state.small?.free();
  }
}
