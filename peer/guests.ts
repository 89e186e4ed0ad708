/**
 * Guests: keys that are let in for a time because a control plane says so (docs/control-plane.md), and for
 * nothing but managed memory. They are in memory only, and bounded. A guest is nobody's friend: the trust
 * store's word goes first (a key that is denied stays out, one that is trusted is no guest), and a guest
 * bears no name that is known here by another key, nor one that reads like a key.
 *
 * The time of a guest is for new connections. While it is here it stays a guest, whatever the time: nobody
 * becomes more than that because a deadline passed.
 */
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import { isKeyPattern, nodeIdOf } from '../common/fingerprint.ts';
import type { Admissions } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { GUEST_COUNT_MAX } from './constants.ts';
import type { PeerIdentity } from './credentials.ts';
import { PUBLIC_KEY_SIZE_BYTES } from './identity.ts';
import type { TrustStore } from './trust.ts';

/** Hex digits of a guest's id in the name that it is given. */
const NAME_ID_DIGITS = 12;

/** What it is made of. */
export interface GuestsOptions {
  /** Whom we trust. */
  readonly trust: TrustStore;
  /** The clock of deadlines. */
  readonly clock: Clock;
  /** Whether a node has a session, a lane or a connection here. */
  readonly isHere: (nodeId: NodeId) => boolean;
  /** A key may come in from now on. */
  readonly onAdmitted: (nodeId: NodeId) => void;
  /** A guest is to leave at once. */
  readonly onDismissed: (nodeId: NodeId) => void;
}

/** See the top of the file. */
export class Guests implements Admissions {
  readonly #options: GuestsOptions;
  /** By node, until when new connections are let in. */
  readonly #until = new Map<NodeId, number>();

  constructor(options: GuestsOptions) {
    this.#options = options;
  }

  /** Lets a key in. @throws MemcloudError `ERR_USAGE` when it is no key, or the time none */
  admit(publicKey: Uint8Array, ttlMs: number): void {
    if (publicKey.length !== PUBLIC_KEY_SIZE_BYTES || !(ttlMs > 0)) {
      const text = `a guest: expected a key of 32 bytes and a time, got ${publicKey.length}, ${ttlMs}`;
      throw new MemcloudError('ERR_USAGE', text);
    }
    const { trust, clock } = this.#options;
    const nodeId = nodeIdOf(publicKey);
    this.#sweep();
    if (trust.decisionOf(nodeId) !== 'unknown') return;
    const untilMs = clock.nowMs() + ttlMs;
    const before = this.#until.get(nodeId);
    if (before === undefined) this.#makeRoom();
    this.#until.set(nodeId, Math.max(before ?? 0, untilMs));
    this.#options.onAdmitted(nodeId);
  }

  /** Lets a guest in no more, and ends what it has here. */
  dismiss(nodeId: NodeId): void {
    if (!this.isGuest(nodeId)) return;
    this.#until.delete(nodeId);
    this.#options.onDismissed(nodeId);
  }

  /** Whether a node is a guest: admitted or still here, and nobody decided about it. */
  isGuest(nodeId: NodeId): boolean {
    const untilMs = this.#until.get(nodeId);
    if (untilMs === undefined || this.#options.trust.decisionOf(nodeId) !== 'unknown') return false;
    return untilMs > this.#options.clock.nowMs() || this.#options.isHere(nodeId);
  }

  /** Whether a peer that nobody decided about here may come in now. */
  admits({ nodeId }: PeerIdentity): boolean {
    const untilMs = this.#until.get(nodeId);
    if (untilMs === undefined || untilMs <= this.#options.clock.nowMs()) return false;
    return this.#options.trust.decisionOf(nodeId) === 'unknown';
  }

  /** The guest under the name that it bears here. */
  named(peer: PeerIdentity): PeerIdentity {
    const isFree = this.#options.trust.otherHolder(peer) === undefined && !isKeyPattern(peer.name);
    if (isFree) return peer;
    return { ...peer, name: `guest-${peer.nodeId.slice(0, NAME_ID_DIGITS)}` };
  }

  /** Forgets those whose time is over and who left. */
  #sweep(): void {
    for (const nodeId of [...this.#until.keys()]) {
      if (!this.#isKept(nodeId)) this.#until.delete(nodeId);
    }
  }

  #isKept(nodeId: NodeId): boolean {
    const { clock, isHere } = this.#options;
    return (this.#until.get(nodeId) ?? 0) > clock.nowMs() || isHere(nodeId);
  }

  /** There are more places than connections: somebody is not here. */
  #makeRoom(): void {
    if (this.#until.size < GUEST_COUNT_MAX) return;
    const away = [...this.#until].filter(([nodeId]) => !this.#options.isHere(nodeId));
    const [first] = away.sort(([, a], [, b]) => a - b);
    if (first !== undefined) this.#until.delete(first[0]);
  }
}
