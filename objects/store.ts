/**
 * The objects that lie on this node: blocks and keys in the provider's memory, each with an owner, a list
 * of readers, a version, perhaps an end (common/objects.ts). This file puts the parts together and gives
 * them time; `holder.ts` is what callers see, `writer.ts` and `listing.ts` do the work.
 *
 * Calls end before they return. So nobody else comes between the check of a quota and its use, a write is
 * seen whole or not at all, and an answer is true when it is given.
 */
import type { Clock } from '../common/clock.ts';
import type { ObjectMemory, ObjectUsage } from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { holderBits } from './block-id.ts';
import { Compaction } from './compaction.ts';
import type { StoreCore } from './core.ts';
import { LocalHolder } from './holder.ts';
import { ObjectTable } from './object-table.ts';
import {
  countPinned,
  countPinnedOf,
  discardAllOf,
  usageByOwner,
  usageOf,
  usageOfAll,
} from './owners.ts';
import { Room, type ObjectCounters } from './room.ts';
import { ValueMemory } from './value-memory.ts';
import { Writer } from './writer.ts';

/** How long pages without an object may idle after the last tick that found more of them, milliseconds. */
const TRIM_INTERVAL_MS = 10_000;

/** What a store is made of. */
export interface ObjectStoreOptions {
  /** The holder: this node. */
  readonly nodeId: NodeId;
  /** Where values lie and what they are charged to. */
  readonly memory: ObjectMemory;
  readonly clock: Clock;
  /** 0 or more, below 1: block ids. */
  readonly random: () => number;
  /** Whether objects for trusted readers are for this node; default: they all are. */
  readonly isTrusted?: (nodeId: NodeId) => boolean;
}

/** The objects of this node. */
export class ObjectStore {
  readonly #core: StoreCore;
  readonly #writer: Writer;
  readonly #compaction: Compaction;
  #trimmedAtMs: number;

  constructor(options: ObjectStoreOptions) {
    const { nodeId, memory, clock, random, isTrusted = () => true } = options;
    const counters = { hit: 0, miss: 0, put: 0, delete: 0, evicted: 0, expired: 0 };
    const table = new ObjectTable(random);
    const values = new ValueMemory(memory);
    const room = new Room(memory, table, values, counters);
    const identity = { nodeId, holderBits: holderBits(nodeId) };
    this.#core = { ...identity, table, values, room, counters, clock, random, isTrusted };
    this.#writer = new Writer(this.#core);
    this.#compaction = new Compaction(table, values);
    this.#trimmedAtMs = clock.nowMs();
    memory.onPressure((bytes) => room.relieve(bytes));
  }

  /** What happened so far. */
  get counters(): Readonly<ObjectCounters> {
    return { ...this.#core.counters };
  }

  /** Bytes of RAM that values hold, with what idles for the next ones. */
  get residentBytes(): number {
    return this.#core.values.reservedBytes;
  }

  /** Objects that are not to be evicted; it looks at each. */
  get pinnedCount(): number {
    return countPinned(this.#core);
  }

  /** The same, of one node. */
  pinnedCountOf(nodeId: NodeId): number {
    return countPinnedOf(this.#core, nodeId);
  }

  /** One node's way in. */
  openHolder(requester: NodeId): LocalHolder {
    return new LocalHolder(this.#core, this.#writer, requester);
  }

  /** What everybody has here. */
  usage(): ObjectUsage {
    return usageOfAll(this.#core);
  }

  /** What each node has here that has anything. */
  usageByOwner(): [NodeId, ObjectUsage][] {
    return usageByOwner(this.#core);
  }

  /** What one node has here. */
  usageOf(nodeId: NodeId): ObjectUsage {
    return usageOf(this.#core, nodeId);
  }

  /** Takes out what is over; call it every few hundred milliseconds. */
  tick(nowMs: number): void {
    this.#core.room.sweep(nowMs);
    this.#writer.tick(nowMs);
    this.#compaction.step();
    if (nowMs - this.#trimmedAtMs < TRIM_INTERVAL_MS) return;
    this.#trimmedAtMs = nowMs;
    this.#core.values.trim();
  }

  /** The last session of a node ended: its uploads are over. */
  dropUploads(requester: NodeId): void {
    this.#writer.dropOf(requester);
  }

  /** A node lost its trust: what it has here is deleted, its uploads as well. @returns the objects */
  deleteOwnedBy(nodeId: NodeId): ObjectUsage {
    this.#writer.dropOf(nodeId);
    const gone = discardAllOf(this.#core, nodeId);
    this.#core.table.owners.delete(nodeId);
    return gone;
  }

  /** Wipes everything and gives it back. No holder may be used afterwards. */
  close(): void {
    for (const nodeId of Array.from(this.#core.table.owners.keys())) this.deleteOwnedBy(nodeId);
    this.#core.values.close();
  }
}
