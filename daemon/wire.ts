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
import { monotonicClock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import { EventLoopSpin, SPIN_WINDOW_DEFAULT_US } from '../common/event-loop-spin.ts';
import { hostOf } from '../common/failure-domain.ts';
import type { LevelLogger, Logger } from '../common/log.ts';
import type { BlockDevice, NodeId, SlabSource, SlabSources } from '../common/ports.ts';
import { checkSocketPath } from '../common/paths.ts';
import type { DirectDeviceInfo, DirectExportInfo } from '../common/rpc-schema.ts';
import { formatAddress, parseAddress } from '../common/units.ts';
import {
  attachKernel,
  type AttachOptions,
  type KernelAttachment,
} from '../nbd-server/client/kernel/attach.ts';
import { keepConnected } from '../nbd-server/client/kernel/keep-connected.ts';
import {
  attachByNbdClient,
  detachByNbdClient,
} from '../nbd-server/client/kernel/nbd-client-program.ts';
import { inheritedSockets } from '../nbd-server/inherited-sockets.ts';
import { NbdServer } from '../nbd-server/server.ts';
import { tlsFromCertificates, tlsFromKeys, type ServerTls } from '../nbd-server/tls.ts';
import { ConsentQueue } from '../peer/consent.ts';
import { Identity } from '../peer/identity.ts';
import { keepaliveLimits } from '../peer/keepalive-machine.ts';
import { Peers } from '../peer/peers.ts';
import { Quarantines } from '../peer/quarantines.ts';
import { TrustStore } from '../peer/trust.ts';
import { LocalSlabSource } from '../provider/local-source.ts';
import { RamProvider } from '../provider/service.ts';
import { SpillSource } from '../provider/spill-source.ts';
import { VolumeBlockDevice } from '../tier/block-device.ts';
import { VOLUME_TICK_MS, Volume } from '../tier/volume.ts';
import { capacityProblem } from './capacity.ts';
import type { DaemonConfig } from './config.ts';
import { DirectDevices } from './direct/devices.ts';
import { Drain } from './drain.ts';
import { drainRoom } from './drain-room.ts';
import { GarbageCollectionWatch } from './garbage-collection.ts';
import { machineHostId } from './host.ts';
import { LiveConfig, type Appliers } from './live-config.ts';
import type { PoolNumbers } from './notify.ts';
import { rpcHandlers } from './rpc-methods.ts';
import { RpcServer } from './rpc-server.ts';
import { lockStateDirectory } from './state-lock.ts';
import {
  Volumes,
  type AttachRequest,
  type Attachment,
  type ExportService,
  type ExportTls,
  type ServeRequest,
  type VolumeParts,
  type VolumeRequest,
} from './volumes.ts';
import { DirectService, directParts } from './wire-direct.ts';

const REQUEST_DEADLINE_MS = 15_000;
const RPC_CLOSE_GRACE_MS = 500;
const EXPORT_RING_SIZE_BYTES = 4 * 2 ** 20;
/** The kernel keeps the requests of a device so long when every connection is dead. */
const DEAD_CONNECTION_TIMEOUT_S = 3600;
/** The name by which a volume asks for the provider of its own machine. */
const LOCAL_PROVIDER = 'local';

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
  /** Called on each tick of the volumes, by the loop that carries pages. */
  onTick: () => void = () => undefined;
  readonly #config: DaemonConfig;
  readonly #logger: Logger;
  readonly #peers: Peers;
  readonly #quarantines: Quarantines;
  readonly #provider: RamProvider;
  readonly #local: LocalSlabSource;
  readonly #volumes: Volumes;
  readonly #service: DirectService;
  readonly #direct: DirectDevices;
  readonly #rpc: RpcServer;
  readonly #timer: NodeJS.Timeout;
  readonly #spin: EventLoopSpin;
  readonly #unlock: () => void;
  readonly #garbageCollection = new GarbageCollectionWatch();
  #attachCount = 0;

  private constructor(
    config: DaemonConfig,
    logger: LevelLogger,
    parts: {
      identity: Identity;
      trust: TrustStore;
      consent: ConsentQueue;
      peers: Peers;
      quarantines: Quarantines;
      hostId: string;
      provider: RamProvider;
      service: DirectService;
      spin: EventLoopSpin;
      peerAddress: string;
      unlock: () => void;
    },
  ) {
    const { identity, trust, consent, peers, quarantines, hostId, provider } = parts;
    const { peerAddress, unlock } = parts;
    this.#config = config;
    this.#logger = logger;
    this.#peers = peers;
    this.#quarantines = quarantines;
    this.#provider = provider;
    this.#service = parts.service;
    this.#spin = parts.spin;
    this.#unlock = unlock;
    this.nodeId = identity.nodeId;
    this.peerAddress = peerAddress;
    this.#local = new LocalSlabSource({
      nodeId: identity.nodeId,
      nodeName: config.name,
      access: provider.openAccess(identity.nodeId, {
        onLeasesEnded: () => undefined,
        onRecall: (recall) => this.#local.recall(recall),
        onAccepting: () => undefined,
      }),
      isUp: () => !provider.closed,
      isAccepting: () => provider.accepting,
      hostId,
      zone: config.zone,
    });
    this.#volumes = new Volumes(this, logger);
    this.#direct = new DirectDevices(
      directParts(() => peers.list(), logger),
      `${config.socketPath}.devices.json`,
      logger,
    );
    const volumes = this.#volumes;
    peers.recallRoom = (source) => drainRoom(volumes.holdingsOn(source));
    const directExports = (): DirectExportInfo[] => parts.service.status();
    const directDevices = (): DirectDeviceInfo[] => this.#direct.list();
    const { nodeId } = this;
    const { name, zone } = config;
    const drain = new Drain({
      ...{ nodeId, name, provider, peers, volumes },
      ...{ directExports, directDevices },
    });
    this.liveConfig = new LiveConfig(config.written, this.#appliers(logger), logger);
    const handlers = rpcHandlers({
      ...{ nodeId, name, hostId, zone, peerAddress },
      ...{ peers, quarantines, trust, consent, provider, volumes, drain, directExports },
      direct: this.#direct,
      config: this.liveConfig,
      garbageCollection: this.#garbageCollection,
      requestShutdown: () => this.onShutdownRequested(),
    });
    this.#rpc = new RpcServer(handlers, logger);
    this.#timer = setInterval(() => {
      this.#volumes.tick();
      this.onTick();
    }, VOLUME_TICK_MS);
  }

  /**
   * Starts a daemon; when this resolves it takes peers and RPC.
   *
   * @throws MemcloudError `ERR_DAEMON_BUSY`, `ERR_IDENTITY`, `ERR_NATIVE`, `ERR_USAGE_ADDRESS`
   */
  static async start(config: DaemonConfig, logger: LevelLogger): Promise<Daemon> {
    const unlock = lockStateDirectory(config.stateDirectory);
    const undo: (() => void | Promise<void>)[] = [unlock];
    try {
      const identity = Identity.load(config.stateDirectory);
      const { autoTrust } = config;
      if (autoTrust) {
        logger.warn({}, '--auto-trust: every machine that reaches this port is trusted unasked');
      }
      const trust = TrustStore.load(config.stateDirectory, { autoTrust });
      const quarantines = Quarantines.load(config.stateDirectory, logger);
      undo.push(() => quarantines.flush());
      const consent = new ConsentQueue({ clock: monotonicClock });
      const provider = RamProvider.open({
        offeredBytes: config.offerBytes,
        reserveBytes: config.reserveBytes,
        recallGraceMs: config.recallGraceMs,
        logger,
        ...(config.memoryDirectory === undefined ? {} : { directory: config.memoryDirectory }),
      });
      undo.push(() => provider.close());
      const spin = new EventLoopSpin(monotonicClock, SPIN_WINDOW_DEFAULT_US);
      const { name, zone, host: hostId = machineHostId() } = config;
      let peerPort = 0;
      const { allowPlain } = config;
      if (allowPlain) {
        logger.warn({}, '--allow-plain: direct swap may come over bare TCP, open to tampering');
      }
      const port = (): number => peerPort;
      const service = new DirectService(provider, { port, allowPlain }, logger, spin);
      undo.push(() => service.close());
      const direct = service.exports;
      const peers = new Peers({
        ...{ identity, name, hostId, zone, trust, quarantines, consent },
        ...{ provider, direct, logger, spin },
        keepalive: keepaliveLimits(config.peerDeadMs),
      });
      undo.push(() => peers.close());
      const bound = await peers.listen(config.listen);
      peerPort = bound.port;
      const peerAddress = formatAddress(bound.host, bound.port);
      const parts = {
        ...{ identity, trust, consent, peers, quarantines, hostId },
        ...{ provider, service, spin, peerAddress, unlock },
      };
      const daemon = new Daemon(config, logger, parts);
      undo.push(() => clearInterval(daemon.#timer));
      await daemon.#direct.resume();
      undo.push(() => daemon.#direct.close());
      await daemon.#rpc.listen(config.socketPath);
      for (const address of config.connect) peers.connect(address);
      if (config.exportVolume !== undefined) await daemon.#exportInherited(config.exportVolume);
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
    await this.#volumes.close();
    this.#direct.close();
    clearInterval(this.#timer);
    await this.#peers.close();
    this.#quarantines.flush();
    await this.#service.close();
    this.#provider.close();
    this.#garbageCollection.close();
    this.#unlock();
  }

  /** What a reload may change while peers, volumes and devices go on. */
  #appliers(logger: LevelLogger): Appliers {
    return {
      offer: (bytes) => this.#provider.setOffer(bytes),
      reserve: (bytes) => this.#provider.setReserve(bytes),
      'recall-grace': (seconds) => this.#provider.setRecallGrace(seconds * 1000),
      'log-level': (level) => logger.setLevel(level),
      connect: (addresses, before) => {
        for (const address of before) {
          if (!addresses.includes(address)) this.#peers.stopDialling(address);
        }
        for (const address of addresses) {
          if (!before.includes(address)) this.#peers.connect(address);
        }
      },
    };
  }

  /** Socket activation: one volume, in this machine's own RAM, on the socket that was passed. */
  async #exportInherited(wanted: { name: string; sizeBytes: number }): Promise<void> {
    const [fd] = inheritedSockets(process.env, process.pid);
    if (fd === undefined) {
      throw new MemcloudError(
        'ERR_USAGE',
        '--export: no socket was passed (LISTEN_FDS is not set)',
      );
    }
    this.#volumes.create({
      ...wanted,
      copies: 1,
      ringSizeBytes: EXPORT_RING_SIZE_BYTES,
      providers: [LOCAL_PROVIDER],
      overcommit: false,
    });
    await this.#volumes.serve(wanted.name, { address: { fd }, readOnly: false });
  }

  // --- What volumes are made of ------------------------------------------------------------------

  /** @inheritDoc */
  createVolume(request: VolumeRequest, sources: SlabSources): Volume {
    const { name, sizeBytes, copies, ringSizeBytes, spill } = request;
    const free = sources
      .list()
      .filter((source) => source.up && source.accepting && source.quarantineReason === undefined)
      .map((source) => ({
        name: source.nodeName,
        host: hostOf(source),
        freeBytes: source.usage.offeredBytes - source.usage.usedBytes,
      }));
    const problem = capacityProblem(request, free);
    if (problem !== undefined) {
      throw new MemcloudError('ERR_VOLUME_CAPACITY', `volume ${name}: ${problem}`);
    }
    return new Volume(
      {
        name,
        sizeBytes,
        copies,
        ringSizeBytes,
        leaseTtlMs: this.#config.leaseTtlMs,
        requestDeadlineMs: REQUEST_DEADLINE_MS,
      },
      {
        clock: monotonicClock,
        defer: (task) => process.nextTick(task),
        after: (delayMs, task) => setTimeout(task, delayMs).unref(),
        random: Math.random,
        sources,
        ...(spill === undefined ? {} : { spill: new SpillSource(spill.place, spill.sizeBytes) }),
        logger: this.#logger.child({ volume: name }),
      },
    );
  }

  /** @inheritDoc */
  createDevice(volume: Volume): BlockDevice {
    return new VolumeBlockDevice(volume);
  }

  /** @inheritDoc */
  async serve(device: BlockDevice, request: ServeRequest): Promise<ExportService> {
    const { address, readOnly, tls } = request;
    const server = new NbdServer({
      logger: this.#logger,
      spin: this.#spin,
      ...(tls === undefined ? {} : { tls: serverTls(tls) }),
    });
    server.addExport(device, { readOnly });
    const scheme = tls?.policy === 'require' ? 'nbds' : 'nbd';
    const close = (): Promise<void> => server.close();
    if ('fd' in address) {
      await server.listen(address);
      return { uri: `${scheme}://inherited/${device.name}`, close };
    }
    if ('unixPath' in address) {
      await server.listen({ path: address.unixPath });
      return { uri: `${scheme}+unix:///${device.name}?socket=${address.unixPath}`, close };
    }
    const bound = await server.listen(parseAddress(address.tcpAddress));
    const { host, port } = 'port' in bound ? bound : { host: '', port: 0 };
    return { uri: `${scheme}://${formatAddress(host, port)}/${device.name}`, close };
  }

  /** @inheritDoc */
  async attach(device: BlockDevice, request: AttachRequest): Promise<Attachment> {
    const { via, connections, timeoutS } = request;
    this.#attachCount += 1;
    const path = checkSocketPath(`${this.#config.socketPath}.attach-${this.#attachCount}`);
    const service = await this.serve(device, { address: { unixPath: path }, readOnly: false });
    const options = {
      address: { path },
      exportName: device.name,
      connections,
      timeoutS,
      deadConnectionTimeoutS: DEAD_CONNECTION_TIMEOUT_S,
      ...(request.device === undefined ? {} : { device: request.device }),
    } satisfies AttachOptions;
    try {
      const kernel = await (via === 'netlink'
        ? this.#attachByNetlink(options)
        : attachByNbdClient(options));
      const detach = async (): Promise<void> => {
        await ('detach' in kernel ? kernel.detach() : detachByNbdClient(kernel.device));
        await service.close();
      };
      this.#logger.info({ volume: device.name, device: kernel.device, via }, 'attached');
      return { info: { device: kernel.device, volume: device.name, connections, via }, detach };
    } catch (error) {
      await service.close();
      throw error;
    }
  }

  /** Attaches and mends the device whenever one of its connections dies. */
  async #attachByNetlink(
    options: AttachOptions,
  ): Promise<Pick<KernelAttachment, 'device' | 'detach'>> {
    const kernel = await attachKernel(options);
    const { device } = kernel;
    const stop = keepConnected(kernel, (event) => {
      this.#logger.warn({ device, event: event.type }, 'the connection to the kernel changed');
    });
    const detach = async (): Promise<void> => {
      stop();
      await kernel.detach();
    };
    return { device, detach };
  }

  /** @inheritDoc */
  sourcesFor(providers: readonly string[] | undefined): SlabSources {
    if (providers === undefined) return this.#peers;
    const named: SlabSource[] = providers.map((name) =>
      name === LOCAL_PROVIDER || name === this.#config.name ? this.#local : this.#peers.store(name),
    );
    return { list: () => named };
  }
}

function serverTls(tls: ExportTls): ServerTls {
  const { policy, certificates, keys, verifyPeer } = tls;
  if (certificates !== undefined) return tlsFromCertificates(policy, certificates, verifyPeer);
  return tlsFromKeys(policy, keys ?? '');
}
