/**
 * A connection to a daemon. Calls may be made while others are under way; each is answered once,
 * fails with the daemon's own error, or fails when it is taken back, when the connection ends or when its
 * deadline passes. Calls of one turn of the event loop leave in one write.
 */
import fs from 'node:fs';
import path from 'node:path';
import { monotonicClock } from '../common/clock.ts';
import { MemcloudError, isErrorCode } from '../common/errors.ts';
import { EventLoopSpin } from '../common/event-loop-spin.ts';
import { checkSocketPath, startCommand } from '../common/paths.ts';
import { RpcDecoder } from '../common/rpc-codec.ts';
import type { RpcMethod, RpcParams, RpcResults } from '../common/rpc-schema.ts';
import { RpcSocket } from '../common/rpc-socket.ts';
import { WaitingCall, WaitingCalls, type Use } from './waiting-calls.ts';

/** How long a call may take unless it says otherwise. */
const CALL_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** How long the event loop is kept awake for the next answer, microseconds. */
const SPIN_WINDOW_US = 50;
/** Calls after which a client is one that is worth that. */
const SPIN_CALL_COUNT_MIN = 100;

/** How to make one call. */
export interface CallOptions {
  /** Milliseconds until the call fails with `ERR_TIMEOUT`. */
  readonly timeoutMs?: number | undefined;
  /** Takes the call back: it fails with `ERR_CANCELLED`, and the daemon is told. */
  readonly signal?: AbortSignal | undefined;
}

/** Whoever makes calls: a {@link MemcloudClient}, or a double of it in tests. */
export type Caller = Pick<MemcloudClient, 'call'>;

/** Where a daemon answers. */
export type RpcEndpoint =
  | { readonly socketPath: string }
  | { readonly host: string; readonly port: number; readonly token: string };

/** A message that answers no call. */
export interface RpcEvent {
  /** The topic, or `lost`. */
  readonly event: string;
  /** What it says. */
  readonly data: unknown;
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

/** What is found at a place; undefined when nothing is there for us: to connect tells why. */
function ifThere(look: () => fs.Stats): fs.Stats | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/**
 * Where everybody may put files, somebody else may have put a socket in the daemon's place, or the
 * directory that it would be in. A link counts as what it is: where it leads can change at any time.
 *
 * @throws MemcloudError `ERR_DAEMON_UNREACHABLE`
 */
function refuseSquatter(socketPath: string): void {
  const ownUid = process.geteuid?.();
  let place = path.resolve(socketPath);
  for (let folder = path.dirname(place); folder !== place; folder = path.dirname(place)) {
    const found = ifThere(() => fs.lstatSync(place));
    const isOpen = ((ifThere(() => fs.statSync(folder))?.mode ?? 0) & 0o002) !== 0;
    if (isOpen && found !== undefined && found.uid !== 0 && found.uid !== ownUid) {
      throw new MemcloudError(
        'ERR_DAEMON_UNREACHABLE',
        `${place} is of user ${found.uid}, in a directory that everybody may write: not trusted`,
      );
    }
    place = folder;
  }
}

/** Connects. @throws MemcloudError `ERR_DAEMON_UNREACHABLE`; `ERR_USAGE` */
async function openSocket(
  endpoint: RpcEndpoint,
  handler: ConstructorParameters<typeof ConnectionEvents>[0],
): Promise<RpcSocket> {
  const events = new ConnectionEvents(handler);
  const isPath = 'socketPath' in endpoint;
  const where = isPath ? endpoint.socketPath : `${endpoint.host}:${endpoint.port}`;
  if (isPath) refuseSquatter(checkSocketPath(endpoint.socketPath));
  const target = isPath
    ? { path: endpoint.socketPath }
    : { host: endpoint.host, port: endpoint.port };
  try {
    return await RpcSocket.connect(target, CONNECT_TIMEOUT_MS, events);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
    const hint = isPath ? startCommand(where) : `memnode --rpc-tcp ${where}`;
    const message = `no memnode answers on ${where} (${code}); start it with: ${hint}`;
    throw new MemcloudError('ERR_DAEMON_UNREACHABLE', message, { cause });
  }
}

/** What one socket says, for as long as it is the connection's. */
class ConnectionEvents {
  readonly onBytes: (bytes: Buffer, length: number) => void;
  readonly onDrain: () => void;
  readonly onClosed: () => void;

  constructor(owner: {
    onMessage: (message: Record<string, unknown>) => boolean;
    onBroken: (error: MemcloudError) => void;
    onRead: () => void;
    onClosed: () => void;
  }) {
    const decoder = new RpcDecoder();
    const take = (message: Record<string, unknown>): boolean => owner.onMessage(message);
    this.onDrain = () => undefined;
    this.onClosed = () => owner.onClosed();
    this.onBytes = (bytes, length) => {
      try {
        decoder.feed(bytes, length, take);
      } catch (error) {
        owner.onBroken(error as MemcloudError);
        return;
      }
      owner.onRead();
    };
  }
}

/**
 * The connection. It outlives the daemon's process: when that ends, calls under way fail, and the next
 * call connects anew, to the process that replaced it (docs/adr/0009-handover.md) or to nobody.
 */
export class MemcloudClient {
  readonly #endpoint: RpcEndpoint;
  readonly #waiting = new WaitingCalls();
  readonly #listeners = new Set<(event: RpcEvent) => void>();
  readonly #lossListeners = new Set<(error: MemcloudError) => void>();
  readonly #spin = new EventLoopSpin(monotonicClock, SPIN_WINDOW_US);
  #socket: RpcSocket | undefined;
  #ended: MemcloudError | undefined;
  #lastWord: MemcloudError | undefined;
  #reconnecting: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerAtMs = Infinity;

  private constructor(endpoint: RpcEndpoint) {
    this.#endpoint = endpoint;
  }

  /**
   * Connects to a daemon: the Unix socket of that path, or another end point.
   *
   * @throws MemcloudError `ERR_DAEMON_UNREACHABLE`; `ERR_USAGE` when the path is too long;
   *   `ERR_RPC_DENIED` when the token is wrong
   */
  static async connect(endpoint: string | RpcEndpoint): Promise<MemcloudClient> {
    const client = new MemcloudClient(
      typeof endpoint === 'string' ? { socketPath: endpoint } : endpoint,
    );
    await client.#reconnect();
    return client;
  }

  /**
   * Calls a method.
   *
   * @throws MemcloudError the daemon's error, `ERR_TIMEOUT`, `ERR_CANCELLED` or `ERR_DAEMON_UNREACHABLE`
   */
  call<M extends RpcMethod>(
    method: M,
    params: RpcParams<M>,
    options?: CallOptions,
  ): Promise<RpcResults[M]> {
    return this.#call(method, params, options, undefined) as Promise<RpcResults[M]>;
  }

  /**
   * Calls a method and makes something else of its answer as that comes, with no promise in between.
   *
   * @param use - called at most once, while other answers wait; what it throws, the call fails with
   * @throws MemcloudError as {@link call}
   */
  callThen<M extends RpcMethod, R>(
    method: M,
    params: RpcParams<M>,
    options: CallOptions | undefined,
    use: (result: RpcResults[M]) => R | Promise<R>,
  ): Promise<R> {
    return this.#call(method, params, options, use as Use) as Promise<R>;
  }

  #call(
    method: string,
    params: unknown,
    options: CallOptions | undefined,
    use: Use | undefined,
  ): Promise<unknown> {
    const socket = this.#socket;
    if (socket !== undefined && !socket.closed) {
      return this.#send(socket, method, params, options, use);
    }
    // A socket that is over fails its own calls before others are made on the next one.
    if (socket !== undefined) this.#onLost();
    return this.#reconnect().then(() => this.#call(method, params, options, use));
  }

  /** Finds out whether the daemon takes this client. @throws MemcloudError as {@link call} */
  async hello(options?: CallOptions): Promise<void> {
    if (this.#socket?.closed === true) this.#onLost();
    if (this.#socket === undefined) await this.#reconnect();
    if (this.#socket === undefined) throw this.#ended ?? unreachable();
    await this.#send(this.#socket, 'auth', {}, options);
  }

  /** Has `listener` called with each event. @returns takes it back */
  onEvent(listener: (event: RpcEvent) => void, onLost: (error: MemcloudError) => void): () => void {
    this.#listeners.add(listener);
    this.#lossListeners.add(onLost);
    return () => {
      this.#listeners.delete(listener);
      this.#lossListeners.delete(onLost);
    };
  }

  /** Ends the connection; calls under way fail. */
  close(): void {
    this.#fail(new MemcloudError('ERR_DAEMON_UNREACHABLE', 'the connection was closed'));
    this.#socket?.flush();
    this.#socket?.destroy();
  }

  #send(
    socket: RpcSocket,
    method: string,
    params: unknown,
    options: CallOptions | undefined,
    use?: Use,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) {
        reject(this.#ended);
        return;
      }
      const signal = options?.signal;
      if (signal?.aborted === true) {
        reject(takenBack(method, signal));
        return;
      }
      const timeoutMs = options?.timeoutMs ?? CALL_TIMEOUT_MS;
      const waiting = new WaitingCall(method, timeoutMs, use, resolve, reject);
      const id = this.#waiting.add(waiting);
      if (waiting.deadlineMs < this.#timerAtMs) this.#armTimer(waiting.deadlineMs);
      socket.send({ id, method, params });
      if (signal !== undefined) this.#heed(signal, waiting);
      if (id > SPIN_CALL_COUNT_MIN) this.#spin.onActivity();
    });
  }

  /** Lets a signal take a call back. */
  #heed(signal: AbortSignal, waiting: WaitingCall): void {
    const { id, method } = waiting;
    const onAbort = (): void => {
      if (this.#waiting.take(id) === undefined) return;
      this.#socket?.send({ cancel: id });
      waiting.fail(takenBack(method, signal));
    };
    signal.addEventListener('abort', onAbort, { once: true });
    waiting.forgetSignal = () => signal.removeEventListener('abort', onAbort);
  }

  #reconnect(): Promise<void> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    this.#reconnecting ??= this.#open().finally(() => (this.#reconnecting = undefined));
    return this.#reconnecting;
  }

  async #open(): Promise<void> {
    this.#lastWord = undefined;
    // A connection may end before it is known here.
    const made: { socket?: RpcSocket } = {};
    const socket = await openSocket(this.#endpoint, {
      onMessage: (message) => this.#onMessage(message),
      onRead: () => this.#onRead(),
      onBroken: (error) => {
        this.#fail(error);
        this.#socket?.destroy();
      },
      onClosed: () => {
        if (made.socket !== undefined && this.#socket === made.socket) this.#onLost();
      },
    });
    made.socket = socket;
    this.#socket = socket;
    if (this.#ended !== undefined) {
      socket.destroy();
      throw this.#ended;
    }
    if ('token' in this.#endpoint) {
      await this.#send(socket, 'auth', { token: this.#endpoint.token }, undefined);
    }
  }

  #onLost(): void {
    this.#socket = undefined;
    const error = this.#lastWord ?? unreachable();
    this.#failWaiting(error);
    for (const listener of this.#lossListeners) listener(error);
  }

  #onRead(): void {
    if (this.#waiting.count > 0 || this.#waiting.lastId > SPIN_CALL_COUNT_MIN)
      this.#spin.onActivity();
  }

  #onMessage(message: Record<string, unknown>): boolean {
    const waiting = this.#waiting.take(message['id']);
    if (waiting === undefined) {
      this.#onOther(message);
      return true;
    }
    waiting.forgetSignal?.();
    const { error, result } = message;
    if (error !== undefined) waiting.fail(toError(error));
    else if (result !== undefined) waiting.succeed(result);
    else waiting.fail(new MemcloudError('ERR_RPC_PROTOCOL', 'a reply without result or error'));
    return true;
  }

  /** Events, last words, and answers that nobody waits for any more. */
  #onOther({ id, event, data, error }: Record<string, unknown>): void {
    if (typeof event === 'string') {
      for (const listener of this.#listeners) listener({ event, data });
    } else if (id === null && error !== undefined) {
      this.#lastWord = toError(error);
    }
  }

  /** One timer for all calls, at the earliest deadline. */
  #armTimer(atMs: number): void {
    clearTimeout(this.#timer);
    this.#timerAtMs = atMs;
    const delayMs = Math.max(1, Math.ceil(atMs - performance.now()));
    this.#timer = setTimeout(() => this.#onTimer(), delayMs);
    // A call under way holds the process by its socket.
    this.#timer.unref();
  }

  #onTimer(): void {
    const nowMs = performance.now();
    this.#timerAtMs = Infinity;
    let nextMs = Infinity;
    for (const waiting of this.#waiting.list()) {
      if (waiting.deadlineMs > nowMs) {
        nextMs = Math.min(nextMs, waiting.deadlineMs);
        continue;
      }
      const { id, method, timeoutMs } = waiting;
      this.#waiting.take(id);
      waiting.forgetSignal?.();
      this.#socket?.send({ cancel: id });
      const text = `${method}: no answer within ${timeoutMs} ms`;
      waiting.fail(new MemcloudError('ERR_TIMEOUT', text));
    }
    if (nextMs < Infinity) this.#armTimer(nextMs);
  }

  /** Nothing goes on after this. */
  #fail(error: MemcloudError): void {
    const isFirst = this.#ended === undefined;
    this.#ended ??= error;
    clearTimeout(this.#timer);
    this.#failWaiting(error);
    if (isFirst) for (const listener of this.#lossListeners) listener(error);
  }

  #failWaiting(error: MemcloudError): void {
    for (const waiting of this.#waiting.list()) {
      this.#waiting.take(waiting.id);
      waiting.forgetSignal?.();
      waiting.fail(error);
    }
  }
}

function unreachable(): MemcloudError {
  return new MemcloudError('ERR_DAEMON_UNREACHABLE', 'the daemon closed the connection');
}

function takenBack(method: string, signal: AbortSignal): MemcloudError {
  const text = `${method}: taken back by the caller`;
  return new MemcloudError('ERR_CANCELLED', text, { cause: signal.reason });
}
