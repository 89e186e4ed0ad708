/** What one node has in the store, and how all of it goes at once. */
import type { ObjectUsage } from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import type { StoreCore } from './core.ts';

/** Nothing. */
const NO_USAGE: ObjectUsage = {
  objectCount: 0,
  valueBytes: 0,
  chargedBytes: 0,
  uploadCount: 0,
  evictedCount: 0,
};

/** What a node owns. */
export function usageOf(core: StoreCore, nodeId: NodeId): ObjectUsage {
  const owner = core.table.owners.get(nodeId);
  if (owner === undefined) return NO_USAGE;
  const { objectCount, valueBytes, chargedBytes, uploadCount, evictedCount } = owner;
  return { objectCount, valueBytes, chargedBytes, uploadCount, evictedCount };
}

/** What everybody owns. */
export function usageOfAll(core: StoreCore): ObjectUsage {
  const sum = { ...NO_USAGE };
  for (const owner of core.table.owners.values()) {
    sum.objectCount += owner.objectCount;
    sum.valueBytes += owner.valueBytes;
    sum.chargedBytes += owner.chargedBytes;
    sum.uploadCount += owner.uploadCount;
  }
  return { ...sum, evictedCount: core.counters.evicted };
}

/** What each node owns that owns anything. */
export function usageByOwner(core: StoreCore): [NodeId, ObjectUsage][] {
  return Array.from(core.table.owners.keys(), (nodeId): [NodeId, ObjectUsage] => [
    nodeId,
    usageOf(core, nodeId),
  ]).filter(([, { objectCount, uploadCount }]) => objectCount + uploadCount > 0);
}

/** Objects that are not to be evicted, of one node. */
export function countPinnedOf(core: StoreCore, nodeId: NodeId): number {
  const owner = core.table.owners.get(nodeId);
  let count = 0;
  if (owner === undefined) return count;
  for (const row of core.table.rowsOf(owner)) {
    if (core.table.modeOf(row) === 'pinned') count += 1;
  }
  return count;
}

/** Objects that are not to be evicted, of everybody. */
export function countPinned(core: StoreCore): number {
  let count = 0;
  for (const nodeId of core.table.owners.keys()) count += countPinnedOf(core, nodeId);
  return count;
}

/** Deletes every object of a node; its uploads go on. @returns what went */
export function discardAllOf(core: StoreCore, nodeId: NodeId): ObjectUsage {
  const owner = core.table.owners.get(nodeId);
  if (owner === undefined) return NO_USAGE;
  const before = usageOf(core, nodeId);
  for (const row of core.table.rowsOf(owner)) {
    core.counters.delete += 1;
    core.room.discard(row);
  }
  const after = usageOf(core, nodeId);
  return {
    objectCount: before.objectCount,
    valueBytes: before.valueBytes,
    chargedBytes: before.chargedBytes - after.chargedBytes,
    uploadCount: 0,
    evictedCount: 0,
  };
}
