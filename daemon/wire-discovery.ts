/** Joins discovery with the peers that it finds nodes for and with what this node has to lend. */
import { monotonicClock } from '../common/clock.ts';
import type { Logger } from '../common/log.ts';
import { parseAddress } from '../common/units.ts';
import { Discovery } from '../peer/discovery/discovery.ts';
import type { Peers } from '../peer/peers.ts';
import type { RamProvider } from '../provider/service.ts';
import type { DaemonConfig } from './config.ts';

/** What finds nodes, and for whom. */
interface DiscoveryParts {
  readonly nodeId: string;
  /** Where peers reach this node. */
  readonly peerAddress: string;
  readonly peers: Peers;
  readonly provider: RamProvider;
}

const LOOPBACK_PATTERN = /^(?:127\.|::1$|localhost$)/i;

/** True for a node that only this machine reaches: unless told otherwise, it is not on the network. */
function isHidden({ listen, mdnsInterfaces }: DaemonConfig): boolean {
  return mdnsInterfaces.length === 0 && LOOPBACK_PATTERN.test(listen.host);
}

/** Begins to find nodes, and to be found. */
export function startDiscovery(
  config: DaemonConfig,
  { nodeId, peerAddress, peers, provider }: DiscoveryParts,
  logger: Logger,
): Discovery {
  const {
    name,
    listen,
    mdns,
    mdnsInterfaces,
    dns: dnsNames,
    peerExchange: exchangesPeers,
  } = config;
  const wanted = mdnsInterfaces.length === 0 ? undefined : mdnsInterfaces;
  return new Discovery({
    peers,
    own: {
      ...{ nodeId, name, port: parseAddress(peerAddress).port },
      freeBytes: () => {
        const { offeredBytes, usedBytes } = provider.usage();
        return Math.max(0, offeredBytes - usedBytes);
      },
    },
    mdns: mdns && !isHidden(config) ? { wanted, listenHost: listen.host } : undefined,
    dnsNames,
    exchangesPeers,
    clock: monotonicClock,
    random: Math.random,
    logger,
  });
}
