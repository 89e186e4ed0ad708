/**
 * The slabs of a volume: which providers hold which 4096 pages, under which lease. A slab is leased
 * at the first write into it and given back when its last page is trimmed (thin volumes). Leases are
 * renewed at a quarter of their time to live. A replica whose provider no longer has the lease is
 * dropped; a slab without replicas is lost, and says so: its pages that are not in the ring become
 * LOST, and reads of them fail.
 */
import { ExitCode, asMemcloudError } from '../common/errors.ts';
import { IoStatus, type IoStatusValue, type SlabSource } from '../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { PageState } from './page-map.ts';
import { placeSlab } from './placement.ts';
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

/** One provider's copy of a slab. */
export interface Replica {
  /** The way to the provider. */
  readonly link: SourceLink;
  /** For renewal and release. */
  readonly leaseId: string;
  /** For page calls. */
  readonly slabHandle: number;
}

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
  /** Who holds it; the first answers reads. */
  replicas: Replica[];
  /** Grows when the slab is lost, so that what was sent before is not taken for stored. */
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
  }[];
}

interface Granted {
  readonly source: SlabSource;
  readonly leaseId: string;
  readonly slabHandle: number;
}

/** What the volume does when a slab changes. */
export interface SlabEvents {
  /** The slab is LEASED. */
  onLeased(slab: Slab): void;
  /** The slab is UNLEASED again: nobody has room. Its `refusal` is NO_SPACE during the call. */
  onLeaseRefused(slab: Slab): void;
}

/** The slabs. */
export class SlabTable {
  /** Every link of the volume, by number. */
  readonly links: SourceLink[] = [];
  readonly #state: VolumeState;
  readonly #events: SlabEvents & LinkEvents;
  readonly #slabs: (Slab | undefined)[] = [];
  /** Slabs to ask for again at the next tick. */
  readonly #unreachable: Slab[] = [];
  #leasedCount = 0;
  #leasingCount = 0;
  #renewedAtMs: number;
  /** The shortest time to live that a provider granted. */
  #ttlMs: number;

  /** @param events - told of leases and of page calls on the links */
  constructor(state: VolumeState, events: SlabEvents & LinkEvents) {
    this.#state = state;
    this.#events = events;
    this.#renewedAtMs = state.world.clock.nowMs();
    this.#ttlMs = state.options.leaseTtlMs;
  }

  /** The shortest time to live that a provider granted, milliseconds. */
  get leaseTtlMs(): number {
    return this.#ttlMs;
  }

  /** Slabs with a replica set. */
  get leasedCount(): number {
    return this.#leasedCount;
  }

  /** True while a provider is being asked for a lease. */
  get leasing(): boolean {
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
    for (const replica of replicas) void this.#release(replica.link.source, replica.leaseId);
  }

  /** The replica that a page call went to, if it still counts. */
  replicaOf(slab: Slab, linkIndex: number, slabHandle: number): Replica | undefined {
    return slab.replicas.find(
      (replica) => replica.link.index === linkIndex && replica.slabHandle === slabHandle,
    );
  }

  /** True when another provider of the slab than `link` has a chance to answer. */
  otherIsUp(slab: Slab, link: SourceLink): boolean {
    return slab.replicas.some((replica) => replica.link !== link && replica.link.source.up);
  }

  /** Takes a replica out of the set; without any left the slab is lost. */
  dropReplica(slab: Slab, replica: Replica, why: IoStatusValue): void {
    slab.replicas = slab.replicas.filter((other) => other !== replica);
    slab.membership += 1;
    this.#state.counters.droppedReplicas += 1;
    this.#state.world.logger.warn(
      { slab: slab.index, provider: replica.link.source.nodeName, status: why },
      'a provider no longer keeps its copy of a slab',
    );
    if (why !== IoStatus.NO_LEASE) void this.#release(replica.link.source, replica.leaseId);
    if (slab.replicas.length === 0) this.#lose(slab);
  }

  /** Renews leases when it is time to; lets slabs that nobody answered for be asked for again. */
  tick(nowMs: number): void {
    for (const slab of this.#unreachable.splice(0)) slab.refusal = IoStatus.OK;
    if (nowMs - this.#renewedAtMs < this.#ttlMs / 4) return;
    this.#renewedAtMs = nowMs;
    for (const link of this.links) {
      const held: { slab: Slab; replica: Replica }[] = [];
      for (const slab of this.touched()) {
        for (const replica of slab.replicas)
          if (replica.link === link) held.push({ slab, replica });
      }
      if (held.length > 0) void this.#renew(link, held, nowMs + this.#ttlMs);
      else link.leasesEndAtMs = NaN;
    }
  }

  /** Takes up a slab that the volume's former process had leased; the next tick renews all leases. */
  restore(index: number, row: RestoredSlab): Slab {
    const slab = this.at(index);
    slab.generation = row.generation;
    slab.livePages = row.livePages;
    if (row.replicas.length === 0) return slab;
    slab.replicas = row.replicas.map(({ source, leaseId, slabHandle, leaseEndsAtMs }) => {
      const link = this.#linkTo(source);
      if (Number.isNaN(link.leasesEndAtMs)) link.leasesEndAtMs = leaseEndsAtMs;
      return { link, leaseId, slabHandle };
    });
    slab.membership += 1;
    slab.phase = SlabPhase.LEASED;
    this.#leasedCount += 1;
    this.#renewedAtMs = -Infinity;
    return slab;
  }

  /** Gives every lease back; providers that do not answer wipe at the end of the lease. */
  async releaseAll(): Promise<void> {
    const releases: Promise<void>[] = [];
    for (const slab of this.touched()) {
      for (const { link, leaseId } of slab.replicas) {
        releases.push(this.#release(link.source, leaseId));
      }
      if (slab.phase === SlabPhase.LEASED) this.#unlease(slab);
    }
    await Promise.all(releases);
  }

  #unlease(slab: Slab): void {
    slab.phase = SlabPhase.UNLEASED;
    slab.replicas = [];
    slab.membership += 1;
    this.#leasedCount -= 1;
  }

  #lose(slab: Slab): void {
    const { map, counters } = this.#state;
    this.#unlease(slab);
    slab.generation += 1;
    const first = slab.index * SLAB_PAGE_COUNT;
    let lost = 0;
    for (let page = first; page < first + slab.pageCount; page += 1) {
      if (map.state(page) === PageState.SEALED && map.ringSlot(page) === -1) {
        map.set(page, PageState.LOST, 0, 0);
        lost += 1;
      }
    }
    slab.livePages -= lost;
    counters.lostPages += lost;
    this.#state.world.logger.error({ slab: slab.index, lostPages: lost }, 'a slab is lost');
  }

  async #lease(slab: Slab): Promise<void> {
    // Whoever asks is in the middle of a request: answers come after it.
    await Promise.resolve();
    const { options, world } = this.#state;
    const askedAtMs = world.clock.nowMs();
    const { granted, retryable } = await this.#askProviders(slab);
    if (granted.length === options.copies && !this.#state.closed) {
      slab.replicas = granted.map(({ source, leaseId, slabHandle }) => ({
        link: this.#linkTo(source),
        leaseId,
        slabHandle,
      }));
      for (const { link } of slab.replicas) {
        if (Number.isNaN(link.leasesEndAtMs)) link.leasesEndAtMs = askedAtMs + this.#ttlMs;
      }
      slab.membership += 1;
      slab.phase = SlabPhase.LEASED;
      this.#leasedCount += 1;
      this.#events.onLeased(slab);
      return;
    }
    for (const { source, leaseId } of granted) void this.#release(source, leaseId);
    slab.phase = SlabPhase.UNLEASED;
    if (this.#state.closed) return;
    const known = world.sources.list();
    const upCount = known.filter((source) => source.up).length;
    const mayComeUp = upCount === 0 || (upCount < options.copies && upCount < known.length);
    if (retryable || mayComeUp) {
      slab.refusal = IoStatus.UNREACHABLE;
      this.#unreachable.push(slab);
    } else {
      slab.refusal = IoStatus.NO_SPACE;
      this.#events.onLeaseRefused(slab);
      slab.refusal = IoStatus.OK;
    }
  }

  /** Asks one provider after the other, as placement chooses, until there are copies enough. */
  async #askProviders(slab: Slab): Promise<{ granted: Granted[]; retryable: boolean }> {
    const { options, world } = this.#state;
    const asked = new Set<SlabSource>();
    const granted: Granted[] = [];
    let retryable = false;
    const needBytes = slab.pageCount * SEALED_PAGE_SIZE_BYTES;
    const request = { pageCount: slab.pageCount, ttlMs: options.leaseTtlMs };
    while (granted.length < options.copies && !this.#state.closed) {
      const candidates = world.sources
        .list()
        .filter((source) => source.up && !asked.has(source))
        .map((source) => ({
          source,
          freeBytes: source.usage.offeredBytes - source.usage.usedBytes,
        }));
      const source = placeSlab(candidates, 1, needBytes, world.random)[0]?.source;
      if (source === undefined) break;
      asked.add(source);
      try {
        const { leaseId, slabHandle, ttlMs } = await source.lease(request);
        granted.push({ source, leaseId, slabHandle });
        this.#ttlMs = Math.min(this.#ttlMs, ttlMs);
      } catch (error) {
        const { code, message, exitCode } = asMemcloudError(error);
        if (exitCode === ExitCode.RETRYABLE) retryable = true;
        const provider = source.nodeName;
        world.logger.warn({ slab: slab.index, provider, code }, `lease refused: ${message}`);
      }
    }
    return { granted, retryable };
  }

  #linkTo(source: SlabSource): SourceLink {
    const known = this.links.find((link) => link.source === source);
    if (known !== undefined) return known;
    const link = new SourceLink(this.links.length, source, this.#state, this.#events);
    this.links.push(link);
    return link;
  }

  async #renew(
    link: SourceLink,
    held: { slab: Slab; replica: Replica }[],
    endsAtMs: number,
  ): Promise<void> {
    const { options, world } = this.#state;
    try {
      const ids = held.map(({ replica }) => replica.leaseId);
      const gone = new Set(await link.source.renew(ids, options.leaseTtlMs));
      link.leasesEndAtMs = endsAtMs;
      for (const { slab, replica } of held) {
        if (gone.has(replica.leaseId) && slab.replicas.includes(replica)) {
          this.dropReplica(slab, replica, IoStatus.NO_LEASE);
        }
      }
    } catch (error) {
      const { code, message } = asMemcloudError(error);
      world.logger.warn({ provider: link.source.nodeName, code }, `renewal failed: ${message}`);
    }
  }

  async #release(source: SlabSource, leaseId: string): Promise<void> {
    try {
      await source.release(leaseId);
    } catch (error) {
      const { code, message } = asMemcloudError(error);
      // The provider wipes at the end of the lease all the same.
      const fields = { provider: source.nodeName, code };
      this.#state.world.logger.debug(fields, `lease was not given back: ${message}`);
    }
  }
}
