/**
 * What mounts have on a provider, and where it could go instead, for drain. Their processes know better
 * which providers they may use; the daemon counts all that take slabs now, so "no" is certain. Pure.
 */
import type { NodeId, SlabSources } from '../../common/ports.ts';
import type { MountInfo } from '../../common/rpc-schema.ts';
import { takesSlabs } from '../../common/slab-sources.ts';
import type { DrainHolding } from '../drain-room.ts';
import type { DrainParts } from '../drain.ts';

/** Mounts as drain asks them. */
export function drainedMounts(
  mounts: { list(): Promise<readonly MountInfo[]> },
  sources: SlabSources,
): DrainParts['mounts'] {
  return {
    holdingsOn: async (provider) => mountHoldings(await mounts.list(), provider, sources),
  };
}

/**
 * The holdings of mounts on one provider.
 *
 * @param mounts - as their processes said last
 * @param provider - which; processes call it by its name
 * @param sources - every provider
 */
export function mountHoldings(
  mounts: readonly MountInfo[],
  provider: { readonly nodeId: NodeId; readonly nodeName: string },
  sources: SlabSources,
): DrainHolding[] {
  const candidates = sources
    .list()
    .filter((source) => source.nodeId !== provider.nodeId && takesSlabs(source))
    .map(({ nodeId, hostId, usage }) => ({
      ...{ nodeId, hostId },
      freeBytes: usage.offeredBytes - usage.usedBytes,
    }));
  return mounts.map(({ volume: name, copies, providers }) => ({
    ...{ name, copies, candidates },
    heldBytes: providers
      .filter((each) => each.name === provider.nodeName)
      .reduce((sum, { leasedBytes }) => sum + leasedBytes, 0),
  }));
}
