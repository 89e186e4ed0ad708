/**
 * The composition of a mount's process, and with `wire.ts` the only file that knows both ends of its seams:
 *
 *   peers on a lane, RAM of this machine -- SlabSources --> volume -- BlockDevice --> file store
 *                                             kernel <-- FUSE device <-- file system <---'
 *
 * It has the identity of its node and the trust that the daemon told it; nothing of it is on disk, and it
 * never looks at a path below its own mount, where it would wait for itself. Ends come in the order in
 * which work flows: the mount, the store, the volume (leases go back), the peers, the provider.
 */
import assert from 'node:assert';
import { randomBytes } from 'node:crypto';
import { monotonicClock } from '../common/clock.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import { EventLoopSpin, SPIN_WINDOW_DEFAULT_US } from '../common/event-loop-spin.ts';
import type { Logger } from '../common/log.ts';
import type { SlabSource, SlabSources } from '../common/ports.ts';
import { hostOf, takesSlabs } from '../common/slab-sources.ts';
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { FuseDevice } from '../fuse-fs/device.ts';
import { FileSystem } from '../fuse-fs/file-system.ts';
import { mountFuse, unmountFuse } from '../fuse-fs/mounting.ts';
import { FUSE_PROFILES } from '../fuse-fs/negotiation.ts';
import type { FuseSession } from '../fuse-fs/session.ts';
import { PageFileStore } from '../fuse-fs/page-file-store.ts';
import { KernelClock } from '../fuse-fs/wall-clock.ts';
import { ConsentQueue } from '../peer/consent.ts';
import { Identity } from '../peer/identity.ts';
import { keepaliveLimits } from '../peer/keepalive-machine.ts';
import { Peers } from '../peer/peers.ts';
import { Quarantines } from '../peer/quarantines.ts';
import { TrustStore } from '../peer/trust.ts';
import { LocalSlabSource } from '../provider/local-source.ts';
import { leaseChargeBytes } from '../provider/quota.ts';
import { RamProvider } from '../provider/service.ts';
import { VolumeBlockDevice } from '../tier/block-device.ts';
import { VOLUME_TICK_MS, Volume } from '../tier/volume.ts';
import { capacityProblem, type FreeRoom } from './capacity.ts';
import { drainRoom } from './drain-room.ts';
import { within } from './handover/within.ts';
import type { ServedMount, StartMessage } from './mounts/child.ts';
import { LanePeers } from './mounts/lane-peers.ts';
import type { MountPeer, MountStatus } from './mounts/protocol.ts';
import { holdingOn } from './volumes.ts';

const REQUEST_DEADLINE_MS = 15_000;
/** The name by which a mount asks for RAM of its own machine. */
const LOCAL_PROVIDER = 'local';
/** Bytes of a lane's random name. */
const LANE_SIZE_BYTES = 8;
/** Longest wait for providers, milliseconds. */
const PROVIDER_WAIT_MS = 5_000;
/** Providers that are late are waited for so long when the others have room, milliseconds. */
const LATE_PROVIDER_WAIT_MS = 1_000;
const PROVIDER_LOOK_MS = 20;

/** The volume under the files of one mount, and all that it takes. */
export class MountPool {
  /** Keeps the event loop awake for pages and files. */
  readonly spin: EventLoopSpin;
  /** The bytes of the files. */
  readonly device: VolumeBlockDevice;
  readonly #volume: Volume;
  readonly #peers: Peers;
  readonly #provider: RamProvider | undefined;
  readonly #sources: SlabSources;
  readonly #lanePeers: LanePeers;
  readonly #timer: NodeJS.Timeout;

  private constructor(parts: {
    spin: EventLoopSpin;
    volume: Volume;
    peers: Peers;
    provider: RamProvider | undefined;
    sources: SlabSources;
    lanePeers: LanePeers;
  }) {
    const { volume, peers, sources } = parts;
    this.spin = parts.spin;
    this.#volume = volume;
    this.#peers = peers;
    this.#provider = parts.provider;
    this.#sources = sources;
    this.#lanePeers = parts.lanePeers;
    this.device = new VolumeBlockDevice(volume);
    peers.recallRoom = (nodeId) => drainRoom([holdingOn(nodeId, volume, sources)]);
    this.#timer = setInterval(() => volume.tick(), VOLUME_TICK_MS);
  }

  /**
   * Dials the providers and makes a volume once they have room for it.
   *
   * @param cancelled - true once it is not wanted any more
   * @param onQuarantine - a provider broke the rules
   * @throws MemcloudError `ERR_VOLUME_CAPACITY`, `ERR_PEER_UNKNOWN`, `ERR_IDENTITY`, `ERR_CANCELLED`
   */
  static async open(
    start: StartMessage,
    logger: Logger,
    cancelled: () => boolean,
    onQuarantine: (nodeId: string, reason: string) => void,
  ): Promise<MountPool> {
    const undo: (() => void | Promise<void>)[] = [];
    try {
      const spin = new EventLoopSpin(monotonicClock, SPIN_WINDOW_DEFAULT_US);
      const provider = lendsItself(start) ? openProvider(start, logger) : undefined;
      undo.push(() => provider?.close());
      const { peers, lanePeers, identity } = dialProviders(start, logger, spin, onQuarantine);
      undo.push(() => peers.close());
      const local = provider === undefined ? undefined : localSource(start, identity, provider);
      const sources = sourcesOf(start, peers, lanePeers, local);
      await waitForRoom(start, sources, lanePeers, cancelled);
      const volume = makeVolume(start, sources, logger);
      return new MountPool({ spin, volume, peers, provider, sources, lanePeers });
    } catch (error) {
      for (const step of undo.reverse()) await step();
      throw error;
    }
  }

  /** Follows the list of providers. */
  setPeers(peers: readonly MountPeer[]): void {
    this.#lanePeers.follow(peers);
  }

  /** What is to be said of the volume. */
  status(): Pick<MountStatus, 'leasedBytes' | 'degradedSlabs' | 'providers'> {
    const { providers, degradedSlabs } = this.#volume.status();
    const up = new Set(
      this.#sources
        .list()
        .filter((source) => source.up)
        .map(({ nodeId }) => nodeId),
    );
    return {
      leasedBytes: providers.reduce((sum, { leasedBytes }) => sum + leasedBytes, 0),
      degradedSlabs,
      providers: providers.map(({ nodeId, nodeName, leasedBytes }) => {
        return { name: nodeName, up: up.has(nodeId), leasedBytes };
      }),
    };
  }

  /** Gives the leases back and ends everything; the pages are gone. */
  async close(): Promise<void> {
    await this.#volume.close();
    clearInterval(this.#timer);
    await this.#peers.close();
    this.#provider?.close();
  }
}

function lendsItself({ request, name }: StartMessage): boolean {
  return request.providers?.some((wanted) => isLocal(wanted, name)) === true;
}

function isLocal(wanted: string, ownName: string): boolean {
  return wanted === LOCAL_PROVIDER || wanted.toLowerCase() === ownName.toLowerCase();
}

function dialProviders(
  start: StartMessage,
  logger: Logger,
  spin: EventLoopSpin,
  onQuarantine: (nodeId: string, reason: string) => void,
): { peers: Peers; lanePeers: LanePeers; identity: Identity } {
  const { name, hostId, zone, peerDeadMs, stateDirectory } = start;
  const identity = Identity.load(stateDirectory);
  const trust = TrustStore.inMemory();
  const quarantines = Quarantines.inMemory();
  quarantines.onPut = ({ nodeId, reason }) => onQuarantine(nodeId, reason);
  const peers = new Peers({
    ...{ identity, name, hostId, zone, trust, quarantines, logger, spin },
    consent: new ConsentQueue({ clock: monotonicClock }),
    lane: randomBytes(LANE_SIZE_BYTES).toString('hex'),
    keepalive: keepaliveLimits(peerDeadMs),
  });
  const lanePeers = new LanePeers(peers, trust, logger);
  lanePeers.follow(start.peers);
  return { peers, lanePeers, identity };
}

/** RAM of this machine for one copy of the whole volume, taken as it is written. */
function openProvider({ request, memoryDirectory }: StartMessage, logger: Logger): RamProvider {
  const slabCount = Math.ceil(request.sizeBytes / PAGE_SIZE_BYTES / SLAB_PAGE_COUNT);
  return RamProvider.open({
    offeredBytes: slabCount * leaseChargeBytes(SLAB_PAGE_COUNT),
    logger,
    ...(memoryDirectory === undefined ? {} : { directory: memoryDirectory }),
  });
}

function localSource(
  { name, hostId, zone }: StartMessage,
  { nodeId }: Identity,
  provider: RamProvider,
): LocalSlabSource {
  const source: LocalSlabSource = new LocalSlabSource({
    ...{ nodeId, nodeName: name, hostId, zone },
    access: provider.openAccess(nodeId, {
      onLeasesEnded: () => undefined,
      onRecall: (recall) => source.recall(recall),
      onAccepting: () => undefined,
    }),
    isUp: () => !provider.closed,
    isAccepting: () => provider.accepting,
  });
  return source;
}

/** The providers that were asked for, or all that the daemon names, now and later. */
function sourcesOf(
  { request, name }: StartMessage,
  peers: Peers,
  lanePeers: LanePeers,
  local: LocalSlabSource | undefined,
): SlabSources {
  if (request.providers === undefined) return peers;
  const named = request.providers.map((wanted): SlabSource => {
    if (local !== undefined && isLocal(wanted, name)) return local;
    const found = lanePeers.find(wanted);
    if (found !== undefined) return peers.store(found.nodeId);
    throw new MemcloudError(
      'ERR_PEER_UNKNOWN',
      `no peer that takes mounts is called "${wanted}"; an older memnode does not`,
    );
  });
  return { list: () => named };
}

async function waitForRoom(
  { request }: StartMessage,
  sources: SlabSources,
  lanePeers: LanePeers,
  cancelled: () => boolean,
): Promise<void> {
  const beganMs = monotonicClock.nowMs();
  for (;;) {
    if (cancelled()) throw new MemcloudError('ERR_CANCELLED', 'the mount is not wanted any more');
    const problem = capacityProblem(request, sources.list().filter(takesSlabs).map(roomOf));
    const waitedMs = monotonicClock.nowMs() - beganMs;
    if (problem === undefined && (lanePeers.settled || waitedMs >= LATE_PROVIDER_WAIT_MS)) return;
    if (waitedMs >= PROVIDER_WAIT_MS) {
      throw new MemcloudError('ERR_VOLUME_CAPACITY', `volume ${request.volumeName}: ${problem}`);
    }
    await new Promise((resolve) => setTimeout(resolve, PROVIDER_LOOK_MS));
  }
}

function roomOf(source: SlabSource): FreeRoom {
  const { offeredBytes, usedBytes } = source.usage;
  return { name: source.nodeName, host: hostOf(source), freeBytes: offeredBytes - usedBytes };
}

function makeVolume(start: StartMessage, sources: SlabSources, logger: Logger): Volume {
  const { volumeName: name, sizeBytes, copies, ringSizeBytes } = start.request;
  const { leaseTtlMs } = start;
  return new Volume(
    { name, sizeBytes, copies, ringSizeBytes, leaseTtlMs, requestDeadlineMs: REQUEST_DEADLINE_MS },
    {
      clock: monotonicClock,
      defer: (task) => process.nextTick(task),
      after: (delayMs, task) => setTimeout(task, delayMs).unref(),
      random: Math.random,
      sources,
      logger: logger.child({ volume: name }),
    },
  );
}

// --- The mount ---------------------------------------------------------------------------------------

/** How long a mount may take to agree with the kernel on a protocol, milliseconds. */
const AGREE_WAIT_MS = 5_000;
/** After an unmount the kernel says at once that it is gone; users of a lazy one have so long to leave. */
const GONE_WAIT_MS = 1_500;
/** Calls of files that wait for providers: who unmounts waits so long for their end, milliseconds. */
const CALLS_WAIT_MS = 500;
/** Leases have so long to go back, milliseconds; what does not is wiped by its provider in time. */
const POOL_CLOSE_MS = 2_000;
const LOOK_MS = 5;
const DAMAGED_FILE_COUNT_MAX = 100;

/** Told what a mount does by itself. */
export interface PoolMountEvents {
  /** True once the mount is not wanted any more. */
  readonly cancelled: () => boolean;
  /** Somebody else has unmounted it. */
  readonly onUnmounted: () => void;
  /** A provider broke the rules. */
  readonly onQuarantine: (nodeId: string, reason: string) => void;
}

/** A mount that the kernel has. */
interface Served {
  readonly directory: string;
  readonly device: FuseDevice;
  /** The kernel says that the mount is gone. */
  gone: boolean;
  /** We are taking it away ourselves. */
  leaving: boolean;
}

/** The files on a {@link MountPool}, and the directory where the kernel shows them. */
export class PoolMount implements ServedMount {
  readonly #start: StartMessage;
  readonly #logger: Logger;
  readonly #events: PoolMountEvents;
  readonly #pool: MountPool;
  readonly #store: PageFileStore;
  readonly #files: FileSystem;
  #served: Served | undefined;
  /** Resolves when nothing of the last mount is under way any more. */
  #settled: Promise<void> = Promise.resolve();
  /** Requests of mounts that are gone. */
  #formerRequestCount = 0;

  private constructor(
    start: StartMessage,
    logger: Logger,
    events: PoolMountEvents,
    pool: MountPool,
  ) {
    this.#start = start;
    this.#logger = logger;
    this.#events = events;
    this.#pool = pool;
    const { sizeBytes, uid, gid, mode } = start.request;
    let store: PageFileStore | undefined;
    this.#files = new FileSystem({
      openStore: (sink) => (store = new PageFileStore(pool.device, sink)),
      clock: new KernelClock(),
      ...{ sizeBytes, uid, gid, mode },
      hashSeed: randomBytes(4).readUInt32LE(0),
    });
    assert(store !== undefined);
    this.#store = store;
  }

  /**
   * Makes the pool, the files and the mount.
   *
   * @throws MemcloudError as {@link MountPool.open}; `ERR_MOUNT_POINT`, `ERR_MOUNT_FAILED`, `ERR_UNSUPPORTED`
   */
  static async open(
    start: StartMessage,
    logger: Logger,
    events: PoolMountEvents,
  ): Promise<PoolMount> {
    const { cancelled, onQuarantine } = events;
    if (start.request.transport !== 'kernel') {
      throw new MemcloudError('ERR_UNSUPPORTED', 'this build mounts by way of /dev/fuse only');
    }
    const pool = await MountPool.open(start, logger, cancelled, onQuarantine);
    const mount = new PoolMount(start, logger, events, pool);
    try {
      await mount.#mount(start.request.directory);
      return mount;
    } catch (error) {
      await mount.close();
      throw error;
    }
  }

  /** @inheritDoc */
  setPeers(peers: readonly MountPeer[]): void {
    this.#pool.setPeers(peers);
  }

  /** @inheritDoc */
  status(): MountStatus {
    const { volumeName, sizeBytes, copies, transport } = this.#start.request;
    const directory = this.#served?.directory ?? '';
    const damaged = this.#files.damagedPaths(DAMAGED_FILE_COUNT_MAX);
    const served = this.#served?.device.session.statistics.requestCount ?? 0;
    return {
      ...{ directory, volumeName, sizeBytes, copies, transport },
      usedBytes: this.#store.room().usedPageCount * PAGE_SIZE_BYTES,
      inodeCount: this.#files.inodeCount,
      metadataBytes: this.#files.metadataBytes + this.#store.metadataBytes,
      ...this.#pool.status(),
      damagedFiles: damaged.paths.map((path) => `${directory}${path}`),
      damagedFileCount: damaged.count,
      requestCount: this.#formerRequestCount + served,
      pid: process.pid,
    };
  }

  /** @inheritDoc */
  async unmount(lazy: boolean): Promise<'done' | 'busy'> {
    const served = this.#served;
    if (served === undefined) return 'done';
    served.leaving = true;
    try {
      const result = await unmountFuse(served.directory, { lazy });
      if (result === 'busy') {
        served.leaving = false;
        return 'busy';
      }
    } catch (error) {
      served.leaving = false;
      throw error;
    }
    await within(GONE_WAIT_MS, LOOK_MS, () => served.gone);
    await this.#disconnect(served);
    return 'done';
  }

  /** @inheritDoc */
  async remount(directory: string): Promise<void> {
    if (this.#served !== undefined) {
      const text = `the files are mounted at ${this.#served.directory}`;
      throw new MemcloudError('ERR_MOUNT_BUSY', text);
    }
    await this.#settled;
    await this.#mount(directory);
  }

  /** @inheritDoc */
  async close(): Promise<void> {
    if (this.#served !== undefined) await this.#disconnect(this.#served);
    this.#files.close();
    const closed = this.#pool.close().catch((error: unknown) => {
      this.#logger.warn({ err: asMemcloudError(error).message }, 'the pool did not close in order');
    });
    let isClosed = false;
    void closed.then(() => (isClosed = true));
    await within(POOL_CLOSE_MS, LOOK_MS, () => isClosed);
  }

  async #mount(directory: string): Promise<void> {
    const { allowOther, profile } = this.#start.request;
    const fd = await mountFuse({ directory, allowOther });
    const device = new FuseDevice({
      fd,
      profile: FUSE_PROFILES[profile],
      spin: this.#pool.spin,
      clock: monotonicClock,
      log: this.#logger,
      onEnd: (error) => this.#onEnd(served, error),
    });
    const served: Served = { directory, device, gone: false, leaving: false };
    this.#served = served;
    try {
      this.#files.connect(device.session);
      device.serve(this.#files);
      const agreed = (): boolean => device.session.agreed !== undefined || served.gone;
      if (!(await within(AGREE_WAIT_MS, LOOK_MS, agreed)) || served.gone) {
        throw new MemcloudError(
          'ERR_UNSUPPORTED',
          `mount ${directory}: this kernel and memnode have no version of the FUSE protocol in common`,
        );
      }
    } catch (error) {
      await this.unmount(true).catch(() => undefined);
      throw error;
    }
  }

  /** The kernel ended the conversation: nobody will ask any more. */
  #onEnd(served: Served, error: MemcloudError | undefined): void {
    served.gone = true;
    if (served.leaving) return;
    const { directory } = served;
    if (error === undefined) this.#logger.info({ directory }, 'unmounted by others');
    else this.#logger.warn({ directory, err: error.message }, 'the connection was aborted');
    void this.#afterEnd(served, error).finally(() => this.#events.onUnmounted());
  }

  async #afterEnd(served: Served, error: MemcloudError | undefined): Promise<void> {
    // A connection that was aborted leaves its mount point, dead.
    if (error !== undefined) {
      await unmountFuse(served.directory, { lazy: true }).catch(() => undefined);
    }
    await this.#disconnect(served);
  }

  /** Serves this mount no more; whoever still uses it is told so by the kernel. */
  async #disconnect(served: Served): Promise<void> {
    if (this.#served !== served) return;
    this.#served = undefined;
    const { device } = served;
    this.#formerRequestCount += device.session.statistics.requestCount;
    device.close();
    let isSettled = false;
    this.#settled = this.#settle(device.session).finally(() => (isSettled = true));
    await within(CALLS_WAIT_MS, LOOK_MS, () => isSettled);
  }

  /** Calls under way hold memory of the session, and mean files that would be forgotten: they end first. */
  async #settle(session: FuseSession): Promise<void> {
    const isIdle = (): boolean => session.waitingCount === 0;
    if (!(await within(REQUEST_DEADLINE_MS + CALLS_WAIT_MS, LOOK_MS, isIdle))) {
      this.#logger.error({ calls: session.waitingCount }, 'calls of files did not end');
      return;
    }
    session.close();
    this.#files.disconnect();
  }
}
