/**
 * What a daemon is made of before it is one: the state on disk, what it lends, the door, and the peers.
 * They are opened in the order in which they need each other; nothing is reached from outside before
 * {@link DaemonParts.listen}.
 */
import { monotonicClock } from '../common/clock.ts';
import { asMemcloudError } from '../common/errors.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import type { LevelLogger, Logger } from '../common/log.ts';
import { makeProcessSpin } from '../common/process-spin.ts';
import { formatAddress } from '../common/units.ts';
import { Allowances } from '../peer/allowances.ts';
import { Identity } from '../peer/identity.ts';
import { keepaliveLimits } from '../peer/keepalive-machine.ts';
import { Peers } from '../peer/peers.ts';
import { Quarantines } from '../peer/quarantines.ts';
import { RamProvider } from '../provider/service.ts';
import { removeLeftovers } from '../provider/tmpfs-directory.ts';
import type { DaemonConfig } from './config.ts';
import { machineHostId } from './host.ts';
import type { Appliers } from './live-config.ts';
import { lockStateDirectory, type StateLock } from './state-lock.ts';
import { DirectService } from './wire-direct.ts';
import { Managed } from './wire-managed.ts';
import { Objects } from './wire-objects.ts';
import { openTrust, trustAppliers, type TrustParts } from './wire-trust.ts';

/**
 * Gives the RAM back that killed processes left in files, soon.
 *
 * @param directory - as `memory-dir` says
 */
export function wipeLeftovers(directory: string | undefined, logger: Logger): void {
  removeLeftovers(directory).catch((error: unknown) => {
    logger.warn(
      { err: asMemcloudError(error).message },
      'memory of a killed process is still taken',
    );
  });
}

/** Steps that take back what was done, the last first. */
export type Undo = (() => void | Promise<void>)[];

/** The parts, which are their owner's to close. */
export interface DaemonParts {
  /** Who this node is. */
  readonly identity: Identity;
  /** Who may come in. */
  readonly door: TrustParts;
  /** The other nodes. */
  readonly peers: Peers;
  /** Whose pages are not believed. */
  readonly quarantines: Quarantines;
  /** How much each node may have here. */
  readonly allowances: Allowances;
  /** Names the machine. */
  readonly hostId: string;
  /** What this node lends. */
  readonly provider: RamProvider;
  /** What it exports directly. */
  readonly service: DirectService;
  /** Its objects. */
  readonly objects: Objects;
  /** It as a member of a control plane. */
  readonly managed: Managed;
  /** TCP port on which it takes peers; 0 before {@link DaemonParts.listen}. */
  readonly port: () => number;
  /** Keeps the event loop awake while pages come. */
  readonly spin: EventLoopSpin;
  /** The state directory is ours; undefined while a predecessor has it. */
  readonly lock: StateLock | undefined;
  /** Takes peers, on a listener of the predecessor if one is given; returns `HOST:PORT`. */
  readonly listen: (inheritedFd?: number) => Promise<string>;
}

/**
 * Opens the parts.
 *
 * @param lock - whether the state directory is to be locked; a predecessor hands its lock over later
 * @param undo - gets what closes each part that was opened, also when a later one fails
 * @throws MemcloudError `ERR_DAEMON_BUSY`, `ERR_IDENTITY`, `ERR_NATIVE`
 */
export function openParts(
  config: DaemonConfig,
  logger: LevelLogger,
  { lock: takesLock }: { lock: boolean },
  undo: Undo,
): DaemonParts {
  const lock = takesLock ? lockStateDirectory(config.stateDirectory) : undefined;
  if (lock !== undefined) undo.push(() => lock.release());
  const identity = Identity.load(config.stateDirectory);
  const door = openTrust(config, monotonicClock, logger);
  const quarantines = Quarantines.load(config.stateDirectory, logger);
  undo.push(() => quarantines.flush());
  const allowances = Allowances.load(config.stateDirectory, logger);
  allowances.setDefault(config.peerAllowedBytes);
  const provider = RamProvider.open({
    offeredBytes: config.offerBytes,
    allowedBytes: (node) => {
      if (node === identity.nodeId) return Infinity;
      // The control plane decides about these, and what it decided is counted apart.
      if (config.managedOnly || peers.admissions.isGuest(node)) return 0;
      return allowances.of(node) ?? Infinity;
    },
    reserveBytes: config.reserveBytes,
    recallGraceMs: config.recallGraceMs,
    logger,
    ...(config.memoryDirectory === undefined ? {} : { directory: config.memoryDirectory }),
  });
  undo.push(() => provider.close());
  const spin = makeProcessSpin();
  const { name, zone, allowPlain, host: hostId = machineHostId() } = config;
  let peerPort = 0;
  if (allowPlain) {
    logger.warn({}, '--allow-plain: direct swap may come over bare TCP, open to tampering');
  }
  const port = (): number => peerPort;
  const service = new DirectService(provider, { port, allowPlain }, logger, spin);
  undo.push(() => service.close());
  const direct = service.exports;
  const objects = new Objects(identity.nodeId, provider, logger);
  undo.push(() => objects.close());
  const managed = new Managed(config, logger);
  const peers = new Peers({
    ...{ identity, name, hostId, zone, quarantines, allowances, ...door },
    onJoined: (nodeId, bytes) => void (bytes !== undefined && allowances.set(nodeId, bytes)),
    ...{ provider, direct, logger, spin },
    exchangesPeers: config.peerExchange,
    objects: objects.service,
    ...(config.controlPlane.length === 0 ? {} : { managed }),
    keepalive: keepaliveLimits(config.peerDeadMs),
  });
  undo.push(() => peers.close());
  provider.onLeaseEnded(({ holder, reason }) => {
    if (reason !== 'released') direct.onSlabEnded(holder);
  });
  undo.push(() => managed.close());
  const listen = async (inheritedFd?: number): Promise<string> => {
    const bound = await peers.listen(config.listen, inheritedFd);
    peerPort = bound.port;
    return formatAddress(bound.host, bound.port);
  };
  return {
    ...{ identity, door, peers, quarantines, allowances, hostId },
    ...{ provider, service, objects, managed, port, spin, lock, listen },
  };
}

/** What a reload may change while peers, volumes and devices go on. */
export function appliers(
  { door, allowances, provider, peers }: DaemonParts,
  logger: LevelLogger,
): Appliers {
  return {
    ...trustAppliers(door),
    'peer-allowed': (bytes) => allowances.setDefault(bytes),
    offer: (bytes) => provider.setOffer(bytes),
    reserve: (bytes) => provider.setReserve(bytes),
    'recall-grace': (seconds) => provider.setRecallGrace(seconds * 1000),
    'log-level': (level) => logger.setLevel(level),
    connect: (addresses, before) => {
      for (const address of before) {
        if (!addresses.includes(address)) peers.stopDialling(address);
      }
      for (const address of addresses) {
        if (!before.includes(address)) peers.connect(address);
      }
    },
  };
}
