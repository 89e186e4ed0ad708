/**
 * A world from one seed for simulations: a clock that jumps from event to event, random numbers, and
 * providers whose links delay, refuse, cut, forget and lie as the test says. Nothing here waits for
 * real time except promise turns, so thousands of seeds run in seconds and each replays exactly.
 */
import { MemcloudError } from '../../common/errors.ts';
import { silentLogger } from '../../common/log.ts';
import { NativeMemory, type NativeBuffer } from '../../common/native-memory.ts';
import {
  IoStatus,
  type IoStatusValue,
  type PageCompletionSink,
  type PageQueue,
  type ProviderUsage,
  type SlabGrant,
  type SlabRecall,
  type SlabRequest,
  type SpillStore,
} from '../../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../../common/units.ts';
import type { VolumeWorld } from '../../tier/volume-state.ts';

/** mulberry32: a small seeded generator, good enough to choose events with. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

const PARDON_EVERY_MS = 1_000;

/** Time, randomness and events. */
export class SimWorld {
  readonly random: () => number;
  readonly sources: SimSource[] = [];
  /** The place of last resort, if the test made one. */
  spill: SimSource | undefined;
  #nowMs = 1000;
  #order = 0;
  #events: Event[] = [];
  #deferred: (() => void)[] = [];

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** The world as a volume sees it. */
  get volumeWorld(): VolumeWorld {
    return {
      clock: { nowMs: () => this.#nowMs },
      defer: (task) => this.#deferred.push(task),
      after: (delayMs, task) => this.after(delayMs, task),
      random: this.random,
      sources: { list: () => this.sources },
      ...(this.spill === undefined ? {} : { spill: this.spill }),
      logger: silentLogger,
    };
  }

  after(delayMs: number, run: () => void): void {
    this.#order += 1;
    this.#events.push({ atMs: this.#nowMs + delayMs, order: this.#order, run });
  }

  /**
   * From now on a person believes every provider again, each time: lies that are on their way, or
   * were stored, come out late.
   */
  believeAll(): void {
    for (const source of this.sources) source.pardon();
    this.after(PARDON_EVERY_MS, () => this.believeAll());
  }

  /** Runs deferred tasks and promise turns until nothing more happens at this instant. */
  async settle(): Promise<void> {
    for (let idle = 0; idle < 4; idle += 1) {
      await Promise.resolve();
      while (this.#deferred.length > 0) {
        idle = 0;
        this.#deferred.shift()?.();
      }
    }
  }

  /** Runs the next event; false when there is none. */
  async step(): Promise<boolean> {
    await this.settle();
    this.#events.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
    const event = this.#events.shift();
    if (event === undefined) return false;
    this.#nowMs = Math.max(this.#nowMs, event.atMs);
    event.run();
    await this.settle();
    return true;
  }

  /** Lets time pass, with everything that happens in it. */
  async advance(ms: number): Promise<void> {
    let over = false;
    this.after(ms, () => (over = true));
    while (!over) await this.step();
  }
}

/** What a provider does wrong. Probabilities from 0 to 1, for each call. */
export interface SimFaults {
  /** The call is not taken: no credit for a while. */
  noCredit: number;
  /** The call ends UNREACHABLE, although the provider may have done it. */
  cut: number;
  /** A read returns a page with a flipped bit. */
  flip: number;
  /** A read returns the pages of another place. */
  swap: number;
  /** A write is acknowledged and forgotten. */
  forget: number;
  /** The call is not done and ends with an error drawn at random. */
  oddStatus: number;
  /** Canary: the call overtakes or is overtaken, which no link may do. */
  reorder: number;
  /** Canary: the call never ends, which no link may do. */
  swallow: number;
}

export const NO_FAULTS: SimFaults = {
  noCredit: 0,
  cut: 0,
  flip: 0,
  swap: 0,
  forget: 0,
  oddStatus: 0,
  reorder: 0,
  swallow: 0,
};

interface SimSlab {
  readonly leaseId: string;
  expiresAtMs: number;
  readonly pageCount: number;
  readonly pages: Map<number, Buffer>;
}

/** How long a control request waits for its answer. */
const CONTROL_TIMEOUT_MS = 5_000;

/** A provider of the simulation. */
export class SimSource implements SpillStore {
  readonly nodeId: string;
  readonly nodeName: string;
  up = true;
  faults: SimFaults = NO_FAULTS;
  latencyMs = 1;
  hostId = '';
  zone = '';
  accepting = true;
  quarantineReason: string | undefined;
  offeredBytes: number;
  /** The longest time to live that it grants. */
  leaseTtlMaxMs = Infinity;
  /** So many leases more fail as if the answer had been lost. */
  leaseFailures = 0;
  /** Page calls that arrived, by kind. */
  readCalls = 0;
  writeCalls = 0;
  trimCalls = 0;
  /** Sealed pages that arrived. */
  pagesWritten = 0;
  readonly slabs = new Map<number, SimSlab>();
  readonly #world: SimWorld;
  readonly #queues = new Set<SimQueue>();
  readonly #recallListeners = new Set<(recall: SlabRecall) => void>();
  readonly #held: (() => void)[] = [];
  #stopped = false;
  #nextHandle = 1;

  /** @param listed - false for a place of last resort */
  constructor(world: SimWorld, name: string, offeredBytes: number, listed = true) {
    this.#world = world;
    this.nodeId = name.padEnd(32, '0');
    this.nodeName = name;
    this.offeredBytes = offeredBytes;
    if (listed) world.sources.push(this);
  }

  get usage(): ProviderUsage {
    let usedBytes = 0;
    let residentBytes = 0;
    for (const slab of this.#liveSlabs()) {
      usedBytes += slab.pageCount * SEALED_PAGE_SIZE_BYTES;
      residentBytes += slab.pages.size * SEALED_PAGE_SIZE_BYTES;
    }
    const { offeredBytes, slabs } = this;
    return { offeredBytes, usedBytes, residentBytes, leaseCount: slabs.size };
  }

  get roundTripMs(): number {
    return 2 * this.latencyMs;
  }

  quarantine(reason: string): void {
    this.quarantineReason ??= reason;
  }

  /** A person believes it again. */
  pardon(): void {
    this.quarantineReason = undefined;
  }

  onRecall(listener: (recall: SlabRecall) => void): () => void {
    this.#recallListeners.add(listener);
    return () => this.#recallListeners.delete(listener);
  }

  /** Asks a lease back, and ends it by itself when its time is up. */
  recall(slabHandle: number, endsInMs: number): void {
    const slab = this.slabs.get(slabHandle);
    if (slab === undefined) return;
    const recall = { leaseIds: [slab.leaseId], endsInMs };
    for (const listener of this.#recallListeners) listener(recall);
    if (Number.isFinite(endsInMs)) {
      this.#world.after(endsInMs, () => this.slabs.delete(slabHandle));
    }
  }

  /** Stands still as after SIGSTOP: what arrives waits. */
  stop(): void {
    this.#stopped = true;
  }

  /** Goes on, with what has arrived meanwhile, in its order. */
  resume(): void {
    this.#stopped = false;
    for (const run of this.#held.splice(0)) run();
  }

  /** True between {@link SimSource.stop} and {@link SimSource.resume}. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Runs what has arrived: now, or when the provider goes on. */
  arrive(run: () => void): void {
    if (this.#stopped) this.#held.push(run);
    else run();
  }

  async lease(request: SlabRequest): Promise<SlabGrant> {
    await this.#reach();
    const { usedBytes, offeredBytes } = this.usage;
    if (usedBytes + request.pageCount * SEALED_PAGE_SIZE_BYTES > offeredBytes) {
      throw new MemcloudError('ERR_LEASE_CAPACITY', 'full');
    }
    if (this.leaseFailures > 0) {
      this.leaseFailures -= 1;
      throw new MemcloudError('ERR_TIMEOUT', 'no answer');
    }
    const slabHandle = this.#nextHandle;
    this.#nextHandle += 1;
    const leaseId = `${this.nodeName}-${slabHandle}`;
    const ttlMs = Math.min(request.ttlMs, this.leaseTtlMaxMs);
    const expiresAtMs = this.#world.nowMs + ttlMs;
    const { pageCount } = request;
    this.slabs.set(slabHandle, { leaseId, expiresAtMs, pageCount, pages: new Map() });
    return { leaseId, slabHandle, ttlMs };
  }

  async renew(leaseIds: readonly string[], ttlMs: number): Promise<string[]> {
    await this.#reach();
    const wanted = new Set(leaseIds);
    for (const slab of this.#liveSlabs()) {
      if (!wanted.delete(slab.leaseId)) continue;
      slab.expiresAtMs = this.#world.nowMs + Math.min(ttlMs, this.leaseTtlMaxMs);
    }
    return [...wanted];
  }

  /** The slab of a handle, unless its lease has expired: then it is wiped. */
  slab(handle: number): SimSlab | undefined {
    const slab = this.slabs.get(handle);
    if (slab === undefined || slab.expiresAtMs > this.#world.nowMs) return slab;
    this.slabs.delete(handle);
    return undefined;
  }

  async release(leaseId: string): Promise<void> {
    await this.#reach();
    for (const [handle, slab] of this.slabs)
      if (slab.leaseId === leaseId) this.slabs.delete(handle);
  }

  openPageQueue(sink: PageCompletionSink): PageQueue {
    const queue = new SimQueue(this.#world, this, sink);
    this.#queues.add(queue);
    return queue;
  }

  close(): void {
    this.slabs.clear();
  }

  /** Page queues that were opened and not closed. */
  get openQueueCount(): number {
    return this.#queues.size;
  }

  /** Forgets a closed queue. */
  onQueueClosed(queue: SimQueue): void {
    this.#queues.delete(queue);
  }

  /** Cuts the link: everything in flight ends UNREACHABLE. */
  goDown(): void {
    this.up = false;
    for (const queue of this.#queues) queue.failAll(IoStatus.UNREACHABLE);
  }

  /** The link is back; with `forgetAll`, after a restart of the provider. */
  comeBack(forgetAll: boolean): void {
    this.up = true;
    if (forgetAll) this.slabs.clear();
    for (const queue of this.#queues) queue.grantCredit();
  }

  #liveSlabs(): SimSlab[] {
    return [...this.slabs.keys()].flatMap((handle) => this.slab(handle) ?? []);
  }

  async #reach(): Promise<void> {
    await new Promise<void>((resolve) => this.#world.after(this.latencyMs, resolve));
    if (this.#stopped) {
      await new Promise<void>((resolve) => this.#world.after(CONTROL_TIMEOUT_MS, resolve));
      throw new MemcloudError('ERR_TIMEOUT', 'no answer');
    }
    if (!this.up) throw new MemcloudError('ERR_PEER_UNREACHABLE', 'down');
  }
}

type End = (status: IoStatusValue) => void;

class SimQueue implements PageQueue {
  readonly #world: SimWorld;
  readonly #source: SimSource;
  readonly #sink: PageCompletionSink;
  readonly #inFlight = new Map<number, End>();
  readonly #pool: NativeMemory[] = [];
  #serial = 0;
  #lastArrivalMs = 0;
  #starved = false;
  #closed = false;

  constructor(world: SimWorld, source: SimSource, sink: PageCompletionSink) {
    this.#world = world;
    this.#source = source;
    this.#sink = sink;
  }

  readPages(tag: number, slabHandle: number, firstPage: number, pageCount: number): boolean {
    const pages = this.#pool.pop() ?? new NativeMemory(64 * SEALED_PAGE_SIZE_BYTES);
    let served = false;
    let ended = false;
    const giveBack = (): void => {
      if (served && ended) this.#pool.push(pages);
    };
    return this.#call(
      (status) => {
        this.#sink.onPagesRead(tag, status, pages, 0);
        ended = true;
        giveBack();
      },
      () => {
        const status = this.#serve(slabHandle, firstPage, pageCount, pages);
        served = true;
        giveBack();
        return status;
      },
    );
  }

  writePages(
    tag: number,
    slabHandle: number,
    firstPage: number,
    pageCount: number,
    from: NativeBuffer,
    fromOffset: number,
  ): boolean {
    const copy = Buffer.from(
      from.bytes.subarray(fromOffset, fromOffset + pageCount * SEALED_PAGE_SIZE_BYTES),
    );
    return this.#call(
      (status) => this.#sink.onPagesDone(tag, status),
      () => {
        this.#source.writeCalls += 1;
        this.#source.pagesWritten += pageCount;
        const slab = this.#source.slab(slabHandle);
        if (slab === undefined) return IoStatus.NO_LEASE;
        if (firstPage + pageCount > slab.pageCount) return IoStatus.INVALID;
        if (this.#world.random() < this.#source.faults.forget) return IoStatus.OK;
        for (let index = 0; index < pageCount; index += 1) {
          const start = index * SEALED_PAGE_SIZE_BYTES;
          slab.pages.set(firstPage + index, copy.subarray(start, start + SEALED_PAGE_SIZE_BYTES));
        }
        return IoStatus.OK;
      },
    );
  }

  trimPages(tag: number, slabHandle: number, firstPage: number, pageCount: number): boolean {
    return this.#call(
      (status) => this.#sink.onPagesDone(tag, status),
      () => {
        this.#source.trimCalls += 1;
        const slab = this.#source.slab(slabHandle);
        if (slab === undefined) return IoStatus.NO_LEASE;
        for (let index = 0; index < pageCount; index += 1) slab.pages.delete(firstPage + index);
        return IoStatus.OK;
      },
    );
  }

  close(): void {
    this.#closed = true;
    this.failAll(IoStatus.SHUTDOWN);
    this.#source.onQueueClosed(this);
  }

  failAll(status: IoStatusValue): void {
    const ends = [...this.#inFlight.values()];
    this.#inFlight.clear();
    for (const end of ends) this.#world.after(0, () => end(status));
  }

  grantCredit(): void {
    this.#world.after(0, () => {
      this.#starved = false;
      this.#sink.onCredit();
    });
  }

  #call(end: End, execute: () => IoStatusValue): boolean {
    const { faults, up, latencyMs } = this.#source;
    if (this.#closed) throw new Error('a page call on a closed queue');
    if (!up || this.#starved) return false;
    if (this.#world.random() < faults.noCredit) {
      this.#starved = true;
      this.#world.after(2 * latencyMs, () => this.grantCredit());
      return false;
    }
    this.#serial += 1;
    const serial = this.#serial;
    this.#inFlight.set(serial, end);
    const finish = (status: IoStatusValue): void => {
      if (this.#inFlight.delete(serial)) end(status);
    };
    const { nowMs } = this.#world;
    const delayMs = latencyMs * (0.5 + this.#world.random());
    // A session keeps its order: no call arrives before the one sent before it.
    let arrivalMs = Math.max(this.#lastArrivalMs, nowMs + delayMs);
    if (faults.reorder > 0 && this.#world.random() < faults.reorder) arrivalMs += 4 * latencyMs;
    else this.#lastArrivalMs = arrivalMs;
    if (faults.swallow > 0 && this.#world.random() < faults.swallow) return true;
    const serve = (): void => {
      const cutBefore = this.#world.random() < faults.cut / 2;
      const odd = faults.oddStatus > 0 && this.#world.random() < faults.oddStatus;
      let status: IoStatusValue = IoStatus.UNREACHABLE;
      if (odd) status = (1 + Math.floor(this.#world.random() * 6)) as IoStatusValue;
      else if (!cutBefore && this.#source.up) status = execute();
      const cutAfter = this.#world.random() < faults.cut / 2;
      const replyMs = latencyMs * (0.5 + this.#world.random());
      this.#world.after(replyMs, () => finish(cutAfter ? IoStatus.UNREACHABLE : status));
    };
    this.#world.after(arrivalMs - nowMs, () => this.#source.arrive(serve));
    return true;
  }

  #serve(
    slabHandle: number,
    firstPage: number,
    pageCount: number,
    into: NativeMemory,
  ): IoStatusValue {
    this.#source.readCalls += 1;
    const slab = this.#source.slab(slabHandle);
    if (slab === undefined) return IoStatus.NO_LEASE;
    if (firstPage + pageCount > slab.pageCount) return IoStatus.INVALID;
    const { faults } = this.#source;
    const shift = this.#world.random() < faults.swap ? 1 : 0;
    for (let index = 0; index < pageCount; index += 1) {
      const page = slab.pages.get(firstPage + index + shift);
      const start = index * SEALED_PAGE_SIZE_BYTES;
      if (page === undefined) into.bytes.fill(0, start, start + SEALED_PAGE_SIZE_BYTES);
      else page.copy(into.bytes, start);
    }
    if (this.#world.random() < faults.flip) {
      const at = Math.floor(this.#world.random() * pageCount * SEALED_PAGE_SIZE_BYTES);
      into.bytes[at] = (into.bytes[at] as number) ^ 1;
    }
    return IoStatus.OK;
  }
}
