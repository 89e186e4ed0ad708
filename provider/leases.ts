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
 */
import type { NodeId } from '../common/ports.ts';

/** The greatest slab handle: 32 bits. Handles count up and are never used again. */
export const SLAB_HANDLE_MAX = 2 ** 32 - 1;

/** Leases alive at once in one provider, whatever the offer: a bound on the table. */
export const LEASE_COUNT_MAX = 65_536;

/** A lease. Only the table changes it. */
export interface Lease<Slab> {
  /** A random 64-bit number, 16 hex digits: names the lease for renewal and release. */
  readonly id: string;
  /** Names the slab in page calls. */
  readonly handle: number;
  /** Who holds it. */
  readonly holder: NodeId;
  /** The provider's life in which it was granted. */
  readonly epoch: number;
  /** Bytes charged to the holder. */
  readonly chargedBytes: number;
  /** The slab. */
  readonly slab: Slab;
  /** When it ends, milliseconds of the shell's monotonic clock. */
  expiresAtMs: number;
}

/** What {@link LeaseTable.grant} needs. */
export interface GrantOptions<Slab> {
  /** 16 hex digits from a good random source. */
  readonly id: string;
  readonly holder: NodeId;
  readonly chargedBytes: number;
  readonly ttlMs: number;
  readonly slab: Slab;
}

/** The leases of one provider. */
export class LeaseTable<Slab> {
  readonly #epoch: number;
  readonly #byId = new Map<string, Lease<Slab>>();
  readonly #byHandle = new Map<number, Lease<Slab>>();
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
  grant(options: GrantOptions<Slab>, nowMs: number): Lease<Slab> {
    const lease: Lease<Slab> = {
      id: options.id,
      handle: this.#nextHandle,
      holder: options.holder,
      epoch: this.#epoch,
      chargedBytes: options.chargedBytes,
      slab: options.slab,
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

  /** The live lease of `handle` if `holder` has it: the look-up of every page call; makes nothing. */
  find(handle: number, holder: NodeId, nowMs: number): Lease<Slab> | undefined {
    const lease = this.#byHandle.get(handle);
    if (lease === undefined || nowMs >= lease.expiresAtMs || lease.holder !== holder) {
      return undefined;
    }
    return lease;
  }

  /** Sets a live lease of `holder` to end `ttlMs` from now. Returns false when there is none. */
  renew(id: string, holder: NodeId, ttlMs: number, nowMs: number): boolean {
    const lease = this.#byId.get(id);
    if (lease === undefined || nowMs >= lease.expiresAtMs || lease.holder !== holder) return false;
    lease.expiresAtMs = nowMs + ttlMs;
    this.#earliestMs = Math.min(this.#earliestMs, lease.expiresAtMs);
    return true;
  }

  /** Takes a live lease of `holder` out of the table. */
  release(id: string, holder: NodeId, nowMs: number): Lease<Slab> | undefined {
    const lease = this.#byId.get(id);
    if (lease === undefined || nowMs >= lease.expiresAtMs || lease.holder !== holder) {
      return undefined;
    }
    return this.#take(lease);
  }

  /** Takes the lease of that id out of the table, whoever holds it. */
  takeById(id: string): Lease<Slab> | undefined {
    const lease = this.#byId.get(id);
    return lease === undefined ? undefined : this.#take(lease);
  }

  /** Takes every expired lease out of the table. */
  takeExpired(nowMs: number): Lease<Slab>[] {
    if (nowMs < this.#earliestMs) return [];
    const expired: Lease<Slab>[] = [];
    let earliestMs = Infinity;
    for (const lease of this.#byId.values()) {
      if (nowMs >= lease.expiresAtMs) expired.push(this.#take(lease));
      else earliestMs = Math.min(earliestMs, lease.expiresAtMs);
    }
    this.#earliestMs = earliestMs;
    return expired;
  }

  /** Takes every lease out of the table, or those of `holder`. */
  takeAll(holder?: NodeId): Lease<Slab>[] {
    const taken: Lease<Slab>[] = [];
    for (const lease of this.#byId.values()) {
      if (holder === undefined || lease.holder === holder) taken.push(this.#take(lease));
    }
    return taken;
  }

  /** Every lease in the table, oldest first. */
  all(): IterableIterator<Lease<Slab>> {
    return this.#byId.values();
  }

  #take(lease: Lease<Slab>): Lease<Slab> {
    this.#byId.delete(lease.id);
    this.#byHandle.delete(lease.handle);
    return lease;
  }
}
