/**
 * What can be said of a provider without asking it: whether it takes slabs, and which machine it counts
 * as, where two copies of anything must not be on one.
 */
import type { SlabSource } from './ports.ts';

/** The name of a source's machine; one that does not say is a machine of its own. */
export function hostOf({ hostId, nodeId }: Pick<SlabSource, 'hostId' | 'nodeId'>): string {
  return hostId === '' ? nodeId : hostId;
}

/** How many machines there are among sources. */
export function hostCount(sources: readonly Pick<SlabSource, 'hostId' | 'nodeId'>[]): number {
  return new Set(sources.map(hostOf)).size;
}

/** True when a slab may be asked for there: it answers, is not drained, and is believed. */
export function takesSlabs({
  up,
  accepting,
  quarantineReason,
}: Pick<SlabSource, 'up' | 'accepting' | 'quarantineReason'>): boolean {
  return up && accepting && quarantineReason === undefined;
}
