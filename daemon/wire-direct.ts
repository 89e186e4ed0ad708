/**
 * Joins the two ends of the direct path. Provider: exports on slabs, an NBD server on the streams of
 * their data connections. Consumer: the provider's session (tickets), a socket with kernel TLS, NBD on
 * it, the kernel's network block device. With `wire.ts` the only file of the daemon that imports the
 * folders in the middle.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import { monotonicClock } from '../common/clock.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import type { Logger } from '../common/log.ts';
import type { DirectSource, SlabProvider } from '../common/ports.ts';
import type { DirectCheck, DirectConnection, DirectExportInfo } from '../common/rpc-schema.ts';
import { everyTick, type Tick } from '../common/ticker.ts';
import { hasTool, runTool } from '../common/tool.ts';
import { hasWireGuard, isWireGuard } from '../common/wireguard.ts';
import { DIRECT_TICK_MS, DirectExports } from '../direct/exports.ts';
import {
  beginDirectConnection,
  beginPlainConnection,
  kernelTlsSupport,
} from '../direct/kernel-tls.ts';
import { KernelSocket } from '../nbd-server/client/kernel-socket.ts';
import {
  attachKernel,
  watchKernel,
  type AttachOptions,
  type KernelAttachment,
} from '../nbd-server/client/kernel/attach.ts';
import { keepConnected, type LinkEvent } from '../nbd-server/client/kernel/keep-connected.ts';
import { routeTo } from '../nbd-server/client/route.ts';
import { NbdServer } from '../nbd-server/server.ts';
import type { DirectParts, KernelLeg, LegRequest, LegState } from './direct/devices.ts';

/** Longer than a link may be cut without harm, shorter than the kernel's patience with hung tasks (120 s). */
const REPLY_TIMEOUT_S = 30;
/** With another copy at hand there is no reason to wait long. */
const DEAD_CONNECTION_TIMEOUT_MIRRORED_S = 5;
/** Less than the life of an export without connection. */
const DEAD_CONNECTION_TIMEOUT_SINGLE_S = 540;
const SERVER_CLOSE_TIMEOUT_MS = 1_000;
/** Pause between looks whether a provider is back, milliseconds. */
const PROVIDER_POLL_MS = 500;

/** The direct exports of this machine, with the server that speaks NBD on their connections. */
export class DirectService {
  /** For the peers. */
  readonly exports: DirectExports;
  readonly #server: NbdServer;
  readonly #timer: Tick;

  /**
   * @param options - `port`: where data connections are to come, once that is known; `allowPlain`: take
   *   them without TLS from anywhere, not only over WireGuard
   */
  constructor(
    provider: SlabProvider,
    options: { port: () => number; allowPlain: boolean },
    logger: Logger,
    spin: EventLoopSpin,
  ) {
    const { port, allowPlain } = options;
    const server = new NbdServer({ logger, spin });
    this.#server = server;
    this.exports = new DirectExports({
      provider,
      clock: monotonicClock,
      serve: (stream, device) => server.acceptStream(stream, device),
      port,
      plain: { everywhere: allowPlain, hasLink: () => hasWireGuard(), linkTo: wireGuardTo },
      logger,
    });
    this.#timer = everyTick(DIRECT_TICK_MS, () => this.exports.tick());
  }

  /** Every export, for people. */
  status(): DirectExportInfo[] {
    return this.exports
      .status()
      .map(({ exportId, holder, sizeBytes, residentBytes, connected }) => ({
        exportId,
        holder,
        sizeBytes,
        residentBytes,
        connected,
      }));
  }

  /** Cuts every connection, wipes, gives back. */
  async close(): Promise<void> {
    this.#timer.stop();
    this.exports.close();
    await this.#server.close(SERVER_CLOSE_TIMEOUT_MS);
  }
}

/** What direct devices are made of. */
export function directParts(
  providers: Pick<DirectParts, 'sources' | 'find' | 'leases'>,
  logger: Logger,
): DirectParts {
  const { sources, find, leases } = providers;
  return {
    ...{ sources, find, leases },
    check: (insecurePlain) => checkMachine(sources(), insecurePlain),
    linkOf: ({ host }, connection) => {
      if (connection === 'tls') return 'tls';
      if (host !== '' && wireGuardTo(host) !== undefined) return 'wireguard';
      return connection === 'plain' ? 'plain' : undefined;
    },
    attachLeg: async (request) => {
      return new WatchedLeg(await attachKernel(attachOptions(request)), logger);
    },
    resumeLeg: async (request, device) => {
      const leg = new WatchedLeg(await watchKernel({ ...attachOptions(request), device }), logger);
      void leg.check(request);
      return leg;
    },
  };
}

/** The WireGuard interface through which packets to an address leave now; undefined for any other. */
export function wireGuardTo(host: string): string | undefined {
  const name = routeTo(host)?.interface;
  return name !== undefined && isWireGuard(name) ? name : undefined;
}

/** A sentence for each thing that this machine lacks. Loads nothing: `memcloud swap on` does. */
async function checkMachine(
  sources: readonly DirectSource[],
  insecurePlain: boolean,
): Promise<DirectCheck> {
  const problems: string[] = [];
  if (!existsSync('/sys/block/nbd0')) problems.push('the nbd module is not loaded (modprobe nbd)');
  const tls = kernelTlsSupport();
  const tunnelled = sources.some(({ up, host }) => up && wireGuardTo(host) !== undefined);
  let connection: DirectConnection = 'tls';
  if (!tls.supported && insecurePlain) connection = 'plain';
  else if (!tls.supported && tunnelled) connection = 'wireguard';
  else if (!tls.supported) {
    problems.push(`no WireGuard link to a provider, and ${tls.reason}`);
  }
  problems.push(...(await toolProblems()));
  return { possible: problems.length === 0, problems, connection };
}

async function toolProblems(): Promise<string[]> {
  const problems: string[] = [];
  const missing = ['dmsetup', 'mdadm'].filter((tool) => !hasTool(tool));
  if (missing.length > 0) {
    const tools = missing.join(' and ');
    problems.push(`${tools} not installed (apt-get install ${missing.join(' ')})`);
  }
  if (missing.includes('dmsetup')) return problems;
  const targets = await runTool('dmsetup', ['targets']).catch(() => '');
  if (!/^crypt\s/m.test(targets)) {
    problems.push('the dm-crypt module is not loaded (modprobe dm-crypt)');
  }
  return problems;
}

function attachOptions({ source, exportId, mirrored, connection }: LegRequest): AttachOptions {
  return {
    connector: () => connectExport(source(), exportId, connection),
    exportName: exportId,
    connections: 1,
    timeoutS: REPLY_TIMEOUT_S,
    deadConnectionTimeoutS: mirrored
      ? DEAD_CONNECTION_TIMEOUT_MIRRORED_S
      : DEAD_CONNECTION_TIMEOUT_SINGLE_S,
  };
}

/**
 * A socket that the kernel can take: connected, protected, negotiated. What protects it was decided when
 * the device was made; a kernel that lost its TLS, or a route that left the tunnel, is an error here.
 */
async function connectExport(
  source: DirectSource | undefined,
  exportId: string,
  connection: DirectConnection,
): Promise<KernelSocket> {
  if (source?.up !== true) {
    throw new MemcloudError('ERR_PEER_UNREACHABLE', 'the provider is not connected');
  }
  const { host, nodeName } = source;
  const tunnel = connection === 'wireguard' ? wireGuardTo(host) : undefined;
  if (connection === 'wireguard' && tunnel === undefined) {
    throw new MemcloudError(
      'ERR_PEER_UNREACHABLE',
      `the way to ${nodeName} (${host}) leads through no WireGuard interface`,
    );
  }
  const transport = connection === 'tls' ? 'tls' : 'plain';
  const begin = connection === 'tls' ? beginDirectConnection : beginPlainConnection;
  const consumerNonce = randomBytes(32).toString('hex');
  const ticket = await source.directTicket(exportId, consumerNonce, transport);
  const { ticketId, secret, port } = ticket;
  return KernelSocket.connect(
    { host, port },
    {
      exportName: exportId,
      ...(tunnel === undefined ? {} : { bindTo: tunnel }),
      prepare: (fd) => begin(fd, { ticketId, secret, consumerNonce }),
    },
  );
}

/** A network block device whose connection is replaced whenever it dies. */
class WatchedLeg implements KernelLeg {
  readonly device: string;
  readonly #kernel: KernelAttachment;
  readonly #logger: Logger;
  readonly #stop: () => void;
  #mend: () => void = () => undefined;
  #state: LegState = 'live';
  #released = false;
  #lastError = '';

  constructor(kernel: KernelAttachment, logger: Logger) {
    this.#kernel = kernel;
    this.#logger = logger;
    this.device = kernel.device;
    this.#stop = keepConnected(
      {
        onLinkDead: (sink) => {
          this.#mend = sink;
          kernel.onLinkDead(sink);
        },
        reconnect: () => kernel.reconnect(),
      },
      (event) => this.#onEvent(event),
    );
  }

  get state(): LegState {
    return this.#state;
  }

  release(): void {
    this.#released = true;
    this.#stop();
    this.#kernel.close();
  }

  async detach(): Promise<void> {
    this.#released = true;
    this.#stop();
    if (this.#state === 'lost') this.#kernel.close();
    else await this.#kernel.detach();
  }

  /** After a restart: asks the provider whether the connection lives, as the kernel does not tell. */
  async check({ source, exportId }: LegRequest): Promise<void> {
    while (!this.#released) {
      try {
        const listed = await source()?.listDirect();
        // Only the provider itself can say that it has the export no longer.
        if (listed !== undefined) {
          const found = listed.find((each) => each.exportId === exportId);
          if (found?.connected === false) this.#mend();
          else if (found === undefined) this.#lose('the provider has the export no longer');
          return;
        }
      } catch {
        // It is not connected; it may come.
      }
      await new Promise((resolve) => setTimeout(resolve, PROVIDER_POLL_MS));
    }
  }

  #onEvent(event: LinkEvent): void {
    const { device } = this;
    if (event.type === 'reconnected') {
      this.#state = 'live';
      this.#lastError = '';
      this.#logger.warn({ device, attempts: event.attempts }, 'connected again');
      return;
    }
    if (this.#state === 'live') this.#state = 'reconnecting';
    if (event.type === 'linkDead') return this.#logger.warn({ device }, 'connection dead');
    const { code, message } = asMemcloudError(event.error);
    if (code !== this.#lastError) this.#logger.warn({ device, code }, message);
    this.#lastError = code;
    // Neither comes back: the provider wiped the export, or the kernel gave the device up.
    if (code === 'ERR_LEASE_UNKNOWN' || code === 'ERR_NBD_ATTACH') this.#lose(message);
  }

  /** Pages that cannot come back are better an error at once than a program that waits for ever. */
  #lose(why: string): void {
    if (this.#state === 'lost' || this.#released) return;
    this.#state = 'lost';
    this.#logger.error({ device: this.device }, `the copy is lost: ${why}`);
    this.#stop();
    void this.#kernel.detach().catch(() => undefined);
  }
}
