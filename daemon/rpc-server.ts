/**
 * The RPC server: where it listens and whom it takes. A Unix socket that its owner may open, and the
 * members of one group where the machine has that group, whom the kernel names; and, when it is asked for,
 * a port on loopback whose clients show a token. What happens on a connection is `rpc/connection.ts`.
 */
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { MemcloudError } from '../common/errors.ts';
import { peerCredentials } from '../common/libc.ts';
import { closeKeepingFile, listenerDescriptor } from '../common/listening-socket.ts';
import type { Logger } from '../common/log.ts';
import { checkSocketPath } from '../common/paths.ts';
import type { StatsInfo } from '../common/rpc-nodes.ts';
import { makeDirectory } from '../common/directory.ts';
import { isSameToken, mayUse, type RpcGroup } from './rpc/access.ts';
import type { RpcHandlers } from './rpc/call.ts';
import { RpcConnection, type RpcAccess, type RpcService } from './rpc/connection.ts';

export type { RpcHandlers } from './rpc/call.ts';

const CONNECTION_COUNT_MAX = 64;
/** Connections over TCP that have not shown the token; the oldest makes room for one more. */
const STRANGER_COUNT_MAX = 8;
const PROBE_TIMEOUT_MS = 1000;
/** Refusals are logged this often at most, whoever knocks how often. */
const REFUSAL_LOG_INTERVAL_MS = 10_000;

/** Whom a server takes. */
export interface RpcServerOptions {
  /** Whose members may use the Unix socket; without: only its owner, and root. */
  readonly group?: RpcGroup;
  /** What clients over TCP show; without: nobody may. */
  readonly token?: () => string;
  /** Called when a client asks for an object: more will follow soon. */
  readonly onHotCall?: () => void;
}

/** The server. */
export class RpcServer implements RpcService {
  readonly handlers: RpcHandlers;
  readonly logger: Logger;
  readonly onHotCall: () => void;
  readonly #options: RpcServerOptions;
  readonly #server: net.Server;
  readonly #tcpServer: net.Server;
  readonly #connections = new Set<RpcConnection>();
  readonly #ownUid = process.geteuid?.() ?? 0;
  #connectionId = 0;
  #callCount = 0;
  #endedCount = 0;
  #errorCount = 0;
  #holding = false;
  #path = '';
  /** Of the socket's file as we made it. */
  #inode = 0;
  #inherited = false;
  #keepsFile = false;
  #refusalLoggedAtMs = -Infinity;

  /** @param handlers - a handler for each method of the table */
  constructor(handlers: RpcHandlers, logger: Logger, options: RpcServerOptions = {}) {
    this.handlers = handlers;
    this.logger = logger;
    this.#options = options;
    this.onHotCall = options.onHotCall ?? (() => undefined);
    this.#server = net.createServer({ pauseOnConnect: true }, (socket) => {
      this.#accept(socket, this.#accessOf(socket));
    });
    this.#tcpServer = net.createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
      this.#makeRoomForStranger();
      this.#accept(socket, this.#options.token === undefined ? 'denied' : 'token');
    });
  }

  /**
   * Listens on a path; a socket file that nobody answers on is replaced, any other file is not.
   *
   * @param inherited - `fd`: a socket that listens there already; `keepFile`: whoever made it removes
   *   its file, the service manager for one
   * @throws MemcloudError `ERR_DAEMON_BUSY` when another daemon answers there, `ERR_USAGE` when the
   *   path is too long or of a file that is no socket, `ERR_NATIVE`
   */
  async listen(
    socketPath: string,
    inherited?: { readonly fd: number; readonly keepFile: boolean },
  ): Promise<void> {
    this.#path = checkSocketPath(socketPath);
    if (inherited !== undefined) {
      const { fd, keepFile } = inherited;
      this.#inherited = true;
      this.#keepsFile = keepFile;
      this.#inode = inodeOf(socketPath);
      await new Promise<void>((resolve) => this.#server.listen({ fd }, resolve));
      this.#noteErrors(this.#server);
      return;
    }
    if (await answers(socketPath)) {
      throw new MemcloudError(
        'ERR_DAEMON_BUSY',
        `another memnode answers on ${socketPath}; stop it or choose another --socket`,
      );
    }
    const mask = process.umask();
    try {
      makeDirectory(path.dirname(socketPath), 0o755);
      removeStaleSocket(socketPath);
      process.umask(0o177);
      await listening(this.#server, { path: socketPath });
    } catch (error) {
      if (error instanceof MemcloudError) throw error;
      const { code } = error as NodeJS.ErrnoException;
      throw new MemcloudError('ERR_NATIVE', `cannot listen on ${socketPath}: ${code}`, {
        cause: error,
      });
    } finally {
      process.umask(mask);
    }
    this.#inode = inodeOf(socketPath);
    this.#letGroupIn();
    this.#noteErrors(this.#server);
  }

  /**
   * Listens on loopback as well.
   *
   * @throws MemcloudError `ERR_DAEMON_BUSY` when the port is taken, `ERR_NATIVE`
   */
  async listenTcp(host: string, port: number): Promise<void> {
    try {
      await listening(this.#tcpServer, { host, port });
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      const isTaken = code === 'EADDRINUSE';
      const text = isTaken ? 'something else listens there' : `${code}`;
      throw new MemcloudError(
        isTaken ? 'ERR_DAEMON_BUSY' : 'ERR_NATIVE',
        `cannot listen on ${host}:${port} for RPC: ${text}`,
        { cause },
      );
    }
    this.#noteErrors(this.#tcpServer);
  }

  /** The port of {@link RpcServer.listenTcp}; 0 without. */
  get tcpPort(): number {
    const address = this.#tcpServer.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** Begins no further call until {@link RpcServer.goOn}. @returns true when none is under way */
  hold(): boolean {
    this.#holding = true;
    return this.#callCount === this.#endedCount;
  }

  /** Answers again. */
  goOn(): void {
    this.#holding = false;
    for (const connection of this.#connections) connection.pump();
  }

  /** The descriptor of the listening socket, for another process; still ours. */
  get descriptor(): number {
    return listenerDescriptor(this.#server);
  }

  /** True when somebody else made the socket and removes its file. */
  get keepsFile(): boolean {
    return this.#keepsFile;
  }

  /** Connections now, and calls since the start. */
  get counters(): StatsInfo['rpc'] {
    return {
      connectionCount: this.#connections.size,
      callCount: this.#callCount,
      errorCount: this.#errorCount,
    };
  }

  /** Stops listening, because another process does; connections go on. */
  abandon(): void {
    closeKeepingFile(this.#server, this.#path);
    this.#tcpServer.close();
  }

  /** Stops listening and ends every connection after `graceMs`. */
  async close(graceMs: number): Promise<void> {
    const closed = [this.#server, this.#tcpServer].map((server) => {
      return new Promise<void>((resolve) => server.once('close', resolve));
    });
    const isReplaced = this.#isReplaced();
    if (isReplaced) closeKeepingFile(this.#server, this.#path);
    else this.#server.close();
    this.#tcpServer.close();
    const gone = new Promise<void>((resolve) => (this.#onEmpty = resolve));
    for (const connection of this.#connections) connection.end();
    const timer = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, graceMs);
    if (this.#connections.size > 0) await gone;
    await Promise.all(closed);
    clearTimeout(timer);
    // libuv removes the file only of a socket that it made.
    if (this.#inherited && !this.#keepsFile && !isReplaced) fs.rmSync(this.#path, { force: true });
  }

  #onEmpty: () => void = () => undefined;

  // --- What connections ask --------------------------------------------------------------------

  /** @inheritDoc */
  get holding(): boolean {
    return this.#holding;
  }

  /** @inheritDoc */
  isToken(shown: unknown): boolean {
    const token = this.#options.token?.();
    return token !== undefined && isSameToken(shown, token);
  }

  /** @inheritDoc */
  onCallBegun(): void {
    this.#callCount += 1;
  }

  /** @inheritDoc */
  onCallEnded(isError: boolean): void {
    this.#endedCount += 1;
    if (isError) this.#errorCount += 1;
  }

  /** @inheritDoc */
  onGone(connection: RpcConnection): void {
    this.#connections.delete(connection);
    if (this.#connections.size === 0) this.#onEmpty();
  }

  // --- Whom it takes ---------------------------------------------------------------------------

  /** True when the file at our path is one that somebody made since: it is not ours to remove. */
  #isReplaced(): boolean {
    const inode = inodeOf(this.#path);
    return this.#inode !== 0 && inode !== 0 && inode !== this.#inode;
  }

  #accept(socket: net.Socket, access: RpcAccess): void {
    if (this.#connections.size >= CONNECTION_COUNT_MAX) {
      socket.destroy();
      return;
    }
    this.#connectionId += 1;
    this.#connections.add(new RpcConnection(this.#connectionId, socket, access, this));
  }

  #accessOf(socket: net.Socket): RpcAccess {
    const fd = (socket as { _handle?: { readonly fd?: number } | null })._handle?.fd ?? -1;
    try {
      const client = peerCredentials(fd);
      if (mayUse(client, this.#ownUid, this.#options.group?.id)) return 'granted';
      this.#logRefusal({ uid: client.uid, pid: client.pid });
    } catch (error) {
      if (!(error instanceof MemcloudError)) throw error;
      // Nobody whom the kernel cannot name comes in.
      this.#logRefusal({ err: error.message });
    }
    return 'denied';
  }

  #logRefusal(who: Record<string, unknown>): void {
    const nowMs = performance.now();
    if (nowMs - this.#refusalLoggedAtMs < REFUSAL_LOG_INTERVAL_MS) return;
    this.#refusalLoggedAtMs = nowMs;
    this.logger.warn(who, 'RPC refused: not root, not our user, not in the group');
  }

  #makeRoomForStranger(): void {
    const strangers = [...this.#connections].filter(({ isStranger }) => isStranger);
    if (strangers.length >= STRANGER_COUNT_MAX) strangers[0]?.destroy();
  }

  #letGroupIn(): void {
    const { group } = this.#options;
    if (group?.id === undefined) return;
    try {
      fs.chownSync(this.#path, -1, group.id);
      fs.chmodSync(this.#path, 0o660);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      this.logger.warn({ group: group.name, code }, 'the RPC socket stays its owner’s alone');
    }
  }

  #noteErrors(server: net.Server): void {
    server.on('error', (error) => {
      this.logger.error({ err: error.message }, 'the RPC socket failed to take a client');
    });
  }
}

function listening(server: net.Server, options: net.ListenOptions): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

/** The number of a file; 0 when there is none. */
function inodeOf(file: string): number {
  return fs.lstatSync(file, { throwIfNoEntry: false })?.ino ?? 0;
}

/** @throws MemcloudError `ERR_USAGE` when a file of another kind is there */
function removeStaleSocket(socketPath: string): void {
  const found = fs.lstatSync(socketPath, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new MemcloudError('ERR_USAGE', `${socketPath} exists and is no socket; choose another`);
  }
  fs.rmSync(socketPath, { force: true });
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ path: socketPath, timeout: PROBE_TIMEOUT_MS });
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => done(true));
    // Who may not open it does not know that nobody answers.
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code === 'EACCES'));
    socket.once('timeout', () => done(true));
  });
}
