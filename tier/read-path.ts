/**
 * Reads of clients. Holes and filled pages are written into the client's buffer at once, pending
 * pages are opened from the ring, and runs of pages on providers are fetched with one call each and
 * opened from the receive buffer straight into the client's. A page that does not open under the
 * version of the page map was either rewritten while the call was on its way (then it is read
 * again) or forged by its provider (then it is counted and read from another replica, or is lost:
 * never other bytes). A read that is late is asked of a second provider (hedge.ts): the two calls are
 * twins, the first answer counts, and the other's means nothing any more.
 */
import { addressIn } from '../common/aead.ts';
import { IoStatus, PAGE_CALL_PAGE_COUNT_MAX, type IoStatusValue } from '../common/ports.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { CallKind, NOBODY, NO_TWIN } from './call-table.ts';
import { fillPage } from './fill.ts';
import { IndexQueue } from './index-queue.ts';
import { PageState } from './page-map.ts';
import { NO_LINK, ReadSender } from './read-sender.ts';
import { leaseIsGone } from './replica.ts';
import { RequestKind } from './request-table.ts';
import type { Slab, SlabTable } from './slab-table.ts';
import type { SourceLink } from './source-link.ts';
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
  readonly #retryTask = (): void => this.#sendRetries();
  readonly #sender: ReadSender;
  #retryScheduled = false;

  /** @param slabs - the slabs of the volume */
  constructor(state: VolumeState, slabs: SlabTable) {
    this.#state = state;
    this.#slabs = slabs;
    this.#retries = new IndexQueue(state.calls);
    this.#sender = new ReadSender(state, slabs);
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
        // Held until all is asked for: a call may end at once, and the request with it.
        requests.callsLeft[row] = 1;
      }
      const runEnd = this.#fetchableRunEnd(page, end);
      this.#fetch(row, page, runEnd - page);
      page = runEnd;
    }
    if (row === -1) return status;
    this.#endPart(row, status);
    return -1;
  }

  /** A read call ended. */
  onReadDone(call: number, status: IoStatusValue, pages: NativeBuffer, offset: number): void {
    const { calls, closed } = this.#state;
    const slab = this.#slabs.at(calls.slab[call] as number);
    slab.callsInFlight -= 1;
    if (calls.owner[call] === NOBODY) {
      calls.give(call);
      if (!closed) this.#slabs.releaseIfEmpty(slab);
      return;
    }
    const twin = calls.twin[call] as number;
    if (twin !== NO_TWIN) {
      calls.twin[call] = calls.twin[twin] = NO_TWIN;
      if (status !== IoStatus.OK || closed) {
        // The other one goes on alone.
        if (!closed) this.#noteFailure(call, slab, status);
        calls.give(call);
        return;
      }
      calls.owner[twin] = NOBODY;
    }
    if (closed) this.#endCall(call, IoStatus.SHUTDOWN);
    else if (status === IoStatus.OK) {
      this.#sender.onAnswer(call);
      this.#openRun(call, slab, pages, offset);
    } else this.#failed(call, slab, status);
  }

  /** A provider does not answer: what it was asked for is asked of another. */
  onSuspect(link: SourceLink): void {
    this.#sender.onSuspect(link);
  }

  /**
   * Sends failed calls again, and those that wait for a provider that is down, of which another may
   * have a copy; ends those whose request has waited too long.
   */
  tick(nowMs: number): void {
    const { kind } = this.#state.calls;
    const expired = (call: number): boolean =>
      kind[call] === CallKind.READ && this.#deadlineOf(call) < nowMs;
    for (const link of this.#slabs.links) {
      link.expireReads(link.source.up ? expired : () => true);
    }
    for (let left = this.#retries.length; left > 0; left -= 1) {
      const call = this.#retries.shift();
      if (call === -1) return;
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

  #send(call: number): void {
    const { calls } = this.#state;
    const slab = this.#slabs.at(calls.slab[call] as number);
    if (this.#sender.send(call, slab)) return;
    if ((calls.pageCount[call] as number) > 1 && slab.replicas.length > 0) this.#split(call);
    // The slab was lost or given back since; the page map says what its pages are now.
    else this.#openRun(call, slab, undefined, 0);
  }

  /** No copy has all pages of a run: each is asked for by itself. */
  #split(call: number): void {
    const { calls, requests } = this.#state;
    const row = calls.owner[call] as number;
    const first = calls.page[call] as number;
    const count = calls.pageCount[call] as number;
    requests.callsLeft[row] = (requests.callsLeft[row] as number) + count;
    for (let page = first; page < first + count; page += 1) {
      this.#send(calls.take(CallKind.READ, calls.slab[call] as number, page, 1, row));
    }
    this.#endCall(call, IoStatus.OK);
  }

  /** Opens each page of a fetched run into the client's buffer; without pages, from what is here. */
  #openRun(call: number, slab: Slab, pages: NativeBuffer | undefined, offset: number): void {
    const { calls, counters } = this.#state;
    const page = calls.page[call] as number;
    const pageCount = calls.pageCount[call] as number;
    const handle = calls.slabHandle[call] as number;
    const giver = this.#slabs.replicaOf(slab, calls.link[call] as number, handle);
    // A replica that was dropped since gave what it had: the page is fetched from the others.
    const giverBit = giver === undefined ? 0 : 1 << slab.replicas.indexOf(giver);
    const forgers = (this.#sender.forgersOf(slab, call) | giverBit) >>> 0;
    let forgedPage = -1;
    let status: IoStatusValue = IoStatus.OK;
    if (pages !== undefined) counters.pagesFetched += pageCount;
    for (let index = 0; index < pageCount; index += 1) {
      const sealedOffset = offset + index * SEALED_PAGE_SIZE_BYTES;
      const opened = this.#openPage(call, page + index, pages, sealedOffset);
      if (opened === Opened.OK) continue;
      const forged = opened === Opened.FORGED;
      if (forged && giver !== undefined) {
        counters.forgedPages += 1;
        forgedPage = page + index;
      }
      if (opened === Opened.LOST || (forged && this.#allForge(slab, page + index, forgers))) {
        status = IoStatus.LOST;
      } else {
        this.#fetchAgain(call, page + index, opened === Opened.FORGED ? forgers : 0);
      }
    }
    this.#endCall(call, status);
    if (giver !== undefined && forgedPage !== -1) this.#slabs.disbelieve(giver.link, forgedPage);
  }

  /** True when each copy that has the page is among the forgers. */
  #allForge(slab: Slab, page: number, forgers: number): boolean {
    return slab.replicas.every(
      (replica, position) =>
        ((forgers >>> position) & 1) === 1 || !replica.has(page % SLAB_PAGE_COUNT),
    );
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
    // No page is sealed, outside the ring and in no slab; were it so, asking again would not help.
    if (pages === undefined) return Opened.LOST;
    const from = addressIn(pages, sealedOffset, SEALED_PAGE_SIZE_BYTES);
    const to = into.address + offset;
    if (sealer.open(page, map.wordLow(page), map.wordHigh(page), from, to)) return Opened.OK;
    return versionOf(map, page) > (calls.issuedAt[call] as number) ? Opened.CHANGED : Opened.FORGED;
  }

  #fetchAgain(call: number, page: number, forgers: number): void {
    const { calls, requests } = this.#state;
    const row = calls.owner[call] as number;
    const slab = this.#slabs.of(page);
    const again = calls.take(CallKind.READ, slab.index, page, 1, row);
    calls.forged[again] = forgers;
    calls.membership[again] = slab.membership;
    calls.attempt[again] = ((calls.attempt[call] as number) + 1) & 0xff;
    calls.link[again] = NO_LINK;
    requests.callsLeft[row] = (requests.callsLeft[row] as number) + 1;
    this.#retries.push(again);
    this.#scheduleRetries();
  }

  #scheduleRetries(): void {
    if (this.#retryScheduled) return;
    this.#retryScheduled = true;
    this.#state.world.defer(this.#retryTask);
  }

  #sendRetries(): void {
    this.#retryScheduled = false;
    for (let left = this.#retries.length; left > 0; left -= 1) {
      const call = this.#retries.shift();
      if (call === -1) return;
      this.#send(call);
    }
  }

  /** Drops the copy whose lease is gone. Returns true then. */
  #noteFailure(call: number, slab: Slab, status: IoStatusValue): boolean {
    if (!leaseIsGone(status)) return false;
    const { calls } = this.#state;
    const handle = calls.slabHandle[call] as number;
    const replica = this.#slabs.replicaOf(slab, calls.link[call] as number, handle);
    if (replica !== undefined) this.#slabs.dropReplica(slab, replica, status);
    return true;
  }

  #failed(call: number, slab: Slab, status: IoStatusValue): void {
    const { calls, world } = this.#state;
    const leaseGone = this.#noteFailure(call, slab, status);
    if (!leaseGone) calls.attempt[call] = ((calls.attempt[call] as number) + 1) & 0xff;
    if (this.#deadlineOf(call) < world.clock.nowMs()) {
      this.#endCall(call, status);
      return;
    }
    calls.link[call] = NO_LINK;
    this.#retries.push(call);
    // At once while there is a replica that was not asked in this round; then at the next tick.
    const roundOver = (calls.attempt[call] as number) % slab.replicas.length === 0;
    if (leaseGone || !roundOver) this.#scheduleRetries();
  }

  #deadlineOf(call: number): number {
    const { calls, requests } = this.#state;
    return requests.deadlineMs[calls.owner[call] as number] as number;
  }

  #endCall(call: number, status: IoStatusValue): void {
    const { calls, closed } = this.#state;
    const row = calls.owner[call] as number;
    const slab = this.#slabs.at(calls.slab[call] as number);
    calls.give(call);
    this.#endPart(row, status);
    if (!closed) this.#slabs.releaseIfEmpty(slab);
  }

  /** One call of a request less to wait for. */
  #endPart(row: number, status: IoStatusValue): void {
    const { requests } = this.#state;
    if (status !== IoStatus.OK) requests.status[row] = status;
    const left = (requests.callsLeft[row] as number) - 1;
    requests.callsLeft[row] = left;
    if (left === 0 && requests.kind[row] === RequestKind.READ) {
      endRequest(this.#state, row, requests.status[row] as IoStatusValue);
    }
  }
}
