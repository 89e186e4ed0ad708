/**
 * The NBD server: listeners, exports and the connections between them. It accepts on Unix sockets,
 * TCP addresses and inherited sockets, up to a bounded number of clients, and knows of each export
 * who uses it. Closing is graceful: listeners first, so that no new client comes, then each client
 * is drained, and what has not ended at the deadline is cut.
 */
import fs from 'node:fs';
import net from 'node:net';
import { MemcloudError } from '../common/errors.ts';
import { closeKeepingFile, listenerDescriptor } from '../common/listening-socket.ts';
import type { Logger } from '../common/log.ts';
import type { NbdStream } from '../common/nbd-stream.ts';
import type { BlockDevice } from '../common/ports.ts';
import { BufferPool } from './buffer-pool.ts';
import {
  Connection,
  type ConnectionParts,
  type ConnectionSource,
  type ConnectionState,
  type Export,
} from './connection.ts';
import { NBD_CMD, NBD_HANDSHAKE_TIMEOUT_MS, NBD_STRING_SIZE_MAX_BYTES } from './constants.ts';
import type { ExportDirectory, ExportInfo } from './export-info.ts';
import type { ActivityListener, SessionCounters } from './session-parts.ts';
import type { ServerTls } from './tls.ts';

/** Clients at once; one more is closed as soon as it has come. */
const CONNECTION_COUNT_MAX = 128;
/** Pooled request data of all clients together, bytes. */
const POOL_USED_MAX_BYTES = 512 * 2 ** 20;
/** Pooled buffers of the great classes that stay mapped while idle, bytes. */
const POOL_IDLE_MAX_BYTES = 64 * 2 ** 20;
/** Time that a drain may take, milliseconds. */
const DRAIN_TIMEOUT_MS = 10_000;
/** Time that cut connections may take to end, milliseconds. */
const CUT_TIMEOUT_MS = 2_000;
/** Interval at which a drain looks whether it is over, milliseconds. */
const DRAIN_POLL_MS = 5;
/** Idle time before TCP asks whether the client is still there, milliseconds. */
const KEEP_ALIVE_DELAY_MS = 30_000;

/** Where a server listens. */
export type ListenTarget =
  | { readonly path: string }
  | { readonly host: string; readonly port: number }
  /** A listening socket that was inherited; see `inherited-sockets.ts`. */
  | { readonly fd: number };

/** How a server is to behave. */
export interface NbdServerOptions {
  /** Told of what the operator should know. */
  readonly logger: Logger;
  /** Told of page traffic; nobody when left out. */
  readonly spin?: ActivityListener;
  /** TLS; none when left out. */
  readonly tls?: ServerTls;
  /** Clients at once, at least 1. */
  readonly connectionCountMax?: number;
  /** Milliseconds for a handshake. */
  readonly handshakeTimeoutMs?: number;
}

/** Counts of a server. */
export interface NbdServerStats {
  /** Clients now, handshakes included. */
  readonly connectionCount: number;
  /** Requests answered since the start, by command name. */
  readonly requests: Readonly<Record<string, number>>;
  /** Of them, those answered with an error. */
  readonly errors: number;
}

/** What a server is made of, to go on with it in another process; the descriptors are still its own. */
export interface NbdServerState {
  /** Descriptors of the listening sockets, in the order of {@link NbdServer.listen}. */
  readonly listeners: readonly number[];
  /** Clients past their handshake. */
  readonly connections: readonly ConnectionState[];
  /** Descriptors of clients that nothing was said to yet. */
  readonly waiting: readonly number[];
}

interface Listening {
  readonly server: net.Server;
  /** Of a Unix socket. */
  readonly path: string | undefined;
  /** True when its file does not go by itself, because another process made it. */
  readonly inherited: boolean;
}

/** Serves block devices over NBD. */
export class NbdServer {
  readonly #options: NbdServerOptions;
  readonly #exports = new Map<string, Export>();
  readonly #connections = new Set<Connection>();
  readonly #listeners: Listening[] = [];
  /** Clients that came while nobody is to be served. */
  readonly #waiting: net.Socket[] = [];
  #holding = false;
  readonly #pool: BufferPool;
  readonly #counters: SessionCounters;
  readonly #directory: ExportDirectory;
  #closing = false;

  /** @param options - how it is to behave */
  constructor(options: NbdServerOptions) {
    this.#options = options;
    this.#pool = new BufferPool({
      usedMaxBytes: POOL_USED_MAX_BYTES,
      idleMaxBytes: POOL_IDLE_MAX_BYTES,
    });
    this.#counters = { requests: new Float64Array(Object.keys(NBD_CMD).length), errors: 0 };
    this.#directory = {
      list: () => [...this.#exports.values()].map(infoOf),
      find: (name) => {
        const found = this.#exportOf(name);
        return found === undefined ? undefined : infoOf(found);
      },
    };
  }

  /** Counts for status and metrics. */
  get stats(): NbdServerStats {
    const requests: Record<string, number> = {};
    for (const [name, number] of Object.entries(NBD_CMD)) {
      requests[name] = this.#counters.requests[number] ?? 0;
    }
    return { connectionCount: this.#connections.size, requests, errors: this.#counters.errors };
  }

  /** Clients that use the export now. */
  clientCount(exportName: string): number {
    let count = 0;
    for (const connection of this.#connections) {
      if (connection.exportName === exportName) count += 1;
    }
    return count;
  }

  /**
   * Offers a device to clients that come from now on.
   *
   * @param options - `readOnly`: refuse every command that writes
   * @throws MemcloudError `ERR_VOLUME_EXISTS` when the name is taken, `ERR_USAGE` when it is no name
   */
  addExport(device: BlockDevice, options: { readOnly?: boolean } = {}): void {
    const { name } = device;
    if (name === '' || name.includes('\0') || Buffer.byteLength(name) > NBD_STRING_SIZE_MAX_BYTES) {
      throw new MemcloudError(
        'ERR_USAGE',
        `export name: expected 1 to ${NBD_STRING_SIZE_MAX_BYTES} bytes without NUL`,
      );
    }
    if (this.#exports.has(name)) {
      throw new MemcloudError('ERR_VOLUME_EXISTS', `an export named "${name}" is served already`);
    }
    const readOnly = options.readOnly ?? false;
    this.#exports.set(name, { device, readOnly, singleConnection: false });
  }

  /**
   * Withdraws an export and drains its clients.
   *
   * @param timeoutMs - after which they are cut
   * @throws MemcloudError `ERR_NBD_EXPORT_UNKNOWN`
   */
  async removeExport(name: string, timeoutMs = DRAIN_TIMEOUT_MS): Promise<void> {
    if (!this.#exports.delete(name)) {
      throw new MemcloudError('ERR_NBD_EXPORT_UNKNOWN', `there is no export named "${name}"`);
    }
    const users = [...this.#connections].filter((connection) => connection.exportName === name);
    await this.#drain(users, timeoutMs);
  }

  /**
   * Listens; may be called several times. A Unix socket file that nobody listens on is replaced.
   *
   * @param inheritedFd - the listening socket of another process, ours from now on
   * @returns the address bound, with the port that the system chose for port 0
   * @throws MemcloudError `ERR_DAEMON_BUSY` when another process listens there, `ERR_NATIVE`
   */
  async listen(target: ListenTarget, inheritedFd?: number): Promise<ListenTarget> {
    if (this.#closing) throw new MemcloudError('ERR_CANCELLED', 'the NBD server is closing');
    const listener = net.createServer(
      { pauseOnConnect: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS },
      (socket) => this.accept(socket),
    );
    const inherited = inheritedFd !== undefined;
    if ('path' in target && !inherited) await removeStaleSocket(target.path);
    await new Promise<void>((resolve, reject) => {
      listener.once('error', (cause) => reject(listenError(target, cause)));
      listener.listen(inherited ? { fd: inheritedFd } : target, resolve);
    });
    listener.on('error', (error) => {
      this.#options.logger.error({ error: error.message }, 'nbd: a listener failed');
    });
    const path = 'path' in target ? target.path : undefined;
    this.#listeners.push({ server: listener, path, inherited });
    const address = listener.address();
    if ('path' in target || 'fd' in target || address === null || typeof address === 'string') {
      if ('path' in target) fs.chmodSync(target.path, 0o600);
      return target;
    }
    return { host: address.address, port: address.port };
  }

  /** Serves a connected socket, which must be paused and unread. For sockets that did not come through a listener. */
  accept(socket: net.Socket): void {
    if (this.#refuse(socket)) return;
    if (this.#holding) {
      this.#waiting.push(socket);
      return;
    }
    this.#connect({ socket }, this.#served());
  }

  #served(): Pick<ConnectionParts, 'directory' | 'exportOf' | 'tls'> {
    return {
      directory: this.#directory,
      exportOf: (name) => this.#exportOf(name),
      tls: this.#options.tls,
    };
  }

  // --- Going on in another process ---------------------------------------------------------------

  /** Begins to serve nobody: requests that come wait unread, clients that come wait unanswered. */
  hold(): void {
    this.#holding = true;
    for (const connection of this.#connections) connection.hold();
  }

  /** True when every request that was begun is answered. */
  get held(): boolean {
    for (const connection of this.#connections) if (!connection.held) return false;
    return this.#holding;
  }

  /** Clients that only this process can serve, because of TLS. */
  get boundCount(): number {
    return [...this.#connections].filter((connection) => connection.bound).length;
  }

  /** Serves again. */
  goOn(): void {
    this.#holding = false;
    for (const connection of this.#connections) connection.goOn();
    for (const socket of this.#waiting.splice(0)) this.accept(socket);
  }

  /** What another process needs to go on. The server is held. */
  state(): NbdServerState {
    return {
      listeners: this.#listeners.map(({ server }) => listenerDescriptor(server)),
      connections: [...this.#connections].flatMap((connection) => connection.state() ?? []),
      waiting: this.#waiting.map(descriptorOf),
    };
  }

  /** Stops listening; another process goes on, with the clients too, and this one is about to end. */
  abandon(): void {
    for (const { server, path } of this.#listeners.splice(0)) closeKeepingFile(server, path);
  }

  /** Goes on with a client of another process; the descriptor is ours from now on. */
  resume(state: ConnectionState): void {
    const { fd, ...resumed } = state;
    this.#connect({ socket: pausedSocket(fd) }, { ...this.#served(), resumed });
  }

  /** Serves a client that another process accepted and did not speak to. */
  acceptDescriptor(fd: number): void {
    this.accept(pausedSocket(fd));
  }

  /**
   * Serves one device on a stream that somebody else connected and protects, and nothing else: the
   * client sees one export, under the device's name and as the default one, without CAN_MULTI_CONN,
   * since each stream is somebody else's to allow. The exports of the server are not seen there; its
   * bounds, counts and drain hold.
   *
   * @param stream - unread; the server's from now on, also when it refuses it
   */
  acceptStream(stream: NbdStream, device: BlockDevice): void {
    if (this.#refuse(stream)) return;
    const only: Export = { device, readOnly: false, singleConnection: true };
    const exportOf = (name: string): Export | undefined =>
      name === '' || name === device.name ? only : undefined;
    const directory: ExportDirectory = {
      list: () => [infoOf(only)],
      find: (name) => (exportOf(name) === undefined ? undefined : infoOf(only)),
    };
    this.#connect({ stream }, { directory, exportOf, tls: undefined });
  }

  #refuse(client: { destroy(): void }): boolean {
    const countMax = this.#options.connectionCountMax ?? CONNECTION_COUNT_MAX;
    if (!this.#closing && this.#connections.size < countMax) return false;
    this.#options.logger.warn({ connectionCount: this.#connections.size }, 'nbd: client refused');
    client.destroy();
    return true;
  }

  #connect(
    source: ConnectionSource,
    served: Pick<ConnectionParts, 'directory' | 'exportOf' | 'tls' | 'resumed'>,
  ): void {
    const connection: Connection = new Connection({
      ...served,
      source,
      handshakeTimeoutMs: this.#options.handshakeTimeoutMs ?? NBD_HANDSHAKE_TIMEOUT_MS,
      pool: this.#pool,
      counters: this.#counters,
      spin: this.#options.spin,
      logger: this.#options.logger,
      onEnded: () => this.#connections.delete(connection),
    });
    this.#connections.add(connection);
    if (this.#holding) connection.hold();
  }

  /** Stops listening, drains every client, cuts what is left at the deadline, frees the memory. */
  async close(timeoutMs = DRAIN_TIMEOUT_MS): Promise<void> {
    this.#closing = true;
    for (const { server, path, inherited } of this.#listeners.splice(0)) {
      server.close();
      if (inherited && path !== undefined) fs.rmSync(path, { force: true });
    }
    for (const socket of this.#waiting.splice(0)) socket.destroy();
    await this.#drain([...this.#connections], timeoutMs);
    this.#pool.close();
  }

  #exportOf(name: string): Export | undefined {
    if (name !== '') return this.#exports.get(name);
    const [only] = this.#exports.values();
    return this.#exports.size === 1 ? only : undefined;
  }

  async #drain(connections: readonly Connection[], timeoutMs: number): Promise<void> {
    for (const connection of connections) connection.drain();
    const deadline = performance.now() + timeoutMs;
    const alive = (): boolean =>
      connections.some((connection) => this.#connections.has(connection));
    while (alive() && performance.now() < deadline) await pause(DRAIN_POLL_MS);
    for (const connection of connections) {
      if (this.#connections.has(connection)) connection.destroy();
    }
    // A destroyed socket ends within a turn or two; its requests end with the device.
    const last = performance.now() + CUT_TIMEOUT_MS;
    while (alive() && performance.now() < last) await pause(DRAIN_POLL_MS);
  }
}

/** A connected socket of which nothing was read, as a listener with `pauseOnConnect` gives it. */
function pausedSocket(fd: number): net.Socket {
  // The types do not know the option, which net.Server itself uses.
  const options = { fd, readable: true, writable: true, pauseOnCreate: true };
  return new net.Socket(options);
}

function descriptorOf(socket: net.Socket): number {
  return (socket as { _handle?: { readonly fd?: number } | null })._handle?.fd ?? -1;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function infoOf({ device, readOnly, singleConnection }: Export): ExportInfo {
  const { name, description, sizeBytes } = device;
  return { name, description, sizeBytes, readOnly, singleConnection };
}

function listenError(target: ListenTarget, cause: NodeJS.ErrnoException): MemcloudError {
  const where =
    'path' in target
      ? target.path
      : 'fd' in target
        ? `fd ${target.fd}`
        : `${target.host}:${target.port}`;
  const code = cause.code === 'EADDRINUSE' ? 'ERR_DAEMON_BUSY' : 'ERR_NATIVE';
  return new MemcloudError(code, `cannot listen on ${where}: ${cause.message}`, { cause });
}

/** Removes the file of a Unix socket whose listener is gone; leaves one that answers. */
async function removeStaleSocket(path: string): Promise<void> {
  if (!fs.existsSync(path) || !fs.statSync(path).isSocket()) return;
  const answered = await new Promise<boolean>((resolve) => {
    const probe = net.connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (!answered) fs.unlinkSync(path);
}
