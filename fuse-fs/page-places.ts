/**
 * Where the bytes of a file lie, on a device in memory of this process: reads are answered from there, without
 * a call that is under way and without a copy.
 */
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import type { IoVectors } from './io-vectors.ts';
import type { StoreState } from './store-state.ts';

/** See the top of the file. */
export class PagePlaces {
  readonly #state: StoreState;

  /** @param state - what the parts of the store share */
  constructor(state: StoreState) {
    this.#state = state;
  }

  /** As `FileStore.locate`. */
  locate(file: number, offset: number, length: number, into: IoVectors): boolean {
    const { table, queue, small } = this.#state;
    if (queue.addressOf === undefined) return false;
    const end = offset + length;
    const endPage = Math.ceil(end / PAGE_SIZE_BYTES);
    let at = offset;
    if (at < PAGE_SIZE_BYTES && small?.has(file) === true) {
      const stop = Math.min(end, PAGE_SIZE_BYTES);
      this.#locateSmall(file, at, stop, into);
      at = stop;
    }
    while (at < end) {
      const page = Math.floor(at / PAGE_SIZE_BYTES);
      const count = table.run(file, page, endPage);
      const first = table.runPage;
      const stop = Math.min(end, (page + count) * PAGE_SIZE_BYTES);
      if (first === -1) into.addZeroes(stop - at);
      else this.#locateRun(first, at % PAGE_SIZE_BYTES, stop - at, into);
      at = stop;
    }
    return true;
  }

  /** `length` bytes of volume pages that follow each other, from `skip` bytes behind the start of the first. */
  #locateRun(firstPage: number, skip: number, length: number, into: IoVectors): void {
    const { allocator, queue } = this.#state;
    const endPage = firstPage + Math.ceil((skip + length) / PAGE_SIZE_BYTES);
    let inPage = skip;
    let left = length;
    for (let page = firstPage; page < endPage;) {
      const runEnd = allocator.writtenRunEnd(page, endPage);
      const count = queue.runLength?.(page, runEnd - page) ?? 1;
      const size = Math.min(left, count * PAGE_SIZE_BYTES - inPage);
      const address = allocator.isWritten(page) ? (queue.addressOf?.(page) ?? 0) : 0;
      if (address === 0) into.addZeroes(size);
      else into.add(address + inPage, size);
      left -= size;
      inPage = 0;
      page += count;
    }
  }

  /** The part of a small file's first page: bytes of its fragment, and zeroes behind them. */
  #locateSmall(file: number, offset: number, stop: number, into: IoVectors): void {
    const { queue, small } = this.#state;
    if (small === undefined) return;
    const dataStop = Math.max(offset, Math.min(stop, small.length(file)));
    const open = small.address(file);
    const page = open === -1 ? (queue.addressOf?.(small.volumePage(file)) ?? 0) : 0;
    const address = open === -1 ? page + small.pageOffset(file) : open;
    if (dataStop > offset) into.add(address + offset, dataStop - offset);
    if (stop > dataStop) into.addZeroes(stop - dataStop);
  }
}
