/**
 * The questions that wait for a human: "may this unknown key in?". A stranger can cause them, so
 * they are few, come at a bounded rate from one address, expire, and end with the connection that
 * asked. At each bound the stranger is refused and nobody is asked. The daemon shows the list and
 * passes answers on by RPC.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import { isKeyPattern, parseKeyPattern } from '../common/fingerprint.ts';
import type { NodeId } from '../common/ports.ts';
import { AddressRate } from './address-rate.ts';
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
  readonly #rate: AddressRate;
  readonly #listeners = new Set<() => void>();

  constructor(options: ConsentOptions) {
    this.#clock = options.clock;
    this.#ttlMs = options.ttlMs ?? CONSENT_TTL_MS;
    this.#rate = new AddressRate({
      clock: options.clock,
      countMax: CONSENT_RATE_MAX,
      windowMs: CONSENT_RATE_WINDOW_MS,
      addressCountMax: CONSENT_ADDRESS_COUNT_MAX,
    });
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
    if (!from.dialled) {
      if (!this.#rate.allows(from.address)) refuse('its address asked for consent too often');
      this.#rate.count(from.address);
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

  /**
   * Passes a human's answer on.
   *
   * @param which - a request id, the words, node id or key of the node that asks, or its name. What is
   *   written like a key is never taken for a name: a stranger may call itself by the words of another.
   * @throws MemcloudError `ERR_PEER_UNKNOWN` when no such request waits, `ERR_USAGE` when several bear
   *   the name
   */
  answer(which: string, answer: ConsentAnswer): void {
    const [id, second] = this.#pending.has(which) ? [which] : this.#named(which);
    if (id === undefined) {
      throw new MemcloudError(
        'ERR_PEER_UNKNOWN',
        'no such request for consent; it expired or its connection ended',
      );
    }
    if (second !== undefined) {
      throw new MemcloudError(
        'ERR_USAGE',
        'several nodes that wait claim that name; say which by its request id or its words',
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

  #named(which: string): string[] {
    const isKey = isKeyPattern(which);
    const pattern = isKey ? parseKeyPattern(which) : undefined;
    const wanted = which.toLowerCase();
    return this.list()
      .filter(({ nodeId, publicKey, name }) =>
        pattern === undefined ? name.toLowerCase() === wanted : pattern.fits(nodeId, publicKey),
      )
      .map(({ id }) => id);
  }

  #settle(id: string, outcome: ConsentOutcome): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    pending.settle(outcome);
    this.#changed();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}
