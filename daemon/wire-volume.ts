/** Of what volumes are made, in memnode and in the process of a mount alike. */
import { monotonicClock } from '../common/clock.ts';
import type { Logger } from '../common/log.ts';
import type { NodeId, SlabSources } from '../common/ports.ts';
import { LocalSlabSource } from '../provider/local-source.ts';
import type { RamProvider } from '../provider/service.ts';
import { PageLabeller } from '../tier/page-guard.ts';
import type { VolumeWorld } from '../tier/volume-state.ts';

/** The longest that a request may wait for providers, milliseconds. */
export const REQUEST_DEADLINE_MS = 15_000;
/** The name by which people ask for RAM of this machine. */
export const LOCAL_PROVIDER = 'local';

/** True when a provider that was asked for is this node itself. @param ownName - this node's name */
export function isThisNode(wanted: string, ownName: string): boolean {
  return wanted === LOCAL_PROVIDER || wanted.toLowerCase() === ownName.toLowerCase();
}

/** True when this node is the only provider that was asked for, so that no page ever leaves it. */
export function staysHere(providers: readonly string[] | undefined, ownName: string): boolean {
  if (providers === undefined || providers.length === 0) return false;
  return providers.every((wanted) => isThisNode(wanted, ownName));
}

/**
 * What guards pages that can never leave this process, because it is the only provider that was asked for.
 *
 * @returns undefined for all others, which are sealed
 */
export function labellerFor(
  providers: readonly string[] | undefined,
  ownName: string,
): PageLabeller | undefined {
  return staysHere(providers, ownName) ? new PageLabeller() : undefined;
}

/** What a volume asks of its process. */
export function volumeWorld(name: string, sources: SlabSources, logger: Logger): VolumeWorld {
  return {
    clock: monotonicClock,
    defer: (task) => process.nextTick(task),
    after: (delayMs, task) => setTimeout(task, delayMs).unref(),
    random: Math.random,
    sources,
    logger: logger.child({ volume: name }),
  };
}

/** RAM of this machine as a provider of volumes of this process. */
export function localSource(
  who: {
    readonly nodeId: NodeId;
    readonly nodeName: string;
    readonly hostId: string;
    readonly zone: string;
  },
  provider: RamProvider,
): LocalSlabSource {
  const source: LocalSlabSource = new LocalSlabSource({
    ...who,
    access: provider.openAccess(who.nodeId, {
      onLeasesEnded: () => undefined,
      onRecall: (recall) => source.recall(recall),
      onAccepting: () => undefined,
    }),
    isUp: () => !provider.closed,
    isAccepting: () => provider.accepting,
  });
  return source;
}
