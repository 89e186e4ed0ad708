/**
 * Pages that a call touches in part only: at most one at its start and one at its end, and the first page
 * of a small file. They go through a bounce page. A page of which a change keeps bytes is read first;
 * one that has no bytes but the call's own is padded with zeroes.
 */
import { copyMemory, zeroMemory } from '../common/libc.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { IoStatus, type IoStatusValue } from '../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import type { SmallFiles } from './small-files.ts';
import { CallKind, NO_FILE, PartPhase } from './store-requests.ts';
import type { StoreState } from './store-state.ts';

/** The parts of calls. */
export class PageParts {
  readonly #state: StoreState;

  /** @param state - what the parts of the store share */
  constructor(state: StoreState) {
    this.#state = state;
  }

  /** Fills the part of a read's buffer that belongs to a run of pages with zeroes. */
  zeroFill(row: number, page: number, count: number): void {
    const { requests } = this.#state;
    const offset = requests.offset[row] as number;
    const start = Math.max(offset, page * PAGE_SIZE_BYTES);
    const end = Math.min(
      offset + (requests.length[row] as number),
      (page + count) * PAGE_SIZE_BYTES,
    );
    zeroMemory(this.addressAt(row, start), end - start);
  }

  /** Address of the byte of the caller's buffer that belongs to a byte of the file. */
  addressAt(row: number, fileOffset: number): number {
    const { requests } = this.#state;
    return (requests.buffer[row] as NativeBuffer).address + this.bufferOffsetAt(row, fileOffset);
  }

  /** Where that byte is in the buffer. */
  bufferOffsetAt(row: number, fileOffset: number): number {
    const { requests } = this.#state;
    return (requests.bufferOffset[row] as number) + fileOffset - (requests.offset[row] as number);
  }

  /** True when zeroes are to be in the midst of a small file's bytes: they move to a page then. */
  clearsWithinSmall(row: number): boolean {
    const { requests, small } = this.#state;
    const file = requests.file[row] as number;
    if (requests.firstPage[row] !== 0 || small?.has(file) !== true) return false;
    const stop = (requests.offset[row] as number) + (requests.length[row] as number);
    return stop < small.length(file);
  }

  /** Reads what a call wants of a small file's first page. */
  readSmall(row: number, small: SmallFiles, file: number): void {
    const { requests } = this.#state;
    const offset = requests.offset[row] as number;
    const stop = Math.min(PAGE_SIZE_BYTES, offset + (requests.length[row] as number));
    const dataStop = Math.max(offset, Math.min(stop, small.length(file)));
    if (stop > dataStop) zeroMemory(this.addressAt(row, dataStop), stop - dataStop);
    if (dataStop === offset) return;
    const address = small.address(file);
    if (address !== -1) {
      copyMemory(this.addressAt(row, offset), address + offset, dataStop - offset);
      return;
    }
    requests.partShift[row * 2] = small.pageOffset(file);
    this.readPart(row, 0, 0, small.volumePage(file), offset, dataStop);
  }

  /** Brings a small file's bytes to a page of its own, changed by the call. */
  #moveSmall(row: number, part: number, small: SmallFiles, start: number, end: number): void {
    const { requests, bounce, table } = this.#state;
    const file = requests.file[row] as number;
    const address = small.address(file);
    if (address === -1) {
      this.readPart(row, part, 0, small.volumePage(file), start, end);
      return;
    }
    const to = bounce.memory.address + this.#takeBounce(row, part, 0, start, end) * PAGE_SIZE_BYTES;
    zeroMemory(to, PAGE_SIZE_BYTES);
    copyMemory(to, address, small.length(file));
    this.#changePart(row, part);
    requests.pendingCount[row] = (requests.pendingCount[row] as number) + 1;
    this.#writePart(row, part, table.get(file, 0));
  }

  /** The shared page of a small file is in a bounce page: its bytes move to the front, the rest goes. */
  #isolateSmall(index: number, small: SmallFiles, file: number): void {
    const { requests, bounce } = this.#state;
    const at = (requests.partBounce[index] as number) * PAGE_SIZE_BYTES;
    const from = at + small.pageOffset(file);
    const length = small.length(file);
    bounce.memory.bytes.copyWithin(at, from, from + length);
    zeroMemory(bounce.memory.address + at + length, PAGE_SIZE_BYTES - length);
  }

  /** Reads a page, of which the call wants bytes `[start, end)`, into a bounce page. */
  readPart(
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
  onPartRead(row: number, part: number, status: IoStatusValue): boolean {
    const { requests, bounce, table, small } = this.#state;
    if (status !== IoStatus.OK) return false;
    const index = row * 2 + part;
    const page = requests.partPage[index] as number;
    const start = requests.partStart[index] as number;
    const length = (requests.partEnd[index] as number) - start;
    if (requests.kind[row] === CallKind.READ) {
      const bounceOffset = (requests.partBounce[index] as number) * PAGE_SIZE_BYTES + start;
      const from = bounce.memory.address + bounceOffset + (requests.partShift[index] as number);
      copyMemory(this.addressAt(row, page * PAGE_SIZE_BYTES + start), from, length);
      return false;
    }
    const file = requests.file[row] as number;
    if (file === NO_FILE) return false;
    if (page === 0 && small?.has(file) === true) this.#isolateSmall(index, small, file);
    this.#changePart(row, part);
    this.#writePart(row, part, table.get(file, page));
    return true;
  }

  /** Starts the pages at the edges of a write or a clearing. */
  startParts(row: number): void {
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
    const { requests, table, allocator, bounce, small } = this.#state;
    const volumePage = table.get(requests.file[row] as number, page);
    const isWritten = volumePage !== -1 && allocator.isWritten(volumePage);
    const isWrite = requests.kind[row] === CallKind.WRITE;
    const size = (requests.size[row] as number) - page * PAGE_SIZE_BYTES;
    const keepsSome = (start > 0 && size > 0) || (end < PAGE_SIZE_BYTES && size > end);
    if (page === 0 && small?.has(requests.file[row] as number) === true) {
      if (isWrite ? keepsSome : this.clearsWithinSmall(row)) {
        this.#moveSmall(row, part, small, start, end);
        return;
      }
    }
    if (!isWritten && !isWrite) return;
    if (isWritten && keepsSome) {
      this.readPart(row, part, page, volumePage, start, end);
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
    else copyMemory(to, this.addressAt(row, page * PAGE_SIZE_BYTES + start), length);
  }

  #writePart(row: number, part: number, volumePage: number): void {
    const { requests, bounce } = this.#state;
    const bouncePage = requests.partBounce[row * 2 + part] as number;
    requests.partPhase[row * 2 + part] = PartPhase.WRITE;
    this.write(row * 4 + part, volumePage, 1, bounce.memory, bouncePage * PAGE_SIZE_BYTES);
  }

  /** Writes volume pages: at once if the device takes the bytes. */
  write(
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
