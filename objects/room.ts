/**
 * Room for what comes: charges, and what goes when a charge is refused.
 *
 * What is over goes first. Then cache objects: those of the same owner while its allowance is what is short,
 * and of the owner whose cache takes most while the provider's room is, so that nobody's cache grows by
 * emptying everybody else's. Before the first one goes, the sums say whether all of them would be enough; a
 * write that cannot succeed evicts nothing. Pinned objects never go.
 */
import { MemcloudError } from '../common/errors.ts';
import type { ObjectMemory } from '../common/objects.ts';
import { formatSize } from '../common/units.ts';
import type { ObjectTable, Owner } from './object-table.ts';
import type { ValueMemory } from './value-memory.ts';

/** Objects whose time is over that one call wipes at most: about 20 ms. */
const SWEEP_COUNT_MAX = 10_000;
/** Victims of one owner before it is looked again whose cache takes most. */
const VICTIM_COUNT_MAX = 32;

/** What happened so far. */
export interface ObjectCounters {
  /** Reads that found an object. */
  hit: number;
  /** Reads that found none. */
  miss: number;
  /** Objects written. */
  put: number;
  /** Objects deleted by their owners. */
  delete: number;
  /** Objects evicted. */
  evicted: number;
  /** Objects whose time was over. */
  expired: number;
}

/** The room of one store. */
export class Room {
  readonly #memory: ObjectMemory;
  readonly #table: ObjectTable;
  readonly #values: ValueMemory;
  readonly #counters: ObjectCounters;

  constructor(
    memory: ObjectMemory,
    table: ObjectTable,
    values: ValueMemory,
    counters: ObjectCounters,
  ) {
    this.#memory = memory;
    this.#table = table;
    this.#values = values;
    this.#counters = counters;
  }

  /**
   * Charges an owner; nothing when `bytes` is 0 or less.
   *
   * @param kept - the row that is being replaced: it does not go
   * @throws MemcloudError `ERR_LEASE_CAPACITY`, with nothing charged
   */
  take(owner: Owner, bytes: number, nowMs: number, kept?: number): void {
    if (bytes <= 0) return;
    let refusal = this.#memory.charge(owner.nodeId, bytes);
    if (refusal !== undefined) {
      this.sweep(nowMs);
      refusal = this.#evictFor(owner, bytes, kept) ?? this.#memory.charge(owner.nodeId, bytes);
    }
    if (refusal !== undefined && this.#values.trim()) {
      // The machine counts RAM, and some that nobody is charged for was idle.
      refusal = this.#memory.charge(owner.nodeId, bytes);
    }
    if (refusal !== undefined) throw new MemcloudError('ERR_LEASE_CAPACITY', `objects: ${refusal}`);
    owner.chargedBytes += bytes;
  }

  /** Takes a charge back; nothing when `bytes` is 0 or less. */
  give(owner: Owner, bytes: number): void {
    if (bytes <= 0) return;
    this.#memory.refund(owner.nodeId, bytes);
    owner.chargedBytes -= bytes;
  }

  /** Says why a charge would be refused, whatever were evicted; undefined when it would not. */
  refusal(owner: Owner, bytes: number, kept?: number): string | undefined {
    if (!this.#memory.accepting) return 'nothing new is taken now';
    const { ownerFreeBytes, providerFreeBytes } = this.#memory.room(owner.nodeId);
    const ownBytes = this.#evictableBytes(owner, kept);
    if (bytes > ownerFreeBytes + ownBytes) {
      return `asked ${formatSize(bytes)}, free ${formatSize(Math.max(0, ownerFreeBytes + ownBytes))} of what this node is allowed`;
    }
    let allBytes = 0;
    for (const each of this.#table.owners.values()) allBytes += this.#evictableBytes(each, kept);
    if (bytes > providerFreeBytes + allBytes) {
      return `asked ${formatSize(bytes)}, free ${formatSize(Math.max(0, providerFreeBytes + allBytes))} of what is offered`;
    }
    return undefined;
  }

  /** Takes an object out: its value is wiped, its charge given back. */
  discard(row: number): void {
    const owner = this.#table.ownerOf(row);
    const chargeBytes = this.#table.chargeOf(row);
    const value = this.#table.valueOf(row);
    const storedBytes = this.#table.storedBytesOf(row);
    this.#table.remove(row);
    this.freeValue(value, storedBytes);
    this.give(owner, chargeBytes);
  }

  /** Wipes and frees a value that no object has any more. */
  freeValue(value: ReturnType<ObjectTable['valueOf']>, storedBytes: number): void {
    if (typeof value !== 'number') value.free();
    else if (storedBytes > 0) this.#values.free(value, storedBytes);
  }

  /** Takes out objects whose time is over, at most so many at once. */
  sweep(nowMs: number): void {
    for (let count = 0; count < SWEEP_COUNT_MAX; count += 1) {
      const row = this.#table.expiry.due(nowMs);
      if (row === undefined) return;
      this.#counters.expired += 1;
      this.discard(row);
    }
  }

  /**
   * The machine is short of memory: evicts cache objects and gives idle pages back.
   *
   * @returns bytes that were charged for what went
   */
  relieve(bytes: number): number {
    const givenBytes = this.#evictAnybodys(bytes, undefined);
    this.#values.trim();
    return givenBytes;
  }

  #evictFor(owner: Owner, bytes: number, kept: number | undefined): string | undefined {
    const refusal = this.refusal(owner, bytes, kept);
    if (refusal !== undefined) return refusal;
    const { ownerFreeBytes, providerFreeBytes } = this.#memory.room(owner.nodeId);
    const ownBytes = this.#evict(owner, bytes - ownerFreeBytes, Infinity, kept);
    this.#evictAnybodys(bytes - providerFreeBytes - ownBytes, kept);
    return undefined;
  }

  #evictAnybodys(bytes: number, kept: number | undefined): number {
    let givenBytes = 0;
    while (givenBytes < bytes) {
      const richest = this.#richest(kept);
      if (richest === undefined) break;
      givenBytes += this.#evict(richest, bytes - givenBytes, VICTIM_COUNT_MAX, kept);
    }
    return givenBytes;
  }

  #richest(kept: number | undefined): Owner | undefined {
    let richest: Owner | undefined;
    let mostBytes = 0;
    for (const owner of this.#table.owners.values()) {
      const bytes = this.#evictableBytes(owner, kept);
      if (bytes <= mostBytes) continue;
      mostBytes = bytes;
      richest = owner;
    }
    return richest;
  }

  #evict(owner: Owner, bytes: number, countMax: number, kept: number | undefined): number {
    let givenBytes = 0;
    for (let count = 0; givenBytes < bytes && count < countMax; count += 1) {
      const row = owner.cache.victim(kept);
      if (row === undefined) break;
      givenBytes += this.#table.chargeOf(row);
      this.#counters.evicted += 1;
      this.#table.noteEviction(row);
      this.discard(row);
    }
    return givenBytes;
  }

  #evictableBytes(owner: Owner, kept: number | undefined): number {
    if (kept === undefined || this.#table.ownerOf(kept) !== owner) return owner.cacheBytes;
    const isCache = this.#table.modeOf(kept) === 'cache';
    return owner.cacheBytes - (isCache ? this.#table.chargeOf(kept) : 0);
  }
}
