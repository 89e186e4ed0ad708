/** `memcloud peer discover`: the nodes that are around, trusted or not. */
import type { DiscoveredNode } from '../../common/rpc-nodes.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { withDaemon, type Command } from '../command.ts';
import { printData, table } from '../output.ts';

const NOBODY = `Nobody was found. Multicast does not cross routers, most VPNs and clouds: connect a node by
its address (memcloud peer connect HOST:PORT), or see docs/discovery.md.`;

/** Nodes as a table. */
export function renderDiscovered(nodes: readonly DiscoveredNode[]): string {
  if (nodes.length === 0) return NOBODY;
  const rows = nodes.map((node) => [
    node.name || '-',
    node.nodeId.slice(0, 12) || '-',
    node.address,
    node.source + (node.networkInterface === '' ? '' : ` (${node.networkInterface})`),
    node.state,
    node.freeBytes === null ? '-' : formatSize(node.freeBytes),
    formatDuration(node.seenMsAgo),
  ]);
  return table(['NODE', 'ID', 'ADDRESS', 'FOUND BY', 'STATE', 'FREE ABOUT', 'HEARD'], rows);
}

/** The command, for the group `peer`. */
export const discover: Command = {
  command: 'discover',
  describe: 'list the nodes that are around, by mDNS, DNS names and trusted peers',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await client.call('discovery.list', {}), renderDiscovered);
    }),
};
