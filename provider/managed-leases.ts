/**
 * The managed leases of a provider (common/managed.ts): who has how many bytes until when, and which slabs
 * lie in them. A pure machine: time enters as an argument, the shell (managed-memory.ts) charges, wipes and
 * tells.
 *
 * ```
 * reserve -> live -(extend)-> live
 *             |-(nearly over)-> its slabs are asked back, again and again -(extend)-> live
 *             `-(end, deadline)-> ending: no page call, no new slab -(last slab wiped)-> gone, reported
 * ```
 *
 * A slab's bytes are counted in its managed lease from the grant to the wipe, so what is set aside is
 * free again only when nothing of it holds a page.
 */
import assert from 'node:assert/strict';
import { MemcloudError } from '../common/errors.ts';
import {
  MANAGED_TTL_MAX_MS,
  type ManagedEndReason,
  type ManagedEnding,
  type ManagedLeaseState,
  type ManagedReservation,
} from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { formatSize } from '../common/units.ts';
import type { LeaseLimit } from './leases.ts';

/** Managed leases of one provider at once, those that are being wiped included: a bound on the table. */
export const RESERVATION_COUNT_MAX = 16_384;
/** Slabs are asked back when less than this is left, milliseconds, or a quarter of the time granted if that is more. */
export const WARN_MIN_MS = 30_000;
/** They are asked back again after this, milliseconds: their holder may have found room. */
export const WARN_REPEAT_MS = 10_000;

/** A managed lease. Only the machine changes it. */
export interface ManagedLease extends LeaseLimit {
  readonly id: string;
  readonly client: NodeId;
  readonly sizeBytes: number;
  /** Of its bytes, those of slabs that are not wiped. */
  readonly usedBytes: number;
  /** Milliseconds of the shell's monotonic clock. */
  readonly expiresAtMs: number;
  /** Lease ids of the slabs in it. */
  readonly slabs: ReadonlySet<string>;
}

/** Slabs that are to be asked back, because the managed lease that they lie in is nearly over. */
export interface ManagedWarning {
  readonly slabs: ReadonlySet<string>;
  readonly endsInMs: number;
}

/** A managed lease that takes no more slabs. */
export interface EndedLease {
  /** Its slabs are to be wiped. */
  readonly lease: ManagedLease;
  /** To be told: it has none. */
  readonly ending: ManagedEnding | undefined;
}

interface End {
  readonly reason: ManagedEndReason;
  readonly atMs: number;
  wipedBytes: number;
}

class Entry implements ManagedLease {
  readonly id: string;
  readonly client: NodeId;
  readonly sizeBytes: number;
  readonly slabs = new Set<string>();
  usedBytes = 0;
  expiresAtMs: number;
  /** Slabs are asked back from here on. */
  warnFromMs: number;
  toldAtMs = -Infinity;
  end: End | undefined;

  constructor({ leaseId, client, sizeBytes, ttlMs }: ManagedReservation, nowMs: number) {
    this.id = leaseId;
    this.client = client;
    this.sizeBytes = sizeBytes;
    this.expiresAtMs = nowMs + ttlMs;
    this.warnFromMs = this.expiresAtMs - warnBeforeMs(ttlMs);
  }

  /** When its slabs are to be asked back next. */
  get warnAtMs(): number {
    return Math.max(this.warnFromMs, this.toldAtMs + WARN_REPEAT_MS);
  }
}

/** How long before the end slabs are asked back: never in the first half of a lease, whatever its length. */
function warnBeforeMs(ttlMs: number): number {
  return Math.min(Math.max(WARN_MIN_MS, ttlMs / 4), ttlMs / 2);
}

/** See the top of the file. */
export class ManagedLeases {
  readonly #byId = new Map<string, Entry>();
  /** Nothing ends or is to be warned of before this; it may be early, never late. */
  #earliestMs = Infinity;

  /** Those that are not reported as ended. */
  get count(): number {
    return this.#byId.size;
  }

  /**
   * Refuses a reservation that is malformed or one too many.
   *
   * @throws MemcloudError `ERR_LEASE_INVALID`, `ERR_LEASE_CAPACITY`
   */
  check({ leaseId, sizeBytes, ttlMs }: ManagedReservation): void {
    const refuse = (problem: string): never => {
      throw new MemcloudError('ERR_LEASE_INVALID', `managed lease: ${problem}`);
    };
    if (!/^[0-9a-f]{32}$/.test(leaseId)) refuse('expected an id of 32 hex digits');
    if (!(Number.isSafeInteger(sizeBytes) && sizeBytes >= 1)) {
      refuse(`expected a size of whole bytes, got ${sizeBytes}`);
    }
    if (!(ttlMs >= 1 && ttlMs <= MANAGED_TTL_MAX_MS)) {
      refuse(`expected a time to live of 1 to ${MANAGED_TTL_MAX_MS} ms, got ${ttlMs}`);
    }
    if (this.#byId.has(leaseId)) refuse(`${leaseId} is here already`);
    if (this.#byId.size >= RESERVATION_COUNT_MAX) {
      throw new MemcloudError(
        'ERR_LEASE_CAPACITY',
        `managed lease: the provider has ${RESERVATION_COUNT_MAX}, its most`,
      );
    }
  }

  /** Adds one that {@link ManagedLeases.check} let pass. */
  reserve(reservation: ManagedReservation, nowMs: number): void {
    const entry = new Entry(reservation, nowMs);
    this.#byId.set(entry.id, entry);
    this.#earliestMs = Math.min(this.#earliestMs, entry.warnAtMs);
  }

  /**
   * The managed lease that a slab of `bytes` may be taken from.
   *
   * @throws MemcloudError `ERR_LEASE_UNKNOWN` when it is none of that node, or over; `ERR_LEASE_CAPACITY`
   *   when the bytes are not free in it
   */
  room(id: string, client: NodeId, bytes: number, nowMs: number): ManagedLease {
    const entry = this.#live(id, nowMs);
    if (entry?.client !== client) {
      throw new MemcloudError(
        'ERR_LEASE_UNKNOWN',
        'lease: the managed lease is unknown, over or of another node',
      );
    }
    const freeBytes = entry.sizeBytes - entry.usedBytes;
    if (bytes > freeBytes) {
      throw new MemcloudError(
        'ERR_LEASE_CAPACITY',
        `lease: asked ${formatSize(bytes)}, free ${formatSize(freeBytes)} of the ${formatSize(entry.sizeBytes)} of the managed lease`,
      );
    }
    return entry;
  }

  /** A slab was granted in one that {@link ManagedLeases.room} found. */
  addSlab(lease: ManagedLease, slabId: string, bytes: number): void {
    const entry = this.#entryOf(lease);
    entry.slabs.add(slabId);
    entry.usedBytes += bytes;
  }

  /**
   * A slab was wiped.
   *
   * @param slab - which, its charge, and the RAM that came back with it (`residentBytes`)
   * @returns the ending, when it was the last one of a managed lease that is over
   */
  removeSlab(
    lease: ManagedLease,
    slab: { readonly id: string; readonly bytes: number; readonly residentBytes: number },
    nowMs: number,
  ): ManagedEnding | undefined {
    const entry = this.#entryOf(lease);
    assert(entry.slabs.delete(slab.id), 'a slab leaves a managed lease once');
    entry.usedBytes -= slab.bytes;
    if (entry.end === undefined) return undefined;
    entry.end.wipedBytes += slab.residentBytes;
    return this.#settle(entry, nowMs);
  }

  /** Sets the deadline to `ttlMs` from now, never earlier than it is. False when there is none such. */
  extend(id: string, ttlMs: number, nowMs: number): boolean {
    const entry = this.#live(id, nowMs);
    if (entry === undefined) return false;
    const expiresAtMs = nowMs + Math.min(ttlMs, MANAGED_TTL_MAX_MS);
    if (expiresAtMs <= entry.expiresAtMs) return true;
    entry.expiresAtMs = expiresAtMs;
    entry.warnFromMs = expiresAtMs - warnBeforeMs(expiresAtMs - nowMs);
    entry.toldAtMs = -Infinity;
    this.#earliestMs = Math.min(this.#earliestMs, entry.warnAtMs);
    return true;
  }

  /**
   * Ends one: no slab is granted in it from now on.
   *
   * @returns undefined when there is none such, or its deadline has passed
   */
  end(id: string, reason: ManagedEndReason, nowMs: number): EndedLease | undefined {
    const entry = this.#live(id, nowMs);
    return entry === undefined ? undefined : this.#end(entry, reason, nowMs);
  }

  /** Ends those whose deadline has passed; results as of {@link ManagedLeases.end}. */
  endExpired(nowMs: number): EndedLease[] {
    if (nowMs < this.#earliestMs) return [];
    const due = [...this.#byId.values()].filter(
      ({ end, expiresAtMs }) => end === undefined && nowMs >= expiresAtMs,
    );
    return due.map((entry) => this.#end(entry, 'expired', nowMs));
  }

  /** Slabs that are to be asked back now; what it says counts as done. Call it after {@link ManagedLeases.endExpired}. */
  warnings(nowMs: number): ManagedWarning[] {
    if (nowMs < this.#earliestMs) return [];
    const warnings: ManagedWarning[] = [];
    let earliestMs = Infinity;
    for (const entry of this.#byId.values()) {
      if (entry.end !== undefined) continue;
      if (nowMs >= entry.warnAtMs) {
        entry.toldAtMs = nowMs;
        const { slabs, expiresAtMs } = entry;
        if (slabs.size > 0) warnings.push({ slabs, endsInMs: expiresAtMs - nowMs });
      }
      earliestMs = Math.min(earliestMs, entry.warnAtMs, entry.expiresAtMs);
    }
    this.#earliestMs = earliestMs;
    return warnings;
  }

  /** A node has a new connection: what it was asked for it is asked for again. */
  untell(client: NodeId): void {
    for (const entry of this.#byId.values()) {
      if (entry.client !== client) continue;
      entry.toldAtMs = -Infinity;
      this.#earliestMs = Math.min(this.#earliestMs, entry.warnAtMs);
    }
  }

  /** Every one that is not over. */
  list(nowMs: number): ManagedLeaseState[] {
    const live = [...this.#byId.values()].filter((entry) => this.#isLive(entry, nowMs));
    return live.map(({ id, client, sizeBytes, usedBytes, expiresAtMs }) => ({
      ...{ leaseId: id, client, sizeBytes, usedBytes },
      ttlMs: expiresAtMs - nowMs,
    }));
  }

  /** Ends all, because the provider does; results as of {@link ManagedLeases.end}. */
  endAll(nowMs: number): EndedLease[] {
    const all = [...this.#byId.values()].filter(({ end }) => end === undefined);
    return all.map((entry) =>
      this.#end(entry, nowMs < entry.expiresAtMs ? 'provider' : 'expired', nowMs),
    );
  }

  #isLive(entry: Entry, nowMs: number): boolean {
    return entry.end === undefined && nowMs < entry.expiresAtMs;
  }

  #live(id: string, nowMs: number): Entry | undefined {
    const entry = this.#byId.get(id);
    return entry !== undefined && this.#isLive(entry, nowMs) ? entry : undefined;
  }

  #entryOf({ id }: ManagedLease): Entry {
    const entry = this.#byId.get(id);
    assert(entry !== undefined, 'a managed lease stays until its last slab is wiped');
    return entry;
  }

  #end(entry: Entry, reason: ManagedEndReason, nowMs: number): EndedLease {
    // The limit of its slabs: those that are looked up before they are taken out are over too.
    const atMs = Math.min(entry.expiresAtMs, nowMs);
    entry.expiresAtMs = atMs;
    entry.end = { reason, atMs, wipedBytes: 0 };
    return { lease: entry, ending: this.#settle(entry, nowMs) };
  }

  #settle(entry: Entry, nowMs: number): ManagedEnding | undefined {
    const { id: leaseId, client, sizeBytes, end } = entry;
    if (end === undefined || entry.slabs.size > 0) return undefined;
    this.#byId.delete(leaseId);
    const { reason, wipedBytes, atMs } = end;
    return { leaseId, client, sizeBytes, reason, wipedBytes, wipeMs: nowMs - atMs };
  }
}
