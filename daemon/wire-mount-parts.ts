/** What the two kinds of memory under a mount's files have in common. */
import { monotonicClock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import type { Logger } from '../common/log.ts';
import type { BlockDevice, SlabSources } from '../common/ports.ts';
import { takesSlabs } from '../common/slab-sources.ts';
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { leaseChargeBytes } from '../provider/quota.ts';
import { RamProvider } from '../provider/service.ts';
import { capacityProblem, roomOf } from './capacity.ts';
import type { PoolLease, PoolUse } from './managed/pool-lease.ts';
import type { StartMessage } from './mounts/child.ts';
import type { MountPeer, MountStatus } from './mounts/protocol.ts';

/** Longest wait for providers, milliseconds. */
const PROVIDER_WAIT_MS = 5_000;
/** Providers that are late are waited for so long when the others have room, milliseconds. */
const LATE_PROVIDER_WAIT_MS = 1_000;
const PROVIDER_LOOK_MS = 20;

/** Providers that are on their way. */
export interface Arrivals {
  /** True when no provider is on its way. */
  readonly settled: boolean;
  /** Who was not reached is tried again soon. */
  hurry(): void;
}

/** What a mount tells of the memory under it. */
export type MountBackingStatus = Pick<MountStatus, 'leasedBytes' | 'degradedSlabs' | 'providers'>;

/** The memory under the files of one mount. */
export interface MountBacking {
  /** Keeps the event loop awake for pages and files. */
  readonly spin: EventLoopSpin;
  /** The bytes of the files. */
  readonly device: BlockDevice;
  /** What is to be said of it. */
  status(): MountBackingStatus;
  /**
   * Pages that it can take beyond those that it has.
   *
   * @param usedPageCount - pages that it has
   */
  freePageCount(usedPageCount: number): number;
  /** Follows the list of providers. */
  setPeers(peers: readonly MountPeer[]): void;
  /** Follows the managed leases, whose providers are the only ones. @returns what of them is in use */
  setLeases(leases: readonly PoolLease[]): PoolUse;
  /** Gives the memory back and ends everything; the pages are gone. */
  close(): Promise<void>;
}

/** RAM of this machine for one copy of the whole volume, taken as it is written. */
export function ownProvider(
  { request, memoryDirectory }: StartMessage,
  logger: Logger,
): RamProvider {
  const slabCount = Math.ceil(request.sizeBytes / PAGE_SIZE_BYTES / SLAB_PAGE_COUNT);
  return RamProvider.open({
    offeredBytes: slabCount * leaseChargeBytes(SLAB_PAGE_COUNT),
    logger,
    ...(memoryDirectory === undefined ? {} : { directory: memoryDirectory }),
  });
}

/**
 * Waits until providers have room for what is to be mounted.
 *
 * @param arrivals - who may still come
 * @param cancelled - true once it is not wanted any more
 * @throws MemcloudError `ERR_VOLUME_CAPACITY`, `ERR_CANCELLED`
 */
export async function waitForRoom(
  { request }: StartMessage,
  sources: SlabSources,
  arrivals: Arrivals,
  cancelled: () => boolean,
): Promise<void> {
  const beganMs = monotonicClock.nowMs();
  for (;;) {
    if (cancelled()) throw new MemcloudError('ERR_CANCELLED', 'the mount is not wanted any more');
    const problem = capacityProblem(request, sources.list().filter(takesSlabs).map(roomOf));
    const waitedMs = monotonicClock.nowMs() - beganMs;
    if (problem === undefined && (arrivals.settled || waitedMs >= LATE_PROVIDER_WAIT_MS)) return;
    if (waitedMs >= PROVIDER_WAIT_MS) {
      throw new MemcloudError('ERR_VOLUME_CAPACITY', `volume ${request.volumeName}: ${problem}`);
    }
    if (problem !== undefined) arrivals.hurry();
    await new Promise((resolve) => setTimeout(resolve, PROVIDER_LOOK_MS));
  }
}
