/**
 * The questions that wait for a human: "may this unknown key in?". A stranger can cause them, so
 * they are few, come at a bounded rate from one address, expire, and end with the connection that
 * asked. At each bound the stranger is refused and nobody is asked. The daemon shows the list and
 * passes answers on by RPC.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';
import {
  CONSENT_ADDRESS_COUNT_MAX,
  CONSENT_COUNT_MAX,
  CONSENT_RATE_MAX,
  CONSENT_RATE_WINDOW_MS,
  CONSENT_TTL_MS,
} from './constants.ts';
import type { PeerIdentity } from './credentials.ts';

/** A human's answers: for this connection only, for good, or never. */
export type ConsentAnswer = 'once' | 'trust' | 'deny';

/** A question as the human sees it. Every field is safe to print. */
export interface ConsentRequest {
  /** Names the request in answers: 16 hex digits, random. */
  readonly id: string;
  /** The node that asks, by its key. */
  readonly nodeId: NodeId;
  /** The key, 64 hex digits. */
  readonly publicKey: string;
  /** The name that it claims. */
  readonly name: string;
  /** From where it came, or what we dialled. */
  readonly address: string;
  /** True when we dialled it. */
  readonly dialled: boolean;
  /** Milliseconds until it expires. */
  readonly expiresInMs: number;
}

/** How a question ended: with an answer, by time, or because its connection ended. */
export type ConsentOutcome = ConsentAnswer | 'expired' | 'cancelled';

interface Pending {
  readonly peer: PeerIdentity;
  readonly address: string;
  readonly dialled: boolean;
  readonly expiresAtMs: number;
  readonly timer: NodeJS.Timeout;
  readonly settle: (outcome: ConsentOutcome) => void;
}

/** How a queue behaves. */
export interface ConsentOptions {
  /** The clock of expiry and rates. */
  readonly clock: Clock;
  /** How long a request waits, milliseconds. */
  readonly ttlMs?: number;
}

/** The requests of one node that wait for a human. */
export class ConsentQueue {
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #pending = new Map<string, Pending>();
  readonly #recentByAddress = new Map<string, number[]>();
  readonly #listeners = new Set<() => void>();

  constructor(options: ConsentOptions) {
    this.#clock = options.clock;
    this.#ttlMs = options.ttlMs ?? CONSENT_TTL_MS;
  }

  /**
   * Asks about a peer.
   *
   * @param settle - called exactly once with the outcome, never before the return
   * @returns the request's id, for {@link ConsentQueue.cancel}
   * @throws MemcloudError `ERR_PEER_UNTRUSTED` when a bound is reached or the key already waits
   */
  ask(
    peer: PeerIdentity,
    from: { address: string; dialled: boolean },
    settle: (outcome: ConsentOutcome) => void,
  ): string {
    const refuse = (why: string): never => {
      throw new MemcloudError('ERR_PEER_UNTRUSTED', `node ${peer.nodeId} is not trusted: ${why}`);
    };
    if (this.#pending.size >= CONSENT_COUNT_MAX) {
      refuse(`${CONSENT_COUNT_MAX} others already wait for consent`);
    }
    for (const { peer: waiting } of this.#pending.values()) {
      if (waiting.nodeId === peer.nodeId) refuse('it already waits for consent');
    }
    if (!from.dialled && !this.#withinRate(hostOf(from.address))) {
      refuse('its address asked for consent too often');
    }
    const id = randomBytes(8).toString('hex');
    const timer = setTimeout(() => this.#settle(id, 'expired'), this.#ttlMs);
    const expiresAtMs = this.#clock.nowMs() + this.#ttlMs;
    this.#pending.set(id, { peer, ...from, expiresAtMs, timer, settle });
    this.#changed();
    return id;
  }

  /** Takes a request back: its connection ended. Without effect when it was settled. */
  cancel(id: string): void {
    this.#settle(id, 'cancelled');
  }

  /** Passes a human's answer on. @throws MemcloudError `ERR_PEER_UNKNOWN` when no such request waits */
  answer(id: string, answer: ConsentAnswer): void {
    if (!this.#pending.has(id)) {
      throw new MemcloudError(
        'ERR_PEER_UNKNOWN',
        'no such request for consent; it expired or its connection ended',
      );
    }
    this.#settle(id, answer);
  }

  /** What waits now, oldest first. */
  list(): ConsentRequest[] {
    const now = this.#clock.nowMs();
    return [...this.#pending].map(([id, { peer, address, dialled, expiresAtMs }]) => ({
      id,
      nodeId: peer.nodeId,
      publicKey: Buffer.from(peer.publicKey).toString('hex'),
      name: peer.name,
      address,
      dialled,
      expiresInMs: Math.max(0, Math.round(expiresAtMs - now)),
    }));
  }

  /** Calls `listener` after every change of the list. @returns a function that ends it */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Cancels everything. */
  close(): void {
    for (const id of [...this.#pending.keys()]) this.cancel(id);
  }

  #settle(id: string, outcome: ConsentOutcome): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    pending.settle(outcome);
    this.#changed();
  }

  #withinRate(host: string): boolean {
    const since = this.#clock.nowMs() - CONSENT_RATE_WINDOW_MS;
    const recent = (this.#recentByAddress.get(host) ?? []).filter((atMs) => atMs > since);
    if (recent.length >= CONSENT_RATE_MAX) return false;
    recent.push(this.#clock.nowMs());
    this.#recentByAddress.delete(host);
    this.#recentByAddress.set(host, recent);
    if (this.#recentByAddress.size > CONSENT_ADDRESS_COUNT_MAX) {
      const oldest = this.#recentByAddress.keys().next();
      if (oldest.done !== true) this.#recentByAddress.delete(oldest.value);
    }
    return true;
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** The host of `HOST:PORT`. */
function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'));
}
