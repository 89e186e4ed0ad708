/**
 * How the nodes of a rack find each other: a `DiscoveryMachine` for each, hints of peers cut as
 * `peer/exchange-control.ts` cuts them, the handshake permits of `peer/server.ts`, and the bounds on peers and
 * connections. Everybody trusts everybody; a dial ends in the tick in which it began; a node that has no
 * place or no permit closes the connection. No socket; repeats from its seed.
 */
import type { NodeId } from '../../common/ports.ts';
import {
  CONNECTION_COUNT_MAX,
  PEER_COUNT_MAX,
  REDIAL_MAX_MS,
  REDIAL_MIN_MS,
} from '../../peer/constants.ts';
import {
  ADVERT_LIFE_MS,
  EXCHANGE_INTERVAL_MS,
  EXCHANGE_LIFE_MS,
  PACKET_RATE_PER_S,
  PROTOCOL_VERSION,
  QUERY_INTERVAL_MS,
} from '../../peer/discovery/constants.ts';
import { DiscoveryMachine, type Sighting } from '../../peer/discovery/discovery-machine.ts';
import { shareInTurn } from '../../peer/exchange-control.ts';
import { HandshakeRate } from '../../peer/server.ts';
import type { Random } from '../statistics.ts';
import { drawSome } from './donors.ts';

/** How nodes hear of each other. */
export type GossipSource = 'mdns' | 'exchange' | 'address';

/** What is simulated. */
export interface GossipPlan {
  readonly nodeCount: number;
  /** `mdns`: all are on one segment; `address`: all know the first node, `exchange`: and ask for more. */
  readonly source: GossipSource;
  readonly durationMs: number;
  readonly tickMs: number;
}

/** What came of it. */
export interface GossipResult {
  /** Sessions of a node: fewest, middle, most. */
  readonly minSessions: number;
  readonly medianSessions: number;
  readonly maxSessions: number;
  /** Sessions that there are, of all that a full mesh has. */
  readonly meshShare: number;
  /** When nine tenths of the sessions were made, seconds. */
  readonly mostAfterS: number;
  /** Handshakes that were refused for want of a permit, and connections for want of a place. */
  readonly permitRefusals: number;
  readonly placeRefusals: number;
}

interface Node {
  readonly id: NodeId;
  readonly index: number;
  readonly machine: DiscoveryMachine;
  readonly handshakes: HandshakeRate;
  /** In the order in which they came. */
  readonly peers: Map<NodeId, Node>;
  readonly askAtMs: Map<NodeId, number>;
  toldCount: number;
  /** When the address of its configuration is dialled again. */
  dialAtMs: number;
  dialWaitMs: number;
}

/** Not the index: who dials is decided by the id. */
function idOf(random: Random): NodeId {
  const digits = (): string =>
    Math.floor(random() * 2 ** 32)
      .toString(16)
      .padStart(8, '0');
  return [digits(), digits(), digits(), digits()].join('');
}

/** The rack. */
class Gossip {
  readonly nodes: Node[];
  nowMs = 0;
  sessionCount = 0;
  permitRefusals = 0;
  placeRefusals = 0;
  readonly #random: Random;
  readonly #byAddress = new Map<string, Node>();

  constructor(nodeCount: number, random: Random) {
    this.#random = random;
    const trusted = new Set<NodeId>();
    this.nodes = Array.from({ length: nodeCount }, (_, index) => {
      const id = idOf(random);
      trusted.add(id);
      const peers = new Map<NodeId, Node>();
      const world = {
        ...{ selfId: id, random, trusted: () => trusted },
        standing: (nodeId: NodeId) => (peers.has(nodeId) ? ('up' as const) : ('down' as const)),
      };
      return {
        ...{ id, index, peers, machine: new DiscoveryMachine(world, 0) },
        handshakes: new HandshakeRate({ nowMs: () => this.nowMs }),
        ...{ askAtMs: new Map<NodeId, number>(), toldCount: 0 },
        ...{ dialAtMs: 0, dialWaitMs: REDIAL_MIN_MS },
      };
    });
    for (const node of this.nodes) this.#byAddress.set(addressOf(node), node);
  }

  /** An advert of each on the segment, as many as are decoded. */
  hearAdverts(node: Node): void {
    const heard = drawSome(this.nodes, PACKET_RATE_PER_S, this.#random);
    for (const other of heard) {
      const address = addressOf(other);
      const sighting: Sighting = {
        ...{ nodeId: other.id, address, origin: address, source: 'mdns', lifeMs: ADVERT_LIFE_MS },
        ...{ name: '', networkInterface: 'eth0', freeBytes: null, protocol: PROTOCOL_VERSION },
      };
      node.machine.onSighting(sighting, this.nowMs);
    }
  }

  /** Asks the peers that are due for theirs. */
  askPeers(node: Node): void {
    for (const [nodeId, teller] of node.peers) {
      const atMs = node.askAtMs.get(nodeId) ?? this.nowMs;
      if (atMs > this.nowMs) continue;
      node.askAtMs.set(nodeId, this.nowMs + EXCHANGE_INTERVAL_MS);
      const known = [...teller.peers.values()].filter((other) => other !== node);
      const hints = shareInTurn(known, teller.toldCount);
      teller.toldCount += hints.length;
      for (const other of hints) {
        const sighting: Sighting = {
          ...{ nodeId: other.id, address: addressOf(other), origin: nodeId, source: 'exchange' },
          ...{ name: '', networkInterface: '', freeBytes: null, protocol: PROTOCOL_VERSION },
          lifeMs: EXCHANGE_LIFE_MS,
        };
        node.machine.onSighting(sighting, this.nowMs);
      }
    }
  }

  /** Dials whom the machine says. */
  dial(node: Node): void {
    for (const action of node.machine.tick(this.nowMs)) {
      if (action.type !== 'dial') continue;
      const target = this.#byAddress.get(action.address);
      const isUp = target !== undefined && this.connect(node, target);
      node.machine.onDialEnded(action.key, isUp ? 'up' : 'unreachable', target?.id, this.nowMs);
    }
  }

  /** `connect = [seed]`: dialled for ever, with the waits of `peer/dialer.ts`. */
  keepConnected(node: Node, seed: Node): void {
    if (node.peers.has(seed.id) || node.dialAtMs > this.nowMs) return;
    if (this.connect(node, seed)) return;
    node.dialAtMs = this.nowMs + node.dialWaitMs;
    node.dialWaitMs = Math.min(2 * node.dialWaitMs, REDIAL_MAX_MS);
  }

  /** Two nodes shake hands, if both have room and a permit. */
  connect(node: Node, target: Node): boolean {
    if (node.peers.has(target.id)) return true;
    if (target.peers.size >= CONNECTION_COUNT_MAX) {
      this.placeRefusals += 1;
      return false;
    }
    if (!node.handshakes.take() || !target.handshakes.take()) {
      this.permitRefusals += 1;
      return false;
    }
    if (node.peers.size >= PEER_COUNT_MAX || target.peers.size >= PEER_COUNT_MAX) {
      this.placeRefusals += 1;
      return false;
    }
    node.peers.set(target.id, target);
    target.peers.set(node.id, node);
    this.sessionCount += 1;
    return true;
  }
}

function addressOf({ index }: Node): string {
  return `10.20.${Math.floor(index / 256)}.${index % 256}:7070`;
}

/** Runs it. */
export function simulateGossip(plan: GossipPlan, random: Random): GossipResult {
  const { nodeCount, source, durationMs, tickMs } = plan;
  const gossip = new Gossip(nodeCount, random);
  const [seed] = gossip.nodes;
  const history: { atMs: number; count: number }[] = [];
  let advertsAtMs = 0;
  for (; gossip.nowMs < durationMs; gossip.nowMs += tickMs) {
    const hears = source === 'mdns' && gossip.nowMs >= advertsAtMs;
    if (hears) advertsAtMs += QUERY_INTERVAL_MS;
    for (const node of gossip.nodes) {
      if (hears) gossip.hearAdverts(node);
      const dials = source !== 'mdns' && seed !== undefined && node !== seed;
      if (dials) gossip.keepConnected(node, seed);
      if (source === 'exchange') gossip.askPeers(node);
      gossip.dial(node);
    }
    history.push({ atMs: gossip.nowMs, count: gossip.sessionCount });
  }
  const counts = gossip.nodes.map(({ peers }) => peers.size).sort((a, b) => a - b);
  const most = history.find(({ count }) => count >= 0.9 * gossip.sessionCount);
  return {
    minSessions: counts[0] ?? 0,
    medianSessions: counts[Math.floor(counts.length / 2)] ?? 0,
    maxSessions: counts.at(-1) ?? 0,
    meshShare: gossip.sessionCount / ((nodeCount * (nodeCount - 1)) / 2),
    mostAfterS: (most?.atMs ?? durationMs) / 1000,
    permitRefusals: gossip.permitRefusals,
    placeRefusals: gossip.placeRefusals,
  };
}
