/**
 * The RPC server: a Unix socket that only the owner of the daemon can open (mode 0600). It checks
 * names and parameters against the table of methods and leaves the rest to the handlers.
 */
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { MemcloudError, asMemcloudError } from '../common/errors.ts';
import { closeKeepingFile, listenerDescriptor } from '../common/listening-socket.ts';
import type { Logger } from '../common/log.ts';
import { checkSocketPath } from '../common/paths.ts';
import { RpcDecoder, encodeRpcMessage } from '../common/rpc-codec.ts';
import {
  RPC_PARAMS,
  checkRpcParams,
  type RpcMethod,
  type RpcParams,
  type RpcResults,
} from '../common/rpc-schema.ts';
import { makeDirectory } from './directory.ts';

/** A handler for each method. */
export type RpcHandlers = {
  readonly [M in RpcMethod]: (params: RpcParams<M>) => RpcResults[M] | Promise<RpcResults[M]>;
};

const CONNECTION_COUNT_MAX = 64;
/** Calls that one connection may have under way; more wait unread. */
const CALLS_IN_FLIGHT_MAX = 64;
/** Reply bytes that may wait for a client that does not read; its calls wait unread beyond. */
const UNSENT_SIZE_MAX_BYTES = 4 * 2 ** 20;
const PROBE_TIMEOUT_MS = 1000;

/** The server. */
export class RpcServer {
  readonly #handlers: RpcHandlers;
  readonly #logger: Logger;
  readonly #server: net.Server;
  readonly #connections = new Set<net.Socket>();
  readonly #pumps = new Set<() => void>();
  #callsInFlight = 0;
  #holding = false;
  #path = '';
  #inherited = false;
  #keepsFile = false;

  /** @param handlers - a handler for each method of the table */
  constructor(handlers: RpcHandlers, logger: Logger) {
    this.#handlers = handlers;
    this.#logger = logger;
    this.#server = net.createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = CONNECTION_COUNT_MAX;
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
      await new Promise<void>((resolve) => this.#server.listen({ fd }, resolve));
      this.#noteErrors();
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
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject);
        this.#server.listen(socketPath, resolve);
      });
    } catch (error) {
      if (error instanceof MemcloudError) throw error;
      const { code } = error as NodeJS.ErrnoException;
      throw new MemcloudError('ERR_NATIVE', `cannot listen on ${socketPath}: ${code}`, {
        cause: error,
      });
    } finally {
      process.umask(mask);
    }
    this.#noteErrors();
  }

  /** Begins no further call until {@link RpcServer.goOn}. @returns true when none is under way */
  hold(): boolean {
    this.#holding = true;
    return this.#callsInFlight === 0;
  }

  /** Answers again. */
  goOn(): void {
    this.#holding = false;
    for (const pump of this.#pumps) pump();
  }

  /** The descriptor of the listening socket, for another process; still ours. */
  get descriptor(): number {
    return listenerDescriptor(this.#server);
  }

  /** True when somebody else made the socket and removes its file. */
  get keepsFile(): boolean {
    return this.#keepsFile;
  }

  /** Stops listening, because another process does; connections go on. */
  abandon(): void {
    closeKeepingFile(this.#server, this.#path);
  }

  #noteErrors(): void {
    this.#server.on('error', (error) => {
      this.#logger.error({ err: error.message }, 'the RPC socket failed to take a client');
    });
  }

  /** Stops listening and ends every connection after `graceMs`. */
  async close(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#connections) socket.end();
    const timer = setTimeout(() => {
      for (const socket of this.#connections) socket.destroy();
    }, graceMs);
    await closed;
    clearTimeout(timer);
    // libuv removes the file only of a socket that it made.
    if (this.#inherited && !this.#keepsFile) fs.rmSync(this.#path, { force: true });
  }

  #accept(socket: net.Socket): void {
    this.#connections.add(socket);
    const decoder = new RpcDecoder();
    const waiting: Record<string, unknown>[] = [];
    let inFlight = 0;
    const isFull = (): boolean =>
      inFlight >= CALLS_IN_FLIGHT_MAX || socket.writableLength >= UNSENT_SIZE_MAX_BYTES;
    // One chunk holds many calls: they wait here, and no more is read, until there is room.
    const pump = (): void => {
      while (!isFull() && !this.#holding) {
        const message = waiting.shift();
        if (message === undefined) break;
        inFlight += 1;
        this.#callsInFlight += 1;
        void this.#answer(message).then((reply) => {
          inFlight -= 1;
          this.#callsInFlight -= 1;
          if (socket.writable) socket.write(encodeRpcMessage(reply));
          pump();
        });
      }
      if (waiting.length > 0) socket.pause();
      else socket.resume();
    };
    socket.on('error', () => undefined);
    this.#pumps.add(pump);
    socket.on('close', () => {
      this.#connections.delete(socket);
      this.#pumps.delete(pump);
    });
    socket.on('drain', pump);
    const onData = (chunk: Buffer): void => {
      try {
        waiting.push(...decoder.push(chunk));
        pump();
      } catch (error) {
        // What follows cannot be told apart any more: the client gets one last word and no ear.
        socket.off('data', onData);
        socket.resume();
        const { code, message } = asMemcloudError(error);
        socket.end(encodeRpcMessage({ id: null, error: { code, message } }), () =>
          socket.destroy(),
        );
      }
    };
    socket.on('data', onData);
  }

  async #answer(message: Record<string, unknown>): Promise<unknown> {
    const id = message['id'] ?? null;
    try {
      return { id, result: await this.#dispatch(message['method'], message['params']) };
    } catch (error) {
      const failure = asMemcloudError(error);
      if (failure.fault === 'internal') {
        this.#logger.error({ method: message['method'], err: String(failure.stack) }, 'RPC failed');
      }
      return { id, error: { code: failure.code, message: failure.message } };
    }
  }

  #dispatch(method: unknown, params: unknown): unknown {
    if (typeof method !== 'string' || !Object.hasOwn(RPC_PARAMS, method)) {
      const known = Object.keys(RPC_PARAMS).join(', ');
      throw new MemcloudError('ERR_RPC_UNKNOWN_METHOD', `RPC method: expected one of ${known}`);
    }
    const checked = checkRpcParams(method as RpcMethod, params);
    if ('problem' in checked) throw new MemcloudError('ERR_USAGE', `${method}: ${checked.problem}`);
    const handler = this.#handlers[method as RpcMethod] as (params: unknown) => unknown;
    return handler(checked.params);
  }
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
    socket.once('error', () => done(false));
    socket.once('timeout', () => done(true));
  });
}
