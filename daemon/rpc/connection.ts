/**
 * One client of the RPC server. As a message travels: bytes are cut into messages, a call is found its
 * handler and started, its answer is written, and all answers of one turn leave in one write. A handler that
 * returns a value costs no promise; one that returns a promise is waited for. Nothing grows without bound:
 * beyond {@link CALLS_IN_FLIGHT_MAX} calls or {@link UNSENT_SIZE_MAX_BYTES} of answers nothing more is read.
 */
import type net from 'node:net';
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { withOwnBinary } from '../../common/message-pack-codec.ts';
import { RPC_MESSAGE_SIZE_MAX_BYTES, RpcDecoder } from '../../common/rpc-codec.ts';
import { areSurelyGood } from '../../common/rpc-hot-check.ts';
import { RPC_PARAMS, checkRpcParams, type RpcMethod } from '../../common/rpc-schema.ts';
import { RpcSocket, type RpcSocketHandler } from '../../common/rpc-socket.ts';
import type { RpcCall, RpcClient, RpcHandlers } from './call.ts';

/** Calls that one connection may have under way; more wait unread. */
const CALLS_IN_FLIGHT_MAX = 64;
/** Reply bytes that may wait for a client that does not read; its calls wait unread beyond. */
const UNSENT_SIZE_MAX_BYTES = 4 * 2 ** 20;
/** Beyond this nothing is pushed to a client: answers come before events. */
const PUSH_BACKLOG_MAX_BYTES = 256 * 1024;
/**
 * Answers after which a write is made though more calls are there to be answered: the client works on these
 * while this process works on those.
 */
const ANSWERS_PER_WRITE = 16;
/** How long a client may take to show the token. */
export const AUTH_TIMEOUT_MS = 3000;

/** What all connections of a server share. */
export interface RpcService {
  /** The handlers. */
  readonly handlers: RpcHandlers;
  /** Where defects are logged. */
  readonly logger: Logger;
  /** True while no further call may begin. */
  readonly holding: boolean;
  /** Whether this is the token, in constant time. */
  isToken(token: unknown): boolean;
  /** A client asked for an object: more will follow soon. */
  onHotCall(): void;
  /** A call began. */
  onCallBegun(): void;
  /** A call ended. */
  onCallEnded(isError: boolean): void;
  /** The connection ended. */
  onGone(connection: RpcConnection): void;
}

/** `granted` by the kernel's word about the user, `token` is to be shown, `denied`. */
export type RpcAccess = 'granted' | 'token' | 'denied';

/** A call under way whose handler has not answered at once. */
class PendingCall implements RpcCall {
  readonly connection: RpcConnection;
  readonly id: unknown;
  #controller: AbortController | undefined;
  #over = false;

  constructor(connection: RpcConnection, id: unknown) {
    this.connection = connection;
    this.id = id;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (!this.#over) this.connection.noteCancellable(this);
    }
    return this.#controller.signal;
  }

  abort(reason: MemcloudError): void {
    this.#controller?.abort(reason);
  }

  /** @returns whether somebody may still look for it by its id */
  end(): boolean {
    this.#over = true;
    return this.#controller !== undefined;
  }
}

/** See the top of the file. */
export class RpcConnection implements RpcClient, RpcSocketHandler {
  readonly id: number;
  readonly #service: RpcService;
  readonly #socket: RpcSocket;
  readonly #decoder = new RpcDecoder(true);
  readonly #take = (message: Record<string, unknown>): boolean => this.#onMessage(message);
  readonly #cancellable = new Map<unknown, PendingCall>();
  readonly #closeListeners = new Set<() => void>();
  readonly #drainListeners: (() => void)[] = [];
  #access: RpcAccess;
  #authTimer: NodeJS.Timeout | undefined;
  #inFlight = 0;
  #unsentAnswers = 0;
  #isWaiting = false;
  #isDeaf = false;
  #isGone = false;

  /** @param socket - accepted by a server with `pauseOnConnect` */
  constructor(id: number, socket: net.Socket, access: RpcAccess, service: RpcService) {
    this.id = id;
    this.#service = service;
    this.#access = access;
    this.#socket = RpcSocket.adopt(socket, this);
    if (access === 'denied') {
      this.#hangUp(new MemcloudError('ERR_RPC_DENIED', 'this user may not use this memnode'));
    } else if (access === 'token') {
      const late = new MemcloudError('ERR_RPC_DENIED', `no token within ${AUTH_TIMEOUT_MS} ms`);
      this.#authTimer = setTimeout(() => this.#hangUp(late), AUTH_TIMEOUT_MS);
    }
  }

  /** True while the token has not been shown. */
  get isStranger(): boolean {
    return this.#access !== 'granted';
  }

  onBytes(bytes: Buffer, length: number): void {
    if (this.#isDeaf) return;
    try {
      this.#decoder.feed(bytes, length, this.#take);
    } catch (error) {
      // What follows cannot be told apart any more: the client gets one last word and no ear.
      this.#hangUp(asMemcloudError(error));
      return;
    }
    this.#socket.flush();
    this.#restIfFull();
  }

  onDrain(): void {
    this.pump();
    for (const listener of this.#drainListeners) listener();
  }

  onClosed(): void {
    clearTimeout(this.#authTimer);
    this.#isDeaf = this.#isGone = true;
    const gone = new MemcloudError('ERR_CANCELLED', 'the client has gone');
    for (const call of this.#cancellable.values()) call.abort(gone);
    this.#cancellable.clear();
    for (const listener of this.#closeListeners) listener();
    this.#closeListeners.clear();
    this.#service.onGone(this);
  }

  /** Goes on with calls that waited for room, or for the server. */
  pump(): void {
    if (!this.#isWaiting || this.#isDeaf || this.#isFull()) return;
    try {
      this.#isWaiting = !this.#decoder.drain(this.#take);
    } catch (error) {
      this.#hangUp(asMemcloudError(error));
      return;
    }
    this.#socket.flushLater();
    if (this.#isFull()) this.#isWaiting = true;
    if (!this.#isWaiting) this.#socket.resume();
  }

  push(message: object): boolean {
    if (this.#isDeaf || this.#socket.unsentBytes > PUSH_BACKLOG_MAX_BYTES) return false;
    this.#socket.send(message);
    return true;
  }

  onClose(listener: () => void): () => void {
    if (this.#isGone) queueMicrotask(listener);
    else this.#closeListeners.add(listener);
    return () => this.#closeListeners.delete(listener);
  }

  onRoom(listener: () => void): void {
    this.#drainListeners.push(listener);
  }

  /** Sends what is left and ends. */
  end(): void {
    this.#socket.end();
  }

  /** Ends at once. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** A call can be found by its id from now on. */
  noteCancellable(call: PendingCall): void {
    if (this.#isGone) call.abort(new MemcloudError('ERR_CANCELLED', 'the client has gone'));
    else this.#cancellable.set(call.id, call);
  }

  #isFull(): boolean {
    return (
      this.#service.holding ||
      this.#inFlight >= CALLS_IN_FLIGHT_MAX ||
      this.#socket.unsentBytes >= UNSENT_SIZE_MAX_BYTES
    );
  }

  #restIfFull(): void {
    if (!this.#isFull() && !this.#isWaiting) return;
    this.#isWaiting = true;
    this.#socket.pause();
  }

  /** @returns whether it wants another one now */
  #onMessage(message: Record<string, unknown>): boolean {
    const { cancel } = message;
    if (this.#isDeaf) return false;
    if (this.#access !== 'granted') return this.#onToken(message);
    if (cancel !== undefined && message['method'] === undefined) {
      this.#cancellable
        .get(cancel)
        ?.abort(new MemcloudError('ERR_CANCELLED', 'the client took the call back'));
      return true;
    }
    this.#begin(message);
    if (!this.#isFull()) return true;
    this.#isWaiting = true;
    return false;
  }

  #onToken(message: Record<string, unknown>): boolean {
    const params = message['params'] as { token?: unknown } | undefined;
    const isGood = message['method'] === 'auth' && this.#service.isToken(params?.token);
    clearTimeout(this.#authTimer);
    if (!isGood) {
      this.#hangUp(new MemcloudError('ERR_RPC_DENIED', 'expected auth with the token'), message);
      return false;
    }
    this.#access = 'granted';
    this.#socket.send({ id: message['id'] ?? null, result: null });
    return true;
  }

  #begin(message: Record<string, unknown>): void {
    const id = message['id'] ?? null;
    const { method } = message;
    this.#service.onCallBegun();
    const call = new PendingCall(this, id);
    try {
      const result = this.#dispatch(message, call);
      if (result instanceof Promise) this.#await(method, call, result as Promise<unknown>);
      else this.#answer(call, method, result);
    } catch (error) {
      this.#refuse(call, method, error);
    }
  }

  #await(method: unknown, call: PendingCall, result: Promise<unknown>): void {
    this.#inFlight += 1;
    const settled = (): void => {
      this.#inFlight -= 1;
      this.#socket.flushLater();
      this.pump();
    };
    result.then(
      (value) => {
        this.#answer(call, method, value);
        settled();
      },
      (error: unknown) => {
        this.#refuse(call, method, error);
        settled();
      },
    );
  }

  #dispatch(message: Record<string, unknown>, call: RpcCall): unknown {
    const { method, params } = message;
    if (typeof method !== 'string' || !Object.hasOwn(RPC_PARAMS, method)) {
      // Who has shown nothing for it, because nothing was asked, may show the token all the same.
      if (method === 'auth') return null;
      const known = Object.keys(RPC_PARAMS).join(', ');
      throw new MemcloudError('ERR_RPC_UNKNOWN_METHOD', `RPC method: expected one of ${known}`);
    }
    const handler = this.#service.handlers[method as RpcMethod] as (
      params: unknown,
      call: RpcCall,
    ) => unknown;
    refuseStrayFields(message);
    // Values lie where they were read and are overwritten by what comes next: the handlers of these
    // methods take them before they return. All others get binary of their own.
    if (areSurelyGood(method, params)) {
      this.#service.onHotCall();
      return handler(params, call);
    }
    const checked = checkRpcParams(method as RpcMethod, withOwnBinary(params));
    if ('problem' in checked) throw new MemcloudError('ERR_USAGE', `${method}: ${checked.problem}`);
    return handler(checked.params, call);
  }

  #answer(call: PendingCall, method: unknown, result: unknown): void {
    const { writer } = this.#socket;
    const start = writer.beginFrame();
    writer.value({ id: call.id, result: result ?? null });
    if (writer.endFrame(start) > RPC_MESSAGE_SIZE_MAX_BYTES) {
      writer.end = start;
      const text = `${String(method)}: the answer is longer than a message may be`;
      this.#refuse(call, method, new MemcloudError('ERR_RPC_PROTOCOL', text));
      return;
    }
    this.#ended(call, false);
  }

  #refuse(call: PendingCall, method: unknown, error: unknown): void {
    const { code, message, fault, stack } = asMemcloudError(error);
    if (fault === 'internal') {
      this.#service.logger.error({ method, err: String(stack) }, 'RPC failed');
    }
    this.#socket.send({ id: call.id, error: { code, message } });
    this.#ended(call, true);
  }

  #ended(call: PendingCall, isError: boolean): void {
    if (call.end() && this.#cancellable.get(call.id) === call) this.#cancellable.delete(call.id);
    this.#service.onCallEnded(isError);
    this.#unsentAnswers += 1;
    if (this.#unsentAnswers < ANSWERS_PER_WRITE) return;
    this.#unsentAnswers = 0;
    this.#socket.flush();
  }

  /** Says why, and hears nothing more. */
  #hangUp({ code, message }: MemcloudError, to?: Record<string, unknown>): void {
    clearTimeout(this.#authTimer);
    this.#isDeaf = true;
    this.#socket.send({ id: to?.['id'] ?? null, error: { code, message } });
    this.#socket.end();
    setTimeout(() => this.#socket.destroy(), LAST_WORD_TIMEOUT_MS).unref();
  }
}

/** A message whose `params` are misspelt would be a call without any: `shutdown`, or `object.flush`. */
function refuseStrayFields(message: Record<string, unknown>): void {
  for (const field in message) {
    if (field === 'id' || field === 'method' || field === 'params') continue;
    const shown = JSON.stringify(field.slice(0, 40));
    throw new MemcloudError('ERR_USAGE', `a call: expected id, method and params, got ${shown}`);
  }
}

/** A client that does not read has no right to its socket for ever. */
const LAST_WORD_TIMEOUT_MS = 1000;
