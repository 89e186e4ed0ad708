/**
 * Writes, zeroes, trims and flushes of clients. A written page is sealed straight from the client's
 * buffer into a slot of the ring and the request ends; same-filled pages are only marked. A write
 * that meets a full ring, or a slab without a lease, waits its turn in order of arrival, until its
 * deadline at most; it then fails, and a kernel that swaps keeps the page.
 */
import { addressIn } from '../common/aead.ts';
import { IoStatus, type IoStatusValue } from '../common/ports.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { isSameFilled } from './fill.ts';
import { IndexQueue } from './index-queue.ts';
import { PageState, type PageStateValue } from './page-map.ts';
import { RequestKind } from './request-table.ts';
import { SlotState } from './ring.ts';
import { SlabPhase, type Slab, type SlabTable } from './slab-table.ts';
import { endRequest, type VolumeState } from './volume-state.ts';
import type { WriteBack } from './write-back.ts';

/** Which pages a request is about and where their bytes lie; filled anew for each request. */
export interface WriteRange {
  /** First page of the volume. */
  firstPage: number;
  /** Pages in all. */
  pageCount: number;
  /** The bytes. */
  from: NativeBuffer;
  /** Where they start. */
  fromOffset: number;
}

/** The write side of a volume. */
export class WritePath {
  readonly #state: VolumeState;
  readonly #slabs: SlabTable;
  readonly #writeBack: WriteBack;
  readonly #blocked: IndexQueue;
  readonly #flushes: IndexQueue;
  readonly #resumeTask = (): void => this.#resume();
  readonly #endFlushesTask = (): void => this.#endFlushes();
  #resumeScheduled = false;
  #endFlushesScheduled = false;
  /** The run of pages that providers are to be told to drop. */
  #trimFirst = 0;
  #trimCount = 0;

  /** @param parts - the slabs of the volume, and what drains its ring */
  constructor(state: VolumeState, parts: { slabs: SlabTable; writeBack: WriteBack }) {
    this.#state = state;
    this.#slabs = parts.slabs;
    this.#writeBack = parts.writeBack;
    this.#blocked = new IndexQueue(state.requests);
    this.#flushes = new IndexQueue(state.requests);
  }

  /** Takes a whole write at once, or nothing of it. */
  tryWrite(range: WriteRange): boolean {
    const { ring } = this.#state;
    if (this.#blocked.length > 0 || ring.freeCount < range.pageCount) return false;
    const last = this.#slabs.of(range.firstPage + range.pageCount - 1).index;
    for (let index = this.#slabs.of(range.firstPage).index; index <= last; index += 1) {
      if (this.#slabs.at(index).phase !== SlabPhase.LEASED) return false;
    }
    this.#storeRun(range);
    return true;
  }

  /** Writes as far as it can; what is left waits as request `row`, which ends later. */
  write(row: number): void {
    if (this.#blocked.length > 0 || !this.#advance(row)) this.#blocked.push(row);
  }

  /** Ends `row` when everything that is in the ring now is on its replicas. */
  flush(row: number): void {
    const { epochs, requests } = this.#state;
    requests.kind[row] = RequestKind.FLUSH;
    requests.target[row] = epochs.close();
    if (requests.target[row] <= epochs.oldest) endRequest(this.#state, row, IoStatus.OK);
    else this.#flushes.push(row);
  }

  /** Makes pages holes. */
  trim(firstPage: number, pageCount: number): void {
    this.#state.counters.trimmedPages += pageCount;
    this.#elide(firstPage, pageCount, PageState.HOLE);
  }

  /** Makes pages read as zeroes; they count as provisioned. */
  zero(firstPage: number, pageCount: number): void {
    this.#state.counters.pagesWritten += pageCount;
    this.#state.counters.zeroPages += pageCount;
    this.#elide(firstPage, pageCount, PageState.FILLED);
  }

  /** Slots came free, or a slab was leased: blocked writes may go on. */
  resume(): void {
    if (this.#resumeScheduled || this.#blocked.length === 0) return;
    this.#resumeScheduled = true;
    this.#state.world.defer(this.#resumeTask);
  }

  /** Nobody has room for a slab: writes that wait for it end. */
  onLeaseRefused(): void {
    this.#resume();
  }

  /**
   * Epochs have drained: flushes end later in this turn. Not here, where a page is half stored: a
   * client that is told of an end may make its next request at once.
   */
  onEpochAdvanced(): void {
    if (this.#endFlushesScheduled || this.#flushes.length === 0) return;
    this.#endFlushesScheduled = true;
    this.#state.world.defer(this.#endFlushesTask);
  }

  /** Ends what waited too long; tries again for leases. */
  tick(nowMs: number): void {
    this.#resume();
    this.#expire(this.#blocked, nowMs);
    this.#expire(this.#flushes, nowMs);
  }

  /** Ends everything that waits. */
  close(): void {
    this.#expire(this.#blocked, Infinity);
    this.#expire(this.#flushes, Infinity);
  }

  // These walks tell clients, who may add to the list that is walked, or close the volume.

  #endFlushes(): void {
    this.#endFlushesScheduled = false;
    const { requests, epochs } = this.#state;
    for (let left = this.#flushes.length; left > 0; left -= 1) {
      const row = this.#flushes.shift();
      if (row === -1) return;
      if ((requests.target[row] as number) > epochs.oldest) this.#flushes.push(row);
      else endRequest(this.#state, row, IoStatus.OK);
    }
  }

  #expire(queue: IndexQueue, nowMs: number): void {
    const { requests, closed } = this.#state;
    for (let left = queue.length; left > 0; left -= 1) {
      const row = queue.shift();
      if (row === -1) return;
      if ((requests.deadlineMs[row] as number) >= nowMs) queue.push(row);
      else endRequest(this.#state, row, closed ? IoStatus.SHUTDOWN : IoStatus.UNREACHABLE);
    }
  }

  #resume(): void {
    this.#resumeScheduled = false;
    for (let left = this.#blocked.length; left > 0; left -= 1) {
      const row = this.#blocked.shift();
      if (row === -1) return;
      if (!this.#advance(row)) this.#blocked.push(row);
    }
  }

  /** Stores more pages of a write. Returns true when the request needs no list any more. */
  #advance(row: number): boolean {
    const { requests, ring } = this.#state;
    const from = requests.buffer[row];
    if (from === undefined) return true;
    const pageCount = requests.pageCount[row] as number;
    const firstPage = requests.firstPage[row] as number;
    let cursor = requests.cursor[row] as number;
    while (cursor < pageCount) {
      const page = firstPage + cursor;
      const slab = this.#slabs.of(page);
      if (slab.refusal === IoStatus.NO_SPACE) {
        this.#end(row, slab.refusal);
        return true;
      }
      if (!this.#slabs.ensureLeased(slab)) break;
      const slabLeft = (slab.index + 1) * SLAB_PAGE_COUNT - page;
      const run = Math.min(pageCount - cursor, slabLeft, ring.freeCount);
      if (run === 0) break;
      const fromOffset = (requests.bufferOffset[row] as number) + cursor * PAGE_SIZE_BYTES;
      this.#storeRun({ firstPage: page, pageCount: run, from, fromOffset });
      cursor += run;
    }
    requests.cursor[row] = cursor;
    if (cursor < pageCount) return false;
    if (requests.kind[row] === RequestKind.WRITE_FUA) this.flush(row);
    else this.#end(row, IoStatus.OK);
    return true;
  }

  #end(row: number, status: IoStatusValue): void {
    endRequest(this.#state, row, status);
  }

  /** Stores pages for which there is room; their slabs are leased. */
  #storeRun(range: WriteRange): void {
    const { counters } = this.#state;
    const { from, fromOffset, firstPage, pageCount } = range;
    const base = addressIn(from, fromOffset, pageCount * PAGE_SIZE_BYTES);
    counters.pagesWritten += pageCount;
    for (let index = 0; index < pageCount; index += 1) {
      const page = firstPage + index;
      const offset = fromOffset + index * PAGE_SIZE_BYTES;
      const slab = this.#slabs.of(page);
      if (isSameFilled(from, offset)) {
        const low = from.bytes.readUInt32LE(offset);
        const high = from.bytes.readUInt32LE(offset + 4);
        if (low === 0 && high === 0) counters.zeroPages += 1;
        else counters.filledPages += 1;
        this.#forget(slab, page, PageState.FILLED, low, high);
      } else {
        this.#sealPage(slab, page, base + index * PAGE_SIZE_BYTES);
      }
    }
    this.#endTrimRun();
  }

  #sealPage(slab: Slab, page: number, address: number): void {
    const state = this.#state;
    const { map, ring, epochs } = state;
    let slot = map.ringSlot(page);
    const inPlace = slot !== -1 && ring.state(slot) === SlotState.QUEUED;
    if (inPlace) {
      state.counters.coalescedPages += 1;
      const epoch = ring.epoch[slot] as number;
      if (epoch !== epochs.current) {
        epochs.add();
        ring.epoch[slot] = epochs.current;
        if (epochs.remove(epoch)) this.onEpochAdvanced();
      }
    } else {
      if (slot !== -1) this.#writeBack.cancel(slot);
      slot = ring.take(page, epochs.current);
      epochs.add();
      map.setRingSlot(page, slot);
    }
    state.version += 1;
    const low = state.version >>> 0;
    const high = Math.floor(state.version / 2 ** 32);
    state.sealer.seal(page, low, high, address, ring.address(slot));
    if (map.state(page) !== PageState.SEALED) slab.livePages += 1;
    map.set(page, PageState.SEALED, low, high);
    if (!inPlace) this.#writeBack.enqueue(slab, slot);
  }

  #elide(firstPage: number, pageCount: number, next: PageStateValue): void {
    for (let page = firstPage; page < firstPage + pageCount; page += 1) {
      this.#forget(this.#slabs.of(page), page, next, 0, 0);
    }
    this.#endTrimRun();
  }

  /** A page is no longer sealed: its slot and, in runs, its copies are dropped. */
  #forget(slab: Slab, page: number, next: PageStateValue, low: number, high: number): void {
    const { map } = this.#state;
    const slot = map.ringSlot(page);
    if (slot !== -1) {
      this.#writeBack.cancel(slot);
      map.setRingSlot(page, -1);
    }
    if (map.state(page) === PageState.SEALED) {
      slab.livePages -= 1;
      const follows = this.#trimFirst + this.#trimCount === page && page % SLAB_PAGE_COUNT !== 0;
      if (!follows) {
        this.#endTrimRun();
        this.#trimFirst = page;
      }
      this.#trimCount += 1;
    }
    map.set(page, next, low, high);
  }

  #endTrimRun(): void {
    if (this.#trimCount === 0) return;
    const slab = this.#slabs.of(this.#trimFirst);
    const count = this.#trimCount;
    this.#trimCount = 0;
    this.#slabs.releaseIfEmpty(slab);
    if (slab.phase === SlabPhase.LEASED) this.#writeBack.trim(slab, this.#trimFirst, count);
  }
}
