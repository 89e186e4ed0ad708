/**
 * The volume under the files of one mount, and all that it takes: peers on a lane of the node's identity,
 * with the trust that the daemon told, RAM of this machine if that was asked for, and a volume on both.
 * Nothing of it is on disk. Ends come in the order in which work flows: the volume (leases go back), the
 * peers, the provider, which wipes.
 */
import { randomBytes } from 'node:crypto';
import { monotonicClock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import type { Logger } from '../common/log.ts';
import type { SlabSource, SlabSources } from '../common/ports.ts';
import { makeProcessSpin } from '../common/process-spin.ts';
import { takesSlabs } from '../common/slab-sources.ts';
import { everyTick, type Tick } from '../common/ticker.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { ConsentQueue } from '../peer/consent.ts';
import { Identity } from '../peer/identity.ts';
import { keepaliveLimits } from '../peer/keepalive-machine.ts';
import { Peers } from '../peer/peers.ts';
import { Quarantines } from '../peer/quarantines.ts';
import { TrustStore } from '../peer/trust.ts';
import type { LocalSlabSource } from '../provider/local-source.ts';
import { leaseChargeBytes } from '../provider/quota.ts';
import type { RamProvider } from '../provider/service.ts';
import { VolumeBlockDevice } from '../tier/block-device.ts';
import { VOLUME_TICK_MS, Volume } from '../tier/volume.ts';
import { capacityProblem, roomOf } from './capacity.ts';
import { drainRoom } from './drain-room.ts';
import type { PoolLease, PoolUse } from './managed/pool-lease.ts';
import { ManagedSources } from './managed/sources.ts';
import type { StartMessage } from './mounts/child.ts';
import { LanePeers } from './mounts/lane-peers.ts';
import { largestVolumeBytes } from './mounts/pool-room.ts';
import type { MountPeer } from './mounts/protocol.ts';
import {
  ownProvider,
  waitForRoom,
  type MountBacking,
  type MountBackingStatus,
} from './wire-mount-parts.ts';
import { holdingOn } from './volumes.ts';
import { REQUEST_DEADLINE_MS, isThisNode, localSource, volumeWorld } from './wire-volume.ts';

/** Bytes of a lane's random name. */
const LANE_SIZE_BYTES = 8;
/** statfs(2) walks no slabs more often than this, milliseconds. */
const ROOM_AGE_MAX_MS = 1_000;

/** See the top of the file. */
export class MountPool implements MountBacking {
  /** Keeps the event loop awake for pages and files. */
  readonly spin: EventLoopSpin;
  /** The bytes of the files. */
  readonly device: VolumeBlockDevice;
  readonly #volume: Volume;
  readonly #peers: Peers;
  readonly #provider: RamProvider | undefined;
  readonly #sources: SlabSources;
  readonly #lanePeers: LanePeers;
  readonly #timer: Tick;
  #roomPageCount = 0;
  #roomAtMs = -Infinity;

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
    this.#timer = everyTick(VOLUME_TICK_MS, () => volume.tick());
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
      const spin = makeProcessSpin();
      const provider = lendsItself(start) ? ownProvider(start, logger) : undefined;
      undo.push(() => provider?.close());
      let made: Volume | undefined;
      const { peers, lanePeers, identity } = dialProviders(start, logger, spin, {
        onQuarantine,
        evacuate: (source) => made?.evacuate(source),
      });
      undo.push(() => peers.close());
      const { name: nodeName, hostId, zone } = start;
      const who = { nodeId: identity.nodeId, nodeName, hostId, zone };
      const local = provider === undefined ? undefined : localSource(who, provider);
      const sources = sourcesOf(start, peers, lanePeers, local);
      await waitForRoom(start, sources, lanePeers, cancelled);
      const volume = (made = makeVolume(start, sources, logger));
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

  /** Follows the managed leases, whose providers are the only ones. @returns what of them is in use */
  setLeases(leases: readonly PoolLease[]): PoolUse {
    if (!(this.#sources instanceof ManagedSources)) {
      throw new MemcloudError('ERR_INTERNAL', 'leases of a mount that has none');
    }
    this.#lanePeers.follow(leases.map(peerOf));
    this.#sources.follow(leases);
    return this.#sources.use();
  }

  /** @inheritDoc */
  status(): MountBackingStatus {
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

  /**
   * By the providers' last words: pages in slabs that are leased and not full, and in slabs that can be leased.
   * At most a second old.
   */
  freePageCount(usedPageCount: number): number {
    const nowMs = monotonicClock.nowMs();
    if (nowMs - this.#roomAtMs >= ROOM_AGE_MAX_MS) {
      this.#roomAtMs = nowMs;
      this.#roomPageCount = this.#findRoom();
    }
    return Math.max(0, this.#roomPageCount - usedPageCount);
  }

  #findRoom(): number {
    const { pageCount, options } = this.#volume;
    const { copies } = options;
    const rooms = this.#sources.list().filter(takesSlabs).map(roomOf);
    const leasedPages = this.#volume.status().leasedSlabs * SLAB_PAGE_COUNT;
    const sizeBytes = Math.max(0, pageCount - leasedPages) * SEALED_PAGE_SIZE_BYTES;
    const problem = capacityProblem({ sizeBytes, copies, overcommit: false }, rooms);
    if (sizeBytes === 0 || problem === undefined) return pageCount;
    return leasedPages + largestVolumeBytes(rooms, copies) / PAGE_SIZE_BYTES;
  }

  /** Gives the leases back and ends everything; the pages are gone. */
  async close(): Promise<void> {
    await this.#volume.close();
    this.#timer.stop();
    await this.#peers.close();
    this.#provider?.close();
  }
}

function lendsItself({ request, name }: StartMessage): boolean {
  return request.providers?.some((wanted) => isThisNode(wanted, name)) === true;
}

function dialProviders(
  start: StartMessage,
  logger: Logger,
  spin: EventLoopSpin,
  events: {
    readonly onQuarantine: (nodeId: string, reason: string) => void;
    readonly evacuate: (source: SlabSource) => void;
  },
): { peers: Peers; lanePeers: LanePeers; identity: Identity } {
  const { name, hostId, zone, peerDeadMs, stateDirectory } = start;
  const identity = Identity.load(stateDirectory);
  const trust = TrustStore.inMemory();
  const quarantines = Quarantines.inMemory();
  quarantines.onPut = ({ nodeId, reason }) => events.onQuarantine(nodeId, reason);
  const peers = new Peers({
    ...{ identity, name, hostId, zone, trust, quarantines, logger, spin },
    consent: new ConsentQueue({ clock: monotonicClock }),
    lane: randomBytes(LANE_SIZE_BYTES).toString('hex'),
    keepalive: keepaliveLimits(peerDeadMs),
  });
  const lanePeers = new LanePeers(peers, trust, logger, events.evacuate);
  lanePeers.follow(start.leases?.map(peerOf) ?? start.peers);
  return { peers, lanePeers, identity };
}

/** The provider of a managed lease. */
function peerOf({ provider: { nodeId, name, address, publicKey } }: PoolLease): MountPeer {
  const key = Buffer.from(publicKey, 'hex').toString('base64');
  return { nodeId, name, address, publicKey: key };
}

/** The providers that were asked for, or all that the daemon names, now and later. */
function sourcesOf(
  { request, name, leases }: StartMessage,
  peers: Peers,
  lanePeers: LanePeers,
  local: LocalSlabSource | undefined,
): SlabSources {
  if (leases !== undefined) {
    const managed = new ManagedSources({
      sourceOf: (provider) => peers.remember(provider.nodeId, provider.name),
      chargeBytes: leaseChargeBytes,
      clock: monotonicClock,
    });
    managed.follow(leases);
    return managed;
  }
  if (request.providers === undefined) return peers;
  const named = request.providers.map((wanted): SlabSource => {
    if (local !== undefined && isThisNode(wanted, name)) return local;
    const found = lanePeers.find(wanted);
    if (found !== undefined) return peers.store(found.nodeId);
    throw new MemcloudError(
      'ERR_PEER_UNKNOWN',
      `no peer that takes mounts is called "${wanted}"; an older memnode does not`,
    );
  });
  return { list: () => named };
}

function makeVolume(start: StartMessage, sources: SlabSources, logger: Logger): Volume {
  const { volumeName: name, sizeBytes, copies, ringSizeBytes } = start.request;
  const { leaseTtlMs } = start;
  return new Volume(
    { name, sizeBytes, copies, ringSizeBytes, leaseTtlMs, requestDeadlineMs: REQUEST_DEADLINE_MS },
    volumeWorld(name, sources, logger),
  );
}
