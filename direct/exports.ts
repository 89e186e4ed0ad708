/**
 * The direct exports of this machine: block devices of a fixed size, each on slabs of its own, each
 * for one holder, each reached over at most one data connection. The control session opens them and
 * asks for tickets; a data connection that names a ticket is taken over (`export-connections.ts`); the end of an export, by close, revocation or time, cuts the connection
 * and gives the RAM back.
 *
 * Leases of slabs are asked for a day at a time and renewed long before, so that a stall of this
 * process never lets them run out under a live connection; how long an export lives is decided in
 * `export-life.ts` alone. An export under a managed lease ends with it: its slabs do, and an export that lost
 * one is no device any more ({@link DirectExports.onSlabEnded}).
 */
import { randomBytes } from 'node:crypto';
import type { ByteStream, ByteStreamHandler } from '../common/byte-stream.ts';
import type { Clock } from '../common/clock.ts';
import {
  DIRECT_EXPORT_COUNT_MAX,
  DIRECT_SECRET_SIZE_BYTES,
  DIRECT_TICKET_ID_SIZE_BYTES,
} from '../common/direct-constants.ts';
import { MemcloudError } from '../common/errors.ts';
import { directExportOf, directHolder } from '../common/holder.ts';
import type { Logger } from '../common/log.ts';
import type { NbdStream } from '../common/nbd-stream.ts';
import type {
  BlockDevice,
  DirectAccess,
  DirectExport,
  DirectProvider,
  DirectRequest,
  DirectTicket,
  DirectTransport,
  NodeId,
  SlabAccess,
  SlabProvider,
} from '../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import { DIRECT_TICKET_COUNT_MAX, DIRECT_TTL_MAX_MS, DIRECT_TTL_MIN_MS } from './constants.ts';
import { ExportConnections, type PlainPolicy } from './export-connections.ts';
import { SLAB_TTL_MS, releaseLeases, takeLeases, type Lease } from './export-leases.ts';
import { ExportLife } from './export-life.ts';
import { PageBounce, SlabDevice } from './slab-device.ts';
import { TicketTable } from './tickets.ts';

/** How often {@link DirectExports.tick} wants to be called: milliseconds. */
export const DIRECT_TICK_MS = 1000;

const EXPORT_ID_SIZE_BYTES = 8;
/** Unless told: no data connection without TLS. */
const NEVER_PLAIN: PlainPolicy = {
  everywhere: false,
  hasLink: () => false,
  linkTo: () => undefined,
};

/** What direct exports are made of. */
export interface DirectExportsOptions {
  /** Where the slabs come from. */
  readonly provider: SlabProvider;
  /** Time. */
  readonly clock: Clock;
  /** Serves NBD on a stream; the stream is then the server's. */
  readonly serve: (stream: NbdStream, device: BlockDevice) => void;
  /** The TCP port on which data connections are to come. */
  readonly port: () => number;
  /** Which connections without TLS are taken; none when left out. */
  readonly plain?: PlainPolicy;
  /** Told what the operator should know. */
  readonly logger: Logger;
}

/** An export as `memcloud status` shows it. */
export interface DirectExportStatus extends DirectExport {
  /** Whose it is. */
  readonly holder: NodeId;
  /** Requests served over all its connections. */
  readonly requestCount: number;
}

interface Export {
  readonly exportId: string;
  readonly holder: NodeId;
  readonly ttlMs: number;
  readonly access: SlabAccess;
  readonly leases: readonly Lease[];
  readonly leaseTtlMs: number;
  readonly device: SlabDevice;
  readonly life: ExportLife;
  leasesRenewAtMs: number;
  readonly connections: ExportConnections;
}

/** See the top of the file. Made and closed by the daemon, which calls {@link DirectExports.tick}. */
export class DirectExports implements DirectProvider {
  readonly #options: DirectExportsOptions;
  readonly #exports = new Map<string, Export>();
  readonly #tickets = new TicketTable();
  readonly #bounce = new PageBounce();
  readonly #wiping = new Set<Export>();
  #closed = false;

  /** @param options - what they are made of */
  constructor(options: DirectExportsOptions) {
    this.#options = options;
  }

  /** {@link DirectProvider.openDirect} */
  openDirect(holder: NodeId): DirectAccess {
    return {
      open: (request) => this.#open(holder, request),
      ticket: (exportId, consumerNonce, transport = 'tls') =>
        this.#ticket(holder, { exportId, consumerNonce, transport }),
      renew: (exportIds) => exportIds.filter((exportId) => !this.#renew(holder, exportId)),
      close: (exportId) => {
        const found = this.#find(holder, exportId);
        if (found === undefined) throw unknownExport();
        this.#end(found, 'closed');
      },
      list: () => [...this.#exports.values()].filter((one) => one.holder === holder).map(describe),
    };
  }

  /** {@link DirectProvider.takeConnection} */
  takeConnection(stream: ByteStream, ticketId: string): ByteStreamHandler | undefined {
    const ticket = this.#tickets.take(ticketId, this.#options.clock.nowMs());
    if (ticket === undefined) return undefined;
    const found = this.#exports.get(ticket.exportId);
    if (found === undefined || stream.closed) {
      ticket.secret.fill(0);
      return undefined;
    }
    return found.connections.open(stream, Buffer.from(ticketId, 'hex'), ticket);
  }

  /** {@link DirectProvider.revoke} */
  revoke(holder: NodeId): void {
    for (const one of this.#exports.values()) {
      if (one.holder === holder) this.#end(one, 'revoked');
    }
  }

  /**
   * The provider ended a lease of this holder (common/holder.ts) by itself: its time was over, or that of the
   * managed lease that it lay under, or its memory is needed. An export that it belonged to ends.
   */
  onSlabEnded(holder: string): void {
    const exportId = directExportOf(holder);
    const found = exportId === undefined ? undefined : this.#exports.get(exportId);
    if (found !== undefined) this.#lose(found);
  }

  /** Every export, oldest first. */
  status(): DirectExportStatus[] {
    return [...this.#exports.values()].map((one) => ({
      ...describe(one),
      holder: one.holder,
      requestCount: one.device.requestCount,
    }));
  }

  /** Ends what has had its time, renews the leases of the rest. To be called every {@link DIRECT_TICK_MS}. */
  tick(): void {
    const nowMs = this.#options.clock.nowMs();
    this.#tickets.dropOld(nowMs);
    for (const one of this.#exports.values()) {
      if (one.life.hasEnded(nowMs)) this.#end(one, 'expired');
      else if (nowMs >= one.leasesRenewAtMs) this.#renewLeases(one, nowMs);
    }
  }

  /** Cuts every connection and gives every slab back, without waiting for slices. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const one of this.#exports.values()) this.#end(one, 'shut down');
    for (const one of this.#wiping) this.#giveBack(one);
    this.#bounce.free();
  }

  #open(holder: NodeId, request: DirectRequest): DirectExport {
    const { sizeBytes, ttlMs, under } = request;
    this.#checkRequest(holder, request);
    const exportId = this.#newId();
    // A holder of its own, so that its leases are neither seen nor ended with others of the same node.
    const access = this.#options.provider.openAccess(directHolder(holder, exportId));
    const { leases, leaseTtlMs } = takeLeases(access, sizeBytes, under);
    const nowMs = this.#options.clock.nowMs();
    const device = new SlabDevice({
      name: exportId,
      sizeBytes,
      access,
      slabHandles: leases.map(({ slabHandle }) => slabHandle),
      bounce: this.#bounce,
    });
    const life = new ExportLife(ttlMs, nowMs);
    const { clock, serve, plain = NEVER_PLAIN } = this.#options;
    const logger = this.#options.logger.child({ export: exportId, holder });
    const made: Export = {
      exportId,
      holder,
      ttlMs,
      access,
      leases,
      leaseTtlMs,
      device,
      life,
      leasesRenewAtMs: nowMs + leaseTtlMs / 3,
      connections: new ExportConnections({ device, life, clock, serve, plain, logger }),
    };
    this.#exports.set(exportId, made);
    this.#log(made).info({ sizeBytes, ttlMs }, 'direct: an export was opened');
    return describe(made);
  }

  #checkRequest(holder: NodeId, { sizeBytes, ttlMs, under }: DirectRequest): void {
    const wholePages = Number.isSafeInteger(sizeBytes) && sizeBytes % PAGE_SIZE_BYTES === 0;
    if (!wholePages || sizeBytes < PAGE_SIZE_BYTES) {
      throw new MemcloudError(
        'ERR_LEASE_INVALID',
        `direct export: expected a size of whole pages (${PAGE_SIZE_BYTES} bytes), got ${sizeBytes}`,
      );
    }
    if (!(ttlMs >= DIRECT_TTL_MIN_MS && ttlMs <= DIRECT_TTL_MAX_MS)) {
      throw new MemcloudError(
        'ERR_LEASE_INVALID',
        `direct export: expected a time to live of ${DIRECT_TTL_MIN_MS} to ${DIRECT_TTL_MAX_MS} ms, got ${ttlMs}`,
      );
    }
    const held = [...this.#exports.values()].filter((one) => one.holder === holder).length;
    if (this.#closed || held >= DIRECT_EXPORT_COUNT_MAX) {
      const why = this.#closed ? 'the provider is shutting down' : `${held} are open, the most`;
      throw new MemcloudError('ERR_LEASE_CAPACITY', `direct export: ${why}`);
    }
    // What is free under a managed lease, the provider knows.
    if (under !== undefined) return;
    const { offeredBytes, usedBytes } = this.#options.provider.usage(holder);
    if (sizeBytes > offeredBytes - usedBytes) {
      throw new MemcloudError(
        'ERR_LEASE_CAPACITY',
        `direct export: asked ${sizeBytes} bytes, free ${offeredBytes - usedBytes} of ${offeredBytes} offered`,
      );
    }
  }

  #newId(): string {
    for (;;) {
      const exportId = randomBytes(EXPORT_ID_SIZE_BYTES).toString('hex');
      if (!this.#exports.has(exportId)) return exportId;
    }
  }

  #ticket(
    holder: NodeId,
    request: { exportId: string; consumerNonce: string; transport: DirectTransport },
  ): DirectTicket {
    const { exportId, consumerNonce, transport } = request;
    if (!/^[0-9a-f]{64}$/.test(consumerNonce)) {
      throw new MemcloudError(
        'ERR_LEASE_INVALID',
        'direct ticket: expected a nonce of 64 lower-case hex digits',
      );
    }
    if (this.#find(holder, exportId) === undefined) throw unknownExport();
    const { everywhere, hasLink } = this.#options.plain ?? NEVER_PLAIN;
    if (transport === 'plain' && !everywhere && !hasLink()) {
      throw new MemcloudError(
        'ERR_UNSUPPORTED',
        'the provider takes data connections without TLS only over WireGuard, which it does not ' +
          'have, or with --allow-plain',
      );
    }
    const nowMs = this.#options.clock.nowMs();
    if (!this.#tickets.hasRoom(holder, nowMs)) {
      throw new MemcloudError(
        'ERR_LEASE_CAPACITY',
        `direct ticket: ${DIRECT_TICKET_COUNT_MAX} are open, the most; use them or wait`,
      );
    }
    const ticketId = randomBytes(DIRECT_TICKET_ID_SIZE_BYTES).toString('hex');
    const secret = randomBytes(DIRECT_SECRET_SIZE_BYTES);
    const nonce = Buffer.from(consumerNonce, 'hex');
    const ticket = { holder, exportId, secret, consumerNonce: nonce, transport };
    this.#tickets.add(ticketId, ticket, nowMs);
    return { ticketId, secret: secret.toString('hex'), port: this.#options.port(), transport };
  }

  #renew(holder: NodeId, exportId: string): boolean {
    const found = this.#find(holder, exportId);
    found?.life.renew(this.#options.clock.nowMs());
    return found !== undefined;
  }

  /** An export of the holder whose time is not over; one that waits for the next tick is gone already. */
  #find(holder: NodeId, exportId: string): Export | undefined {
    const found = this.#exports.get(exportId);
    if (found?.holder !== holder) return undefined;
    return found.life.hasEnded(this.#options.clock.nowMs()) ? undefined : found;
  }

  #renewLeases(one: Export, nowMs: number): void {
    const leaseIds = one.leases.map(({ leaseId }) => leaseId);
    if (one.access.renew(leaseIds, SLAB_TTL_MS).length > 0) {
      this.#lose(one);
      return;
    }
    one.leasesRenewAtMs = nowMs + one.leaseTtlMs / 3;
  }

  #lose(one: Export): void {
    this.#log(one).error({}, 'direct: slabs of an export were taken away; its data is lost');
    this.#end(one, 'lost');
  }

  #end(one: Export, reason: string): void {
    this.#exports.delete(one.exportId);
    this.#tickets.dropExport(one.exportId);
    one.connections.cut(`the direct export was ${reason}`);
    one.device.shutDown();
    this.#log(one).info({ reason }, 'direct: an export ended');
    this.#wiping.add(one);
    this.#wipe(one, 0);
  }

  /** Wipes slice by slice, so that other clients are served meanwhile, then gives back. */
  #wipe(one: Export, fromPage: number): void {
    if (!this.#wiping.has(one)) return;
    const endPage = one.device.sizeBytes / PAGE_SIZE_BYTES;
    const next = one.device.dropSlice(fromPage, endPage);
    // A failure means that the leases are gone, and then the provider has wiped.
    if (next < 0 || next >= endPage) this.#giveBack(one);
    else setImmediate(() => this.#wipe(one, next));
  }

  #giveBack(one: Export): void {
    this.#wiping.delete(one);
    releaseLeases(one.access, one.leases);
  }

  #log(one: Export): Logger {
    return this.#options.logger.child({ export: one.exportId, holder: one.holder });
  }
}

function describe(one: Export): DirectExport {
  return {
    exportId: one.exportId,
    sizeBytes: one.device.sizeBytes,
    residentBytes: one.device.residentBytes,
    connected: one.life.connected,
    ttlMs: one.ttlMs,
  };
}

function unknownExport(): MemcloudError {
  return new MemcloudError(
    'ERR_LEASE_UNKNOWN',
    'the direct export is unknown, expired or held by another node',
  );
}
