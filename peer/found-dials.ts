/**
 * Dials to nodes that were found (found-dial.ts): who may be dialled so, and how we stand with a node.
 * A part of the peers of a node (peers.ts), which owns the connections.
 */
import { MemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';
import type { Connection } from './connection.ts';
import type { ConsentQueue } from './consent.ts';
import { FOUND_DIAL_COUNT_MAX } from './constants.ts';
import { dialTarget } from './dialer.ts';
import { FoundDial, type FoundDialEnd, type FoundNode, type Standing } from './found-dial.ts';
import type { KeyCheck } from './gatekeeper.ts';
import type { DialView, PeerRecord } from './peer-info.ts';
import type { TrustStore } from './trust.ts';

/** What it needs of the peers. */
export interface FoundDialsParts {
  /** Connections that are no sessions yet, with who dialled. */
  readonly connections: ReadonlyMap<Connection, DialView | undefined>;
  readonly records: ReadonlyMap<NodeId, PeerRecord>;
  /** Nodes that an operator disconnected. */
  readonly heldNodes: ReadonlySet<NodeId>;
  readonly trust: TrustStore;
  readonly consent: ConsentQueue;
  /** Begins a connection. */
  readonly dial: (
    dial: FoundDial,
    target: { host: string; port: number },
    expects: KeyCheck | undefined,
  ) => void;
}

/** See the top of the file. */
export class FoundDials {
  readonly #parts: FoundDialsParts;

  constructor(parts: FoundDialsParts) {
    this.#parts = parts;
  }

  /**
   * Dials a node that was found, once. An unknown key ends in questions to both humans, like any other.
   *
   * @param onEnded - called once, with the node that answered, if one did
   */
  dial(found: FoundNode, onEnded: (end: FoundDialEnd, nodeId: NodeId | undefined) => void): void {
    const dial = new FoundDial(found, onEnded);
    const { nodeId } = found;
    if (this.#running().length >= FOUND_DIAL_COUNT_MAX) {
      return dial.onFailed(new MemcloudError('ERR_PEER_UNREACHABLE', 'too many dials at once'));
    }
    const { target } = dialTarget(found.address);
    this.#parts.dial(dial, target, nodeId === undefined ? undefined : isNode(nodeId));
  }

  /** How this node stands with another one. */
  standing(nodeId: NodeId): Standing {
    const { records, heldNodes, trust, consent, connections } = this.#parts;
    if (records.get(nodeId)?.session !== undefined) return 'up';
    if (heldNodes.has(nodeId) || trust.decisionOf(nodeId) === 'denied') return 'barred';
    if (consent.list().some((request) => request.nodeId === nodeId)) return 'pending';
    for (const [connection, dial] of connections) {
      if ((connection.peer?.nodeId ?? dial?.nodeId) !== nodeId) continue;
      return dial?.state === 'pending' ? 'pending' : 'connecting';
    }
    return 'down';
  }

  /** The nodes that are trusted for good. */
  trustedIds(): ReadonlySet<NodeId> {
    return this.#parts.trust.trustedIds();
  }

  /** Those about which a human, here or there, is asked. */
  pending(): FoundDial[] {
    return this.#running().filter(({ state }) => state === 'pending');
  }

  #running(): FoundDial[] {
    return [...this.#parts.connections.values()].filter((dial) => dial instanceof FoundDial);
  }
}

function isNode(nodeId: NodeId): KeyCheck {
  return (peer) => peer.nodeId === nodeId;
}
