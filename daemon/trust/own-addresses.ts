/** Where another machine may reach this one, for an invitation: the addresses of its interfaces. */
import net from 'node:net';
import os from 'node:os';
import { INVITE_ADDRESS_COUNT_MAX } from '../../common/invite-token.ts';
import { formatAddress, parseAddress } from '../../common/units.ts';

/** One address of an interface, as `os.networkInterfaces` has it. */
type InterfaceAddress = Pick<os.NetworkInterfaceInfo, 'address' | 'family' | 'internal'>;

const isWildcard = (host: string): boolean => host === '' || host === '0.0.0.0' || host === '::';

/** Means something on one link only, or to one machine. */
const isLinkLocal = (address: string): boolean => /^(fe80:|169\.254\.)/i.test(address);

/**
 * Where peers reach a node that listens at `peerAddress`: there, or, when it listens everywhere, at every
 * address of the machine that others could use, IPv4 first, at most as many as a token carries. A
 * machine without a network gives the loopback, for other nodes on it.
 */
export function reachableAddresses(
  peerAddress: string,
  interfaces: readonly InterfaceAddress[] = everyInterface(),
): string[] {
  const { host, port } = parseAddress(peerAddress);
  if (!isWildcard(host)) return [peerAddress];
  const usable = interfaces.filter(({ address, family }) => {
    const canListen = host !== '0.0.0.0' || family === 'IPv4';
    return canListen && !isLinkLocal(address) && net.isIP(address) !== 0;
  });
  const outside = usable.filter(({ internal }) => !internal);
  const chosen = outside.length === 0 ? usable : outside;
  return [...chosen]
    .sort((a, b) => Number(a.family === 'IPv6') - Number(b.family === 'IPv6'))
    .map(({ address }) => formatAddress(address, port))
    .slice(0, INVITE_ADDRESS_COUNT_MAX);
}

function everyInterface(): InterfaceAddress[] {
  return Object.values(os.networkInterfaces()).flatMap((each) => each ?? []);
}
