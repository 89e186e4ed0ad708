/**
 * The lease table: who holds which slab until when. It is a pure machine: time and random ids enter
 * as arguments, slabs pass through it unseen, and the shell (service.ts) wipes what it hands out.
 *
 * A lease ends for its holder at its deadline, to the millisecond, because every look-up compares
 * with the time it is given. It leaves the table when the shell takes it to wipe it; until then its
 * bytes still count as used, since they still are.
 *
 * ```
 * grant -> alive -(renew)-> alive
 *            |-(release, revoke)-> taken       shell wipes, then gives the bytes back
 *            `-(deadline)-> expired -(takeExpired)-> taken
 * ```
 *
 * A lease may lie under a *limit*, a deadline that somebody else keeps (managed-leases.ts): it never lives
 * longer, whatever it is renewed to. Whoever keeps the limit takes the lease out when that has passed.
 */
import type { NodeId } from '../common/ports.ts';

/** The greatest slab handle: 32 bits. Handles count up and are never used again. */
export const SLAB_HANDLE_MAX = 2 ** 32 - 1;

/** Leases alive at once in one provider, whatever the offer: a bound on the table. */
export const LEASE_COUNT_MAX = 65_536;

/** A deadline of others that bounds a lease; it may move while the lease lives. */
export interface LeaseLimit {
  /** Milliseconds of the shell's monotonic clock. */
  readonly expiresAtMs: number;
}

/** A lease. Only the table changes it. */
export interface Lease<Slab, Limit extends LeaseLimit = LeaseLimit> {
  /** A random 64-bit number, 16 hex digits: names the lease for renewal and release. */
  readonly id: string;
  /** Names the slab in page calls. */
  readonly handle: number;
  /** Who holds it. */
  readonly holder: NodeId;
  /** The provider's life in which it was granted. */
  readonly epoch: number;
  /** Bytes charged to the holder, or to the limit. */
  readonly chargedBytes: number;
  /** The slab. */
  readonly slab: Slab;
  /** What it lies under, and ends with at the latest. */
  readonly limit: Limit | undefined;
  /** When it ends unless its limit does before, milliseconds of the shell's monotonic clock. */
  expiresAtMs: number;
}

/** When a lease ends as things stand, milliseconds of the shell's monotonic clock. */
export function leaseEndsAtMs({ expiresAtMs, limit }: Lease<unknown>): number {
  return limit === undefined ? expiresAtMs : Math.min(expiresAtMs, limit.expiresAtMs);
}

/** What {@link LeaseTable.grant} needs. */
export interface GrantOptions<Slab, Limit extends LeaseLimit = LeaseLimit> {
  /** 16 hex digits from a good random source. */
  readonly id: string;
  readonly holder: NodeId;
  readonly chargedBytes: number;
  readonly ttlMs: number;
  readonly slab: Slab;
  readonly limit?: Limit | undefined;
}

/** The leases of one provider. */
export class LeaseTable<Slab, Limit extends LeaseLimit = LeaseLimit> {
  readonly #epoch: number;
  readonly #byId = new Map<string, Lease<Slab, Limit>>();
  readonly #byHandle = new Map<number, Lease<Slab, Limit>>();
  #nextHandle: number;
  /** No lease ends before this; renewals may make it early, never late. */
  #earliestMs = Infinity;

  /**
   * @param epoch - names this life of the provider
   * @param firstHandle - where the handles start; a random start keeps handles of an earlier life dead
   */
  constructor(epoch: number, firstHandle: number) {
    this.#epoch = epoch;
    this.#nextHandle = firstHandle;
  }

  /** Leases in the table, expired ones that nobody took included. */
  get count(): number {
    return this.#byId.size;
  }

  /** False when the table or the handles are used up: nothing may be granted. */
  get hasRoom(): boolean {
    return this.#byId.size < LEASE_COUNT_MAX && this.#nextHandle <= SLAB_HANDLE_MAX;
  }

  /** Adds a lease; {@link LeaseTable.hasRoom} was true and the id is new. */
  grant(options: GrantOptions<Slab, Limit>, nowMs: number): Lease<Slab, Limit> {
    const lease: Lease<Slab, Limit> = {
      id: options.id,
      handle: this.#nextHandle,
      holder: options.holder,
      epoch: this.#epoch,
      chargedBytes: options.chargedBytes,
      slab: options.slab,
      limit: options.limit,
      expiresAtMs: nowMs + options.ttlMs,
    };
    this.#nextHandle += 1;
    this.#byId.set(lease.id, lease);
    this.#byHandle.set(lease.handle, lease);
    this.#earliestMs = Math.min(this.#earliestMs, lease.expiresAtMs);
    return lease;
  }

  /** True when a lease of that id is in the table, whoever holds it. */
  hasId(id: string): boolean {
    return this.#byId.has(id);
  }

  /** The lease of that id, live or not; undefined when it is not in the table. */
  byId(id: string): Lease<Slab, Limit> | undefined {
    return this.#byId.get(id);
  }

  /** The live lease of `handle` if `holder` has it: the look-up of every page call; makes nothing. */
  find(handle: number, holder: NodeId, nowMs: number): Lease<Slab, Limit> | undefined {
    const lease = this.#byHandle.get(handle);
    if (lease === undefined || nowMs >= leaseEndsAtMs(lease) || lease.holder !== holder) {
      return undefined;
    }
    return lease;
  }

  /** Sets a live lease of `holder` to end `ttlMs` from now. Returns false when there is none. */
  renew(id: string, holder: NodeId, ttlMs: number, nowMs: number): boolean {
    const lease = this.#byId.get(id);
    if (lease === undefined || nowMs >= leaseEndsAtMs(lease) || lease.holder !== holder)
      return false;
    lease.expiresAtMs = nowMs + ttlMs;
    this.#earliestMs = Math.min(this.#earliestMs, lease.expiresAtMs);
    return true;
  }

  /** Takes a live lease of `holder` out of the table. */
  release(id: string, holder: NodeId, nowMs: number): Lease<Slab, Limit> | undefined {
    const lease = this.#byId.get(id);
    if (lease === undefined || nowMs >= leaseEndsAtMs(lease) || lease.holder !== holder) {
      return undefined;
    }
    return this.#take(lease);
  }

  /** Takes the lease of that id out of the table, whoever holds it. */
  takeById(id: string): Lease<Slab, Limit> | undefined {
    const lease = this.#byId.get(id);
    return lease === undefined ? undefined : this.#take(lease);
  }

  /** Takes every expired lease out of the table. */
  takeExpired(nowMs: number): Lease<Slab, Limit>[] {
    if (nowMs < this.#earliestMs) return [];
    const expired: Lease<Slab, Limit>[] = [];
    let earliestMs = Infinity;
    for (const lease of this.#byId.values()) {
      if (nowMs >= lease.expiresAtMs) expired.push(this.#take(lease));
      else earliestMs = Math.min(earliestMs, lease.expiresAtMs);
    }
    this.#earliestMs = earliestMs;
    return expired;
  }

  /** Takes every lease out of the table, or those of `holder`. */
  takeAll(holder?: NodeId): Lease<Slab, Limit>[] {
    const taken: Lease<Slab, Limit>[] = [];
    for (const lease of this.#byId.values()) {
      if (holder === undefined || lease.holder === holder) taken.push(this.#take(lease));
    }
    return taken;
  }

  /** Every lease in the table, oldest first. */
  all(): IterableIterator<Lease<Slab, Limit>> {
    return this.#byId.values();
  }

  #take(lease: Lease<Slab, Limit>): Lease<Slab, Limit> {
    this.#byId.delete(lease.id);
    this.#byHandle.delete(lease.handle);
    return lease;
  }
}
