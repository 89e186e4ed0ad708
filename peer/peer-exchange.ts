/**
 * Trusted peers tell each other whom they have sessions with (docs/peer-protocol.md section 8 "Peer
 * exchange"). Both sides ask the trust store: one tells nobody else, the other believes nobody else, and
 * what is told are hints where to dial, never trust. A part of the peers of a node (peers.ts).
 */
import { MemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';
import { Feature } from './constants.ts';
import type { PeerIdentity } from './credentials.ts';
import {
  decodeExchange,
  shareInTurn,
  shareableAddress,
  type PeerHint,
} from './exchange-control.ts';
import type { PeerRecord } from './peer-info.ts';
import type { Session } from './session.ts';
import type { TrustStore } from './trust.ts';

/** See the top of the file. */
export class PeerExchange {
  readonly #records: ReadonlyMap<NodeId, PeerRecord>;
  readonly #trust: TrustStore;
  #toldCount = 0;

  constructor(records: ReadonlyMap<NodeId, PeerRecord>, trust: TrustStore) {
    this.#records = records;
    this.#trust = trust;
  }

  /** The nodes that are up, are trusted for good, and tell of their peers. */
  partners(): NodeId[] {
    return this.#trustedSessions()
      .filter(({ features }) => features.includes(Feature.PEERS))
      .map(({ peer }) => peer.nodeId);
  }

  /**
   * Asks a partner which nodes it has sessions with.
   *
   * @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_UNSUPPORTED`
   */
  async ask(nodeId: NodeId): Promise<PeerHint[]> {
    const session = this.#records.get(nodeId)?.session;
    if (session === undefined || !this.partners().includes(nodeId)) {
      throw new MemcloudError('ERR_PEER_UNREACHABLE', 'it is not connected, or tells of no peers');
    }
    return session.control({ method: 'peers' }, decodeExchange);
  }

  /** The nodes that a peer is told of now: trusted for good, as it is, at addresses of use to it. */
  hintsFor(asker: Session): readonly PeerHint[] {
    if (!this.isTrusted(asker.peer)) return [];
    const known = this.#trustedSessions().flatMap(({ peer: { nodeId }, host, port }) => {
      if (nodeId === asker.peer.nodeId) return [];
      const address = shareableAddress(host, port, asker.host);
      return address === undefined ? [] : [{ nodeId, address }];
    });
    const hints = shareInTurn(known, this.#toldCount);
    this.#toldCount += hints.length;
    return hints;
  }

  #trustedSessions(): Session[] {
    return [...this.#records.values()].flatMap(({ session }) =>
      session !== undefined && this.isTrusted(session.peer) ? [session] : [],
    );
  }

  /** Trusted for good, not only let in. */
  isTrusted(peer: PeerIdentity): boolean {
    try {
      return this.#trust.check(peer) === 'trusted';
    } catch {
      return false; // Its name is by now that of another key.
    }
  }
}
