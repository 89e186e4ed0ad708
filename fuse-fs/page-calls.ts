/**
 * What a call does to the pages of its file: it looks them up, takes new ones, and makes a device request
 * for each run of pages that lie one behind the other. Whole pages pass straight between the device and
 * the caller's buffer. A page that a call touches in part goes through a bounce page; when a write keeps
 * bytes of it, it is read first (a write whose page has no bytes but its own is padded with zeroes).
 *
 * The bytes of a file's last page behind its end are zeroes at all times, so appends and reads at the end
 * need no care. A page without bytes (a hole, or promised and never written) reads as zeroes.
 */
import { copyMemory, zeroMemory } from '../common/libc.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { IoStatus, type BlockQueue, type IoStatusValue } from '../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import type { BouncePages } from './bounce-pages.ts';
import type { Damage } from './page-damage.ts';
import { Errno } from './errno.ts';
import { resultOf } from './io-errno.ts';
import type { PageAllocator } from './page-allocator.ts';
import type { PageReclaim } from './page-reclaim.ts';
import type { PageTable } from './page-table.ts';
import { CallKind, NO_FILE, PartPhase, type StoreRequests } from './store-requests.ts';

/** What the parts of a store share. */
export interface StoreState {
  readonly table: PageTable;
  readonly allocator: PageAllocator;
  readonly reclaim: PageReclaim;
  readonly requests: StoreRequests;
  readonly damage: Damage;
  readonly bounce: BouncePages;
  readonly queue: BlockQueue;
}

/** Device tags are `row * 4 + part`; parts 0 and 1 are those of {@link PartPhase}. */
const BODY = 2;

/** The most that one device request moves, pages: 1 MiB. */
const RUN_PAGE_COUNT_MAX = 256;

/** The reads, writes and changes of files. */
export class PageCalls {
  readonly #state: StoreState;
  readonly #onCallDone: (row: number, result: number) => void;

  /** @param onCallDone - a call that was started ended; may come before the start returns */
  constructor(state: StoreState, onCallDone: (row: number, result: number) => void) {
    this.#state = state;
    this.#onCallDone = onCallDone;
  }

  /** Starts a read. */
  startRead(row: number): void {
    const { requests, table, allocator } = this.#state;
    const file = requests.file[row] as number;
    const end = requests.endPage[row] as number;
    requests.pendingCount[row] = 1;
    for (let page = requests.firstPage[row] as number; page < end;) {
      const count = Math.min(table.run(file, page, end), RUN_PAGE_COUNT_MAX);
      const volumePage = table.runPage;
      if (volumePage === -1) {
        this.#zeroFill(row, page, count);
        page += count;
      } else {
        const run = allocator.writtenRunEnd(volumePage, volumePage + count) - volumePage;
        if (allocator.isWritten(volumePage)) this.#readRun(row, page, volumePage, run);
        else this.#zeroFill(row, page, run);
        page += run;
      }
    }
    this.#finish(row);
  }

  /** Pages that a write takes. */
  neededPageCount(row: number): number {
    const { requests } = this.#state;
    const first = requests.firstPage[row] as number;
    return this.holeCount(requests.file[row] as number, first, requests.endPage[row] as number);
  }

  /** Starts a write, which takes `neededCount` pages; so many are free. */
  startWrite(row: number, neededCount: number): void {
    const { requests } = this.#state;
    if (neededCount > 0) {
      const first = requests.firstPage[row] as number;
      this.fillHoles(requests.file[row] as number, first, requests.endPage[row] as number);
    }
    requests.pendingCount[row] = 1;
    this.#startParts(row);
    this.#writeBody(row);
    this.#finish(row);
  }

  /** Starts what makes a range zeroes: its edges now, and holes of its whole pages at the end. */
  startClear(row: number): void {
    this.#state.requests.pendingCount[row] = 1;
    this.#startParts(row);
    this.#finish(row);
  }

  /** A device request ended. */
  onDeviceDone(row: number, part: number, status: IoStatusValue): void {
    const { requests } = this.#state;
    if (part !== BODY) {
      const phase = requests.partPhase[row * 2 + part] as number;
      if (phase === PartPhase.READ && this.#onPartRead(row, part, status)) return;
      requests.partPhase[row * 2 + part] = PartPhase.NONE;
    }
    if (status !== IoStatus.OK) this.#noteFailure(row, part, status);
    this.#finish(row);
  }

  /** Pages of `[first, end)` that a file does not have. */
  holeCount(file: number, first: number, end: number): number {
    const { table } = this.#state;
    let holes = 0;
    for (let page = first; page < end;) {
      const count = table.run(file, page, end);
      if (table.runPage === -1) holes += count;
      page += count;
    }
    return holes;
  }

  /** Gives a file pages without bytes where it has holes; there must be as many free. */
  fillHoles(file: number, first: number, end: number): void {
    const { table, allocator } = this.#state;
    for (let page = first; page < end;) {
      const count = table.run(file, page, end);
      let done = table.runPage === -1 ? 0 : count;
      while (done < count) {
        const before = page + done === 0 ? -1 : table.get(file, page + done - 1);
        const volumePage = allocator.find(before === -1 ? -1 : before + 1);
        const taken = allocator.take(volumePage, count - done);
        table.set(file, page + done, taken, volumePage);
        done += taken;
      }
      page += count;
    }
  }

  /** Makes pages `[first, end)` of a file holes; with `unwrittenOnly` those that hold no bytes. */
  drop(file: number, first: number, end: number, unwrittenOnly: boolean): void {
    const { table, allocator, reclaim, damage } = this.#state;
    for (let page = first; page < end;) {
      let count = table.run(file, page, end);
      const volumePage = table.runPage;
      if (volumePage !== -1) {
        if (unwrittenOnly) {
          count = allocator.writtenRunEnd(volumePage, volumePage + count) - volumePage;
        }
        if (!unwrittenOnly || !allocator.isWritten(volumePage)) {
          table.clear(file, page, count);
          damage.mend(volumePage, count);
          reclaim.giveUp(volumePage, count);
        }
      }
      page += count;
    }
  }

  /** One request less under way; with the last one the call ends. */
  #finish(row: number): void {
    const { requests } = this.#state;
    const left = (requests.pendingCount[row] as number) - 1;
    requests.pendingCount[row] = left;
    if (left > 0) return;
    const result = resultOf(requests.status[row] as IoStatusValue);
    const file = requests.file[row] as number;
    if (file !== NO_FILE) this.#settle(row, file);
    const isCleared =
      requests.kind[row] === CallKind.TRUNCATE || requests.kind[row] === CallKind.PUNCH;
    if (result < 0) this.#onCallDone(row, result);
    else if (isCleared) this.#onCallDone(row, 0);
    else if (file === NO_FILE) this.#onCallDone(row, -Errno.EIO);
    else this.#onCallDone(row, requests.length[row] as number);
  }

  /** Enters the outcome into the tables. */
  #settle(row: number, file: number): void {
    const { requests } = this.#state;
    const first = requests.firstPage[row] as number;
    const end = requests.endPage[row] as number;
    const status = requests.status[row];
    const kind = requests.kind[row];
    if (kind === CallKind.WRITE) {
      if (status === IoStatus.OK) this.#noteWritten(file, first, end);
      else this.drop(file, first, end, true);
    } else if (kind !== CallKind.READ && status === IoStatus.OK) {
      const offset = requests.offset[row] as number;
      const stop = offset + (requests.length[row] as number);
      const wholeFirst = Math.ceil(offset / PAGE_SIZE_BYTES);
      this.drop(file, wholeFirst, Math.floor(stop / PAGE_SIZE_BYTES), false);
    } else if (status === IoStatus.OK && !this.#state.damage.isEmpty) {
      this.#noteMended(file, first, end);
    }
  }

  #noteWritten(file: number, first: number, end: number): void {
    const { table, allocator, damage } = this.#state;
    for (let page = first; page < end;) {
      const count = table.run(file, page, end);
      if (table.runPage !== -1) {
        allocator.setWritten(table.runPage, count);
        damage.mend(table.runPage, count);
      }
      page += count;
    }
  }

  #noteMended(file: number, first: number, end: number): void {
    const { table, damage } = this.#state;
    for (let page = first; page < end;) {
      const count = table.run(file, page, end);
      if (table.runPage !== -1) damage.mend(table.runPage, count);
      page += count;
    }
  }

  /** Keeps the worst status, and the pages that are lost (of a run, all: reads will tell them apart). */
  #noteFailure(row: number, part: number, status: IoStatusValue): void {
    const { requests, table, allocator, damage } = this.#state;
    if (requests.status[row] !== IoStatus.LOST) requests.status[row] = status;
    const file = requests.file[row] as number;
    if (status !== IoStatus.LOST || file === NO_FILE) return;
    const isBody = part === BODY;
    const first = (isBody ? requests.firstPage[row] : requests.partPage[row * 2 + part]) as number;
    const end = isBody ? (requests.endPage[row] as number) : first + 1;
    for (let page = first; page < end; page += 1) {
      const volumePage = table.get(file, page);
      if (volumePage !== -1 && allocator.isWritten(volumePage)) damage.add(file, volumePage);
    }
  }

  /** Fills the part of a read's buffer that belongs to a run of pages with zeroes. */
  #zeroFill(row: number, page: number, count: number): void {
    const { requests } = this.#state;
    const offset = requests.offset[row] as number;
    const start = Math.max(offset, page * PAGE_SIZE_BYTES);
    const end = Math.min(
      offset + (requests.length[row] as number),
      (page + count) * PAGE_SIZE_BYTES,
    );
    zeroMemory(this.#addressAt(row, start), end - start);
  }

  /** Address of the byte of the caller's buffer that belongs to a byte of the file. */
  #addressAt(row: number, fileOffset: number): number {
    const { requests } = this.#state;
    return (requests.buffer[row] as NativeBuffer).address + this.#bufferOffsetAt(row, fileOffset);
  }

  #bufferOffsetAt(row: number, fileOffset: number): number {
    const { requests } = this.#state;
    return (requests.bufferOffset[row] as number) + fileOffset - (requests.offset[row] as number);
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
      this.#readPart(row, 0, page, volumePage, start, end);
      page += 1;
      volumePage += 1;
    }
    if (endPage > page && endPage * PAGE_SIZE_BYTES > stop) {
      endPage -= 1;
      const end = stop - endPage * PAGE_SIZE_BYTES;
      this.#readPart(row, 1, endPage, volumePage + endPage - page, 0, end);
    }
    if (endPage <= page) return;
    requests.pendingCount[row] = (requests.pendingCount[row] as number) + 1;
    queue.read(
      row * 4 + BODY,
      volumePage * PAGE_SIZE_BYTES,
      (endPage - page) * PAGE_SIZE_BYTES,
      requests.buffer[row] as NativeBuffer,
      this.#bufferOffsetAt(row, page * PAGE_SIZE_BYTES),
    );
  }

  /** Reads a page, of which the call wants bytes `[start, end)`, into a bounce page. */
  #readPart(
    row: number,
    part: number,
    page: number,
    volumePage: number,
    start: number,
    end: number,
  ): void {
    const { requests, bounce, queue } = this.#state;
    const bouncePage = this.#takeBounce(row, part, page, start, end);
    requests.partPhase[row * 2 + part] = PartPhase.READ;
    requests.pendingCount[row] = (requests.pendingCount[row] as number) + 1;
    queue.read(
      row * 4 + part,
      volumePage * PAGE_SIZE_BYTES,
      PAGE_SIZE_BYTES,
      bounce.memory,
      bouncePage * PAGE_SIZE_BYTES,
    );
  }

  #takeBounce(row: number, part: number, page: number, start: number, end: number): number {
    const { requests, bounce } = this.#state;
    const bouncePage = bounce.take();
    requests.partBounce[row * 2 + part] = bouncePage;
    requests.partPage[row * 2 + part] = page;
    requests.partStart[row * 2 + part] = start;
    requests.partEnd[row * 2 + part] = end;
    return bouncePage;
  }

  /** The page of a part is in its bounce page. @returns true when a write follows */
  #onPartRead(row: number, part: number, status: IoStatusValue): boolean {
    const { requests, bounce, table } = this.#state;
    if (status !== IoStatus.OK) return false;
    const index = row * 2 + part;
    const page = requests.partPage[index] as number;
    const start = requests.partStart[index] as number;
    const length = (requests.partEnd[index] as number) - start;
    if (requests.kind[row] === CallKind.READ) {
      const bounceOffset = (requests.partBounce[index] as number) * PAGE_SIZE_BYTES + start;
      const to = this.#addressAt(row, page * PAGE_SIZE_BYTES + start);
      copyMemory(to, bounce.memory.address + bounceOffset, length);
      return false;
    }
    const file = requests.file[row] as number;
    if (file === NO_FILE) return false;
    this.#changePart(row, part);
    this.#writePart(row, part, table.get(file, page));
    return true;
  }

  /** Starts the pages at the edges of a write or a clearing. */
  #startParts(row: number): void {
    const { requests } = this.#state;
    const offset = requests.offset[row] as number;
    const stop = offset + (requests.length[row] as number);
    const first = Math.floor(offset / PAGE_SIZE_BYTES);
    const last = Math.floor(stop / PAGE_SIZE_BYTES);
    const start = offset - first * PAGE_SIZE_BYTES;
    const end = stop === Infinity ? 0 : stop - last * PAGE_SIZE_BYTES;
    if (start > 0 || (end > 0 && first === last)) {
      this.#startPart(row, 0, first, start, first === last ? end : PAGE_SIZE_BYTES);
    }
    if (end > 0 && first !== last) this.#startPart(row, 1, last, 0, end);
  }

  #startPart(row: number, part: number, page: number, start: number, end: number): void {
    const { requests, table, allocator, bounce } = this.#state;
    const volumePage = table.get(requests.file[row] as number, page);
    const isWritten = volumePage !== -1 && allocator.isWritten(volumePage);
    const isWrite = requests.kind[row] === CallKind.WRITE;
    if (!isWritten && !isWrite) return;
    const size = (requests.size[row] as number) - page * PAGE_SIZE_BYTES;
    const keepsStart = start > 0 && size > 0;
    const keepsEnd = end < PAGE_SIZE_BYTES && size > end;
    if (isWritten && (keepsStart || keepsEnd)) {
      this.#readPart(row, part, page, volumePage, start, end);
      return;
    }
    const bouncePage = this.#takeBounce(row, part, page, start, end);
    zeroMemory(bounce.memory.address + bouncePage * PAGE_SIZE_BYTES, PAGE_SIZE_BYTES);
    this.#changePart(row, part);
    requests.pendingCount[row] = (requests.pendingCount[row] as number) + 1;
    this.#writePart(row, part, volumePage);
  }

  /** Brings the bytes of the call into the bounce page. */
  #changePart(row: number, part: number): void {
    const { requests, bounce } = this.#state;
    const index = row * 2 + part;
    const start = requests.partStart[index] as number;
    const length = (requests.partEnd[index] as number) - start;
    const bounceOffset = (requests.partBounce[index] as number) * PAGE_SIZE_BYTES + start;
    const to = bounce.memory.address + bounceOffset;
    const page = requests.partPage[index] as number;
    if (requests.kind[row] !== CallKind.WRITE) zeroMemory(to, length);
    else copyMemory(to, this.#addressAt(row, page * PAGE_SIZE_BYTES + start), length);
  }

  #writePart(row: number, part: number, volumePage: number): void {
    const { requests, bounce } = this.#state;
    const bouncePage = requests.partBounce[row * 2 + part] as number;
    requests.partPhase[row * 2 + part] = PartPhase.WRITE;
    this.#write(row * 4 + part, volumePage, 1, bounce.memory, bouncePage * PAGE_SIZE_BYTES);
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
      const fromOffset = this.#bufferOffsetAt(row, page * PAGE_SIZE_BYTES);
      const from = requests.buffer[row] as NativeBuffer;
      requests.pendingCount[row] = (requests.pendingCount[row] as number) + 1;
      this.#write(row * 4 + BODY, table.runPage, count, from, fromOffset);
      page += count;
    }
  }

  #write(
    tag: number,
    volumePage: number,
    count: number,
    from: NativeBuffer,
    fromOffset: number,
  ): void {
    const { queue } = this.#state;
    const offset = volumePage * PAGE_SIZE_BYTES;
    const length = count * PAGE_SIZE_BYTES;
    if (queue.tryWrite(tag, offset, length, from, fromOffset, false)) return;
    queue.write(tag, offset, length, from, fromOffset, false);
  }
}
