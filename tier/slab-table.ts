/**
 * The slabs of a volume: which providers hold which 4096 pages, under which lease. A slab is leased
 * at the first write into it and given back when its last page is trimmed (thin volumes). Leases are
 * renewed at a quarter of their time to live. Where fewer machines than copies can be asked, a slab
 * begins with fewer: it is on the list of damaged slabs, as every slab whose copies are not all whole
 * and reachable, and repair.ts works on that list. A copy whose provider no longer has the lease is
 * dropped; pages of which no copy is left, and which are not in the ring, are LOST: reads of them
 * fail.
 */
import { IoStatus, type IoStatusValue, type SlabRecall, type SlabSource } from '../common/ports.ts';
import { SLAB_PAGE_COUNT } from '../common/units.ts';
import { LeaseRenewal } from './lease-renewal.ts';
import { Leasing, type Grant } from './leasing.ts';
import { PageState } from './page-map.ts';
import { Replica, type ReplicaState } from './replica.ts';
import { SourceLink, type LinkEvents } from './source-link.ts';
import type { VolumeState } from './volume-state.ts';

/** Where a slab is in its life. */
export const SlabPhase = {
  /** No provider holds it. */
  UNLEASED: 0,
  /** Providers were asked. */
  LEASING: 1,
  /** Its replica set holds it. */
  LEASED: 2,
} as const;

/** One of the values of {@link SlabPhase}. */
export type SlabPhaseValue = (typeof SlabPhase)[keyof typeof SlabPhase];

/** Leases asked back that are remembered although no slab has them; further ones end unannounced. */
const RECALLED_COUNT_MAX = 4096;
/** So late a tick, and the process stood still: what was silent meanwhile is not to blame. */
const STALL_MS = 400;

/** A run of {@link SLAB_PAGE_COUNT} pages of a volume (the last may be shorter). */
export interface Slab {
  /** Its number in the volume. */
  readonly index: number;
  /** Pages in it. */
  readonly pageCount: number;
  /** Where it is in its life. */
  phase: SlabPhaseValue;
  /** Pages in state SEALED. */
  livePages: number;
  /** Page calls that have not ended. */
  callsInFlight: number;
  /** Who holds it. */
  replicas: Replica[];
  /** Grows when a copy begins to take writes, so that what was sent before is sent to it as well. */
  generation: number;
  /** Grows whenever the replica set changes: what was known of replica n may be about another one. */
  membership: number;
  /**
   * Why no lease was to be had, else OK: NO_SPACE while blocked writes are told so, UNREACHABLE
   * until the next tick, so that nobody asks again in the same turn.
   */
  refusal: IoStatusValue;
}

/** What {@link SlabTable.restore} is told of a slab. */
export interface RestoredSlab {
  /** As {@link Slab.generation}. */
  readonly generation: number;
  /** As {@link Slab.livePages}. */
  readonly livePages: number;
  /** Who holds it. */
  readonly replicas: readonly {
    readonly source: SlabSource;
    readonly leaseId: string;
    readonly slabHandle: number;
    /** On the volume's clock. */
    readonly leaseEndsAtMs: number;
    /** How far it may be believed. */
    readonly state: ReplicaState;
  }[];
}

/** What the volume does when a slab changes. */
export interface SlabEvents {
  /** The slab is LEASED, or a copy of it takes writes again. */
  onLeased(slab: Slab): void;
  /** The slab is UNLEASED again: nobody has room. Its `refusal` is NO_SPACE during the call. */
  onLeaseRefused(slab: Slab): void;
  /** Copies are to leave their providers. */
  onVacated(): void;
  /** A provider stopped answering. */
  onSuspect(link: SourceLink): void;
}

/** The slabs. */
export class SlabTable {
  /** Every link of the volume, by number. */
  readonly links: SourceLink[] = [];
  /** Leased slabs that do not have all their copies whole and reachable. */
  readonly damaged = new Set<Slab>();
  /** Asks for leases. */
  readonly leasing: Leasing;
  /** Keeps them, and gives them back. */
  readonly renewal: LeaseRenewal<Slab>;
  readonly #state: VolumeState;
  readonly #events: SlabEvents & LinkEvents;
  readonly #slabs: (Slab | undefined)[] = [];
  /** Slabs to ask for again at the next tick. */
  readonly #unreachable: Slab[] = [];
  /** Leases asked back before they belonged to a slab. */
  readonly #recalled = new Set<string>();
  readonly #stopListening: (() => void)[] = [];
  #leasedCount = 0;
  #leasingCount = 0;
  #tickedAtMs: number;

  /** @param events - told of leases and of page calls on the links */
  constructor(state: VolumeState, events: SlabEvents & LinkEvents) {
    this.#state = state;
    this.#events = events;
    this.leasing = new Leasing(state);
    this.#tickedAtMs = state.world.clock.nowMs();
    this.renewal = new LeaseRenewal<Slab>(state, {
      heldOn: (link) => this.#heldOn(link),
      onLeaseGone: (slab, replica) => {
        if (slab.replicas.includes(replica)) this.dropReplica(slab, replica, IoStatus.NO_LEASE);
      },
    });
  }

  /** Slabs with a replica set. */
  get leasedCount(): number {
    return this.#leasedCount;
  }

  /** True while a provider is being asked for a lease. */
  get asking(): boolean {
    return this.#leasingCount > 0;
  }

  /** The slab of a page. */
  of(page: number): Slab {
    const index = Math.floor(page / SLAB_PAGE_COUNT);
    let slab = this.#slabs[index];
    if (slab === undefined) {
      const pageCount = Math.min(
        SLAB_PAGE_COUNT,
        this.#state.map.pageCount - index * SLAB_PAGE_COUNT,
      );
      slab = {
        index,
        pageCount,
        phase: SlabPhase.UNLEASED,
        livePages: 0,
        callsInFlight: 0,
        replicas: [],
        generation: 0,
        membership: 0,
        refusal: IoStatus.OK,
      };
      this.#slabs[index] = slab;
    }
    return slab;
  }

  /** The slab by its number, as in a page call. */
  at(index: number): Slab {
    return this.of(index * SLAB_PAGE_COUNT);
  }

  /** Every slab that was ever touched. */
  *touched(): Generator<Slab> {
    for (const slab of this.#slabs) if (slab !== undefined) yield slab;
  }

  /**
   * True when the slab can be written; otherwise a lease is being asked for, or will be at the next
   * tick. Never tells of the outcome before it returns.
   */
  ensureLeased(slab: Slab): boolean {
    if (slab.phase === SlabPhase.LEASED) return true;
    const mayAsk = slab.phase === SlabPhase.UNLEASED && slab.refusal === IoStatus.OK;
    if (mayAsk && !this.#state.closed && !this.#state.frozen) {
      slab.phase = SlabPhase.LEASING;
      this.#leasingCount += 1;
      void this.#lease(slab).finally(() => (this.#leasingCount -= 1));
    }
    return false;
  }

  /** Gives a slab back to its providers if nothing lives in it. */
  releaseIfEmpty(slab: Slab): void {
    if (slab.livePages > 0 || slab.callsInFlight > 0 || slab.phase !== SlabPhase.LEASED) return;
    if (this.#state.frozen) return;
    const replicas = slab.replicas;
    this.#unlease(slab);
    for (const replica of replicas)
      void this.renewal.giveBack(replica.link.source, replica.leaseId);
  }

  /** The replica that a page call went to, if it still counts. */
  replicaOf(slab: Slab, linkIndex: number, slabHandle: number): Replica | undefined {
    return slab.replicas.find(
      (replica) => replica.link.index === linkIndex && replica.slabHandle === slabHandle,
    );
  }

  /** The copy that writes of the slab leave to first: one that answers, if there is any. */
  primaryOf(slab: Slab): Replica | undefined {
    let doubtful: Replica | undefined;
    for (const replica of slab.replicas) {
      if (!replica.writable) continue;
      if (replica.link.healthy) return replica;
      doubtful ??= replica;
    }
    return doubtful;
  }

  /** True when a copy of the slab on another link than `link` takes writes. */
  otherIsHealthy(slab: Slab, link: SourceLink): boolean {
    for (const { writable, link: other } of slab.replicas) {
      if (other !== link && writable && other.healthy) return true;
    }
    return false;
  }

  /** A copy missed the writes of some pages, numbered within the slab: it is behind now. */
  fallBehind(slab: Slab, replica: Replica, first: number, count: number): void {
    if (replica.writable) {
      replica.writable = false;
      slab.membership += 1;
      this.damaged.add(slab);
    }
    replica.miss(first, count);
  }

  /** A copy that was behind takes writes again, and so does what was sent in between. */
  rejoin(slab: Slab, replica: Replica): void {
    replica.rejoin();
    slab.generation += 1;
    slab.membership += 1;
    this.#events.onLeased(slab);
  }

  /** Adds a copy that has nothing yet: it takes writes, and repair brings the rest. */
  addReplica(slab: Slab, grant: Grant): Replica {
    const replica = this.#replicaFor(slab, grant);
    replica.miss(0, slab.pageCount);
    slab.replicas = [...slab.replicas, replica];
    slab.generation += 1;
    slab.membership += 1;
    this.#events.onLeased(slab);
    return replica;
  }

  /** Takes a replica out of the set; pages that no other has are lost. */
  dropReplica(slab: Slab, replica: Replica, why: IoStatusValue): void {
    this.#state.counters.droppedReplicas += 1;
    this.#state.world.logger.warn(
      { slab: slab.index, provider: replica.link.source.nodeName, status: why },
      'a provider no longer keeps its copy of a slab',
    );
    this.#forget(slab, replica, why);
  }

  /** Gives a copy back that is not needed any more. */
  retire(slab: Slab, replica: Replica): void {
    this.#forget(slab, replica, IoStatus.OK);
  }

  /** Marks the pages of a slab that neither a copy nor the ring has. */
  markLost(slab: Slab): void {
    const { map, counters } = this.#state;
    const first = slab.index * SLAB_PAGE_COUNT;
    let lost = 0;
    for (let index = 0; index < slab.pageCount; index += 1) {
      if (map.state(first + index) !== PageState.SEALED) continue;
      if (map.ringSlot(first + index) !== -1) continue;
      if (slab.replicas.some((replica) => replica.has(index))) continue;
      map.set(first + index, PageState.LOST, 0, 0);
      lost += 1;
    }
    slab.livePages -= lost;
    counters.lostPages += lost;
    if (lost > 0) {
      this.#state.world.logger.error({ slab: slab.index, lostPages: lost }, 'pages are lost');
    }
  }

  /** Marks the copies on a source for replacement, or those under some leases. */
  vacate(source: SlabSource, recall?: SlabRecall): void {
    const wanted = recall === undefined ? undefined : new Set(recall.leaseIds);
    for (const slab of this.touched()) {
      for (const replica of slab.replicas) {
        if (replica.link.source !== source || wanted?.delete(replica.leaseId) === false) continue;
        replica.leaving = true;
        replica.urgent ||= recall !== undefined && Number.isFinite(recall.endsInMs);
        this.damaged.add(slab);
      }
    }
    this.#events.onVacated();
    if (wanted === undefined || this.#recalled.size > RECALLED_COUNT_MAX) return;
    // Granted a moment ago, perhaps, while another provider is still being asked.
    for (const leaseId of wanted) this.#recalled.add(leaseId);
  }

  /** A provider gave a page that nobody ever wrote: its copies go where another is sound. */
  disbelieve(link: SourceLink, page: number): void {
    const { name } = this.#state.options;
    link.source.quarantine(`page ${page} of volume ${name} was not what was written there`);
    link.trusted = link.source.quarantineReason === undefined;
    this.vacate(link.source);
    for (const slab of [...this.damaged]) {
      const replica = slab.replicas.find((one) => one.link === link);
      if (replica === undefined) continue;
      const other = slab.replicas.some((one) => one !== replica && one.sound);
      if (other) this.dropReplica(slab, replica, IoStatus.INVALID);
    }
  }

  /** Judges providers, renews leases when it is time to, lets unanswered slabs be asked for again. */
  tick(nowMs: number): void {
    for (const slab of this.#unreachable.splice(0)) slab.refusal = IoStatus.OK;
    this.leasing.tick(nowMs);
    const stalled = nowMs - this.#tickedAtMs > STALL_MS;
    this.#tickedAtMs = nowMs;
    for (const link of this.links) {
      const wasHealthy = Number.isNaN(link.downSinceMs);
      if (link.judge(nowMs, stalled)) this.#events.onSuspect(link);
      if (!wasHealthy || Number.isNaN(link.downSinceMs)) continue;
      for (const { slab } of this.#heldOn(link)) this.damaged.add(slab);
    }
    this.renewal.tick(nowMs, this.links);
  }

  /** Takes up a slab that the volume's former process had leased; the next tick renews all leases. */
  restore(index: number, row: RestoredSlab): Slab {
    const slab = this.at(index);
    slab.generation = row.generation;
    slab.livePages = row.livePages;
    if (row.replicas.length === 0) return slab;
    slab.replicas = row.replicas.map(({ source, leaseEndsAtMs, state, ...grant }) => {
      const link = this.linkTo(source);
      if (Number.isNaN(link.leasesEndAtMs)) link.leasesEndAtMs = leaseEndsAtMs;
      return Replica.restore(link, grant, state);
    });
    // Whether all is well with it, repair finds out.
    this.damaged.add(slab);
    slab.membership += 1;
    slab.phase = SlabPhase.LEASED;
    this.#leasedCount += 1;
    this.renewal.hasten();
    return slab;
  }

  /** Gives every lease back; providers that do not answer wipe at the end of the lease. */
  async releaseAll(): Promise<void> {
    const releases: Promise<void>[] = [];
    for (const slab of this.touched()) {
      for (const { link, leaseId } of slab.replicas) {
        releases.push(this.renewal.giveBack(link.source, leaseId));
      }
      if (slab.phase === SlabPhase.LEASED) this.#unlease(slab);
    }
    for (const stop of this.#stopListening.splice(0)) stop();
    await Promise.all(releases);
  }

  #unlease(slab: Slab): void {
    slab.phase = SlabPhase.UNLEASED;
    slab.replicas = [];
    slab.membership += 1;
    slab.generation += 1;
    this.damaged.delete(slab);
    this.#leasedCount -= 1;
  }

  /** What no copy has, and the ring has not, is lost. */
  #forget(slab: Slab, gone: Replica, why: IoStatusValue): void {
    slab.replicas = slab.replicas.filter((other) => other !== gone);
    slab.membership += 1;
    if (why !== IoStatus.NO_LEASE) void this.renewal.giveBack(gone.link.source, gone.leaseId);
    if (slab.replicas.some(({ whole }) => whole)) {
      this.damaged.add(slab);
      return;
    }
    this.markLost(slab);
    if (slab.replicas.length === 0) this.#unlease(slab);
    else this.damaged.add(slab);
  }

  #heldOn(link: SourceLink): { slab: Slab; replica: Replica }[] {
    const held: { slab: Slab; replica: Replica }[] = [];
    for (const slab of this.touched()) {
      for (const replica of slab.replicas) if (replica.link === link) held.push({ slab, replica });
    }
    return held;
  }

  async #lease(slab: Slab): Promise<void> {
    // Whoever asks is in the middle of a request: answers come after it.
    await Promise.resolve();
    const { options, world } = this.#state;
    const { granted, full, unanswered } = await this.leasing.ask(
      slab.pageCount,
      options.copies,
      [],
      true,
    );
    const enough = granted.length === options.copies || (granted.length > 0 && !full);
    if (enough && !this.#state.closed) {
      slab.replicas = granted.map((grant) => this.#replicaFor(slab, grant));
      slab.membership += 1;
      slab.phase = SlabPhase.LEASED;
      this.#leasedCount += 1;
      if (granted.length < options.copies) this.damaged.add(slab);
      this.#events.onLeased(slab);
      return;
    }
    for (const { source, leaseId } of granted) void this.renewal.giveBack(source, leaseId);
    slab.phase = SlabPhase.UNLEASED;
    if (this.#state.closed) return;
    const known = world.sources.list();
    const upCount = known.filter((source) => source.up).length;
    const mayComeUp = upCount === 0 || (upCount < options.copies && upCount < known.length);
    if (unanswered || mayComeUp) {
      slab.refusal = IoStatus.UNREACHABLE;
      this.#unreachable.push(slab);
    } else {
      slab.refusal = IoStatus.NO_SPACE;
      this.#events.onLeaseRefused(slab);
      slab.refusal = IoStatus.OK;
    }
  }

  /** The link to a source, made at the first need. */
  linkTo(source: SlabSource): SourceLink {
    const known = this.links.find((link) => link.source === source);
    if (known !== undefined) return known;
    const tables = { ...this.#state, clock: this.#state.world.clock };
    const link = new SourceLink(this.links.length, source, tables, this.#events);
    this.links.push(link);
    this.#stopListening.push(source.onRecall((recall) => this.vacate(source, recall)));
    return link;
  }

  #replicaFor(slab: Slab, grant: Grant): Replica {
    const link = this.linkTo(grant.source);
    this.renewal.onGrant(link, grant.ttlMs);
    const replica = new Replica(link, grant);
    if (grant.source === this.#state.world.spill) {
      // Only until a provider can take it.
      replica.leaving = true;
      this.damaged.add(slab);
    }
    if (this.#recalled.delete(grant.leaseId)) {
      replica.leaving = replica.urgent = true;
      this.damaged.add(slab);
    }
    return replica;
  }
}
