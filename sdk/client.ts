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

/** The connection. */
export class MemcloudClient {
  readonly #socket: net.Socket;
  readonly #waiting = new Map<number, Waiting>();
  readonly #decoder = new RpcDecoder();
  #id = 0;
  #ended: MemcloudError | undefined;

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#fail(new MemcloudError('ERR_DAEMON_UNREACHABLE', 'the daemon closed the connection'));
    });
  }

  /**
   * Connects to the daemon that listens on the Unix socket `socketPath`.
   *
   * @throws MemcloudError `ERR_DAEMON_UNREACHABLE`; `ERR_USAGE` when the path is too long
   */
  static connect(socketPath: string): Promise<MemcloudClient> {
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
        resolve(new MemcloudClient(socket));
      });
    });
  }

  /**
   * Calls a method.
   *
   * @throws MemcloudError the daemon's error, `ERR_TIMEOUT` or `ERR_DAEMON_UNREACHABLE`
   */
  call<M extends RpcMethod>(
    method: M,
    params: RpcParams<M>,
    options: CallOptions = {},
  ): Promise<RpcResults[M]> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
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
    this.#socket.destroy();
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

  #fail(error: MemcloudError): void {
    this.#ended ??= error;
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(error);
    }
    this.#waiting.clear();
  }
}
