/**
 * Direct devices: swap for the whole machine, with no process of ours between the kernel and the wire.
 *
 *   swap -> [mirror] -> dm-crypt -> nbd -> kTLS -> TCP ~~> provider's memnode      (one column per copy)
 *
 * A kernel without TLS may have a WireGuard tunnel in the place of kTLS.
 *
 * memnode takes exports from providers, joins the layers, and from then on only renews and mends: a
 * dead connection is replaced by a fresh one on the same export. It may end, by kill or upgrade; the
 * device goes on, and the next memnode finds it in the journal (ADR 7 and docs/architecture.md).
 */
import { randomBytes } from 'node:crypto';
import { asMemcloudError, MemcloudError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { DirectSource, NodeId } from '../../common/ports.ts';
import type { DirectCheck, DirectConnection, DirectDeviceInfo } from '../../common/rpc-schema.ts';
import { roundUpToPages } from '../../common/units.ts';
import { createCrypt, removeMapping } from './device-mapper.ts';
import {
  loadJournal,
  saveJournal,
  type DeviceRecord,
  type JournalLease,
  type LegRecord,
} from './journal.ts';
import type { DirectLease, DirectLeases, DirectLeaseWish } from '../managed/direct-leases.ts';
import { createMirror, partIsAlive, removeMirror } from './mirror.ts';
import { chooseSources, type LinkOf, type SourceRequest } from './sources.ts';

/** An export outlives its connection by so long, milliseconds: time to come back. */
export const DIRECT_EXPORT_TTL_MS = 600_000;
/** Interval of renewals, milliseconds; several may be lost. */
const RENEW_INTERVAL_MS = 60_000;

/** How one copy of a device is. */
export type LegState =
  /** Connected, as far as is known. */
  | 'live'
  /** Its connection died; a fresh one is being made. */
  | 'reconnecting'
  /** The provider has the export no longer, or the kernel gave the device up. */
  | 'lost';

/** A network block device of the kernel on an export, watched and mended. */
export interface KernelLeg {
  /** `/dev/nbdN`. */
  readonly device: string;
  /** How it is. */
  readonly state: LegState;
  /** Stops watching; the device stays. */
  release(): void;
  /** Takes the device away. @throws MemcloudError `ERR_NBD_ATTACH` */
  detach(): Promise<void>;
}

/** An export to be attached. */
export interface LegRequest {
  /** Who lends. */
  readonly source: () => DirectSource | undefined;
  /** Which export. */
  readonly exportId: string;
  /** True when another copy can take over: then the kernel gives a dead one up in seconds. */
  readonly mirrored: boolean;
  /** What protects its connections, the first and every later one: it is never less. */
  readonly connection: DirectConnection;
}

/** What direct devices are made of; `wire-direct.ts` gives it. */
export interface DirectParts {
  /** Every provider that was ever reached and is trusted. */
  sources(): readonly DirectSource[];
  /** A provider, trusted or one of a managed lease; undefined when it was never reached. */
  find(nodeId: NodeId): DirectSource | undefined;
  /** Managed leases; undefined without a control plane. */
  leases(): DirectLeases | undefined;
  /** Whether this machine can have direct devices; `insecurePlain` as in {@link DirectRequest}. */
  check(insecurePlain: boolean): Promise<DirectCheck>;
  /** What protects a connection to a provider now; undefined when it may not be made. */
  linkOf(source: DirectSource, connection: DirectConnection): DirectConnection | undefined;
  /** Attaches an export. @throws MemcloudError as `attachKernel` */
  attachLeg(request: LegRequest): Promise<KernelLeg>;
  /** Watches and mends what an earlier process attached. */
  resumeLeg(request: LegRequest, device: string): Promise<KernelLeg>;
}

/** What is asked for. */
export interface DirectRequest extends SourceRequest {
  /** Connections may be bare TCP where there is neither kernel TLS nor WireGuard. */
  readonly insecurePlain: boolean;
  /** On managed leases. */
  readonly managed?: DirectLeaseWish['managed'] | undefined;
}

/** Where one copy goes. */
interface Place {
  readonly source: DirectSource;
  readonly connection: DirectConnection;
  readonly lease?: DirectLease;
}

interface Entry {
  readonly record: DeviceRecord;
  readonly legs: (KernelLeg | undefined)[];
}

/** The direct devices of a daemon. */
export class DirectDevices {
  readonly #parts: DirectParts;
  readonly #journalFile: string;
  readonly #logger: Logger;
  readonly #entries: Entry[] = [];
  readonly #timer: NodeJS.Timeout;

  /** @param journalFile - where the next process looks for the devices */
  constructor(parts: DirectParts, journalFile: string, logger: Logger) {
    this.#parts = parts;
    this.#journalFile = journalFile;
    this.#logger = logger;
    this.#timer = setInterval(() => void this.#renew(), RENEW_INTERVAL_MS);
    this.#timer.unref();
  }

  /** Takes up the devices of the last process. @throws MemcloudError `ERR_USAGE` when the journal is damaged */
  async resume(): Promise<void> {
    for (const record of loadJournal(this.#journalFile)) {
      this.#adoptLeases(record);
      const legs = await Promise.all(record.legs.map((leg) => this.#resumeLeg(record, leg)));
      this.#entries.push({ record, legs });
      this.#logger.info({ device: record.device }, 'direct device taken up again');
    }
  }

  /** Whether this machine can have direct devices, and how. */
  check(insecurePlain: boolean): Promise<DirectCheck> {
    return this.#parts.check(insecurePlain);
  }

  /**
   * Makes a device: exports, kernel connections, encryption, mirror.
   *
   * @throws MemcloudError `ERR_UNSUPPORTED`, `ERR_VOLUME_CAPACITY`, and as `attachKernel`
   */
  async attach(request: DirectRequest): Promise<DirectDeviceInfo> {
    const { possible, problems, connection } = await this.#parts.check(request.insecurePlain);
    if (!possible) throw new MemcloudError('ERR_UNSUPPORTED', problems.join('; '));
    const sizeBytes = roundUpToPages(request.sizeBytes);
    const linkOf: LinkOf = (source) => this.#parts.linkOf(source, connection);
    const wanted = { ...request, sizeBytes };
    const undo: (() => Promise<void>)[] = [];
    try {
      const places = await this.#places(wanted, linkOf, undo);
      const entry = await this.#build(places, sizeBytes, undo);
      this.#entries.push(entry);
      this.#save();
      this.#logger.info({ device: entry.record.device, sizeBytes }, 'direct device attached');
      return describe(entry);
    } catch (error) {
      for (const step of undo.reverse()) await step().catch(() => undefined);
      throw error;
    }
  }

  /** Takes a device away; providers wipe. @throws MemcloudError `ERR_NBD_ATTACH` when it is not ours, `ERR_NATIVE` when it is in use */
  async detach(device: string): Promise<void> {
    const entry = this.#entries.find(({ record }) => record.device === device);
    if (entry === undefined) {
      throw new MemcloudError('ERR_NBD_ATTACH', `${device} is not a direct device of this memnode`);
    }
    const { record, legs } = entry;
    if (record.mirrored) await removeMirror(record.device);
    for (const { cryptName } of record.legs) await removeMapping(cryptName);
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    this.#save();
    for (const [index, leg] of record.legs.entries()) await this.#giveBack(leg, legs[index]);
    await this.#releaseLeases(record);
    this.#logger.info({ device }, 'direct device detached');
  }

  /** Every device. */
  list(): DirectDeviceInfo[] {
    return this.#entries.map(describe);
  }

  /** Stops watching; the devices stay, for the next process. */
  close(): void {
    clearInterval(this.#timer);
    for (const { legs } of this.#entries) for (const leg of legs) leg?.release();
  }

  /** The providers to use: of managed leases, or as there is room. */
  async #places(
    request: DirectRequest,
    linkOf: LinkOf,
    undo: (() => Promise<void>)[],
  ): Promise<Place[]> {
    const { managed } = request;
    if (managed === undefined) {
      return chooseSources(this.#parts.sources(), request, linkOf).map((source) => ({
        source,
        connection: linkOf(source) ?? 'tls',
      }));
    }
    const leases = this.#parts.leases();
    if (leases === undefined) {
      const text = 'this node has no control plane: set control-plane in its configuration';
      throw new MemcloudError('ERR_CONTROL_UNREACHABLE', text);
    }
    const taken = await leases.leaseDirect({ ...request, managed });
    undo.push(() => leases.release(taken.map(({ leaseId }) => leaseId)));
    return taken.map((lease) => {
      const source = this.#parts.find(lease.provider.nodeId);
      const connection = source === undefined ? undefined : linkOf(source);
      if (source !== undefined && connection !== undefined) return { source, connection, lease };
      const text = `provider "${lease.provider.name}" may not be reached: without kernel TLS only through WireGuard`;
      throw new MemcloudError('ERR_UNSUPPORTED', text);
    });
  }

  async #build(
    places: readonly Place[],
    sizeBytes: number,
    undo: (() => Promise<void>)[],
  ): Promise<Entry> {
    const name = `memcloud-${randomBytes(4).toString('hex')}`;
    const legs: KernelLeg[] = [];
    const records: LegRecord[] = [];
    for (const [index, { source, connection, lease }] of places.entries()) {
      const { exportId } = await source.openDirect({
        ...{ sizeBytes, ttlMs: DIRECT_EXPORT_TTL_MS },
        ...(lease === undefined ? {} : { under: lease.leaseId }),
      });
      undo.push(() => source.closeDirect(exportId));
      const mirrored = places.length > 1;
      const leg = await this.#parts.attachLeg({
        source: () => source,
        exportId,
        mirrored,
        connection,
      });
      undo.push(() => leg.detach());
      const { device } = leg;
      const crypt = await createCrypt(`${name}-${index}`, { device, sizeBytes });
      undo.push(() => removeMapping(crypt.name));
      legs.push(leg);
      records.push({
        device,
        exportId,
        providerId: source.nodeId,
        providerName: lease?.provider.name ?? source.nodeName,
        cryptName: crypt.name,
        cryptDevice: crypt.device,
        connection,
        ...(lease === undefined ? {} : { lease: journalled(lease) }),
      });
    }
    const parts = records.map(({ cryptDevice }) => cryptDevice);
    const mirrored = parts.length > 1;
    const device = mirrored ? await createMirror(parts) : (parts[0] ?? '');
    const purpose = `swap ${device}`;
    for (const { lease } of records) {
      if (lease !== undefined) lease.purpose = purpose;
    }
    const record = { device, sizeBytes, mirrored, legs: records };
    this.#parts.leases()?.setPurpose(leaseIdsOf(record), purpose);
    return { record, legs };
  }

  async #resumeLeg(record: DeviceRecord, leg: LegRecord): Promise<KernelLeg | undefined> {
    const { providerId, exportId, device, connection } = leg;
    const source = (): DirectSource | undefined => this.#source(providerId);
    const { mirrored } = record;
    try {
      return await this.#parts.resumeLeg({ source, exportId, mirrored, connection }, device);
    } catch (error) {
      const { code, message } = asMemcloudError(error);
      this.#logger.error({ device, code }, `a copy of ${record.device} is lost: ${message}`);
      return undefined;
    }
  }

  /** The leases of a device go on as it does; they are renewed first of all. */
  #adoptLeases({ device, legs }: DeviceRecord): void {
    const leases = this.#parts.leases();
    for (const { lease } of legs) {
      if (lease === undefined) continue;
      if (leases !== undefined) leases.adopt(lease);
      else {
        const text = `${device} is on managed leases, and no control plane is configured: they end`;
        this.#logger.error({ device, leaseId: lease.leaseId }, text);
      }
    }
  }

  async #releaseLeases(record: DeviceRecord): Promise<void> {
    try {
      await this.#parts.leases()?.release(leaseIdsOf(record));
    } catch (error) {
      this.#logger.warn({ device: record.device }, asMemcloudError(error).message);
    }
  }

  async #giveBack(record: LegRecord, leg: KernelLeg | undefined): Promise<void> {
    try {
      await leg?.detach();
      await this.#source(record.providerId)?.closeDirect(record.exportId);
    } catch (error) {
      // The provider wipes by itself when the export's time is over.
      const { code, message } = asMemcloudError(error);
      this.#logger.warn({ device: record.device, code }, message);
    }
  }

  async #renew(): Promise<void> {
    for (const { record } of this.#entries) {
      for (const { providerId, exportId } of record.legs) {
        const source = this.#source(providerId);
        if (source?.up !== true) continue;
        await source.renewDirect([exportId]).catch((error: unknown) => {
          this.#logger.warn({ provider: source.nodeName, error: String(error) }, 'not renewed');
        });
      }
    }
  }

  #source(providerId: NodeId): DirectSource | undefined {
    return this.#parts.find(providerId);
  }

  #save(): void {
    saveJournal(
      this.#journalFile,
      this.#entries.map(({ record }) => record),
    );
  }
}

function leaseIdsOf({ legs }: DeviceRecord): string[] {
  return legs.flatMap(({ lease }) => (lease === undefined ? [] : [lease.leaseId]));
}

function journalled({ leaseId, sizeBytes, ttlMs, purpose, provider }: DirectLease): JournalLease {
  return { leaseId, sizeBytes, ttlMs, purpose, provider };
}

function describe({ record, legs }: Entry): DirectDeviceInfo {
  const { device, sizeBytes, mirrored } = record;
  const parts = record.legs.map((leg, index) => {
    const alive = !mirrored || partIsAlive(device, leg.cryptDevice);
    const state = alive ? (legs[index]?.state ?? 'lost') : 'lost';
    const { providerId: nodeId, providerName: name, connection } = leg;
    return { device: leg.device, nodeId, name, state, connection };
  });
  const lost = parts.filter(({ state }) => state === 'lost').length;
  const health = lost === parts.length ? 'lost' : lost > 0 ? 'degraded' : 'ok';
  const managed = record.legs.some((leg) => leg.lease !== undefined);
  return { device, sizeBytes, copies: parts.length, health, managed, legs: parts };
}
