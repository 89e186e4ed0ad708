/**
 * The volumes of this daemon by name: made, served over NBD, attached to the kernel, removed. A
 * volume that is served or attached is busy and is only removed by force, which ends its clients.
 */
import { MemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { BlockDevice, NodeId, SlabSources } from '../common/ports.ts';
import type { AttachmentInfo, VolumeDetails, VolumeInfo } from '../common/rpc-schema.ts';
import { takesSlabs } from '../common/slab-sources.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import type { Volume, VolumeStatus } from '../tier/volume.ts';
import type { DrainHolding } from './drain-room.ts';
import type { Luggage } from './handover/belongings.ts';
import type { AttachmentRecord, ServiceRecord } from './handover/manifest.ts';

/** Where an export listens. */
export type ListenAddress =
  | { readonly unixPath: string }
  /** `HOST:PORT`. */
  | { readonly tcpAddress: string }
  /** A listening socket that the service manager passed. */
  | { readonly fd: number };

/** TLS of an export; one of certificates and keys. */
export interface ExportTls {
  /** Whether clients may or must use it. */
  readonly policy: 'allow' | 'require';
  /** A directory with server-cert.pem, server-key.pem and ca-cert.pem. */
  readonly certificates?: string | undefined;
  /** Demand a client certificate. */
  readonly verifyPeer: boolean;
  /** A file of pre-shared keys, as psktool writes it. */
  readonly keys?: string | undefined;
}

/** How a volume is exported. */
export interface ServeRequest {
  /** Where. */
  readonly address: ListenAddress;
  /** Refuse writes. */
  readonly readOnly: boolean;
  /** TLS; none when undefined. */
  readonly tls?: ExportTls | undefined;
}

/** A server of volumes that can be stopped in its tracks. */
export interface HeldService {
  /** Begins no further request. */
  hold(): void;
  /** True when every request that was begun is answered. */
  readonly held: boolean;
  /** Clients that cannot be handed over. */
  readonly boundCount: number;
  /** Serves again. */
  goOn(): void;
  /** What the successor of this process needs to go on with it. */
  record(luggage: Luggage): ServiceRecord;
  /** Listens no more: a successor does. */
  abandon(): void;
}

/** An NBD server at one address. */
export interface ExportService extends HeldService {
  /** The NBD URI of the export. */
  readonly uri: string;
  /** Ends it: requests in flight finish within a deadline. */
  close(): Promise<void>;
}

/** A device of the kernel that is attached to a volume. */
export interface Attachment {
  /** For people. */
  readonly info: AttachmentInfo;
  /** The server that the kernel's sockets lead to. */
  readonly service: HeldService;
  /** What the successor of this process needs to go on with it. */
  record(luggage: Luggage): AttachmentRecord;
  /** Stops watching the device: a successor does. */
  abandon(): void;
  /** Detaches the device. @throws MemcloudError `ERR_NBD_ATTACH` */
  detach(): Promise<void>;
}

/** How to attach. */
export interface AttachRequest {
  /** `/dev/nbdN`; the first free one without. */
  readonly device?: string | undefined;
  /** Sockets. */
  readonly connections: number;
  /** How. */
  readonly via: 'netlink' | 'nbd-client';
  /** Seconds that the kernel waits for a reply; 0 for ever. */
  readonly timeoutS: number;
}

/** What it takes to make a volume. */
export interface VolumeRequest {
  /** Its name. */
  readonly name: string;
  /** Bytes. */
  readonly sizeBytes: number;
  /** Providers for each slab. */
  readonly copies: number;
  /** Bytes of page-outs on their way at most. */
  readonly ringSizeBytes: number;
  /** Names or ids of the only providers to use; `local` is this machine. */
  readonly providers: readonly string[] | undefined;
  /** A local file, or a directory for one, where pages go that no provider can take. */
  readonly spill?: { readonly place: string; readonly sizeBytes: number } | undefined;
  /** Take it although the pool is smaller. */
  readonly overcommit: boolean;
}

/** The managed leases under a volume (managed/lease-pool.ts). */
export interface VolumeLeases {
  /** The providers of the leases. */
  readonly sources: SlabSources;
  /** Gives them back. Never throws. */
  close(): Promise<void>;
}

/** What volumes are made of; `wire.ts` gives it. */
export interface VolumeParts {
  /** @throws MemcloudError `ERR_VOLUME_SIZE`, `ERR_VOLUME_CAPACITY`, `ERR_PEER_UNKNOWN` */
  createVolume(request: VolumeRequest, sources: SlabSources): Volume;
  /** The providers that a volume of this request may use. @throws MemcloudError `ERR_PEER_UNKNOWN` */
  sourcesFor(providers: readonly string[] | undefined): SlabSources;
  /** The volume as a block device. */
  createDevice(volume: Volume): BlockDevice;
  /** Exports a device. */
  serve(device: BlockDevice, request: ServeRequest): Promise<ExportService>;
  /** Attaches a device to the kernel. */
  attach(device: BlockDevice, request: AttachRequest): Promise<Attachment>;
}

/** A volume and all that hangs on it. */
export interface VolumeEntry {
  /** The volume. */
  readonly volume: Volume;
  /** Where its slabs may be. */
  readonly sources: SlabSources;
  /** As in {@link VolumeRequest}. */
  readonly providers: readonly string[] | undefined;
  /** What of the control plane is under it. */
  readonly leases: VolumeLeases | undefined;
  /** What is exported. */
  readonly device: BlockDevice;
  /** Its servers. */
  readonly services: Set<ExportService>;
  /** Its kernel devices. */
  readonly attachments: Set<Attachment>;
  /** Its removal is under way. */
  closing: boolean;
}

/** The volumes. */
export class Volumes {
  readonly #parts: VolumeParts;
  readonly #logger: Logger;
  readonly #entries = new Map<string, VolumeEntry>();

  /** @param parts - what volumes are made of */
  constructor(parts: VolumeParts, logger: Logger) {
    this.#parts = parts;
    this.#logger = logger;
  }

  /**
   * Makes a volume.
   *
   * @param leases - managed leases to make it of, which end with it
   * @throws MemcloudError `ERR_VOLUME_EXISTS` and as {@link VolumeParts.createVolume}
   */
  create(request: VolumeRequest, leases?: VolumeLeases): VolumeInfo {
    const { name } = request;
    this.refuseTaken(name);
    const sources = leases?.sources ?? this.#parts.sourcesFor(request.providers);
    const volume = this.#parts.createVolume(request, sources);
    const entry = this.adopt(volume, request.providers, sources, leases);
    this.#logger.info({ volume: name, bytes: request.sizeBytes }, 'volume created');
    return describe(entry);
  }

  /** @throws MemcloudError `ERR_VOLUME_EXISTS` */
  refuseTaken(name: string): void {
    if (!this.#entries.has(name)) return;
    throw new MemcloudError('ERR_VOLUME_EXISTS', `volume ${name} exists; choose another name`);
  }

  /** Takes a volume in that is made already. */
  adopt(
    volume: Volume,
    providers: readonly string[] | undefined,
    sources = this.#parts.sourcesFor(providers),
    leases?: VolumeLeases,
  ): VolumeEntry {
    const entry: VolumeEntry = {
      volume,
      sources,
      providers,
      leases,
      device: this.#parts.createDevice(volume),
      services: new Set(),
      attachments: new Set(),
      closing: false,
    };
    this.#entries.set(volume.options.name, entry);
    return entry;
  }

  /** Every volume with what hangs on it. */
  entries(): VolumeEntry[] {
    return [...this.#entries.values()];
  }

  /** Whether there is a volume of that name. */
  has(name: string): boolean {
    return this.#entries.has(name);
  }

  /** Every volume. */
  list(): VolumeInfo[] {
    return [...this.#entries.values()].map(describe);
  }

  /** One volume. @throws MemcloudError `ERR_VOLUME_UNKNOWN` */
  inspect(name: string): VolumeDetails {
    const entry = this.#entry(name);
    const status = entry.volume.status();
    return {
      ...describe(entry),
      slabs: { leased: status.leasedSlabs, degraded: status.degradedSlabs },
      repair: status.repair,
      ring: { used: status.ringUsedPages, size: status.ringPages, locked: status.ringLocked },
      providers: status.providers.map(({ nodeName, leaseEndsInMs, ...share }) => ({
        ...share,
        name: nodeName,
        leaseEndsInMs: Math.round(leaseEndsInMs),
      })),
      counters: { ...entry.volume.counters },
    };
  }

  /**
   * Removes a volume; its pages are gone.
   *
   * @param force - also if it is served or attached
   * @throws MemcloudError `ERR_VOLUME_UNKNOWN`, `ERR_VOLUME_BUSY`
   */
  async remove(name: string, force: boolean): Promise<void> {
    const entry = this.#entry(name);
    if (!force && (entry.services.size > 0 || entry.attachments.size > 0)) {
      throw new MemcloudError(
        'ERR_VOLUME_BUSY',
        `volume ${name} is served or attached; stop that first, or use --force`,
      );
    }
    await this.#close(entry);
    this.#entries.delete(name);
    this.#logger.info({ volume: name }, 'volume removed');
  }

  /** Serves a volume. @throws MemcloudError `ERR_VOLUME_UNKNOWN`, `ERR_USAGE`, `ERR_NATIVE` */
  async serve(name: string, request: ServeRequest): Promise<string> {
    const entry = this.#entry(name);
    const service = await this.#parts.serve(entry.device, request);
    if (entry.closing) {
      await service.close();
      throw removedMeanwhile(name);
    }
    entry.services.add(service);
    return service.uri;
  }

  /** Ends every server of a volume. @throws MemcloudError `ERR_VOLUME_UNKNOWN` */
  async stopServing(name: string): Promise<void> {
    const entry = this.#entry(name);
    await Promise.all([...entry.services].map((service) => service.close()));
    entry.services.clear();
  }

  /** Attaches a volume to the kernel. @throws MemcloudError `ERR_VOLUME_UNKNOWN`, `ERR_NBD_ATTACH` */
  async attach(name: string, request: AttachRequest): Promise<AttachmentInfo> {
    const entry = this.#entry(name);
    entry.volume.populate();
    const attachment = await this.#parts.attach(entry.device, request);
    if (entry.closing) {
      await attachment.detach();
      throw removedMeanwhile(name);
    }
    entry.attachments.add(attachment);
    return attachment.info;
  }

  /** Detaches a device. @throws MemcloudError `ERR_NBD_ATTACH` when no volume is attached to it */
  async detach(device: string): Promise<void> {
    for (const { attachments } of this.#entries.values()) {
      for (const attachment of attachments) {
        if (attachment.info.device !== device) continue;
        await attachment.detach();
        attachments.delete(attachment);
        return;
      }
    }
    throw new MemcloudError('ERR_NBD_ATTACH', `${device} is not attached by this memnode`);
  }

  /** Every device attached. */
  attachments(): AttachmentInfo[] {
    return [...this.#entries.values()].flatMap((entry) =>
      [...entry.attachments].map((attachment) => attachment.info),
    );
  }

  /** What each volume has leased from a provider, and where it could go instead. */
  holdingsOn(nodeId: NodeId): DrainHolding[] {
    return [...this.#entries.values()].map(({ volume, sources }) =>
      holdingOn(nodeId, volume, sources),
    );
  }

  /** Makes every volume leave a provider. It goes on in the background; {@link Volumes.holdingsOn} tells. */
  evacuate(nodeId: NodeId): void {
    for (const { volume, sources } of this.#entries.values()) {
      const source = sources.list().find((each) => each.nodeId === nodeId);
      if (source !== undefined && leasedOn(volume, nodeId) > 0) volume.evacuate(source);
    }
  }

  /** Lets time pass in every volume. */
  tick(): void {
    for (const { volume } of this.#entries.values()) volume.tick();
  }

  /** Ends every server, device and volume. */
  async close(): Promise<void> {
    await Promise.all([...this.#entries.values()].map((entry) => this.#close(entry)));
    this.#entries.clear();
  }

  async #close(entry: VolumeEntry): Promise<void> {
    entry.closing = true;
    for (const attachment of entry.attachments) {
      try {
        await attachment.detach();
      } catch (error) {
        this.#logger.error({ device: attachment.info.device, err: String(error) }, 'not detached');
      }
    }
    entry.attachments.clear();
    await Promise.all([...entry.services].map((service) => service.close()));
    entry.services.clear();
    await entry.volume.close();
    await entry.leases?.close();
  }

  #entry(name: string): VolumeEntry {
    const entry = this.#entries.get(name);
    if (entry !== undefined && !entry.closing) return entry;
    const known = [...this.#entries.keys()].join(', ') || 'none';
    throw new MemcloudError('ERR_VOLUME_UNKNOWN', `no volume ${name}; there are: ${known}`);
  }
}

function removedMeanwhile(name: string): MemcloudError {
  return new MemcloudError('ERR_CANCELLED', `volume ${name} was removed meanwhile`);
}

/** What one volume has leased from a provider, and where it could go instead. */
export function holdingOn(nodeId: NodeId, volume: Volume, sources: SlabSources): DrainHolding {
  return {
    name: volume.options.name,
    copies: volume.options.copies,
    heldBytes: leasedOn(volume, nodeId),
    candidates: sources
      .list()
      .filter((source) => source.nodeId !== nodeId && takesSlabs(source))
      .map(({ nodeId: id, hostId, usage }) => ({
        ...{ nodeId: id, hostId },
        freeBytes: usage.offeredBytes - usage.usedBytes,
      })),
  };
}

function leasedOn(volume: Volume, nodeId: NodeId): number {
  const found = volume.status().providers.find((provider) => provider.nodeId === nodeId);
  return found?.leasedBytes ?? 0;
}

function health(volume: Volume, status: VolumeStatus): string {
  if (volume.counters.lostPages > 0) return 'lost';
  return status.degradedSlabs > 0 ? 'degraded' : 'ok';
}

function describe({ volume, services, attachments, leases }: VolumeEntry): VolumeInfo {
  const status = volume.status();
  return {
    name: volume.options.name,
    sizeBytes: volume.options.sizeBytes,
    copies: volume.options.copies,
    storedBytes: status.sealedPages * PAGE_SIZE_BYTES,
    leasedBytes: status.providers.reduce((sum, { leasedBytes }) => sum + leasedBytes, 0),
    health: health(volume, status),
    servedAt: [...services].map(({ uri }) => uri),
    devices: [...attachments].map(({ info }) => info.device),
    managed: leases !== undefined,
  };
}
