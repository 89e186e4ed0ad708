/**
 * A block device over the slabs of one export. Slabs hold sealed pages of 4112 bytes; the pages here
 * are plain (on this path the consumer's dm-crypt is what keeps them from the provider), so each one
 * goes through a bounce buffer and is stored with a tag of zeroes: an extra copy, measured at 0.4 us a
 * page beside 1.7 us for its cipher, and so one store serves both kinds of lease.
 *
 * Everything ends inside the call, with nothing made on the way, except trims of more than
 * {@link TRIM_SLICE_PAGE_COUNT} written pages: zeroing and punching those takes many milliseconds,
 * so they go on slice by slice while other clients are served. A page never written reads as zeroes
 * and costs no RAM; a partial page is read, changed and written back, which is atomic because nothing
 * else runs meanwhile.
 */
import { addressIn } from '../common/aead.ts';
import { copyMemory, zeroMemory } from '../common/libc.ts';
import { NativeMemory, type NativeBuffer } from '../common/native-memory.ts';
import {
  IoStatus,
  PAGE_CALL_PAGE_COUNT_MAX,
  type BlockCompletionSink,
  type BlockDevice,
  type BlockQueue,
  type IoStatusValue,
  type SlabAccess,
} from '../common/ports.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';
import { DIRECT_SLAB_PAGE_COUNT } from './constants.ts';
import { PageBits } from '../common/page-bits.ts';
import { pageExtents } from '../common/page-extents.ts';

/** Written pages that are dropped in one go before others get their turn: 32 MiB, some 7 ms. */
export const TRIM_SLICE_PAGE_COUNT = 8192;

/** Where pages stand between a client's buffer and a slab. Calls never overlap, so one serves all devices. */
export class PageBounce extends NativeMemory {
  constructor() {
    super(PAGE_CALL_PAGE_COUNT_MAX * SEALED_PAGE_SIZE_BYTES, { lock: true });
  }
}

/** What a {@link SlabDevice} is made of. */
export interface SlabDeviceParts {
  /** The name under which it is exported. */
  readonly name: string;
  /** Bytes, a whole number of pages. */
  readonly sizeBytes: number;
  /** The provider as the holder of the slabs sees it. */
  readonly access: SlabAccess;
  /** The slabs in order, each of {@link DIRECT_SLAB_PAGE_COUNT} pages, the last of the rest. */
  readonly slabHandles: readonly number[];
  /** Borrowed until {@link SlabDevice.shutDown}. */
  readonly bounce: PageBounce;
}

/** See the top of the file. */
export class SlabDevice implements BlockDevice {
  readonly name: string;
  readonly description = 'MemCloud direct export, RAM of this provider';
  readonly sizeBytes: number;
  /** Requests served since it was made. */
  requestCount = 0;
  readonly #access: SlabAccess;
  readonly #slabHandles: readonly number[];
  readonly #bounce: PageBounce;
  readonly #written: PageBits;
  #fenceCount = 0;
  #down = false;

  /** @param parts - what it is made of */
  constructor(parts: SlabDeviceParts) {
    this.name = parts.name;
    this.sizeBytes = parts.sizeBytes;
    this.#access = parts.access;
    this.#slabHandles = parts.slabHandles;
    this.#bounce = parts.bounce;
    this.#written = new PageBits(parts.sizeBytes / PAGE_SIZE_BYTES);
  }

  /** Bytes of the pages that hold data. */
  get residentBytes(): number {
    return this.#written.setCount * PAGE_SIZE_BYTES;
  }

  /** @inheritDoc */
  openQueue(sink: BlockCompletionSink): BlockQueue {
    return new SlabQueue(this, sink);
  }

  /** @inheritDoc */
  extents(
    offset: number,
    length: number,
    emit: (lengthBytes: number, flags: number) => boolean,
  ): void {
    pageExtents(this.#written, offset, length, emit);
  }

  /** Changes with every {@link SlabDevice.fence}. */
  get fenceCount(): number {
    return this.#fenceCount;
  }

  /** What the queues opened so far have not finished is not finished any more: a newer client comes. */
  fence(): void {
    this.#fenceCount += 1;
  }

  /** From now on every read and write ends with `SHUTDOWN` and touches nothing. */
  shutDown(): void {
    this.#down = true;
  }

  /**
   * Reads any range.
   *
   * @throws RangeError when `into` has no room for it
   */
  read(offset: number, length: number, into: NativeBuffer, intoOffset: number): IoStatusValue {
    if (this.#down) return IoStatus.SHUTDOWN;
    const to = addressIn(into, intoOffset, length);
    const end = offset + length;
    const endPage = Math.ceil(end / PAGE_SIZE_BYTES);
    for (let at = offset; at < end;) {
      const page = Math.floor(at / PAGE_SIZE_BYTES);
      const runEndPage = this.#written.runEnd(page, endPage);
      if (!this.#written.isSet(page)) {
        const runEnd = Math.min(end, runEndPage * PAGE_SIZE_BYTES);
        zeroMemory(to + at - offset, runEnd - at);
        at = runEnd;
        continue;
      }
      const callEndPage = Math.min(runEndPage, callEnd(page));
      const status = this.#readToBounce(page, callEndPage, 0);
      if (status !== IoStatus.OK) return status;
      const callEndAt = Math.min(end, callEndPage * PAGE_SIZE_BYTES);
      for (let slot = 0; at < callEndAt; slot += 1) {
        const inPage = at % PAGE_SIZE_BYTES;
        const part = Math.min(PAGE_SIZE_BYTES - inPage, end - at);
        const from = this.#bounce.address + slot * SEALED_PAGE_SIZE_BYTES + inPage;
        copyMemory(to + at - offset, from, part);
        at += part;
      }
    }
    return IoStatus.OK;
  }

  /**
   * Writes any range; when there is no RAM for it, a part of it from its start may be written.
   *
   * @param from - undefined writes zeroes
   * @throws RangeError when the bytes are not all inside `from`
   */
  write(
    offset: number,
    length: number,
    from: NativeBuffer | undefined,
    fromOffset: number,
  ): IoStatusValue {
    if (this.#down) return IoStatus.SHUTDOWN;
    const source = from === undefined ? 0 : addressIn(from, fromOffset, length);
    const end = offset + length;
    for (let at = offset; at < end;) {
      const page = Math.floor(at / PAGE_SIZE_BYTES);
      const callEndPage = Math.min(Math.ceil(end / PAGE_SIZE_BYTES), callEnd(page));
      const callEndAt = Math.min(end, callEndPage * PAGE_SIZE_BYTES);
      for (let slot = 0; at < callEndAt; slot += 1) {
        const inPage = at % PAGE_SIZE_BYTES;
        const part = Math.min(PAGE_SIZE_BYTES - inPage, end - at);
        if (part < PAGE_SIZE_BYTES) {
          const status = this.#readToBounce(page + slot, page + slot + 1, slot);
          if (status !== IoStatus.OK) return status;
        }
        const to = this.#bounce.address + slot * SEALED_PAGE_SIZE_BYTES + inPage;
        if (from === undefined) zeroMemory(to, part);
        else copyMemory(to, source + at - offset, part);
        at += part;
      }
      const status = this.#writeFromBounce(page, callEndPage);
      if (status !== IoStatus.OK) return status;
    }
    return IoStatus.OK;
  }

  /**
   * Drops written pages among `[firstPage, endPage)`, at most {@link TRIM_SLICE_PAGE_COUNT} of them.
   *
   * @returns where to go on, `endPage` when done; or the failure as a negative {@link IoStatus}
   */
  dropSlice(firstPage: number, endPage: number): number {
    let left = TRIM_SLICE_PAGE_COUNT;
    let page = firstPage;
    while (page < endPage && left > 0) {
      const runEnd = this.#written.runEnd(page, endPage);
      if (!this.#written.isSet(page)) {
        page = runEnd;
        continue;
      }
      const stop = Math.min(runEnd, slabEnd(page), page + left);
      const status = this.#access.trimPages(this.#handleOf(page), inSlab(page), stop - page);
      if (status !== IoStatus.OK) return -status;
      this.#written.clear(page, stop);
      left -= stop - page;
      page = stop;
    }
    return page;
  }

  #readToBounce(page: number, endPage: number, slot: number): IoStatusValue {
    const offset = slot * SEALED_PAGE_SIZE_BYTES;
    const handle = this.#handleOf(page);
    return this.#access.readPages(handle, inSlab(page), endPage - page, this.#bounce, offset);
  }

  #writeFromBounce(page: number, endPage: number): IoStatusValue {
    const handle = this.#handleOf(page);
    const count = endPage - page;
    const status = this.#access.writePages(handle, inSlab(page), count, this.#bounce, 0);
    if (status === IoStatus.OK) this.#written.set(page, endPage);
    return status;
  }

  #handleOf(page: number): number {
    return this.#slabHandles[Math.floor(page / DIRECT_SLAB_PAGE_COUNT)] ?? 0;
  }
}

function inSlab(page: number): number {
  return page % DIRECT_SLAB_PAGE_COUNT;
}

function slabEnd(page: number): number {
  return (Math.floor(page / DIRECT_SLAB_PAGE_COUNT) + 1) * DIRECT_SLAB_PAGE_COUNT;
}

/** One past the last page that one call from `page` on may reach. */
function callEnd(page: number): number {
  return Math.min(page + PAGE_CALL_PAGE_COUNT_MAX, slabEnd(page));
}

/** One client's way in. */
class SlabQueue implements BlockQueue {
  readonly #device: SlabDevice;
  readonly #sink: BlockCompletionSink;
  readonly #fenceCount: number;
  #closed = false;

  constructor(device: SlabDevice, sink: BlockCompletionSink) {
    this.#device = device;
    this.#sink = sink;
    this.#fenceCount = device.fenceCount;
  }

  read(tag: number, offset: number, length: number, into: NativeBuffer, intoOffset: number): void {
    this.#end(tag, this.#device.read(offset, length, into, intoOffset));
  }

  tryWrite(
    tag: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
  ): boolean {
    this.#end(tag, this.#device.write(offset, length, from, fromOffset));
    return true;
  }

  write(tag: number, offset: number, length: number, from: NativeBuffer, fromOffset: number): void {
    this.#end(tag, this.#device.write(offset, length, from, fromOffset));
  }

  flush(tag: number): void {
    this.#end(tag, IoStatus.OK);
  }

  trim(tag: number, offset: number, length: number): void {
    const firstPage = Math.ceil(offset / PAGE_SIZE_BYTES);
    this.#drop(tag, firstPage, Math.floor((offset + length) / PAGE_SIZE_BYTES));
  }

  writeZeroes(tag: number, offset: number, length: number): void {
    const end = offset + length;
    const firstPage = Math.ceil(offset / PAGE_SIZE_BYTES);
    const endPage = Math.floor(end / PAGE_SIZE_BYTES);
    const headEnd = Math.min(end, firstPage * PAGE_SIZE_BYTES);
    const tailStart = Math.max(headEnd, endPage * PAGE_SIZE_BYTES);
    let status: IoStatusValue = this.#device.write(offset, headEnd - offset, undefined, 0);
    if (status === IoStatus.OK) {
      status = this.#device.write(tailStart, end - tailStart, undefined, 0);
    }
    if (status === IoStatus.OK) this.#drop(tag, firstPage, endPage);
    else this.#end(tag, status);
  }

  close(): void {
    this.#closed = true;
  }

  #drop(tag: number, firstPage: number, endPage: number): void {
    const next = firstPage >= endPage ? endPage : this.#device.dropSlice(firstPage, endPage);
    if (next < 0) this.#end(tag, -next as IoStatusValue);
    else if (next >= endPage) this.#end(tag, IoStatus.OK);
    else {
      setImmediate(() => {
        // A client that was cut off may not drop what its successor writes.
        const gone = this.#closed || this.#fenceCount !== this.#device.fenceCount;
        if (gone) this.#end(tag, IoStatus.SHUTDOWN);
        else this.#drop(tag, next, endPage);
      });
    }
  }

  #end(tag: number, status: IoStatusValue): void {
    this.#device.requestCount += 1;
    this.#sink.onBlockDone(tag, status);
  }
}
