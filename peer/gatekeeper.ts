/**
 * Decides about an authenticated peer, on both sides of a connection alike: the trust store knows it,
 * or a control plane says that it is a guest (guests.ts), or it proves an invitation, or a human is asked,
 * or it is refused. Nothing else lets a node in.
 */
import type { Clock } from '../common/clock.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import { fingerprintOf } from '../common/fingerprint.ts';
import type { Logger } from '../common/log.ts';
import type { NodeId } from '../common/ports.ts';
import type { ConsentOutcome, ConsentQueue } from './consent.ts';
import { KEY_ALARM_COUNT_MAX, KEY_ALARM_TTL_MS } from './constants.ts';
import type { PeerIdentity } from './credentials.ts';
import type { Guests } from './guests.ts';
import type { InviteProof, Invites } from './invites.ts';
import type { TrustStore } from './trust.ts';

/** Where a peer came from. */
export interface PeerOrigin {
  /** `HOST:PORT`, the peer's or the one that we dialled. */
  readonly address: string;
  /** True when we dialled. */
  readonly dialled: boolean;
}

/** A known name that came with another key. Every field is safe to print. */
export interface KeyAlarm {
  /** The name. */
  readonly name: string;
  /** Who came. */
  readonly nodeId: NodeId;
  /** Who is trusted under that name. */
  readonly trustedNodeId: NodeId;
  /** From where it came, or what we dialled. */
  readonly address: string;
}

/** A machine that has joined by an invitation. */
export interface Joined {
  /** Who, by its proved key. */
  readonly peer: PeerIdentity;
  /** Which invitation, 16 hex digits. */
  readonly invite: string;
}

/** Whether a key that answers is the one that was dialled. */
export type KeyCheck = (peer: PeerIdentity) => boolean;

/**
 * Refuses whoever is not the one that is expected at the address that was dialled.
 *
 * @throws MemcloudError `ERR_PEER_KEY_CHANGED`
 */
export function requireExpected(peer: PeerIdentity, address: string, pin?: KeyCheck): void {
  if (pin === undefined || pin(peer)) return;
  throw new MemcloudError(
    'ERR_PEER_KEY_CHANGED',
    `another key answers at ${address} than the one that is expected there: node ${peer.nodeId} by ` +
      `the name "${peer.name}"; they are: ${fingerprintOf(peer.nodeId)}. It was told nothing`,
  );
}

/** What a node's door is made of. */
export interface GatekeeperOptions {
  /** Whom we trust. */
  readonly trust: TrustStore;
  /** Where questions wait. */
  readonly consent: ConsentQueue;
  /** The invitations that are open. */
  readonly invites: Invites;
  /** Who is let in without being trusted; by default nobody. */
  readonly guests?: Pick<Guests, 'admits'>;
  /** The clock of alarms. */
  readonly clock: Clock;
  /** Where events are noted. */
  readonly logger: Logger;
  /** A machine has joined by an invitation that grants it so many bytes here. */
  readonly onJoined?: (nodeId: NodeId, allowedBytes: number | undefined, joined: Joined) => void;
}

/** The door of a node. */
export class Gatekeeper {
  readonly #trust: TrustStore;
  readonly #consent: ConsentQueue;
  readonly #logger: Logger;
  readonly #options: GatekeeperOptions;
  /** By the key that came. */
  readonly #alarms = new Map<NodeId, KeyAlarm & { readonly atMs: number }>();

  constructor(options: GatekeeperOptions) {
    this.#trust = options.trust;
    this.#consent = options.consent;
    this.#logger = options.logger;
    this.#options = options;
  }

  /** Known names that came with another key within the last hour, and still would be refused. */
  get alarms(): KeyAlarm[] {
    const since = this.#options.clock.nowMs() - KEY_ALARM_TTL_MS;
    const trusted = new Set(
      this.#trust.list().map(({ nodeId, decision }) => `${decision} ${nodeId}`),
    );
    return [...this.#alarms.values()].filter(
      ({ atMs, trustedNodeId }) => atMs > since && trusted.has(`trusted ${trustedNodeId}`),
    );
  }

  /**
   * Trusts a peer for good: one that proved an invitation, or that invited us.
   *
   * @throws MemcloudError `ERR_PEER_KEY_CHANGED` as {@link Gatekeeper.check}
   */
  trust(peer: PeerIdentity, origin: PeerOrigin): void {
    if (this.#checkTrust(peer, origin) === 'unknown') this.#trust.trust(peer);
  }

  /**
   * Trusts a peer that proves an invitation of ours, which is used up then, also if the peer was trusted.
   *
   * @throws MemcloudError `ERR_INVITE`, and as {@link Gatekeeper.check}
   */
  redeem(
    peer: PeerIdentity,
    origin: PeerOrigin,
    invitation: InviteProof,
    handshakeHash: Uint8Array,
  ): void {
    // A name that is another's is no reason to use an invitation up.
    const isTrusted = this.#checkTrust(peer, origin) === 'trusted';
    const { nodeId, name } = peer;
    const fields = { nodeId, name, address: origin.address };
    let grant;
    try {
      grant = this.#options.invites.redeem(invitation, handshakeHash, origin.address);
    } catch (error) {
      // It may have used it up on a connection before this one.
      if (isTrusted) return;
      this.#logger.warn(fields, error instanceof Error ? error.message : String(error));
      throw error;
    }
    this.#trust.trust(peer);
    this.#logger.info({ ...fields, invite: grant.id }, 'a machine has joined by an invitation');
    this.#options.onJoined?.(nodeId, grant.allowedBytes, { peer, invite: grant.id });
  }

  /**
   * Refuses those for whom no question is needed, before they learn who we are.
   *
   * @throws MemcloudError `ERR_PEER_UNTRUSTED` when denied, `ERR_PEER_KEY_CHANGED`
   */
  check(peer: PeerIdentity, origin: PeerOrigin): 'trusted' | 'guest' | 'unknown' {
    // Also when its name is another's: a guest bears that name nowhere here.
    if (this.#options.guests?.admits(peer) === true) return 'guest';
    return this.#checkTrust(peer, origin);
  }

  #checkTrust(peer: PeerIdentity, origin: PeerOrigin): 'trusted' | 'unknown' {
    let decision;
    try {
      decision = this.#trust.check(peer);
    } catch (error) {
      this.#alarm(peer, origin, error);
      throw error;
    }
    if (decision === 'denied') {
      throw new MemcloudError('ERR_PEER_UNTRUSTED', `node "${peer.name}" was denied here`);
    }
    return decision;
  }

  /**
   * Refuses whoever is not trusted already, or a guest: where nobody is to be asked, as for lanes.
   *
   * @throws MemcloudError as {@link Gatekeeper.check}, and `ERR_PEER_UNTRUSTED` when the key is unknown
   */
  requireTrusted(peer: PeerIdentity, origin: PeerOrigin): 'trusted' | 'guest' {
    const verdict = this.check(peer, origin);
    if (verdict !== 'unknown') return verdict;
    throw new MemcloudError(
      'ERR_PEER_UNTRUSTED',
      `node "${peer.name}" is not in the trust store, and nobody is asked about a lane or a guest`,
    );
  }

  /**
   * Lets a peer in, or asks.
   *
   * @param decide - called once, later, if a human has to be asked: undefined lets the peer in
   * @returns as {@link Gatekeeper.check}, or a function that takes the question back
   * @throws MemcloudError as {@link Gatekeeper.check}, and `ERR_PEER_UNTRUSTED` when nobody can be asked
   */
  admit(
    peer: PeerIdentity,
    origin: PeerOrigin,
    decide: (refusal: MemcloudError | undefined) => void,
  ): 'trusted' | 'guest' | (() => void) {
    const verdict = this.check(peer, origin);
    if (verdict !== 'unknown') return verdict;
    const id = this.#consent.ask(peer, origin, (outcome) => {
      decide(this.#apply(peer, origin, outcome));
      // After the refusal was sent: to deny a key cuts its connections.
      if (outcome === 'deny') this.#trust.deny(peer);
    });
    this.#logger.warn(
      { requestId: id, nodeId: peer.nodeId, name: peer.name, address: origin.address },
      'an unknown node waits for consent',
    );
    return () => this.#consent.cancel(id);
  }

  #apply(
    peer: PeerIdentity,
    origin: PeerOrigin,
    outcome: ConsentOutcome,
  ): MemcloudError | undefined {
    try {
      if (outcome === 'trust') this.#trust.trust(peer);
      // Since it was asked, the name may have become another's.
      if (outcome === 'trust' || outcome === 'once') {
        this.#checkTrust(peer, origin);
        return undefined;
      }
    } catch (error) {
      return asMemcloudError(error);
    }
    const why = {
      deny: 'was denied here',
      expired: 'got no consent here in time',
      cancelled: 'left before it got consent',
    }[outcome];
    return new MemcloudError('ERR_PEER_UNTRUSTED', `node "${peer.name}" ${why}`);
  }

  #alarm(peer: PeerIdentity, { address }: PeerOrigin, error: unknown): void {
    const { nodeId, name } = peer;
    const text = error instanceof Error ? error.message : String(error);
    this.#logger.error({ nodeId, name, address }, `REFUSED: ${text}`);
    const holder = this.#trust.otherHolder(peer);
    if (holder === undefined) return;
    const atMs = this.#options.clock.nowMs();
    this.#alarms.delete(nodeId);
    this.#alarms.set(nodeId, { name, nodeId, trustedNodeId: holder.nodeId, address, atMs });
    if (this.#alarms.size <= KEY_ALARM_COUNT_MAX) return;
    const oldest = this.#alarms.keys().next();
    if (oldest.done !== true) this.#alarms.delete(oldest.value);
  }
}
