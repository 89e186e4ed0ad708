/**
 * The providers of a managed volume: exactly those of its managed leases, each wrapped so that every slab
 * is taken from one of them (`under`), within its bytes.
 *
 * The bytes of the leases are exact, so where the copies of a slab go must be exact too, or the last slabs
 * would find room on one machine only. The leases therefore stand in *columns*, one for each copy, and no
 * machine is in two of them; to the volume each column is one machine (`hostId`), so a slab gets one copy
 * from each, and all columns fill alike. A provider that is not sound (away, leaving) counts as a machine of
 * its own, so that a copy can move from it within its column.
 */
import type { Clock } from '../../common/clock.ts';
import { takesSlabs } from '../../common/slab-sources.ts';
import type {
  NodeId,
  PageCompletionSink,
  PageQueue,
  ProviderUsage,
  SlabGrant,
  SlabRecall,
  SlabRequest,
  SlabSource,
  SlabSources,
} from '../../common/ports.ts';
import { MemcloudError } from '../../common/errors.ts';
import type { PoolLease, PoolUse } from './pool-lease.ts';

/** What it takes. */
export interface ManagedSourcesParts {
  /** The provider itself, up or not. */
  readonly sourceOf: (provider: PoolLease['provider']) => SlabSource;
  /** What a slab is charged, bytes. */
  readonly chargeBytes: (pageCount: number) => number;
  readonly clock: Clock;
}

interface Slab {
  readonly under: string;
  readonly chargeBytes: number;
  /** Renewals in a row that did not name it: its holder has it no more. */
  missedCount: number;
}

/** A slab that so many renewals leave out is forgotten; one may be on its way to its holder. */
const MISSED_COUNT_MAX = 2;
/** Providers repeat what they ask back every 10 s; one that does not has thought better of it. */
const RECALL_AGE_MAX_MS = 15_000;

/** See the top of the file. */
export class ManagedSources implements SlabSources {
  readonly #parts: ManagedSourcesParts;
  readonly #sources = new Map<NodeId, ManagedSource>();

  constructor(parts: ManagedSourcesParts) {
    this.#parts = parts;
  }

  /** The providers of the leases that are there. */
  list(): readonly ManagedSource[] {
    return [...this.#sources.values()].filter(({ leases }) => leases.length > 0);
  }

  /** Takes the whole list of leases in place of the one before. */
  follow(leases: readonly PoolLease[]): void {
    const byProvider = new Map<NodeId, PoolLease[]>();
    for (const lease of leases) {
      const { nodeId } = lease.provider;
      byProvider.set(nodeId, [...(byProvider.get(nodeId) ?? []), lease]);
    }
    for (const [nodeId, [first]] of byProvider) {
      if (first !== undefined) this.of(first.provider, nodeId);
    }
    for (const [nodeId, source] of this.#sources) source.follow(byProvider.get(nodeId) ?? []);
  }

  /** The source of a provider, made at the first need: a volume keeps it for its whole life. */
  of(provider: PoolLease['provider'], nodeId: NodeId = provider.nodeId): ManagedSource {
    const known = this.#sources.get(nodeId);
    if (known !== undefined) return known;
    const source = new ManagedSource(this.#parts.sourceOf(provider), this.#parts);
    this.#sources.set(nodeId, source);
    return source;
  }

  /** What of the leases is in use, and which providers are well. */
  use(): PoolUse {
    const sources = this.list();
    return {
      leases: sources.flatMap((source) =>
        source.leases.map(({ leaseId }) => ({ leaseId, usedBytes: source.usedUnder(leaseId) })),
      ),
      sound: sources.filter(({ inner }) => takesSlabs(inner)).map(({ nodeId }) => nodeId),
      recalled: sources.flatMap((source) => source.recalled()),
    };
  }

  /** Lets go of the providers. */
  close(): void {
    for (const source of this.#sources.values()) source.close();
  }
}

/** A provider, with what this volume may have of it. */
class ManagedSource implements SlabSource {
  readonly inner: SlabSource;
  /** When the provider asked slabs back last, by lease. */
  readonly #recalledAtMs = new Map<string, number>();
  readonly #parts: Pick<ManagedSourcesParts, 'chargeBytes' | 'clock'>;
  readonly #slabs = new Map<string, Slab>();
  readonly #listeners = new Set<(recall: SlabRecall) => void>();
  readonly #stopListening: () => void;
  #leases: readonly PoolLease[] = [];
  #askCount = 0;

  constructor(inner: SlabSource, parts: Pick<ManagedSourcesParts, 'chargeBytes' | 'clock'>) {
    this.inner = inner;
    this.#parts = parts;
    this.#stopListening = inner.onRecall((recall) => this.#onRecall(recall));
  }

  /** What is leased there. */
  get leases(): readonly PoolLease[] {
    return this.#leases;
  }

  get nodeId(): NodeId {
    return this.inner.nodeId;
  }

  /** As the control plane calls it: a guest gives itself no name here. */
  get nodeName(): string {
    return this.#leases[0]?.provider.name ?? this.inner.nodeName;
  }

  get up(): boolean {
    return this.inner.up;
  }

  get zone(): string {
    return this.inner.zone;
  }

  get roundTripMs(): number {
    return this.inner.roundTripMs;
  }

  get quarantineReason(): string | undefined {
    return this.inner.quarantineReason;
  }

  /** False as well where every lease is leaving. */
  get accepting(): boolean {
    return this.inner.accepting && this.#leases.some(({ leaving }) => !leaving);
  }

  /** The column, for a provider that takes slabs; see the top of the file. */
  get hostId(): string {
    const lease = this.#leases.find(({ leaving }) => !leaving);
    return lease !== undefined && takesSlabs(this) ? `column ${lease.column}` : this.nodeId;
  }

  /** The room of the leases that stay. */
  get usage(): ProviderUsage {
    const staying = this.#leases.filter(({ leaving }) => !leaving);
    const usedBytes = staying.reduce((sum, { leaseId }) => sum + this.usedUnder(leaseId), 0);
    return {
      offeredBytes: staying.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      usedBytes,
      residentBytes: this.inner.usage.residentBytes,
      leaseCount: this.#slabs.size,
    };
  }

  /** Leases of which the provider asks slabs back now. */
  recalled(): string[] {
    const sinceMs = this.#parts.clock.nowMs() - RECALL_AGE_MAX_MS;
    return [...this.#recalledAtMs].filter(([, atMs]) => atMs >= sinceMs).map(([id]) => id);
  }

  /** Bytes of slabs taken from a lease. */
  usedUnder(leaseId: string): number {
    let bytes = 0;
    for (const { under, chargeBytes } of this.#slabs.values()) {
      if (under === leaseId) bytes += chargeBytes;
    }
    return bytes;
  }

  quarantine(reason: string): void {
    this.inner.quarantine(reason);
  }

  onRecall(listener: (recall: SlabRecall) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async lease(request: SlabRequest): Promise<SlabGrant> {
    const chargeBytes = this.#parts.chargeBytes(request.pageCount);
    const lease = this.#leases.find(
      ({ leaseId, leaving, sizeBytes }) =>
        !leaving && this.usedUnder(leaseId) + chargeBytes <= sizeBytes,
    );
    if (lease === undefined) {
      const text = `no room is left under the managed leases of ${this.nodeName}`;
      throw new MemcloudError('ERR_LEASE_CAPACITY', text);
    }
    const { leaseId: under } = lease;
    // Booked before it is asked for: others ask meanwhile.
    const booked = `asked ${(this.#askCount += 1)}`;
    this.#slabs.set(booked, { under, chargeBytes, missedCount: -Infinity });
    try {
      const grant = await this.inner.lease({ ...request, under });
      this.#slabs.set(grant.leaseId, { under, chargeBytes, missedCount: 0 });
      return grant;
    } finally {
      this.#slabs.delete(booked);
    }
  }

  async renew(leaseIds: readonly string[], ttlMs: number): Promise<string[]> {
    const unknown = await this.inner.renew(leaseIds, ttlMs);
    for (const leaseId of unknown) this.#slabs.delete(leaseId);
    // All that the volume has here are renewed together.
    const named = new Set(leaseIds);
    for (const [leaseId, slab] of this.#slabs) {
      slab.missedCount = named.has(leaseId) ? 0 : slab.missedCount + 1;
      if (slab.missedCount > MISSED_COUNT_MAX) this.#slabs.delete(leaseId);
    }
    return unknown;
  }

  async release(leaseId: string): Promise<void> {
    // Whether the provider hears of it or not, the volume has it no more.
    this.#slabs.delete(leaseId);
    await this.inner.release(leaseId);
  }

  openPageQueue(sink: PageCompletionSink): PageQueue {
    return this.inner.openPageQueue(sink);
  }

  /** A slab of a former process of the volume. */
  adopt(leaseId: string, under: string, pageCount: number): void {
    this.#slabs.set(leaseId, {
      under,
      chargeBytes: this.#parts.chargeBytes(pageCount),
      missedCount: 0,
    });
  }

  /** Takes the leases there in place of those before. */
  follow(leases: readonly PoolLease[]): void {
    const before = this.#leases;
    this.#leases = leases;
    const known = new Set(leases.map(({ leaseId }) => leaseId));
    for (const [id, { under }] of this.#slabs) if (!known.has(under)) this.#slabs.delete(id);
    for (const id of this.#recalledAtMs.keys()) {
      if (!known.has(id)) this.#recalledAtMs.delete(id);
    }
    for (const lease of leases) {
      const old = before.find(({ leaseId }) => leaseId === lease.leaseId);
      const sooner = lease.endsInMs !== null && old?.endsInMs === null;
      if (lease.leaving && (old?.leaving !== true || sooner)) this.#vacate(lease);
    }
  }

  close(): void {
    this.#stopListening();
    this.#listeners.clear();
  }

  #vacate({ leaseId, endsInMs }: PoolLease): void {
    const leaseIds = [...this.#slabs]
      .filter(([, { under }]) => under === leaseId)
      .map(([id]) => id);
    if (leaseIds.length > 0) this.#tell({ leaseIds, endsInMs: endsInMs ?? Infinity });
  }

  /**
   * Providers ask back when they are short, and when a managed lease is nearly over. The volume is not told
   * that it is urgent: it could only give up a copy for it, and a renewal may come yet.
   */
  #onRecall({ leaseIds }: SlabRecall): void {
    const nowMs = this.#parts.clock.nowMs();
    for (const leaseId of leaseIds) {
      const slab = this.#slabs.get(leaseId);
      if (slab !== undefined) this.#recalledAtMs.set(slab.under, nowMs);
    }
    this.#tell({ leaseIds, endsInMs: Infinity });
  }

  #tell(recall: SlabRecall): void {
    for (const listener of [...this.#listeners]) listener(recall);
  }
}
