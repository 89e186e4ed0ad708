/**
 * A connection to a daemon. Calls may be made while others are under way; each is answered once,
 * fails with the daemon's own error, or fails when the connection ends or its deadline passes.
 */
import net from 'node:net';
import { MemcloudError, isErrorCode } from '../common/errors.ts';
import { checkSocketPath } from '../common/paths.ts';
import { RpcDecoder, encodeRpcMessage } from '../common/rpc-codec.ts';
import type { RpcMethod, RpcParams, RpcResults } from '../common/rpc-schema.ts';

/** How long a call may take unless it says otherwise. */
const CALL_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_MS = 5_000;

/** How to make one call. */
export interface CallOptions {
  /** Milliseconds until the call fails with `ERR_TIMEOUT`. */
  readonly timeoutMs?: number;
}

interface Waiting {
  readonly resolve: (result: never) => void;
  readonly reject: (error: MemcloudError) => void;
  readonly timer: NodeJS.Timeout;
}

/** The error of a reply, which another process made: nothing about its shape is certain. */
function toError(error: unknown): MemcloudError {
  if (typeof error !== 'object' || error === null) {
    return new MemcloudError('ERR_RPC_PROTOCOL', 'a reply with an error that is no map');
  }
  const { code, message } = error as { code?: unknown; message?: unknown };
  const text = typeof message === 'string' ? message : 'the daemon gave no message';
  return new MemcloudError(isErrorCode(code) ? code : 'ERR_INTERNAL', text);
}

/** Connects to a daemon. @throws MemcloudError `ERR_DAEMON_UNREACHABLE`; `ERR_USAGE` */
function openSocket(socketPath: string): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({
      path: checkSocketPath(socketPath),
      timeout: CONNECT_TIMEOUT_MS,
    });
    const fail = (cause: Error): void => {
      socket.destroy();
      const code = (cause as NodeJS.ErrnoException).code ?? cause.message;
      const hint = `start it with: memnode --socket ${socketPath}`;
      const message = `no memnode answers on ${socketPath} (${code}); ${hint}`;
      reject(new MemcloudError('ERR_DAEMON_UNREACHABLE', message, { cause }));
    };
    socket.once('error', fail);
    socket.once('timeout', () => fail(new Error('timed out')));
    socket.once('connect', () => {
      socket.removeListener('error', fail);
      socket.setTimeout(0);
      resolve(socket);
    });
  });
}

/**
 * The connection. It outlives the daemon's process: when that ends, calls under way fail, and the next
 * call connects anew, to the process that replaced it (docs/adr/0009-handover.md) or to nobody.
 */
export class MemcloudClient {
  readonly #socketPath: string;
  readonly #waiting = new Map<number, Waiting>();
  #socket: net.Socket;
  #decoder = new RpcDecoder();
  #id = 0;
  #ended: MemcloudError | undefined;
  #lost = false;
  #reconnecting: Promise<void> | undefined;

  private constructor(socket: net.Socket, socketPath: string) {
    this.#socketPath = socketPath;
    this.#socket = socket;
    this.#use(socket);
  }

  /**
   * Connects to the daemon that listens on the Unix socket `socketPath`.
   *
   * @throws MemcloudError `ERR_DAEMON_UNREACHABLE`; `ERR_USAGE` when the path is too long
   */
  static async connect(socketPath: string): Promise<MemcloudClient> {
    return new MemcloudClient(await openSocket(socketPath), socketPath);
  }

  /**
   * Calls a method.
   *
   * @throws MemcloudError the daemon's error, `ERR_TIMEOUT` or `ERR_DAEMON_UNREACHABLE`
   */
  async call<M extends RpcMethod>(
    method: M,
    params: RpcParams<M>,
    options: CallOptions = {},
  ): Promise<RpcResults[M]> {
    if (this.#lost) await this.#reconnect();
    if (this.#ended !== undefined) throw this.#ended;
    this.#id += 1;
    const id = this.#id;
    const timeoutMs = options.timeoutMs ?? CALL_TIMEOUT_MS;
    return new Promise<RpcResults[M]>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new MemcloudError('ERR_TIMEOUT', `${method}: no answer within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#socket.write(encodeRpcMessage({ id, method, params }));
    });
  }

  /** Ends the connection; calls under way fail. */
  close(): void {
    this.#fail(new MemcloudError('ERR_DAEMON_UNREACHABLE', 'the connection was closed'));
    this.#socket.destroy();
  }

  #use(socket: net.Socket): void {
    this.#socket = socket;
    this.#decoder = new RpcDecoder();
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#lost = this.#ended === undefined;
      this.#failWaiting(
        new MemcloudError('ERR_DAEMON_UNREACHABLE', 'the daemon closed the connection'),
      );
    });
  }

  #reconnect(): Promise<void> {
    this.#reconnecting ??= openSocket(this.#socketPath)
      .then((socket) => {
        this.#lost = false;
        this.#use(socket);
        if (this.#ended !== undefined) socket.destroy();
      })
      .finally(() => (this.#reconnecting = undefined));
    return this.#reconnecting;
  }

  #onData(chunk: Buffer): void {
    try {
      for (const message of this.#decoder.push(chunk)) this.#onReply(message);
    } catch (error) {
      this.#fail(error as MemcloudError);
      this.#socket.destroy();
    }
  }

  #onReply(message: Record<string, unknown>): void {
    const id = message['id'];
    const waiting = typeof id === 'number' ? this.#waiting.get(id) : undefined;
    if (waiting === undefined) return;
    this.#waiting.delete(id as number);
    clearTimeout(waiting.timer);
    if (message['error'] !== undefined) waiting.reject(toError(message['error']));
    else if (Object.hasOwn(message, 'result')) waiting.resolve(message['result'] as never);
    else waiting.reject(new MemcloudError('ERR_RPC_PROTOCOL', 'a reply without result or error'));
  }

  /** Nothing goes on after this. */
  #fail(error: MemcloudError): void {
    this.#ended ??= error;
    this.#failWaiting(error);
  }

  #failWaiting(error: MemcloudError): void {
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(error);
    }
    this.#waiting.clear();
  }
}
