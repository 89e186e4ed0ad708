/**
 * Managed leases on the memory of a provider: the shell around managed-leases.ts. It sets bytes aside in
 * the ledger, has the provider end and wipe the slabs of what is over, asks slabs back ahead of the end, and
 * tells who listens what was wiped and how long that took.
 */
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import type {
  ManagedEndReason,
  ManagedEnding,
  ManagedLeaseState,
  ManagedMemory,
  ManagedReservation,
} from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import type { Lease } from './leases.ts';
import { ManagedLeases, type EndedLease, type ManagedLease } from './managed-leases.ts';
import type { Quota } from './quota.ts';
import type { Slab } from './slab.ts';

/** The provider, as managed leases need it. */
export interface ManagedHost {
  /** Why so many bytes more cannot be lent now; undefined when they can. No allowance counts. */
  refusal(bytes: number): string | undefined;
  /** Takes slabs out of reach and wipes them, slice by slice. */
  wipe(slabIds: Iterable<string>, reason: ManagedEndReason): void;
  /** Asks holders for slabs. */
  recall(slabIds: Iterable<string>, endsInMs: number): void;
}

/** How {@link ProviderManagedMemory} is made. */
export interface ProviderManagedMemoryOptions {
  readonly host: ManagedHost;
  readonly quota: Quota;
  readonly clock: Clock;
}

/** The managed leases of one provider. */
export class ProviderManagedMemory implements ManagedMemory {
  readonly #host: ManagedHost;
  readonly #quota: Quota;
  readonly #clock: Clock;
  readonly #leases = new ManagedLeases();
  readonly #listeners = new Set<(ending: ManagedEnding) => void>();

  constructor({ host, quota, clock }: ProviderManagedMemoryOptions) {
    this.#host = host;
    this.#quota = quota;
    this.#clock = clock;
  }

  // --- For the control plane -----------------------------------------------------------------------

  /** {@link ManagedMemory.reserve} */
  reserve(reservation: ManagedReservation): void {
    this.#leases.check(reservation);
    const { client, sizeBytes } = reservation;
    const refusal = this.#host.refusal(sizeBytes);
    if (refusal !== undefined) {
      throw new MemcloudError('ERR_LEASE_CAPACITY', `managed lease: ${refusal}`);
    }
    this.#quota.reserve(client, sizeBytes);
    this.#leases.reserve(reservation, this.#clock.nowMs());
  }

  /** {@link ManagedMemory.extend} */
  extend(leaseId: string, ttlMs: number): boolean {
    return this.#leases.extend(leaseId, ttlMs, this.#clock.nowMs());
  }

  /** {@link ManagedMemory.end} */
  end(leaseId: string, reason: ManagedEndReason): boolean {
    const ended = this.#leases.end(leaseId, reason, this.#clock.nowMs());
    if (ended !== undefined) this.#finish(ended, reason);
    return ended !== undefined;
  }

  /** {@link ManagedMemory.list} */
  list(): ManagedLeaseState[] {
    return this.#leases.list(this.#clock.nowMs());
  }

  /** {@link ManagedMemory.onEnded}. A listener may not throw and may not close the provider. */
  onEnded(listener: (ending: ManagedEnding) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // --- For the provider ----------------------------------------------------------------------------

  /** Managed leases that hold bytes. */
  get count(): number {
    return this.#leases.count;
  }

  /** Errors as {@link ManagedLeases.room}. */
  room(id: string, client: NodeId, bytes: number): ManagedLease {
    return this.#leases.room(id, client, bytes, this.#clock.nowMs());
  }

  /** A slab was granted in one. */
  onGranted(limit: ManagedLease, { id, chargedBytes, holder }: Lease<Slab>): void {
    this.#leases.addSlab(limit, id, chargedBytes);
    this.#quota.noteLease(holder, chargedBytes);
  }

  /** A slab in one was wiped. */
  onWiped(limit: ManagedLease, lease: Lease<Slab>, residentBytes: number): void {
    const { id, holder, chargedBytes: bytes } = lease;
    this.#quota.noteLease(holder, -bytes);
    this.#tell(this.#leases.removeSlab(limit, { id, bytes, residentBytes }, this.#clock.nowMs()));
  }

  /** A node has a new connection: what was asked back is asked for again. */
  onHolder(client: NodeId): void {
    this.#leases.untell(client);
  }

  /** Ends what is over, asks back what soon will be. A timer calls it. */
  tick(): void {
    const nowMs = this.#clock.nowMs();
    for (const ended of this.#leases.endExpired(nowMs)) this.#finish(ended, 'expired');
    for (const { slabs, endsInMs } of this.#leases.warnings(nowMs)) {
      this.#host.recall(slabs, endsInMs);
    }
  }

  /** The provider ends: no slab is granted any more, and each lease is over when its slabs are wiped. */
  close(): void {
    for (const { ending } of this.#leases.endAll(this.#clock.nowMs())) this.#tell(ending);
  }

  #finish({ lease, ending }: EndedLease, reason: ManagedEndReason): void {
    if (ending === undefined) this.#host.wipe(lease.slabs, reason);
    else this.#tell(ending);
  }

  #tell(ending: ManagedEnding | undefined): void {
    if (ending === undefined) return;
    this.#quota.unreserve(ending.client, ending.sizeBytes);
    for (const listener of this.#listeners) listener(ending);
  }
}
