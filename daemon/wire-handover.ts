/**
 * The two ends of a handover joined with the parts of a daemon (docs/adr/0009-handover.md): what is
 * given, what is taken, and the start of a successor. `handover/` has the exchange between the two.
 */
import { spawn } from 'node:child_process';
import { MemcloudError, asMemcloudError } from '../common/errors.ts';
import { withoutIoFlusher } from '../common/kit.ts';
import type { Logger } from '../common/log.ts';
import type { NodeId, SlabSource } from '../common/ports.ts';
import type { HandoverInfo } from '../common/rpc-process.ts';
import type { DirectExportInfo } from '../common/rpc-schema.ts';
import { formatSize } from '../common/units.ts';
import type { Peers } from '../peer/peers.ts';
import type { RamProvider } from '../provider/service.ts';
import { decodeVolumeImage, type VolumeImage } from '../tier/volume-image.ts';
import type { Volume } from '../tier/volume.ts';
import type { Luggage } from './handover/belongings.ts';
import { Giver } from './handover/giver.ts';
import { HeldVolumes } from './handover/held-volumes.ts';
import {
  MANIFEST_FORMAT,
  type Manifest,
  type ServiceRecord,
  type VolumeRecord,
} from './handover/manifest.ts';
import type { Estate, Predecessor } from './handover/taker.ts';
import { within } from './handover/within.ts';
import type { RpcServer } from './rpc-server.ts';
import type { VolumeEntry, Volumes } from './volumes.ts';
import type { Exports } from './wire-exports.ts';

/**
 * How long a successor's volumes wait for every provider that they had before they act on who is
 * missing: a copy would be given up because its provider came second.
 */
const PROVIDERS_GRACE_MS = 5000;
const PROVIDERS_LOOK_MS = 5;

/** What it takes to make a volume anew. */
export interface RestoreRequest {
  /** What is known of it. */
  readonly image: VolumeImage;
  /** Its key; zeroed. */
  readonly secrets: Buffer;
  /** The only providers that it may use. */
  readonly providers: readonly string[] | undefined;
}

/** What a handover needs of the daemon, whichever end it is. */
export interface HandoverParts {
  /** Who it is. */
  readonly nodeId: NodeId;
  /** Where peers reach it. */
  readonly peerAddress: string;
  /** Its peers. */
  readonly peers: Peers;
  /** What it lends. */
  readonly provider: RamProvider;
  /** What it exports directly. */
  readonly directExports: () => DirectExportInfo[];
  /** Its volumes. */
  readonly volumes: Volumes;
  /** Their servers and kernel devices. */
  readonly exports: Exports;
  /** Mounts, and names of files that are kept: their processes are children of this one. */
  readonly mounts: () => readonly string[];
  /** Managed leases that end with this process. */
  readonly managedLeases: () => number;
  /** Why the objects here would be missed; undefined when none would be. */
  readonly lossOfObjects: () => string | undefined;
  /** Its RPC socket. */
  readonly rpc: RpcServer;
  /** The locked file of the state directory. */
  readonly lockDescriptor: () => number;
  /** Makes a volume of a former process. */
  readonly makeVolume: (request: RestoreRequest) => Volume;
  /** Lets go of everything but the volumes. */
  readonly abandon: () => void;
  /** Ends the process. */
  readonly leave: () => void;
}

/** Handovers of one daemon. */
export class Handover {
  /** The giving end. */
  readonly giver: Giver;
  /** Called with the process id of the successor before it is told to go on. */
  onHandedOver: (successorPid: number) => void = () => undefined;
  readonly #parts: HandoverParts;
  readonly #logger: Logger;
  #info: HandoverInfo | null = null;
  #restarting = false;

  /** @param parts - of the daemon */
  constructor(parts: HandoverParts, logger: Logger) {
    this.#parts = parts;
    this.#logger = logger;
    this.giver = new Giver(
      {
        volumes: () => new HeldVolumes(parts.volumes.entries()),
        holdRpc: () => parts.rpc.hold(),
        refusal: (force) => this.#refusal(force),
        describe: (luggage) => this.#describe(luggage),
        goOn: () => parts.rpc.goOn(),
        onGiven: (successorPid) => this.onHandedOver(successorPid),
        abandon: parts.abandon,
        leave: parts.leave,
      },
      logger,
    );
  }

  /** How this daemon took over; null when it did not. */
  get info(): HandoverInfo | null {
    return this.#info;
  }

  /**
   * Starts this program anew, as it is on disk now, to replace this process.
   *
   * @returns the process id of the successor
   * @throws MemcloudError `ERR_HANDOVER` when a handover cannot be; nothing is started then
   */
  restart(force: boolean): number {
    const refusal = this.#restarting ? 'a successor is on its way' : this.#refusal(force);
    if (refusal !== undefined) throw new MemcloudError('ERR_HANDOVER', refusal);
    const words = process.argv
      .slice(1)
      .filter((word) => word !== '--replace' && word !== '--force');
    const args = [...process.execArgv, ...words, '--replace', ...(force ? ['--force'] : [])];
    const child = withoutIoFlusher(() =>
      spawn(process.execPath, args, {
        stdio: ['ignore', 'inherit', 'inherit'],
        env: { ...process.env, ...this.successorEnvironment },
      }),
    );
    const { pid } = child;
    child.on('error', (error) => this.#logger.error({ err: error.message }, 'no successor'));
    child.on('exit', (code, signal) => {
      this.#restarting = false;
      this.#logger.error({ code, signal }, 'the successor ended before it had taken over');
    });
    if (pid === undefined) throw new MemcloudError('ERR_HANDOVER', 'no process could be started');
    this.#restarting = true;
    child.unref();
    return pid;
  }

  /** Variables for a successor that we start; what the service manager gave us, for one. */
  successorEnvironment: NodeJS.ProcessEnv = {};

  // --- Giving ------------------------------------------------------------------------------------

  #refusal(force: boolean): string | undefined {
    const { nodeId, provider, volumes, directExports } = this.#parts;
    const entries = volumes.entries();
    if (entries.some(({ closing }) => closing)) return 'a volume is being removed; try again';
    const local = entries.find(({ volume }) =>
      volume.status().providers.some((share) => share.nodeId === nodeId),
    );
    if (local !== undefined) {
      const { name } = local.volume.options;
      return `volume ${name} is in the RAM of this very memnode, which goes with it`;
    }
    const spilling = entries.find(({ volume }) => volume.spills);
    if (spilling !== undefined) {
      return `volume ${spilling.volume.options.name} has a spill file, which ends with this memnode`;
    }
    const managed = entries.find(({ leases }) => leases !== undefined);
    if (managed !== undefined) {
      const { name } = managed.volume.options;
      return `volume ${name} is on managed leases, which end with this memnode: memcloud volume rm it first`;
    }
    const [mount] = this.#parts.mounts();
    if (mount !== undefined) {
      return `${mount} is served by a child of this memnode and would end with it; memcloud umount it first`;
    }
    if (force) return undefined;
    const { leaseCount, residentBytes } = provider.usage();
    if (leaseCount > 0) {
      return (
        `this memnode lends ${formatSize(residentBytes)} under ${leaseCount} leases, which would be ` +
        'wiped: drain it first, or use --force where the others have copies'
      );
    }
    const leased = this.#parts.managedLeases();
    if (leased > 0) {
      return `${leased} managed leases end with this memnode: release them first, or use --force`;
    }
    if (provider.reservedBytes > 0) {
      const reserved = formatSize(provider.reservedBytes);
      return `${reserved} are set aside here for clients of the control plane, whose leases would end: use --force to do so`;
    }
    const loss = this.#parts.lossOfObjects();
    if (loss !== undefined) return loss;
    const lent = directExports().length;
    if (lent > 0) return `${lent} direct devices of other machines are here and would be wiped`;
    const bound = entries.flatMap(servicesOf).reduce((sum, { boundCount }) => sum + boundCount, 0);
    if (bound > 0) return `${bound} clients use TLS and would be cut; use --force to do so`;
    return undefined;
  }

  #describe(luggage: Luggage): Omit<Manifest, 'volumes' | 'unread' | 'heldAtNs'> {
    const { nodeId, peerAddress, peers, rpc, exports } = this.#parts;
    return {
      format: MANIFEST_FORMAT,
      nodeId,
      pid: process.pid,
      peerAddress,
      lock: luggage.add(this.#parts.lockDescriptor()),
      rpcListener: luggage.add(rpc.descriptor),
      rpcFileKept: rpc.keepsFile,
      peerListeners: peers.listenerDescriptors.map((fd) => luggage.add(fd)),
      peers: peers.list().map(({ nodeId, nodeName, up }) => ({ nodeId, name: nodeName, up })),
      dialled: peers.dialled,
      attachCount: exports.attachCount,
    };
  }

  // --- Taking ------------------------------------------------------------------------------------

  /**
   * Goes on with everything that was given.
   *
   * @param listen - takes the sockets and the lock that are not of a volume
   * @throws MemcloudError `ERR_HANDOVER` when the predecessor goes on
   */
  async takeOver(
    predecessor: Predecessor,
    estate: Estate,
    listen: (estate: Estate) => Promise<void>,
  ): Promise<void> {
    const { peers, volumes, exports } = this.#parts;
    const { manifest, inheritance } = estate;
    exports.attachCount = manifest.attachCount;
    for (const { nodeId, name } of manifest.peers) peers.remember(nodeId, name);
    let bytes = estate.sizeBytes;
    const taken = manifest.volumes.map((record) => {
      const { volume, imageBytes } = this.#restore(record, estate);
      bytes += imageBytes;
      return { record, volume };
    });
    await predecessor.confirm();
    for (const address of manifest.dialled) peers.connect(address);
    // The first part of each, which takes the clients up, is done when the call returns.
    const resuming = taken.map(({ record, volume }) => {
      const entry = volumes.adopt(volume, record.providers ?? undefined);
      return this.#resumeClients(entry, record, estate);
    });
    const heldAtNs = BigInt(manifest.heldAtNs);
    this.#info = {
      fromPid: manifest.pid,
      pauseMs: millisecondsSince(heldAtNs),
      providersMs: null,
      bytes,
      volumes: taken.length,
      connections: countConnections(manifest),
    };
    await listen(estate);
    await Promise.all(resuming);
    this.#logger.info({ ...this.#info }, 'took over');
    inheritance.close();
    void this.#thawWhenConnected(manifest);
  }

  /** Reads what a rehearsal gave, as a handover would. */
  static look({ manifest, inheritance }: Estate): void {
    for (const record of manifest.volumes) {
      const image = inheritance.takeMemory(record.image);
      try {
        decodeVolumeImage(image);
      } finally {
        image.close();
      }
    }
  }

  #restore(record: VolumeRecord, { inheritance }: Estate): { volume: Volume; imageBytes: number } {
    const image = inheritance.takeMemory(record.image);
    const secrets = inheritance.takeMemory(record.secrets);
    try {
      const volume = this.#parts.makeVolume({
        image: decodeVolumeImage(image),
        secrets: secrets.bytes,
        providers: record.providers ?? undefined,
      });
      return { volume, imageBytes: image.bytes.length };
    } finally {
      image.close();
      secrets.close();
    }
  }

  async #resumeClients(entry: VolumeEntry, record: VolumeRecord, estate: Estate): Promise<void> {
    const { exports } = this.#parts;
    const { device } = entry;
    const resuming = [
      ...record.attachments.map(async (attachment) => {
        entry.attachments.add(await exports.resumeAttachment(device, attachment, estate));
      }),
      ...record.services.map(async (service) => {
        entry.services.add(await exports.resumeService(device, service, estate));
      }),
    ];
    for (const result of await Promise.allSettled(resuming)) {
      if (result.status === 'fulfilled') continue;
      // There is no way back: what can go on goes on.
      const { code, message } = asMemcloudError(result.reason);
      const volume = entry.volume.options.name;
      this.#logger.error({ volume, code }, `a client could not be gone on with: ${message}`);
    }
    if (record.attachments.length > 0) entry.volume.populate();
  }

  /** Lets the volumes act by themselves once whom they had is there, or has had time to come. */
  async #thawWhenConnected(manifest: Manifest): Promise<void> {
    const { volumes, peers } = this.#parts;
    const entries = volumes.entries();
    const used = new Set(
      entries.flatMap(({ volume }) => volume.status().providers.map(({ nodeId }) => nodeId)),
    );
    const wanted = new Set(
      manifest.peers.filter(({ nodeId, up }) => up && used.has(nodeId)).map(({ nodeId }) => nodeId),
    );
    const missing = (): SlabSource[] =>
      peers.list().filter(({ nodeId, up }) => wanted.has(nodeId) && !up);
    await within(PROVIDERS_GRACE_MS, PROVIDERS_LOOK_MS, () => missing().length === 0);
    for (const { volume } of entries) volume.thaw();
    const absent = missing().map(({ nodeName }) => nodeName);
    if (this.#info === null) return;
    if (absent.length > 0) {
      this.#logger.warn({ absent }, 'providers did not come back after the handover');
      return;
    }
    this.#info = { ...this.#info, providersMs: millisecondsSince(BigInt(manifest.heldAtNs)) };
    this.#logger.info({ providersMs: this.#info.providersMs }, 'providers are connected again');
  }
}

/** Every server of a volume: its own, and those of its kernel devices. */
function servicesOf<Service>(volume: {
  readonly services: Iterable<Service>;
  readonly attachments: Iterable<{ readonly service: Service }>;
}): Service[] {
  const { services, attachments } = volume;
  return [...services, ...[...attachments].map(({ service }) => service)];
}

function millisecondsSince(startNs: bigint): number {
  return Math.round(Number(process.hrtime.bigint() - startNs) / 1e4) / 100;
}

function countConnections({ volumes }: Manifest): number {
  return volumes
    .flatMap(servicesOf<ServiceRecord>)
    .reduce((sum, { connections }) => sum + connections.length, 0);
}
