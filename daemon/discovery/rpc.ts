/** The RPC method that tells which nodes are around. Control path. */
import type { DiscoveredNode } from '../../common/rpc-nodes.ts';
import type { DiscoveryRow } from '../../peer/discovery/discovery-machine.ts';
import type { PeerInfo } from '../../peer/peer-info.ts';
import type { RpcHandlers } from '../rpc-server.ts';

/** What the method works on. */
export interface DiscoveryContext {
  /** The nodes that were found. */
  readonly discovery: {
    /** All of them. */
    list(): readonly DiscoveryRow[];
  };
  /** The peers, of which those at addresses that an operator gave are shown as well. */
  readonly peers: {
    /** Addresses that are kept connected. */
    readonly dialled: readonly string[];
    /** Every peer. */
    peers(): readonly PeerInfo[];
  };
}

function describe(row: DiscoveryRow): DiscoveredNode {
  return { ...row, nodeId: row.nodeId ?? '' };
}

/** The nodes at configured addresses, as far as nobody announces them. */
function staticNodes(
  { peers }: DiscoveryContext,
  found: readonly DiscoveryRow[],
): DiscoveredNode[] {
  const given = new Set(peers.dialled);
  const others = peers.peers().filter(({ nodeId, address }) => {
    return (
      given.has(address) && !found.some((row) => row.nodeId === nodeId && nodeId !== undefined)
    );
  });
  return others.map(({ nodeId = '', name, address, state }) => ({
    ...{ nodeId, name, address, source: 'static', networkInterface: '', freeBytes: null },
    // Nobody announced it: what it speaks is known once it is up, and that it is up is heard each second.
    ...{ protocol: 1, seenMsAgo: 0 },
    state: state === 'waiting' || state === 'stopped' ? 'down' : state,
  }));
}

/** The handlers of this file. */
export function discoveryHandlers(context: DiscoveryContext): Pick<RpcHandlers, 'discovery.list'> {
  return {
    'discovery.list': () => {
      const found = context.discovery.list();
      return [...found.map(describe), ...staticNodes(context, found)].sort(
        (a, b) => a.name.localeCompare(b.name) || a.nodeId.localeCompare(b.nodeId),
      );
    },
  };
}
