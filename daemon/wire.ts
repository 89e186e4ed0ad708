/**
 * The one file that knows both ends of each seam: it makes the parts of a daemon and joins them.
 *
 *   peers ------ SlabSources ----> volumes ---- BlockDevice ---> NBD servers, kernel devices
 *     ^                                                     RPC ---> all of them
 *     +--------- SlabProvider ---- provider
 *
 * Ends come in the order in which work flows: clients first, then volumes (leases go back), then
 * peers, then the provider (which wipes), then the lock. Direct devices do not end with the daemon:
 * the kernel needs nobody for them, and the next daemon takes them up (`wire-direct.ts`).
 */
import { MemcloudError } from '../common/errors.ts';
import type { LevelLogger, Logger } from '../common/log.ts';
import type { BlockDevice, NodeId, SlabSource, SlabSources } from '../common/ports.ts';
import type { DirectDeviceInfo, DirectExportInfo } from '../common/rpc-schema.ts';
import { takesSlabs } from '../common/slab-sources.ts';
import { everyTick, type Tick } from '../common/ticker.ts';
import type { Discovery } from '../peer/discovery/discovery.ts';
import type { Peers } from '../peer/peers.ts';
import type { Quarantines } from '../peer/quarantines.ts';
import { warmUpHandshake } from '../peer/warm-up.ts';
import type { LocalSlabSource } from '../provider/local-source.ts';
import type { RamProvider } from '../provider/service.ts';
import { SpillSource } from '../provider/spill-source.ts';
import { VolumeBlockDevice } from '../tier/block-device.ts';
import { VOLUME_TICK_MS, Volume } from '../tier/volume.ts';
import { capacityProblem, localRoom, roomOf, type FreeRoom } from './capacity.ts';
import type { DaemonConfig } from './config.ts';
import { DirectDevices } from './direct/devices.ts';
import { Drain } from './drain.ts';
import { drainRoom } from './drain-room.ts';
import type { Predecessor } from './handover/taker.ts';
import { GarbageCollectionWatch } from './garbage-collection.ts';
import { LiveConfig } from './live-config.ts';
import { drainedMounts } from './mounts/holdings.ts';
import { machineMounts } from './mounts/assemble.ts';
import type { Mounts } from './mounts/mounts.ts';
import type { PoolNumbers } from './notify.ts';
import { rpcHandlers } from './rpc-methods.ts';
import { listenOnLoopback, makeRpcServer } from './rpc/assemble.ts';
import type { RpcHandlers, RpcServer } from './rpc-server.ts';
import { inheritStateLock, type StateLock } from './state-lock.ts';
import {
  Volumes,
  type AttachRequest,
  type Attachment,
  type ExportService,
  type ServeRequest,
  type VolumeParts,
  type VolumeRequest,
} from './volumes.ts';
import { directParts, wireGuardTo, type DirectService } from './wire-direct.ts';
import { startDiscovery } from './wire-discovery.ts';
import { Exports, activatedSocket, passedSocket } from './wire-exports.ts';
import { Handover, type RestoreRequest } from './wire-handover.ts';
import type { Managed } from './wire-managed.ts';
import { joinControlPlane, type ManagedClient } from './wire-managed-client.ts';
import type { Objects } from './wire-objects.ts';
import { appliers, openParts, wipeLeftovers, type DaemonParts, type Undo } from './wire-parts.ts';
import {
  LOCAL_PROVIDER,
  REQUEST_DEADLINE_MS,
  isThisNode,
  labellerFor,
  localSource,
  volumeWorld,
} from './wire-volume.ts';

const RPC_CLOSE_GRACE_MS = 500;
const EXPORT_RING_SIZE_BYTES = 4 * 2 ** 20;

/** A running daemon. */
export class Daemon implements VolumeParts {
  /** Who it is. */
  readonly nodeId: NodeId;
  /** Where peers reach it. */
  readonly peerAddress: string;
  /** Called when somebody asks by RPC that the process end. */
  onShutdownRequested: () => void = () => undefined;
  /** By what it runs; its `reload` reads the files again. */
  readonly liveConfig: LiveConfig;
  /** Called when a successor has everything: the process is to end, and nothing is to be closed. */
  onHandoverEnded: () => void = () => undefined;
  /** Called on each tick of the volumes, by the loop that carries pages. */
  onTick: () => void = () => undefined;
  readonly #config: DaemonConfig;
  readonly #logger: Logger;
  readonly #peers: Peers;
  readonly #discovery: Discovery;
  readonly #quarantines: Quarantines;
  readonly #provider: RamProvider;
  readonly #local: LocalSlabSource;
  readonly #volumes: Volumes;
  readonly #service: DirectService;
  readonly #objects: Objects;
  readonly #managed: Managed;
  readonly #client: ManagedClient | undefined;
  readonly #direct: DirectDevices;
  readonly #mounts: Mounts;
  readonly #rpc: RpcServer;
  readonly #timer: Tick;
  readonly #exports: Exports;
  readonly #handover: Handover;
  #lock: StateLock | undefined;
  readonly #garbageCollection = new GarbageCollectionWatch();

  private constructor(
    config: DaemonConfig,
    logger: LevelLogger,
    parts: DaemonParts,
    peerAddress: string,
  ) {
    const { identity, peers, quarantines, hostId, provider, service } = parts;
    this.#config = config;
    this.#logger = logger;
    this.#peers = peers;
    this.#quarantines = quarantines;
    this.#provider = provider;
    this.#service = service;
    this.#objects = parts.objects;
    this.#managed = parts.managed;
    this.#lock = parts.lock;
    this.nodeId = identity.nodeId;
    this.peerAddress = peerAddress;
    const { name, zone } = config;
    this.#local = localSource({ nodeId: identity.nodeId, nodeName: name, hostId, zone }, provider);
    const { port, door } = parts;
    this.#managed.start({ identity, peers, provider, hostId, port, trust: door.trust });
    this.#client = joinControlPlane(parts, logger);
    this.#exports = new Exports({ logger, spin: parts.spin, socketPath: config.socketPath });
    this.#volumes = new Volumes(this, logger);
    this.#direct = new DirectDevices(
      directParts(
        {
          sources: () => peers.list(),
          find: (nodeId) =>
            [...peers.list(), ...peers.guests()].find((each) => each.nodeId === nodeId),
          leases: () => this.#client,
        },
        logger,
      ),
      `${config.socketPath}.devices.json`,
      logger,
    );
    const volumes = this.#volumes;
    const onKilled = (): void => wipeLeftovers(config.memoryDirectory, logger);
    const neighbours = { peers, quarantines, volumes, onKilled };
    const mounts = machineMounts(config, hostId, logger, neighbours);
    this.#mounts = mounts;
    peers.recallRoom = (source) => drainRoom(volumes.holdingsOn(source));
    const { nodeId } = this;
    const found = { nodeId, peerAddress, peers, provider };
    this.#discovery = startDiscovery(config, found, logger);
    this.liveConfig = new LiveConfig(config.written, appliers(parts, logger), logger);
    this.#rpc = makeRpcServer(this.#handlers(parts), config, logger, parts.spin);
    this.#handover = new Handover(
      {
        ...{ nodeId, peerAddress, peers, provider, volumes },
        directExports: () => service.status(),
        exports: this.#exports,
        mounts: () => mounts.inUse(),
        managedLeases: () => this.#client?.boundCount ?? 0,
        lossOfObjects: () => this.#objects.lossOfHandover,
        rpc: this.#rpc,
        lockDescriptor: () => this.#lock?.fd ?? -1,
        makeVolume: (request) => this.#volumeMaker(request),
        abandon: () => this.#abandon(),
        leave: () => this.#leave(),
      },
      logger,
    );
    this.#timer = everyTick(VOLUME_TICK_MS, () => {
      this.#volumes.tick();
      this.onTick();
    });
  }

  /**
   * Starts a daemon; when this resolves it takes peers and RPC.
   *
   * @param predecessor - the daemon to replace, which runs and has the state directory
   * @throws MemcloudError `ERR_DAEMON_BUSY`, `ERR_IDENTITY`, `ERR_NATIVE`, `ERR_USAGE_ADDRESS`;
   *   `ERR_HANDOVER` when the predecessor goes on
   */
  static async start(
    config: DaemonConfig,
    logger: LevelLogger,
    predecessor?: Predecessor,
  ): Promise<Daemon> {
    const undo: Undo = [];
    try {
      const parts = openParts(config, logger, { lock: predecessor === undefined }, undo);
      const { identity, peers, listen } = parts;
      if (predecessor !== undefined) {
        warmUpHandshake(identity);
        await predecessor.rehearse(identity.nodeId, (estate) => Handover.look(estate));
      }
      // From here on clients of the predecessor wait.
      const estate = await predecessor?.ask(identity.nodeId);
      const peerAddress = estate?.manifest.peerAddress ?? (await listen());
      const daemon = new Daemon(config, logger, parts, peerAddress);
      undo.push(() => daemon.#timer.stop());
      undo.push(() => daemon.#discovery.close());
      if (predecessor !== undefined && estate !== undefined) {
        await daemon.#handover.takeOver(predecessor, estate, async ({ inheritance, manifest }) => {
          const [peerListener] = manifest.peerListeners;
          if (peerListener !== undefined) await listen(inheritance.take(peerListener));
          const lockFd = inheritance.take(manifest.lock);
          daemon.#lock = inheritStateLock(config.stateDirectory, lockFd);
          const fd = inheritance.take(manifest.rpcListener);
          const keepFile = manifest.rpcFileKept;
          await daemon.#rpc.listen(config.socketPath, { fd, keepFile });
        });
      } else {
        daemon.#exports.endOrphans();
        await daemon.#mounts.cleanUp();
      }
      undo.push(() => daemon.#mounts.close());
      undo.push(() => daemon.#client?.abandon());
      await daemon.#direct.resume();
      daemon.#client?.leases.start();
      undo.push(() => daemon.#direct.close());
      if (estate === undefined) await daemon.#rpc.listen(config.socketPath, activatedSocket());
      await listenOnLoopback(daemon.#rpc, config, estate !== undefined);
      for (const address of config.connect) peers.connect(address);
      parts.managed.connect(peers);
      if (estate === undefined && config.exportVolume !== undefined)
        await daemon.#exportInherited(config.exportVolume);
      return daemon;
    } catch (error) {
      for (const step of undo.reverse()) await step();
      throw error;
    }
  }

  /** The pool in numbers. */
  poolNumbers(): PoolNumbers {
    const peers = this.#peers.peers();
    const { usage } = this.#provider.status();
    const volumes = this.#volumes.list();
    const direct = this.#direct.list();
    return {
      peersUp: peers.filter(({ state }) => state === 'up').length,
      peerCount: peers.length,
      lentBytes: usage.usedBytes,
      offeredBytes: usage.offeredBytes,
      borrowedBytes:
        volumes.reduce((sum, { leasedBytes }) => sum + leasedBytes, 0) +
        direct.reduce((sum, { sizeBytes, copies }) => sum + sizeBytes * copies, 0),
      devices: [
        ...volumes.flatMap(({ devices }) => devices),
        ...direct.map(({ device }) => device),
      ],
    };
  }

  /** Ends everything in order. */
  async close(): Promise<void> {
    await this.#rpc.close(RPC_CLOSE_GRACE_MS);
    await this.#mounts.close();
    await this.#volumes.close();
    this.#direct.close();
    this.#timer.stop();
    await this.#discovery.close();
    await this.#client?.close();
    await this.#managed.close();
    await this.#peers.close();
    this.#quarantines.flush();
    await this.#service.close();
    this.#objects.close();
    this.#provider.close();
    this.#garbageCollection.close();
    this.#lock?.release();
  }

  /** Variables for a successor that this daemon starts, such as those of the service manager. */
  set successorEnvironment(variables: NodeJS.ProcessEnv) {
    this.#handover.successorEnvironment = variables;
  }

  /** Called with the process id of the successor before it is told to go on. */
  set onHandedOver(told: (successorPid: number) => void) {
    this.#handover.onHandedOver = told;
  }

  /** A successor has the sockets, the lock and the volumes: sessions end, so that its own can begin. */
  #abandon(): void {
    this.#timer.stop();
    this.#rpc.abandon();
    this.#direct.close();
    void this.#discovery.close();
    this.#client?.abandon();
    this.#managed.abandon();
    void this.#peers.close();
  }

  /** The rest of {@link Daemon.close} for a daemon that has handed over; ends the process. */
  #leave(): void {
    void this.#service
      .close()
      .then(() => this.#objects.close())
      .then(() => this.#provider.close())
      .finally(() => this.onHandoverEnded());
  }

  /** What RPC clients may ask, and who answers. */
  #handlers({ door, peers, quarantines, allowances, hostId, provider }: DaemonParts): RpcHandlers {
    const { nodeId, peerAddress } = this;
    const { name, zone, objectReaders: readersDefault } = this.#config;
    const volumes = this.#volumes;
    const mounts = this.#mounts;
    const directExports = (): DirectExportInfo[] => this.#service.status();
    const directDevices = (): DirectDeviceInfo[] => this.#direct.list();
    const drain = new Drain({
      ...{ nodeId, name, provider, peers, volumes },
      ...{ directExports, directDevices, mounts: drainedMounts(mounts, peers) },
      objects: this.#objects.drained,
    });
    return rpcHandlers({
      ...{ nodeId, name, hostId, zone, peerAddress },
      ...{ peers, quarantines, ...door, provider, volumes, mounts, drain, directExports },
      discovery: this.#discovery,
      managed: () => this.#client,
      objectNumbers: () => this.#objects.numbers,
      objectHandlers: this.#objects.handlers({ name, peers, trust: door.trust, readersDefault }),
      rpcCounters: () => this.#rpc.counters,
      peerContext: {
        ...{ peers, quarantines, allowances, provider, directExports, directDevices },
        leasedFrom: (peer) => drainRoom(volumes.holdingsOn(peer)).heldBytes,
        wireGuardTo,
      },
      rooms: (providers) => this.#rooms(providers),
      direct: this.#direct,
      config: this.liveConfig,
      garbageCollection: this.#garbageCollection,
      handover: () => this.#handover.info,
      handOver: (request) => this.#handover.giver.begin(request),
      restart: (force) => this.#handover.restart(force),
      allow: (node, bytes) => {
        if (bytes === undefined) allowances.forget(node);
        else allowances.set(node, bytes);
      },
      requestShutdown: () => this.onShutdownRequested(),
    });
  }

  /** Socket activation: one volume, in this machine's own RAM, on the socket that was passed. */
  async #exportInherited(wanted: { name: string; sizeBytes: number }): Promise<void> {
    const fd = passedSocket();
    this.#volumes.create({
      ...wanted,
      copies: 1,
      ringSizeBytes: EXPORT_RING_SIZE_BYTES,
      providers: [LOCAL_PROVIDER],
      overcommit: false,
    });
    await this.#volumes.serve(wanted.name, { address: { fd }, readOnly: false });
  }

  /** Room for a mount, whose process keeps `local` pages itself, beside what the daemon lends. */
  #rooms(providers: readonly string[] | undefined): FreeRoom[] {
    const rooms = this.sourcesFor(providers).list().filter(takesSlabs);
    const memory = this.#provider.status().giveBack;
    return rooms.map((source) =>
      source === this.#local ? localRoom(source, memory) : roomOf(source),
    );
  }

  // --- What volumes are made of ------------------------------------------------------------------

  /** @inheritDoc */
  createVolume(request: VolumeRequest, sources: SlabSources): Volume {
    const { name, sizeBytes, copies, ringSizeBytes, providers, spill } = request;
    const problem = capacityProblem(request, sources.list().filter(takesSlabs).map(roomOf));
    if (problem !== undefined) {
      throw new MemcloudError('ERR_VOLUME_CAPACITY', `volume ${name}: ${problem}`);
    }
    const options = {
      name,
      sizeBytes,
      copies,
      ringSizeBytes,
      leaseTtlMs: this.#config.leaseTtlMs,
      requestDeadlineMs: REQUEST_DEADLINE_MS,
    };
    const world = volumeWorld(name, sources, this.#logger);
    if (spill === undefined) {
      return new Volume(options, world, labellerFor(providers, this.#config.name));
    }
    return new Volume(options, {
      ...world,
      spill: new SpillSource(spill.place, spill.sizeBytes),
    });
  }

  /** A volume of a former process of this node; its providers may not be connected yet. */
  #volumeMaker(request: RestoreRequest): Volume {
    const { image, secrets, providers } = request;
    const world = volumeWorld(image.options.name, this.sourcesFor(providers), this.#logger);
    return Volume.fromImage(image, secrets, world, (nodeId, nodeName) =>
      this.#peers.remember(nodeId, nodeName),
    );
  }

  /** @inheritDoc */
  createDevice(volume: Volume): BlockDevice {
    return new VolumeBlockDevice(volume);
  }

  /** @inheritDoc */
  serve(device: BlockDevice, request: ServeRequest): Promise<ExportService> {
    return this.#exports.serve(device, request);
  }

  /** @inheritDoc */
  attach(device: BlockDevice, request: AttachRequest): Promise<Attachment> {
    return this.#exports.attach(device, request);
  }

  /** @inheritDoc */
  sourcesFor(providers: readonly string[] | undefined): SlabSources {
    if (providers === undefined) return this.#peers;
    const named: SlabSource[] = providers.map((wanted) =>
      isThisNode(wanted, this.#config.name) ? this.#local : this.#peers.store(wanted),
    );
    return { list: () => named };
  }
}
