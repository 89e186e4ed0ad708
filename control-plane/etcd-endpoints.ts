/**
 * The members of an etcd cluster that one control node knows, and which of them it asks. It stays with
 * one while that answers, and moves to the next when it does not: a call that may be repeated is repeated
 * there; one that may not (a change, whose answer may be lost after it was made) is only sent to a member
 * that has answered a moment ago, and never twice.
 *
 * etcd3 has one client for each member here, with its own retries, breakers, watches and leases left
 * unused: its breaker refuses for 5 s after three failures, it chooses members at random, and its watches
 * throw from event handlers. What is used of it: the messages, the connections and the authentication.
 */
import { Etcd3, isRecoverableError, type IOptions } from 'etcd3';
import { monotonicClock, type Clock } from '../common/clock.ts';
import { pause } from '../common/pause.ts';
import { storeError } from './meta-checks.ts';

/** The deadline of every call, milliseconds. */
export const CALL_TIMEOUT_MS = 5000;
/** How long one member may take for one attempt of a call that may be repeated, milliseconds. */
const ATTEMPT_TIMEOUT_MS = 1000;
/** A member that has answered within this time is thought to be alive, milliseconds. */
const PROVEN_MS = 2000;
/** What a change still gets when its member is asked no more, milliseconds. */
const LEFT_GRACE_MS = 1000;
/** Between attempts after every member has failed, milliseconds. */
const ROUND_PAUSE_MS = 100;
/** What our own timer leaves etcd3's deadline, milliseconds: that one is in wall-clock time. */
const GUARD_MS = 250;
/** A whole answer: a page of a listing, or what a watch missed. */
const MESSAGE_SIZE_MAX_BYTES = 256 * 1024 * 1024;

/** How to reach etcd. */
export interface EtcdAddress {
  /** `HOST:PORT` of each member that is known; at least one. */
  readonly hosts: readonly string[];
  /** With TLS; undefined fields: the system's authorities, no client certificate. PEM. */
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
  readonly user?: { readonly name: string; readonly password: string };
}

/** A member and the client for it. */
export interface EtcdEndpoint {
  readonly host: string;
  readonly client: Etcd3;
}

/** What a call to a member is given: when it has to end, for etcd3. */
export interface CallDeadline {
  readonly deadline: number;
}

type Call<T> = (client: Etcd3, options: CallDeadline) => Promise<T>;

/** A policy of etcd3 that does nothing: failures are handled here. What is thrown in it has to reject. */
const noPolicy = { execute: (call: () => unknown) => new Promise((resolve) => resolve(call())) };

function clientOf(host: string, { tls, user }: EtcdAddress): Etcd3 {
  const options = {
    hosts: tls === undefined ? host : `https://${host}`,
    grpcOptions: {
      'grpc.enable_http_proxy': 0,
      'grpc.keepalive_time_ms': 5000,
      'grpc.keepalive_timeout_ms': 2000,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1000,
      'grpc.max_receive_message_length': MESSAGE_SIZE_MAX_BYTES,
      'grpc.max_send_message_length': MESSAGE_SIZE_MAX_BYTES,
    },
    faultHandling: { host: () => noPolicy, global: noPolicy },
    ...(tls !== undefined && {
      credentials: { rootCertificate: tls.ca, certChain: tls.cert, privateKey: tls.key },
    }),
    ...(user !== undefined && {
      auth: {
        username: user.name,
        password: user.password,
        callOptions: () => ({ deadline: Date.now() + ATTEMPT_TIMEOUT_MS }),
      },
    }),
  };
  return new Etcd3(options as unknown as IOptions);
}

function withTimeout<T>(call: Promise<T>, timeoutMs: number): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new EtcdTimeout(`no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    call.then(resolve, reject).finally(() => {
      clearTimeout(timer);
    });
  });
}

class EtcdTimeout extends Error {}

/** Whether another member, or the same one later, may do what this one did not. */
function isPassing(error: unknown): boolean {
  return error instanceof EtcdTimeout || (error instanceof Error && isRecoverableError(error));
}

/** See the top of the file. */
export class EtcdEndpoints {
  readonly #endpoints: readonly EtcdEndpoint[];
  readonly #clock: Clock;
  readonly #listeners = new Set<(left: EtcdEndpoint) => void>();
  readonly #closing = new AbortController();
  #index = 0;
  #answeredAtMs = -Infinity;

  constructor(address: EtcdAddress, clock: Clock = monotonicClock) {
    this.#clock = clock;
    this.#endpoints = address.hosts.map((host) => ({ host, client: clientOf(host, address) }));
  }

  /** The member that is asked now. */
  get current(): EtcdEndpoint {
    const endpoint = this.#endpoints[this.#index];
    if (endpoint === undefined || this.#closed) throw storeError('the etcd store is closed');
    return endpoint;
  }

  /**
   * Makes a call that does no harm when it is made twice.
   *
   * @throws MemcloudError `ERR_CONTROL_STORE`
   */
  async repeatable<T>(call: Call<T>): Promise<T> {
    const endMs = this.#clock.nowMs() + CALL_TIMEOUT_MS;
    for (let attempt = 1; ; attempt += 1) {
      const leftMs = endMs - this.#clock.nowMs();
      const endpoint = this.current;
      try {
        return await this.#attempt(endpoint, call, Math.min(ATTEMPT_TIMEOUT_MS, leftMs));
      } catch (error) {
        if (!isPassing(error)) throw this.#error(error);
        this.failed(endpoint);
        const pauseMs = attempt % this.#endpoints.length === 0 ? ROUND_PAUSE_MS : 0;
        if (this.#clock.nowMs() + pauseMs >= endMs) throw this.#error(error);
        if (pauseMs > 0) await pause(pauseMs, this.#closing.signal);
      }
    }
  }

  /**
   * Makes a call that is not to be made twice.
   *
   * @throws MemcloudError `ERR_CONTROL_STORE`; it may have been made all the same
   */
  async once<T>(call: Call<T>): Promise<T> {
    const endMs = this.#clock.nowMs() + CALL_TIMEOUT_MS;
    if (this.#clock.nowMs() - this.#answeredAtMs > PROVEN_MS) await this.#probe();
    const endpoint = this.current;
    const leftMs = Math.max(endMs - this.#clock.nowMs(), ATTEMPT_TIMEOUT_MS);
    const doubt = setTimeout(() => {
      // Whether it is slow or dead; if that, `#whileAsked` does not wait to the end.
      this.#probe().catch(() => undefined);
    }, ATTEMPT_TIMEOUT_MS);
    try {
      return await this.#whileAsked(endpoint, this.#attempt(endpoint, call, leftMs));
    } catch (error) {
      if (isPassing(error)) this.failed(endpoint);
      throw this.#error(error);
    } finally {
      clearTimeout(doubt);
    }
  }

  /** A member did not do what it had to: another one is asked from now on. */
  failed(endpoint: EtcdEndpoint): void {
    if (this.#closed || endpoint !== this.current) return;
    this.#index = (this.#index + 1) % this.#endpoints.length;
    this.#answeredAtMs = -Infinity;
    for (const listener of [...this.#listeners]) listener(endpoint);
  }

  /** Calls `listener` with the member that is asked no more. @returns a function that ends it */
  onLeft(listener: (left: EtcdEndpoint) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends all connections; calls that run fail. */
  close(): void {
    this.#closing.abort();
    this.#listeners.clear();
    for (const { client } of this.#endpoints) client.close();
  }

  /** Reads what is next to nothing, from whichever member answers. */
  async #probe(): Promise<void> {
    await this.repeatable((client, options) =>
      client.kv.range({ key: Buffer.of(0), keys_only: true }, options),
    );
  }

  /** Waits for a call, but not long after its member is asked no more. */
  #whileAsked<T>(endpoint: EtcdEndpoint, call: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const unlisten = this.onLeft((left) => {
        if (left !== endpoint || timer !== undefined) return;
        timer = setTimeout(() => {
          reject(new EtcdTimeout(`no answer of ${endpoint.host}, which does not answer others`));
        }, LEFT_GRACE_MS);
      });
      call.then(resolve, reject).finally(() => {
        unlisten();
        clearTimeout(timer);
      });
    });
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #attempt<T>(endpoint: EtcdEndpoint, call: Call<T>, timeoutMs: number): Promise<T> {
    const deadline = Date.now() + timeoutMs;
    const answer = await withTimeout(call(endpoint.client, { deadline }), timeoutMs + GUARD_MS);
    if (!this.#closed && endpoint === this.current) this.#answeredAtMs = this.#clock.nowMs();
    return answer;
  }

  #error(cause: unknown): Error {
    if (this.#closed) return storeError('the etcd store is closed', cause);
    const message = cause instanceof Error ? cause.message : String(cause);
    const hosts = this.#endpoints.map(({ host }) => host).join(',');
    return storeError(`etcd at ${hosts}: ${message}`, cause);
  }
}
