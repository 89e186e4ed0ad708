/**
 * Reads of clients. Holes and filled pages are written into the client's buffer at once, pending
 * pages are opened from the ring, and runs of pages on providers are fetched with one call each and
 * opened from the receive buffer straight into the client's. A page that does not open under the
 * version of the page map was either rewritten while the call was on its way (then it is read
 * again) or forged by its provider (then it is counted and read from another replica, or is lost:
 * never other bytes).
 */
import { addressIn } from '../common/aead.ts';
import { IoStatus, PAGE_CALL_PAGE_COUNT_MAX, type IoStatusValue } from '../common/ports.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { CallKind } from './call-table.ts';
import { fillPage } from './fill.ts';
import { IndexQueue } from './index-queue.ts';
import { PageState } from './page-map.ts';
import { RequestKind } from './request-table.ts';
import { SlabPhase, type Replica, type Slab, type SlabTable } from './slab-table.ts';
import { endRequest, versionOf, type VolumeState } from './volume-state.ts';

/** Which pages a read is about and where they go; filled anew for each request. */
export interface ReadRange {
  /** First page of the volume. */
  firstPage: number;
  /** Pages in all. */
  pageCount: number;
  /** The client's buffer. */
  into: NativeBuffer;
  /** Where the first page goes. */
  intoOffset: number;
}

/** What became of one fetched page. */
const Opened = { OK: 0, CHANGED: 1, FORGED: 2, LOST: 3 } as const;
type OpenedValue = (typeof Opened)[keyof typeof Opened];

/** The read side of a volume. */
export class ReadPath {
  readonly #state: VolumeState;
  readonly #slabs: SlabTable;
  /** Calls that failed and are sent again at the next tick. */
  readonly #retries: IndexQueue;

  /** @param slabs - the slabs of the volume */
  constructor(state: VolumeState, slabs: SlabTable) {
    this.#state = state;
    this.#slabs = slabs;
    this.#retries = new IndexQueue(state.calls);
  }

  /**
   * Reads what is here and asks for the rest.
   *
   * @param openRow - makes the request's row; called only if something has to be fetched
   * @returns the status when the read ended at once, else -1
   */
  read(range: ReadRange, openRow: () => number): IoStatusValue | -1 {
    const { map, requests, counters } = this.#state;
    const { firstPage, pageCount, into, intoOffset } = range;
    addressIn(into, intoOffset, pageCount * PAGE_SIZE_BYTES);
    counters.pagesRead += pageCount;
    const end = firstPage + pageCount;
    let row = -1;
    let status: IoStatusValue = IoStatus.OK;
    let page = firstPage;
    while (page < end) {
      const offset = intoOffset + (page - firstPage) * PAGE_SIZE_BYTES;
      if (map.state(page) !== PageState.SEALED || map.ringSlot(page) !== -1) {
        if (this.#readHere(page, into, offset) === Opened.LOST) status = IoStatus.LOST;
        page += 1;
        continue;
      }
      if (row === -1) {
        row = openRow();
        requests.setRange(row, firstPage, pageCount, into, intoOffset);
      }
      const runEnd = this.#fetchableRunEnd(page, end);
      this.#fetch(row, page, runEnd - page);
      page = runEnd;
    }
    if (row === -1) return status;
    if (status !== IoStatus.OK) requests.status[row] = status;
    return -1;
  }

  /** A read call ended. */
  onReadDone(call: number, status: IoStatusValue, pages: NativeBuffer, offset: number): void {
    const { calls, closed } = this.#state;
    const slab = this.#slabs.at(calls.slab[call] as number);
    slab.callsInFlight -= 1;
    if (closed) this.#endCall(call, IoStatus.SHUTDOWN);
    else if (status === IoStatus.OK) this.#openRun(call, slab, pages, offset);
    else this.#failed(call, slab, status);
  }

  /** Sends failed calls again; ends those whose request has waited too long. */
  tick(nowMs: number): void {
    const expired = (call: number): boolean => this.#deadlineOf(call) < nowMs;
    for (const link of this.#slabs.links) link.expireReads(expired);
    for (let left = this.#retries.length; left > 0; left -= 1) {
      const call = this.#retries.shift();
      if (expired(call)) this.#endCall(call, IoStatus.UNREACHABLE);
      else this.#send(call);
    }
  }

  /** Ends the calls that wait to be sent again. */
  close(): void {
    for (let call = this.#retries.shift(); call !== -1; call = this.#retries.shift()) {
      this.#endCall(call, IoStatus.SHUTDOWN);
    }
  }

  /** Reads a page that needs no provider. */
  #readHere(page: number, into: NativeBuffer, offset: number): OpenedValue {
    const { map, ring, sealer, counters } = this.#state;
    const slot = map.ringSlot(page);
    if (slot !== -1) {
      counters.ringHits += 1;
      const to = into.address + offset;
      const low = map.wordLow(page);
      return sealer.open(page, low, map.wordHigh(page), ring.address(slot), to)
        ? Opened.OK
        : Opened.LOST;
    }
    const state = map.state(page);
    if (state === PageState.LOST) return Opened.LOST;
    if (state === PageState.FILLED) fillPage(into, offset, map.wordLow(page), map.wordHigh(page));
    else fillPage(into, offset, 0, 0);
    return Opened.OK;
  }

  #fetchableRunEnd(page: number, end: number): number {
    const { map } = this.#state;
    const slabEnd = (Math.floor(page / SLAB_PAGE_COUNT) + 1) * SLAB_PAGE_COUNT;
    const runEnd = Math.min(end, slabEnd, page + PAGE_CALL_PAGE_COUNT_MAX);
    let at = page + 1;
    while (at < runEnd && map.state(at) === PageState.SEALED && map.ringSlot(at) === -1) at += 1;
    return at;
  }

  #fetch(row: number, page: number, pageCount: number): void {
    const { calls, requests } = this.#state;
    const slab = this.#slabs.of(page);
    const call = calls.take(CallKind.READ, slab.index, page, pageCount, row);
    requests.callsLeft[row] = (requests.callsLeft[row] as number) + 1;
    this.#send(call);
  }

  /** Sends a call to the replica that its number of attempts selects, those that are up first. */
  #send(call: number): void {
    const { calls, version } = this.#state;
    const slab = this.#slabs.at(calls.slab[call] as number);
    const replica = this.#chooseReplica(slab, calls.attempt[call] as number);
    calls.issuedAt[call] = version;
    if (replica === undefined) {
      // The slab was lost or given back since; the page map says what its pages are now.
      this.#openRun(call, slab, undefined, 0);
      return;
    }
    calls.link[call] = replica.link.index;
    calls.slabHandle[call] = replica.slabHandle;
    slab.callsInFlight += 1;
    replica.link.read(call);
  }

  #chooseReplica(slab: Slab, attempt: number): Replica | undefined {
    if (slab.phase !== SlabPhase.LEASED) return undefined;
    const { replicas } = slab;
    for (let step = 0; step < replicas.length; step += 1) {
      const replica = replicas[(attempt + step) % replicas.length];
      if (replica?.link.source.up === true) return replica;
    }
    return replicas[attempt % replicas.length];
  }

  /** Opens each page of a fetched run into the client's buffer; without pages, from what is here. */
  #openRun(call: number, slab: Slab, pages: NativeBuffer | undefined, offset: number): void {
    const { calls, counters } = this.#state;
    const page = calls.page[call] as number;
    const pageCount = calls.pageCount[call] as number;
    let status: IoStatusValue = IoStatus.OK;
    if (pages !== undefined) counters.pagesFetched += pageCount;
    for (let index = 0; index < pageCount; index += 1) {
      const sealedOffset = offset + index * SEALED_PAGE_SIZE_BYTES;
      const opened = this.#openPage(call, page + index, pages, sealedOffset);
      if (opened === Opened.OK) continue;
      const forged = (calls.forged[call] as number) + (opened === Opened.FORGED ? 1 : 0);
      if (opened === Opened.FORGED) counters.forgedPages += 1;
      if (opened === Opened.LOST || (forged > 0 && forged >= slab.replicas.length)) {
        status = IoStatus.LOST;
      } else {
        this.#fetchAgain(call, page + index, forged);
      }
    }
    this.#endCall(call, status);
  }

  #openPage(
    call: number,
    page: number,
    pages: NativeBuffer | undefined,
    sealedOffset: number,
  ): OpenedValue {
    const { map, sealer, calls, requests } = this.#state;
    const row = calls.owner[call] as number;
    const into = requests.buffer[row];
    if (into === undefined) return Opened.LOST;
    const offset =
      (requests.bufferOffset[row] as number) +
      (page - (requests.firstPage[row] as number)) * PAGE_SIZE_BYTES;
    if (map.state(page) !== PageState.SEALED || map.ringSlot(page) !== -1) {
      return this.#readHere(page, into, offset);
    }
    if (pages === undefined) return Opened.CHANGED;
    const from = addressIn(pages, sealedOffset, SEALED_PAGE_SIZE_BYTES);
    const to = into.address + offset;
    if (sealer.open(page, map.wordLow(page), map.wordHigh(page), from, to)) return Opened.OK;
    return versionOf(map, page) > (calls.issuedAt[call] as number) ? Opened.CHANGED : Opened.FORGED;
  }

  #fetchAgain(call: number, page: number, forged: number): void {
    const { calls, requests } = this.#state;
    const row = calls.owner[call] as number;
    const slab = this.#slabs.of(page);
    const again = calls.take(CallKind.READ, slab.index, page, 1, row);
    calls.forged[again] = forged;
    calls.attempt[again] = ((calls.attempt[call] as number) + 1) & 0xff;
    requests.callsLeft[row] = (requests.callsLeft[row] as number) + 1;
    this.#retries.push(again);
    this.#state.world.defer(() => this.#sendRetries());
  }

  #sendRetries(): void {
    for (let left = this.#retries.length; left > 0; left -= 1) this.#send(this.#retries.shift());
  }

  #failed(call: number, slab: Slab, status: IoStatusValue): void {
    const { calls, world } = this.#state;
    const link = calls.link[call] as number;
    const replica = this.#slabs.replicaOf(slab, link, calls.slabHandle[call] as number);
    const leaseGone = status === IoStatus.NO_LEASE || status === IoStatus.INVALID;
    if (replica !== undefined && leaseGone) this.#slabs.dropReplica(slab, replica, status);
    else calls.attempt[call] = ((calls.attempt[call] as number) + 1) & 0xff;
    if (this.#deadlineOf(call) < world.clock.nowMs()) this.#endCall(call, status);
    else this.#retries.push(call);
    if (leaseGone || slab.replicas.length > 1) world.defer(() => this.#sendRetries());
  }

  #deadlineOf(call: number): number {
    const { calls, requests } = this.#state;
    return requests.deadlineMs[calls.owner[call] as number] as number;
  }

  #endCall(call: number, status: IoStatusValue): void {
    const { calls, requests, closed } = this.#state;
    const row = calls.owner[call] as number;
    const slab = this.#slabs.at(calls.slab[call] as number);
    calls.give(call);
    if (status !== IoStatus.OK) requests.status[row] = status;
    const left = (requests.callsLeft[row] as number) - 1;
    requests.callsLeft[row] = left;
    if (left === 0 && requests.kind[row] === RequestKind.READ) {
      endRequest(this.#state, row, requests.status[row] as IoStatusValue);
    }
    if (!closed) this.#slabs.releaseIfEmpty(slab);
  }
}
