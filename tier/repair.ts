/**
 * Makes damaged slabs whole again (DESIGN D5), with the volume live. For each slab on the list:
 *
 *   a copy that is behind and whose provider answers again   -> takes writes, catches up
 *   fewer copies that stay than promised                     -> one more provider is asked
 *   a copy that catches up                                   -> gets what it lacks from another
 *   enough copies that stay are whole                        -> those that leave are given back
 *
 * A page is copied sealed, as it is; it is opened once on the way, so that only what is right spreads.
 * Between that and the call that carries it nothing else runs, and calls to one provider keep their
 * order, so a newer page is never overwritten by an older one. Repair is bounded by bytes in a second
 * and batches in flight, fewer while clients read.
 */
import { addressIn } from '../common/aead.ts';
import { copyMemory } from '../common/libc.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import {
  IoStatus,
  PAGE_CALL_PAGE_COUNT_MAX,
  type IoStatusValue,
  type SlabSource,
} from '../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { CallKind } from './call-table.ts';
import { COPY_BATCH_COUNT } from './copy-buffer.ts';
import { PageState } from './page-map.ts';
import { leaseIsGone, type Replica } from './replica.ts';
import { SlabPhase, type Slab, type SlabTable } from './slab-table.ts';
import { versionOf, type VolumeState } from './volume-state.ts';

/** Bytes a second unless the volume says otherwise. */
export const REPAIR_BYTES_PER_S = 128 * 2 ** 20;
/** So many times as much when a provider asks for its memory back. */
const URGENT_RATE_FACTOR = 4;
/** A provider that is away for so long is replaced, if another can be had. */
export const REPLACE_AFTER_MS = 2_000;
/** Batches in flight while clients read: a page-in waits behind no more than these. */
export const BUSY_BATCH_COUNT = 2;
/** After nobody could take a copy, nobody is asked for so long. */
export const ASK_AGAIN_MS = 2_000;
/** Slabs that are asked for at once. */
export const ASKING_COUNT_MAX = 4;

/** Repairs slabs. */
export class Repair {
  readonly #state: VolumeState;
  readonly #slabs: SlabTable;
  readonly #asking = new Set<Slab>();
  readonly #pumpTask = (): void => {
    this.#pumpScheduled = false;
    this.#pump();
  };
  /** Where the next look at a slab's missing pages begins, by replica. */
  readonly #cursors = new WeakMap<Replica, number>();
  #pumpScheduled = false;
  /** Clients have read since the last tick but one. */
  #clientsRead = false;
  #pagesRead = 0;
  /** A provider waits for its memory. */
  #urgent = false;
  #budgetBytes = 0;
  #tickedAtMs: number;
  #askAgainAtMs = -Infinity;

  constructor(state: VolumeState, slabs: SlabTable) {
    this.#state = state;
    this.#slabs = slabs;
    this.#tickedAtMs = state.world.clock.nowMs();
  }

  /** Lets time pass. */
  tick(nowMs: number): void {
    const plainRate = this.#state.options.repairBytesPerS ?? REPAIR_BYTES_PER_S;
    // Somebody needs that memory for himself.
    const rate = plainRate * (this.#urgent ? URGENT_RATE_FACTOR : 1);
    const earned = ((nowMs - this.#tickedAtMs) / 1000) * rate;
    this.#budgetBytes = Math.min(this.#budgetBytes + earned, rate / 4);
    this.#tickedAtMs = nowMs;
    const { pagesRead } = this.#state.counters;
    this.#clientsRead = pagesRead !== this.#pagesRead;
    this.#pagesRead = pagesRead;
    this.#tendAll(nowMs);
  }

  /** Copies are to leave: looked after in this turn, not at the next tick. */
  onVacated(): void {
    const { world } = this.#state;
    world.defer(() => {
      const { closed, frozen } = this.#state;
      if (!closed && !frozen) this.#tendAll(world.clock.nowMs());
    });
  }

  /** True while a provider is being asked for a lease. */
  get asking(): boolean {
    return this.#asking.size > 0;
  }

  /** Slabs under repair and sealed bytes that are still to be copied; for people. */
  status(): { slabs: number; bytesLeft: number } {
    const { copies } = this.#state.options;
    let pages = 0;
    for (const { replicas, livePages } of this.#slabs.damaged) {
      const coming = replicas.filter(({ leaving, link, sound, writable }) => {
        return !leaving && (sound || (writable && link.healthy));
      });
      pages += Math.max(0, copies - coming.length) * livePages;
      // What a copy lacks is known in pages of the slab; of those only the live ones are copied.
      for (const { missingCount } of coming) pages += Math.min(missingCount, livePages);
    }
    return { slabs: this.#slabs.damaged.size, bytesLeft: pages * SEALED_PAGE_SIZE_BYTES };
  }

  /** A COPY_READ ended; the pages are borrowed until the return. */
  onReadDone(call: number, status: IoStatusValue, pages: NativeBuffer, offset: number): void {
    const { calls, copyBuffer, closed } = this.#state;
    const slab = this.#slabs.at(calls.slab[call] as number);
    const to = calls.owner[call] as number;
    slab.callsInFlight -= 1;
    if (!closed) {
      const source = this.#replicaOf(slab, call);
      if (status === IoStatus.OK) this.#carry(slab, call, source, pages, offset);
      else if (source !== undefined && leaseIsGone(status)) {
        this.#slabs.dropReplica(slab, source, status);
      }
    }
    copyBuffer.give(to);
    calls.give(call);
    this.#goOn(slab);
  }

  /** A COPY_WRITE ended. */
  onWriteDone(call: number, status: IoStatusValue): void {
    const { calls, copyBuffer, counters, world, closed } = this.#state;
    const slab = this.#slabs.at(calls.slab[call] as number);
    const count = calls.pageCount[call] as number;
    const first = (calls.page[call] as number) % SLAB_PAGE_COUNT;
    slab.callsInFlight -= 1;
    const replica = closed ? undefined : this.#replicaOf(slab, call);
    if (replica !== undefined) {
      if (leaseIsGone(status)) this.#slabs.dropReplica(slab, replica, status);
      // What it lacks is marked; what was rewritten meanwhile it may have.
      else if (status !== IoStatus.OK) this.#slabs.fallBehind(slab, replica, first, 0);
      else if (calls.membership[call] === slab.membership) {
        // With another replica set meanwhile, writes may have passed it by: it is copied anew.
        replica.gain(first, count);
        counters.repairedPages += count;
        if (replica.whole) {
          slab.membership += 1;
          this.#tend(slab, world.clock.nowMs());
        }
      }
    }
    copyBuffer.give(calls.owner[call] as number);
    calls.give(call);
    this.#goOn(slab);
  }

  #goOn(slab: Slab): void {
    if (this.#state.closed) return;
    this.#slabs.releaseIfEmpty(slab);
    if (this.#pumpScheduled) return;
    this.#pumpScheduled = true;
    this.#state.world.defer(this.#pumpTask);
  }

  #replicaOf(slab: Slab, call: number): Replica | undefined {
    const { calls } = this.#state;
    return this.#slabs.replicaOf(
      slab,
      calls.link[call] as number,
      calls.slabHandle[call] as number,
    );
  }

  #tendAll(nowMs: number): void {
    this.#urgent = false;
    for (const slab of this.#slabs.damaged) this.#tend(slab, nowMs);
    this.#pump();
  }

  // --- What a slab needs -------------------------------------------------------------------------

  #tend(slab: Slab, nowMs: number): void {
    const { copies } = this.#state.options;
    for (const replica of slab.replicas) {
      const { link } = replica;
      if (replica.urgent) this.#urgent = true;
      const back = link.healthy && link.proven && nowMs >= link.restUntilMs;
      if (!replica.writable && back) this.#slabs.rejoin(slab, replica);
      // Drained no more, or pardoned: it may stay.
      if (replica.leaving && !replica.urgent && this.#welcome(link.source)) replica.leaving = false;
    }
    const staying = slab.replicas.filter((replica) => this.#stays(replica, nowMs));
    const wholeCount = staying.filter(({ sound }) => sound).length;
    if (wholeCount >= copies) {
      for (const replica of slab.replicas) {
        const surplus = slab.replicas.length > copies && !replica.sound;
        if (!staying.includes(replica) || surplus) this.#slabs.retire(slab, replica);
      }
      for (const replica of slab.replicas.slice(copies)) this.#slabs.retire(slab, replica);
      this.#slabs.damaged.delete(slab);
      return;
    }
    if (staying.length < copies) this.#askFor(slab, nowMs);
    if (wholeCount === 0) return;
    // The owner of that memory comes first: fewer copies for a while, rather than none.
    for (const replica of slab.replicas) {
      const distrusted = replica.link.source.quarantineReason !== undefined;
      if (!staying.includes(replica) && (distrusted || (replica.urgent && !this.#hopes(slab)))) {
        this.#slabs.retire(slab, replica);
      }
    }
  }

  #welcome(source: SlabSource): boolean {
    const { spill } = this.#state.world;
    return source.accepting && source.quarantineReason === undefined && source !== spill;
  }

  /** True while somebody is asked, or may be, for one more copy of the slab. */
  #hopes(slab: Slab): boolean {
    const catchingUp = slab.replicas.some(({ leaving, whole, writable }) => {
      return !leaving && !whole && writable;
    });
    return catchingUp || this.#asking.has(slab) || this.#mayAsk(slab);
  }

  /** False for a copy that is to be replaced: it leaves, or its provider has been away for long. */
  #stays({ leaving, link }: Replica, nowMs: number): boolean {
    return !leaving && !(nowMs - link.downSinceMs >= REPLACE_AFTER_MS);
  }

  #mayAsk(slab: Slab): boolean {
    const { leasing } = this.#slabs;
    const held = slab.replicas.map(({ link }) => link.source);
    if (leasing.eligibleHostCount(held) > 0) return true;
    return this.#stuck(slab) && leasing.maySpill(held);
  }

  /** True when writes of the slab can go nowhere. */
  #stuck(slab: Slab): boolean {
    return !slab.replicas.some(({ writable, link }) => writable && link.healthy);
  }

  #askFor(slab: Slab, nowMs: number): void {
    const busy = this.#asking.has(slab) || this.#asking.size >= ASKING_COUNT_MAX;
    if (busy || nowMs < this.#askAgainAtMs || !this.#mayAsk(slab)) return;
    this.#asking.add(slab);
    void this.#ask(slab);
  }

  async #ask(slab: Slab): Promise<void> {
    const { world } = this.#state;
    const held = slab.replicas.map(({ link }) => link.source);
    const { granted } = await this.#slabs.leasing.ask(slab.pageCount, 1, held, this.#stuck(slab));
    this.#asking.delete(slab);
    const [grant] = granted;
    if (grant === undefined) {
      this.#askAgainAtMs = world.clock.nowMs() + ASK_AGAIN_MS;
      return;
    }
    const taken = slab.replicas.some(({ link }) => link.source === grant.source);
    if (this.#state.closed || slab.phase !== SlabPhase.LEASED || taken) {
      void this.#slabs.renewal.giveBack(grant.source, grant.leaseId);
      return;
    }
    this.#slabs.addReplica(slab, grant);
    this.#pump();
  }

  // --- Copying -----------------------------------------------------------------------------------

  #pump(): void {
    const { copyBuffer, requests, closed, frozen } = this.#state;
    if (closed || frozen || this.#slabs.damaged.size === 0) return;
    const busy = requests.usedCount > 0 || this.#clientsRead;
    const countMax = busy ? BUSY_BATCH_COUNT : COPY_BATCH_COUNT;
    for (const slab of this.#slabs.damaged) {
      for (const replica of slab.replicas) {
        if (replica.whole || !replica.writable || replica.leaving) continue;
        while (copyBuffer.usedCount < countMax && this.#budgetBytes > 0) {
          if (!this.#copyNext(slab, replica)) break;
        }
      }
      if (copyBuffer.usedCount >= countMax || this.#budgetBytes <= 0) return;
    }
  }

  /** Fetches the next run of pages that a copy lacks. False when there is none to fetch now. */
  #copyNext(slab: Slab, replica: Replica): boolean {
    const { map } = this.#state;
    const base = slab.index * SLAB_PAGE_COUNT;
    let page = replica.nextMissing(this.#cursors.get(replica) ?? 0, slab.pageCount);
    while (page < slab.pageCount) {
      if (map.state(base + page) !== PageState.SEALED) replica.gain(page, 1);
      else if (map.ringSlot(base + page) === -1) break;
      page = replica.nextMissing(page + 1, slab.pageCount);
    }
    if (page >= slab.pageCount) {
      // From the start again for what was left out, once nothing of it is under way.
      if (this.#state.copyBuffer.usedCount === 0) this.#cursors.delete(replica);
      return false;
    }
    let end = page + 1;
    const endMax = Math.min(slab.pageCount, page + PAGE_CALL_PAGE_COUNT_MAX);
    while (
      end < endMax &&
      !replica.has(end) &&
      map.state(base + end) === PageState.SEALED &&
      map.ringSlot(base + end) === -1
    ) {
      end += 1;
    }
    return this.#fetch(slab, replica, page, end - page);
  }

  #fetch(slab: Slab, replica: Replica, page: number, count: number): boolean {
    const { calls, copyBuffer, version } = this.#state;
    const source = slab.replicas.find(
      (other) => other !== replica && other.link.source.up && other.hasRun(page, count),
    );
    if (source === undefined) {
      if (count > 1) return this.#fetch(slab, replica, page, 1);
      if (!slab.replicas.some((other) => other.has(page))) this.#slabs.markLost(slab);
      this.#cursors.set(replica, page + 1);
      return false;
    }
    const to = copyBuffer.take();
    if (to === -1) return false;
    this.#cursors.set(replica, page + count);
    this.#budgetBytes -= count * SEALED_PAGE_SIZE_BYTES;
    const base = slab.index * SLAB_PAGE_COUNT;
    const call = calls.take(CallKind.COPY_READ, slab.index, base + page, count, to);
    calls.link[call] = source.link.index;
    calls.slabHandle[call] = source.slabHandle;
    calls.membership[call] = slab.membership;
    calls.issuedAt[call] = version;
    slab.callsInFlight += 1;
    source.link.read(call);
    return true;
  }

  /** Sends what came, and is right, to the copies that lack it. */
  #carry(
    slab: Slab,
    call: number,
    source: Replica | undefined,
    pages: NativeBuffer,
    offset: number,
  ): void {
    const { calls, copyBuffer, counters } = this.#state;
    const first = calls.page[call] as number;
    const count = calls.pageCount[call] as number;
    const to = calls.owner[call] as number;
    const from = addressIn(pages, offset, count * SEALED_PAGE_SIZE_BYTES);
    const target = copyBuffer.memory.address + to * SEALED_PAGE_SIZE_BYTES;
    copyMemory(target, from, count * SEALED_PAGE_SIZE_BYTES);
    let runStart = 0;
    let forgedPage = -1;
    for (let index = 0; index <= count; index += 1) {
      const proof = index === count ? Proof.NONE : this.#prove(call, first + index, to + index);
      if (proof === Proof.RIGHT) continue;
      if (proof === Proof.FORGED) forgedPage = first + index;
      if (index > runStart) this.#send(slab, first + runStart, index - runStart, to + runStart);
      runStart = index + 1;
    }
    if (forgedPage === -1 || source === undefined) return;
    counters.forgedPages += 1;
    source.miss(forgedPage % SLAB_PAGE_COUNT, 1);
    this.#slabs.disbelieve(source.link, forgedPage);
  }

  #prove(call: number, page: number, at: number): ProofValue {
    const { map, sealer, copyBuffer, calls } = this.#state;
    if (map.state(page) !== PageState.SEALED || map.ringSlot(page) !== -1) return Proof.NONE;
    const from = copyBuffer.memory.address + at * SEALED_PAGE_SIZE_BYTES;
    const low = map.wordLow(page);
    if (sealer.open(page, low, map.wordHigh(page), from, copyBuffer.clearAddress)) {
      return Proof.RIGHT;
    }
    return versionOf(map, page) > (calls.issuedAt[call] as number) ? Proof.NONE : Proof.FORGED;
  }

  #send(slab: Slab, page: number, count: number, from: number): void {
    const { calls, copyBuffer } = this.#state;
    const inSlab = page % SLAB_PAGE_COUNT;
    for (const replica of slab.replicas) {
      const lacks = replica.nextMissing(inSlab, inSlab + count) < inSlab + count;
      if (!replica.writable || replica.leaving || !lacks) continue;
      const call = calls.take(CallKind.COPY_WRITE, slab.index, page, count, from);
      calls.link[call] = replica.link.index;
      calls.slabHandle[call] = replica.slabHandle;
      calls.membership[call] = slab.membership;
      slab.callsInFlight += 1;
      copyBuffer.hold(from);
      replica.link.write(call);
    }
  }
}

/** What a page on its way proved to be: as it should, changed meanwhile, or never written so. */
const Proof = { RIGHT: 0, NONE: 1, FORGED: 2 } as const;
type ProofValue = (typeof Proof)[keyof typeof Proof];
