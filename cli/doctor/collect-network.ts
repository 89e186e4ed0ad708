/**
 * Collects the facts of the network. The kernel is asked for the way to each peer, which tells the
 * interface and what it has learnt of the path's MTU. The own port is tried from this machine, which
 * shows that memnode listens there and not what lies between machines.
 */
import dns from 'node:dns/promises';
import net from 'node:net';
import os from 'node:os';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { formatAddress, parseAddress } from '../../common/units.ts';
import { hasTool, runTool } from '../../common/tool.ts';
import { routeTo } from '../../nbd-server/client/route.ts';
import type { SystemFiles } from '../system/system-files.ts';
import type { NetworkFacts, PathFacts, PortProbe } from './facts.ts';

const PROBE_TIMEOUT_MS = 1_000;
/** Of each machine's own addresses; containers and bridges can make very many. */
const PROBE_COUNT_MAX = 16;
/** Linux `include/uapi/linux/if_arp.h`. */
const ARPHRD_ETHER = 1;

async function collectPath(
  peer: StatusInfo['peers'][number],
  files: SystemFiles,
): Promise<PathFacts | undefined> {
  let host: string;
  try {
    ({ address: host } = await dns.lookup(parseAddress(peer.address).host));
  } catch {
    // The peer's own line says that its name does not resolve.
    return undefined;
  }
  const route = routeTo(host.split('%')[0] ?? '');
  if (route === undefined) return undefined;
  const folder = `/sys/class/net/${route.interface}`;
  return {
    peer: peer.name || peer.address,
    host,
    interface: route.interface,
    interfaceMtu: files.readNumber(`${folder}/mtu`) ?? 0,
    ethernet: files.readNumber(`${folder}/type`) === ARPHRD_ETHER,
    pathMtu: route.pathMtu,
  };
}

/** Tries one address. */
function probe(host: string, port: number): Promise<PortProbe> {
  const address = formatAddress(host, port);
  return new Promise((resolve) => {
    const socket = net.connect({ host, port, timeout: PROBE_TIMEOUT_MS });
    const end = (failure: string): void => {
      socket.destroy();
      resolve({ address, failure });
    };
    socket.once('connect', () => end(''));
    socket.once('timeout', () => end('timeout'));
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
}

/** The addresses at which others may reach a listener on `host`, link-local ones left out. */
function ownAddresses(host: string): string[] {
  const anyFamily = host === '' || host === '::';
  if (!anyFamily && host !== '0.0.0.0') return [host];
  return Object.values(os.networkInterfaces())
    .flatMap((addresses = []) => addresses)
    .filter(({ internal, family, address }) => {
      if (internal || address.startsWith('fe80:') || address.startsWith('169.254.')) return false;
      return anyFamily || family === 'IPv4';
    })
    .map(({ address }) => address)
    .slice(0, PROBE_COUNT_MAX);
}

/** The rules of nftables, iptables among them; undefined without root or without the tool. */
async function ruleset(): Promise<string | undefined> {
  if (!hasTool('nft')) return undefined;
  try {
    return await runTool('nft', ['list', 'ruleset']);
  } catch {
    return undefined;
  }
}

/** The network as the daemon uses it. */
export async function collectNetwork(
  status: StatusInfo,
  files: SystemFiles,
): Promise<NetworkFacts> {
  const { host, port } = parseAddress(status.peerAddress);
  const [paths, probes, firewall] = await Promise.all([
    Promise.all(status.peers.map((peer) => collectPath(peer, files))),
    Promise.all(ownAddresses(host).map((address) => probe(address, port))),
    ruleset(),
  ]);
  return { paths: paths.filter((path) => path !== undefined), probes, firewall };
}
