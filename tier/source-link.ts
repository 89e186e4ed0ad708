/**
 * One volume's link to one provider: two lists of page calls that wait for credit, reads and
 * writes, and the page queue that carries them. Reads go first: a program waits for them, while a
 * write was acknowledged when it entered the ring. Trims wait in the list of writes, because they
 * must not overtake one.
 *
 * A link also judges its provider. One that has calls in flight and sends nothing for longer than its
 * answers ever take is *suspect*: it may be stopped, cut off or swamped. Nothing is taken from it for
 * that, it is only passed by while another provider can do the work, until it answers again.
 */
import { IoStatus, type IoStatusValue, type PageCompletionSink } from '../common/ports.ts';
import type { PageQueue, SlabSource } from '../common/ports.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import type { Clock } from '../common/clock.ts';
import { CallKind, NOBODY, type CallTable } from './call-table.ts';
import { IndexQueue } from './index-queue.ts';
import type { Ring } from './ring.ts';

/** Silence with calls in flight after which a provider is suspect, milliseconds; more where it is slow. */
const SUSPECT_MIN_MS = 300;
const SUSPECT_MAX_MS = 2_000;
/** ... namely so many times as long as its answers take. */
const SUSPECT_LATENCIES = 8;
/** A sample moves the smoothed latency by this part of the difference. */
const LATENCY_GAIN = 1 / 16;
/** After suspicion a provider is left alone so long before copies on it catch up; it doubles each time. */
const REST_MIN_MS = 200;
const REST_MAX_MS = 10_000;
/** So long without suspicion and the rest is short again. */
const REST_RESET_MS = 30_000;

/** Where the pages of writes lie. */
export interface LinkTables {
  readonly calls: CallTable;
  /** Of WRITE. */
  readonly ring: Ring;
  /** Of COPY_WRITE. */
  readonly copyBuffer: { readonly memory: NativeBuffer };
  readonly clock: Clock;
}

/** What the volume does when something happens on a link. */
export interface LinkEvents {
  /** A read call ended; the pages are borrowed until the return. */
  onReadDone(call: number, status: IoStatusValue, pages: NativeBuffer, offset: number): void;
  /** A write or trim call ended. */
  onWriteDone(call: number, status: IoStatusValue): void;
  /** The link takes more writes. */
  onLinkReady(link: SourceLink): void;
}

/** The link. */
export class SourceLink implements PageCompletionSink {
  /** The number of the link in the volume, as in {@link CallTable.link}. */
  readonly index: number;
  /** The provider. */
  readonly source: SlabSource;
  /** Ring slots whose slab has this link's provider first, in the order of writing. */
  readonly sendQueue: IndexQueue;
  /** Ring slots to be sent again at the next tick. */
  readonly resendQueue: IndexQueue;
  /** When the first of its leases ends unless it is renewed, on the volume's clock; NaN without any. */
  leasesEndAtMs = NaN;
  /** It did not answer for too long. */
  suspect = false;
  /** False while it is in quarantine; looked up at each {@link SourceLink.judge}, for it is asked for each page. */
  trusted: boolean;
  /** Since when it could not be asked, on the volume's clock; NaN while it can. */
  downSinceMs = NaN;
  /** False after it was away, until it has said that it still has its leases. */
  proven = true;
  /** It is being asked. */
  proving = false;
  /** Before this, copies that are behind are left so. */
  restUntilMs = -Infinity;
  /** Smoothed time that an answer takes, milliseconds; 0 before the first. */
  latencyMs = 0;
  /** Calls in flight. */
  inFlightCount = 0;
  readonly #calls: CallTable;
  readonly #ring: Ring;
  readonly #copyBuffer: { readonly memory: NativeBuffer };
  readonly #clock: Clock;
  readonly #events: LinkEvents;
  #quietSinceMs = 0;
  #restMs = REST_MIN_MS;
  #suspectedAtMs = -Infinity;
  readonly #reads: IndexQueue;
  readonly #writes: IndexQueue;
  readonly #queue: PageQueue;

  /** Opens a page queue on the source. */
  constructor(index: number, source: SlabSource, tables: LinkTables, events: LinkEvents) {
    this.index = index;
    this.source = source;
    this.trusted = source.quarantineReason === undefined;
    this.#calls = tables.calls;
    this.#ring = tables.ring;
    this.#copyBuffer = tables.copyBuffer;
    this.#clock = tables.clock;
    this.#events = events;
    this.#reads = new IndexQueue(tables.calls);
    this.#writes = new IndexQueue(tables.calls);
    this.sendQueue = new IndexQueue(tables.ring);
    this.resendQueue = new IndexQueue(tables.ring);
    this.#queue = source.openPageQueue(this);
  }

  /** True when its provider can be asked with good hope. */
  get healthy(): boolean {
    return this.source.up && !this.suspect && this.trusted;
  }

  /**
   * Judges the provider.
   *
   * @param stalled - it was this process that stood still: silence proves nothing
   * @returns true when it has just become suspect
   */
  judge(nowMs: number, stalled: boolean): boolean {
    this.trusted = this.source.quarantineReason === undefined;
    if (this.healthy) this.downSinceMs = NaN;
    else if (Number.isNaN(this.downSinceMs)) this.downSinceMs = nowMs;
    if (!this.source.up) {
      this.suspect = false;
      this.proven = false;
      return false;
    }
    if (stalled) this.#quietSinceMs = nowMs;
    if (this.suspect || this.inFlightCount === 0) return false;
    const limitMs = Math.min(
      Math.max(SUSPECT_MIN_MS, SUSPECT_LATENCIES * this.latencyMs),
      SUSPECT_MAX_MS,
    );
    if (nowMs - this.#quietSinceMs < limitMs) return false;
    this.suspect = true;
    const calmMs = nowMs - this.#suspectedAtMs;
    this.#restMs = calmMs > REST_RESET_MS ? REST_MIN_MS : Math.min(2 * this.#restMs, REST_MAX_MS);
    this.#suspectedAtMs = nowMs;
    this.restUntilMs = nowMs + this.#restMs;
    return true;
  }

  /** True when no write waits for credit: the volume may make more write calls. */
  get takesWrites(): boolean {
    return this.#writes.length === 0 && this.source.up && !this.suspect;
  }

  /** Writes and trims that wait for credit. */
  get waitingWriteCount(): number {
    return this.#writes.length;
  }

  /** Sends or queues a read call. */
  read(call: number): void {
    if (this.#reads.length > 0 || !this.#tryRead(call)) this.#reads.push(call);
  }

  /** Sends or queues a write or trim call. */
  write(call: number): void {
    if (this.#writes.length > 0 || !this.#tryWrite(call)) this.#writes.push(call);
  }

  /**
   * Ends the waiting calls for which `expired` says so, with UNREACHABLE; called from the tick.
   * A write waits without limit, since its bytes are safe in the ring; reads do not.
   */
  expireReads(expired: (call: number) => boolean): void {
    for (let left = this.#reads.length; left > 0; left -= 1) {
      const call = this.#reads.shift();
      if (expired(call)) {
        this.#events.onReadDone(call, IoStatus.UNREACHABLE, this.#ring.memory, 0);
      } else {
        this.#reads.push(call);
      }
    }
  }

  /** Takes the waiting writes and trims off for which `given` says so, and ends them with `status`. */
  failWaitingWrites(given: (call: number) => boolean, status: IoStatusValue): void {
    for (let left = this.#writes.length; left > 0; left -= 1) {
      const call = this.#writes.shift();
      if (given(call)) this.#events.onWriteDone(call, status);
      else this.#writes.push(call);
    }
  }

  /** Closes the page queue; calls in flight end with SHUTDOWN. */
  close(): void {
    this.#queue.close();
  }

  /** @inheritDoc */
  onPagesRead(tag: number, status: IoStatusValue, pages: NativeBuffer, offset: number): void {
    this.#answered(tag, status);
    this.#events.onReadDone(tag, status, pages, offset);
  }

  /** @inheritDoc */
  onPagesDone(tag: number, status: IoStatusValue): void {
    this.#answered(tag, status);
    this.#events.onWriteDone(tag, status);
  }

  /** @inheritDoc */
  onCredit(): void {
    while (this.#reads.head !== -1 && this.#tryRead(this.#reads.head)) this.#reads.shift();
    while (this.#writes.head !== -1 && this.#tryWrite(this.#writes.head)) this.#writes.shift();
    if (this.#writes.length === 0) this.#events.onLinkReady(this);
  }

  #tryRead(call: number): boolean {
    const { slabHandle, page, pageCount, owner } = this.#calls;
    if (owner[call] === NOBODY) {
      this.#events.onReadDone(call, IoStatus.UNREACHABLE, this.#ring.memory, 0);
      return true;
    }
    const taken = this.#queue.readPages(
      call,
      slabHandle[call] as number,
      (page[call] as number) % SLAB_PAGE_COUNT,
      pageCount[call] as number,
    );
    if (taken) this.#sent(call);
    return taken;
  }

  #tryWrite(call: number): boolean {
    const { kind, slabHandle, page, pageCount, owner } = this.#calls;
    const handle = slabHandle[call] as number;
    const first = (page[call] as number) % SLAB_PAGE_COUNT;
    const count = pageCount[call] as number;
    let taken;
    if (kind[call] === CallKind.TRIM) {
      taken = this.#queue.trimPages(call, handle, first, count);
    } else {
      const from = kind[call] === CallKind.WRITE ? this.#ring.memory : this.#copyBuffer.memory;
      const offset = (owner[call] as number) * SEALED_PAGE_SIZE_BYTES;
      taken = this.#queue.writePages(call, handle, first, count, from, offset);
    }
    if (taken) this.#sent(call);
    return taken;
  }

  #sent(call: number): void {
    const nowMs = this.#clock.nowMs();
    if (this.inFlightCount === 0) this.#quietSinceMs = nowMs;
    this.inFlightCount += 1;
    this.#calls.sentAtMs[call] = nowMs;
  }

  #answered(call: number, status: IoStatusValue): void {
    this.inFlightCount -= 1;
    if (status === IoStatus.UNREACHABLE || status === IoStatus.SHUTDOWN) return;
    const nowMs = this.#clock.nowMs();
    const tookMs = nowMs - (this.#calls.sentAtMs[call] as number);
    this.latencyMs += (tookMs - this.latencyMs) * (this.latencyMs === 0 ? 1 : LATENCY_GAIN);
    this.#quietSinceMs = nowMs;
    this.suspect = false;
  }
}
