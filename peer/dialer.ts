/**
 * Keeps one address connected: dials, waits longer after each failure (with jitter, so that nodes
 * that lost the same peer do not come back in step), and dials again when the session ends. It does
 * not matter where the address came from: an operator, a configuration, discovery.
 */
import type { MemcloudError } from '../common/errors.ts';
import { asMemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';
import { formatAddress, parseAddress } from '../common/units.ts';
import type { DialExpectation } from './connection-context.ts';
import { REDIAL_MAX_MS, REDIAL_MIN_MS, REDIAL_RESET_AFTER_MS } from './constants.ts';

/** Where a dialler stands. */
export type DialState =
  /** A connection is being made. */
  | 'connecting'
  /** A human, here or there, is being asked. */
  | 'pending'
  /** A session with the node at this address lives, whoever dialled. */
  | 'up'
  /** Waits to dial again. */
  | 'waiting'
  /** Given up by its owner. */
  | 'stopped';

/** What a dialler needs of its owner. */
export interface DialerOptions {
  /** `HOST:PORT`. */
  readonly address: string;
  /** Begins one connection; its owner reports how it goes. */
  readonly dial: () => void;
  /** True while a session with the node lives. */
  readonly isUp: (nodeId: NodeId) => boolean;
  /** A number from 0 to 1, below 1, for the jitter. */
  readonly random: () => number;
  /** Milliseconds, monotonic. */
  readonly nowMs: () => number;
}

/** The wait before attempt `failureCount` + 1 after a failure: half fixed, half random. */
export function redialDelayMs(failureCount: number, random: number): number {
  const ceilingMs = Math.min(REDIAL_MAX_MS, REDIAL_MIN_MS * 2 ** Math.min(failureCount, 20));
  return ceilingMs / 2 + (ceilingMs / 2) * random;
}

/**
 * The one spelling of an address, and where it leads: without a host, to this machine.
 *
 * @throws MemcloudError `ERR_USAGE_ADDRESS`
 */
export function dialTarget(address: string): {
  key: string;
  target: { host: string; port: number };
} {
  const { host, port } = parseAddress(address);
  const target = { host: host === '' ? '127.0.0.1' : host, port };
  return { key: formatAddress(target.host, port), target };
}

/** One address. */
export class Dialer {
  /** `HOST:PORT`. */
  readonly address: string;
  /** The node that answered there last. */
  nodeId: NodeId | undefined;
  /** Who is to answer there. */
  expected: DialExpectation = {};
  /** Why the last attempt failed. */
  lastError: MemcloudError | undefined;
  readonly #options: DialerOptions;
  #state: DialState = 'waiting';
  #failureCount = 0;
  #upSinceMs = 0;
  #dialsAtMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #waiters: ((state: DialState) => void)[] = [];

  constructor(options: DialerOptions) {
    this.address = options.address;
    this.#options = options;
  }

  /** Where it stands. */
  get state(): DialState {
    return this.#state;
  }

  /** Milliseconds until it dials again; undefined unless it waits. */
  get waitMs(): number | undefined {
    if (this.#state !== 'waiting' || this.#dialsAtMs === undefined) return undefined;
    return Math.max(0, this.#dialsAtMs - this.#options.nowMs());
  }

  /** Dials now, whatever the wait. Without effect while connecting, pending or up. */
  start(): void {
    if (this.#state === 'connecting' || this.#state === 'pending' || this.#state === 'up') return;
    this.#failureCount = 0;
    this.#dial();
  }

  /**
   * Resolves once the attempt that runs now was decided or a human has to be asked.
   *
   * @returns `up`, `pending`, or `waiting` after a failure ({@link Dialer.lastError} says which)
   */
  outcome(): Promise<DialState> {
    if (this.#state !== 'connecting') return Promise.resolve(this.#state);
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Our connection waits for a human. */
  onPending(): void {
    if (this.#state === 'connecting') this.#enter('pending');
  }

  /** A session with `nodeId` lives: ours, or it came the other way. */
  onUp(nodeId: NodeId): void {
    this.nodeId = nodeId;
    this.lastError = undefined;
    clearTimeout(this.#timer);
    this.#upSinceMs = this.#options.nowMs();
    this.#enter('up');
  }

  /** Our connection failed before it was a session. */
  onFailed(error: MemcloudError): void {
    if (this.#state === 'stopped') return;
    if (this.nodeId !== undefined && this.#options.isUp(this.nodeId)) return this.onUp(this.nodeId);
    this.lastError = error;
    this.#wait();
  }

  /** The session with our node ended. */
  onDown(error: MemcloudError | undefined): void {
    if (this.#state !== 'up') return;
    this.lastError = error;
    // One that lasted failed for a reason of the moment: the node is tried at once.
    const lasted = this.#options.nowMs() - this.#upSinceMs >= REDIAL_RESET_AFTER_MS;
    if (lasted) this.#failureCount = 0;
    this.#wait(lasted);
  }

  /** Never dials again. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#enter('stopped');
  }

  #wait(atOnce = false): void {
    const delayMs = atOnce ? 0 : redialDelayMs(this.#failureCount, this.#options.random());
    if (!atOnce) this.#failureCount += 1;
    clearTimeout(this.#timer);
    this.#dialsAtMs = this.#options.nowMs() + delayMs;
    this.#timer = setTimeout(() => this.#dial(), delayMs).unref();
    this.#enter('waiting');
  }

  #dial(): void {
    clearTimeout(this.#timer);
    if (this.nodeId !== undefined && this.#options.isUp(this.nodeId)) return this.onUp(this.nodeId);
    this.#enter('connecting');
    try {
      this.#options.dial();
    } catch (error) {
      this.onFailed(asMemcloudError(error));
    }
  }

  #enter(state: DialState): void {
    this.#state = state;
    if (state === 'connecting') return;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve(state);
  }
}
