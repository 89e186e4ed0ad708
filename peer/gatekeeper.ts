/**
 * Decides about an authenticated peer, on both sides of a connection alike: the trust store knows it,
 * or a human is asked, or it is refused. Nothing else lets a node in.
 */
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { ConsentOutcome, ConsentQueue } from './consent.ts';
import type { PeerIdentity } from './credentials.ts';
import type { TrustStore } from './trust.ts';

/** Where a peer came from. */
export interface PeerOrigin {
  /** `HOST:PORT`, the peer's or the one that we dialled. */
  readonly address: string;
  /** True when we dialled. */
  readonly dialled: boolean;
}

/** The door of a node. */
export class Gatekeeper {
  readonly #trust: TrustStore;
  readonly #consent: ConsentQueue;
  readonly #logger: Logger;

  constructor(trust: TrustStore, consent: ConsentQueue, logger: Logger) {
    this.#trust = trust;
    this.#consent = consent;
    this.#logger = logger;
  }

  /**
   * Refuses those for whom no question is needed, before they learn who we are.
   *
   * @throws MemcloudError `ERR_PEER_UNTRUSTED` when denied, `ERR_PEER_KEY_CHANGED`
   */
  check(peer: PeerIdentity, origin: PeerOrigin): 'trusted' | 'unknown' {
    let decision;
    try {
      decision = this.#trust.check(peer);
    } catch (error) {
      this.#warnKeyChanged(peer, origin, error);
      throw error;
    }
    if (decision === 'denied') {
      throw new MemcloudError('ERR_PEER_UNTRUSTED', `node "${peer.name}" was denied here`);
    }
    return decision;
  }

  /**
   * Refuses whoever is not trusted already: for lanes, about which nobody is asked.
   *
   * @throws MemcloudError as {@link Gatekeeper.check}, and `ERR_PEER_UNTRUSTED` when the key is unknown
   */
  requireTrusted(peer: PeerIdentity, origin: PeerOrigin): void {
    if (this.check(peer, origin) === 'trusted') return;
    throw new MemcloudError(
      'ERR_PEER_UNTRUSTED',
      `node "${peer.name}" is not in the trust store, and nobody is asked about a lane`,
    );
  }

  /**
   * Lets a peer in, or asks.
   *
   * @param decide - called once, later, if a human has to be asked: undefined lets the peer in
   * @returns `accepted`, or a function that takes the question back
   * @throws MemcloudError as {@link Gatekeeper.check}, and `ERR_PEER_UNTRUSTED` when nobody can be asked
   */
  admit(
    peer: PeerIdentity,
    origin: PeerOrigin,
    decide: (refusal: MemcloudError | undefined) => void,
  ): 'accepted' | (() => void) {
    if (this.check(peer, origin) === 'trusted') return 'accepted';
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
        this.check(peer, origin);
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

  #warnKeyChanged(peer: PeerIdentity, origin: PeerOrigin, error: unknown): void {
    this.#logger.error(
      { nodeId: peer.nodeId, name: peer.name, address: origin.address },
      `REFUSED: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}
