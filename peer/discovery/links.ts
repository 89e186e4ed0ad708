/**
 * The links on which nodes are looked for: an interface and a family of addresses. Pure; the shell
 * (mdns.ts) asks the system what there is. A link is announced on where peers are taken, and nowhere
 * else: who listens on loopback only is not on the network.
 */
import net from 'node:net';
import type { NetworkInterfaceInfo } from 'node:os';

/** What the kernel says of an interface beyond its addresses. */
export interface InterfaceFacts {
  /** Its number, which a new one of the same name does not have. */
  readonly index: number;
  /** Up and able to multicast. */
  readonly multicasts: boolean;
}

/** A link. */
export interface Link {
  /** Tells it from what was there before under the same name. */
  readonly key: string;
  /** The interface. */
  readonly name: string;
  readonly family: 'IPv4' | 'IPv6';
  /** Our address there: the one that announcements come from. */
  readonly address: string;
  /** All our addresses there. */
  readonly addresses: readonly string[];
  /** Whether a packet from there can have come over this link. */
  readonly covers: (source: string) => boolean;
}

/** How links are chosen. */
export interface LinkChoice {
  /** Interfaces to use; undefined for all but loopback and the bridges of containers. */
  readonly wanted: readonly string[] | undefined;
  /** The host that peers are taken on: empty or `::` for all, `0.0.0.0` for all of IPv4. */
  readonly listenHost: string;
}

/** Bridges and pairs of container and virtual machine managers: nodes are not behind them. */
const CONTAINER_PATTERN =
  /^(?:docker|podman|veth|virbr|vnet|cni|cali|flannel|cilium|lxc|lxd|kube|tap|ifb|dummy)|^br-[0-9a-f]{12}$/;

/**
 * Chooses links.
 *
 * @param found - as `os.networkInterfaces()` has it
 * @param facts - undefined for an interface that has just gone
 */
export function chooseLinks(
  found: NodeJS.Dict<NetworkInterfaceInfo[]>,
  facts: (name: string) => InterfaceFacts | undefined,
  choice: LinkChoice,
): Link[] {
  return Object.entries(found).flatMap(([name, infos = []]) => {
    const fact = facts(name);
    if (fact === undefined || !isWanted(name, infos, fact, choice.wanted)) return [];
    return [
      linkOf(name, 'IPv4', infos, fact, choice),
      linkOf(name, 'IPv6', infos, fact, choice),
    ].filter((link) => link !== undefined);
  });
}

function isWanted(
  name: string,
  infos: readonly NetworkInterfaceInfo[],
  { multicasts }: InterfaceFacts,
  wanted: readonly string[] | undefined,
): boolean {
  if (wanted !== undefined) return wanted.includes(name);
  const isLoopback = infos.some(({ internal }) => internal);
  return multicasts && !isLoopback && !CONTAINER_PATTERN.test(name);
}

function linkOf(
  name: string,
  family: 'IPv4' | 'IPv6',
  infos: readonly NetworkInterfaceInfo[],
  { index }: InterfaceFacts,
  choice: LinkChoice,
): Link | undefined {
  const ours = infos.filter((info) => info.family === family);
  const info = ours.find((each) => mayListen(each, choice.listenHost));
  if (info === undefined) return undefined;
  const { address } = info;
  return {
    ...{ key: `${name} ${index} ${family} ${address}`, name, family, address },
    addresses: infos.map((each) => each.address),
    covers: coverOf(name, ours),
  };
}

/** Announcements over IPv6 come from a link-local address, so peers must be taken there. */
function mayListen(
  { family, address, internal }: NetworkInterfaceInfo,
  listenHost: string,
): boolean {
  const host = listenHost.split('%', 1)[0] ?? '';
  if (family === 'IPv4') return ['', '::', '0.0.0.0', address].includes(host);
  const isUsable = internal || /^fe[89ab]/i.test(address);
  return isUsable && ['', '::', address].includes(host);
}

/** Whether a packet from an address can have come from this link. */
function coverOf(name: string, ours: readonly NetworkInterfaceInfo[]): (source: string) => boolean {
  const subnets = new net.BlockList();
  for (const { cidr, family } of ours) {
    const [base = '', bits = ''] = cidr?.split('/') ?? [];
    if (bits !== '') subnets.addSubnet(base, Number(bits), family === 'IPv4' ? 'ipv4' : 'ipv6');
  }
  return (source) => {
    const [address = '', scope] = source.split('%');
    if (scope !== undefined) return scope === name;
    const version = net.isIP(address);
    return version !== 0 && subnets.check(address, version === 4 ? 'ipv4' : 'ipv6');
  };
}
