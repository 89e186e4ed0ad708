/**
 * What a call does to the pages of its file: it looks them up, takes new ones, and makes a device request
 * for each run of pages that lie one behind the other. Whole pages pass straight between the device and
 * the caller's buffer. A page that a call touches in part goes through a bounce page; when a write keeps
 * bytes of it, it is read first (a write whose page has no bytes but its own is padded with zeroes).
 *
 * The bytes of a file's last page behind its end are zeroes at all times, so appends and reads at the end
 * need no care. A page without bytes (a hole, or promised and never written) reads as zeroes.
 */
import type { NativeBuffer } from '../common/native-memory.ts';
import { IoStatus, type IoStatusValue } from '../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import { Errno } from './errno.ts';
import type { FilePages } from './file-pages.ts';
import { resultOf } from './io-errno.ts';
import { PageParts } from './page-parts.ts';
import { SMALL_FILE_SIZE_MAX } from './small-files.ts';
import { CallKind, NO_FILE, PartPhase } from './store-requests.ts';
import { smallDamageKey, type StoreState } from './store-state.ts';

/** Device tags are `row * 4 + part`; parts 0 and 1 are those of {@link PartPhase}. */
const BODY = 2;

/** The most that one device request moves, pages: 1 MiB. */
const RUN_PAGE_COUNT_MAX = 256;

/** The reads, writes and changes of files. */
export class PageCalls {
  readonly #state: StoreState;
  readonly #pages: FilePages;
  readonly #parts: PageParts;
  readonly #onCallDone: (row: number, result: number) => void;

  /** @param onCallDone - a call that was started ended; may come before the start returns */
  constructor(state: StoreState, onCallDone: (row: number, result: number) => void) {
    this.#state = state;
    this.#pages = state.pages;
    this.#parts = new PageParts(state);
    this.#onCallDone = onCallDone;
  }

  /** Starts a read. */
  startRead(row: number): void {
    const { requests, table, allocator } = this.#state;
    const file = requests.file[row] as number;
    const end = requests.endPage[row] as number;
    requests.pendingCount[row] = 1;
    let page = requests.firstPage[row] as number;
    if (page === 0 && this.#state.small?.has(file) === true) {
      this.#parts.readSmall(row, this.#state.small, file);
      page = 1;
    }
    while (page < end) {
      const count = Math.min(table.run(file, page, end), RUN_PAGE_COUNT_MAX);
      const volumePage = table.runPage;
      if (volumePage === -1) {
        this.#parts.zeroFill(row, page, count);
        page += count;
      } else {
        const run = allocator.writtenRunEnd(volumePage, volumePage + count) - volumePage;
        if (allocator.isWritten(volumePage)) this.#readRun(row, page, volumePage, run);
        else this.#parts.zeroFill(row, page, run);
        page += run;
      }
    }
    this.#finish(row);
  }

  /** Pages that a write takes, or a clearing that must move a small file's bytes to a page. */
  neededPageCount(row: number): number {
    const { requests, small } = this.#state;
    const file = requests.file[row] as number;
    const first = requests.firstPage[row] as number;
    if (requests.kind[row] === CallKind.READ) return 0;
    if (requests.kind[row] !== CallKind.WRITE) {
      return this.#parts.clearsWithinSmall(row) ? this.#pages.holeCount(file, 0, 1) : 0;
    }
    if (this.isSmallWrite(row)) return small?.neededPageCount(requests.length[row] as number) ?? 0;
    return this.#pages.holeCount(file, first, requests.endPage[row] as number);
  }

  /** True for a write that makes a small file: all of its bytes, and it has no page promised. */
  isSmallWrite(row: number): boolean {
    const { requests, table, small } = this.#state;
    const length = requests.length[row] as number;
    return (
      small !== undefined &&
      length <= SMALL_FILE_SIZE_MAX &&
      requests.offset[row] === 0 &&
      (requests.size[row] as number) <= length &&
      small.canTake(length) &&
      table.get(requests.file[row] as number, 0) === -1
    );
  }

  /** Starts a write, which takes `neededCount` pages; so many are free. */
  startWrite(row: number, neededCount: number): void {
    const { requests, small } = this.#state;
    if (small !== undefined && this.isSmallWrite(row)) {
      const length = requests.length[row] as number;
      requests.pendingCount[row] = 1;
      requests.smallPlace[row] = small.write(row, this.#parts.addressAt(row, 0), length);
      small.flush();
      return;
    }
    if (neededCount > 0) {
      const first = requests.firstPage[row] as number;
      const file = requests.file[row] as number;
      this.#pages.fillHoles(file, first, requests.endPage[row] as number);
    }
    requests.pendingCount[row] = 1;
    this.#parts.startParts(row);
    this.#writeBody(row);
    this.#finish(row);
  }

  /** The write of a fragment ended. */
  onSmallWritten(row: number, status: IoStatusValue): void {
    this.#state.requests.status[row] = status;
    this.#finish(row);
  }

  /** Starts what makes a range zeroes: its edges now, and holes of its whole pages at the end. */
  startClear(row: number): void {
    const { requests } = this.#state;
    if (this.#parts.clearsWithinSmall(row))
      this.#pages.fillHoles(requests.file[row] as number, 0, 1);
    requests.pendingCount[row] = 1;
    this.#parts.startParts(row);
    this.#finish(row);
  }

  /** Gives up all that a file has. */
  forget(file: number): void {
    if (this.#state.small?.has(file) === true) this.#releaseSmall(file);
    this.#pages.drop(file, 0, Infinity, false);
  }

  /** A device request ended. */
  onDeviceDone(row: number, part: number, status: IoStatusValue): void {
    const { requests } = this.#state;
    if (part !== BODY) {
      const phase = requests.partPhase[row * 2 + part] as number;
      if (phase === PartPhase.READ && this.#parts.onPartRead(row, part, status)) return;
      requests.partPhase[row * 2 + part] = PartPhase.NONE;
    }
    if (status !== IoStatus.OK) this.#noteFailure(row, part, status);
    this.#finish(row);
  }

  /** One request less under way; with the last one the call ends. */
  #finish(row: number): void {
    const { requests } = this.#state;
    const left = (requests.pendingCount[row] as number) - 1;
    requests.pendingCount[row] = left;
    if (left > 0) return;
    const result = resultOf(requests.status[row] as IoStatusValue);
    const file = requests.file[row] as number;
    if (requests.smallPlace[row] !== 0) this.#settleSmallWrite(row, file);
    else if (file !== NO_FILE) this.#settle(row, file);
    const isCleared =
      requests.kind[row] === CallKind.TRUNCATE || requests.kind[row] === CallKind.PUNCH;
    if (result < 0) this.#onCallDone(row, result);
    else if (isCleared) this.#onCallDone(row, 0);
    else if (file === NO_FILE) this.#onCallDone(row, -Errno.EIO);
    else this.#onCallDone(row, requests.length[row] as number);
  }

  /** Enters the outcome into the tables. */
  #settle(row: number, file: number): void {
    const { requests, small, damage } = this.#state;
    const first = requests.firstPage[row] as number;
    const end = requests.endPage[row] as number;
    const isOk = requests.status[row] === IoStatus.OK;
    const kind = requests.kind[row];
    const touchesSmall = first === 0 && small?.has(file) === true;
    if (kind === CallKind.READ) {
      if (!isOk || damage.isEmpty) return;
      this.#pages.noteMended(file, first, end);
      if (touchesSmall) damage.mend(smallDamageKey(file), 1);
    } else if (!isOk) {
      if (kind === CallKind.WRITE) this.#pages.drop(file, first, end, true);
      else if (touchesSmall) this.#pages.drop(file, 0, 1, true);
    } else if (kind === CallKind.WRITE) {
      this.#pages.noteWritten(file, first, end);
      if (touchesSmall) this.#releaseSmall(file);
    } else {
      if (touchesSmall) this.#clearSmall(row, file);
      const offset = requests.offset[row] as number;
      const stop = offset + (requests.length[row] as number);
      const wholeFirst = Math.ceil(offset / PAGE_SIZE_BYTES);
      this.#pages.drop(file, wholeFirst, Math.floor(stop / PAGE_SIZE_BYTES), false);
    }
  }

  #settleSmallWrite(row: number, file: number): void {
    const { requests, small, damage } = this.#state;
    const place = requests.smallPlace[row] as number;
    const length = requests.length[row] as number;
    if (file === NO_FILE || requests.status[row] !== IoStatus.OK) {
      small?.giveBack(place, length);
      return;
    }
    damage.mend(smallDamageKey(file), 1);
    small?.assign(file, place, length);
  }

  #releaseSmall(file: number): void {
    this.#state.damage.mend(smallDamageKey(file), 1);
    this.#state.small?.release(file);
  }

  /** A clearing of the start of a small file ended well. */
  #clearSmall(row: number, file: number): void {
    const { requests, small } = this.#state;
    const offset = requests.offset[row] as number;
    if (this.#parts.clearsWithinSmall(row)) {
      this.#pages.noteWritten(file, 0, 1);
      this.#releaseSmall(file);
    } else if (offset === 0) {
      this.#releaseSmall(file);
    } else {
      small?.shorten(file, offset);
    }
  }

  /** Keeps the worst status, and the pages that are lost (of a run, all: reads will tell them apart). */
  #noteFailure(row: number, part: number, status: IoStatusValue): void {
    const { requests, table, allocator, damage } = this.#state;
    if (requests.status[row] !== IoStatus.LOST) requests.status[row] = status;
    const file = requests.file[row] as number;
    if (status !== IoStatus.LOST || file === NO_FILE) return;
    const isBody = part === BODY;
    if (
      !isBody &&
      requests.partPage[row * 2 + part] === 0 &&
      this.#state.small?.has(file) === true
    ) {
      damage.add(file, smallDamageKey(file));
      return;
    }
    const first = (isBody ? requests.firstPage[row] : requests.partPage[row * 2 + part]) as number;
    const end = isBody ? (requests.endPage[row] as number) : first + 1;
    for (let page = first; page < end; page += 1) {
      const volumePage = table.get(file, page);
      if (volumePage !== -1 && allocator.isWritten(volumePage)) damage.add(file, volumePage);
    }
  }

  #readRun(row: number, firstPage: number, firstVolumePage: number, runCount: number): void {
    const { requests, queue } = this.#state;
    const offset = requests.offset[row] as number;
    const stop = offset + (requests.length[row] as number);
    let page = firstPage;
    let volumePage = firstVolumePage;
    let endPage = firstPage + runCount;
    if (page * PAGE_SIZE_BYTES < offset) {
      const start = offset - page * PAGE_SIZE_BYTES;
      const end = Math.min(PAGE_SIZE_BYTES, stop - page * PAGE_SIZE_BYTES);
      this.#parts.readPart(row, 0, page, volumePage, start, end);
      page += 1;
      volumePage += 1;
    }
    if (endPage > page && endPage * PAGE_SIZE_BYTES > stop) {
      endPage -= 1;
      const end = stop - endPage * PAGE_SIZE_BYTES;
      this.#parts.readPart(row, 1, endPage, volumePage + endPage - page, 0, end);
    }
    if (endPage <= page) return;
    requests.pendingCount[row] = (requests.pendingCount[row] as number) + 1;
    queue.read(
      row * 4 + BODY,
      volumePage * PAGE_SIZE_BYTES,
      (endPage - page) * PAGE_SIZE_BYTES,
      requests.buffer[row] as NativeBuffer,
      this.#parts.bufferOffsetAt(row, page * PAGE_SIZE_BYTES),
    );
  }

  /** Writes the whole pages of a write. */
  #writeBody(row: number): void {
    const { requests, table } = this.#state;
    const file = requests.file[row] as number;
    const offset = requests.offset[row] as number;
    const stop = offset + (requests.length[row] as number);
    const end = Math.floor(stop / PAGE_SIZE_BYTES);
    for (let page = Math.ceil(offset / PAGE_SIZE_BYTES); page < end;) {
      const count = Math.min(table.run(file, page, end), RUN_PAGE_COUNT_MAX);
      const fromOffset = this.#parts.bufferOffsetAt(row, page * PAGE_SIZE_BYTES);
      const from = requests.buffer[row] as NativeBuffer;
      requests.pendingCount[row] = (requests.pendingCount[row] as number) + 1;
      this.#parts.write(row * 4 + BODY, table.runPage, count, from, fromOffset);
      page += count;
    }
  }
}
