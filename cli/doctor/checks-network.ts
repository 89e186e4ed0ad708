/** Checks of the ways to the peers, of the own port, and of the clock. */
import { formatAddress, parseAddress } from '../../common/units.ts';
import { printable } from '../output.ts';
import type { MachineFacts, NetworkFacts, PathFacts } from './facts.ts';
import { ok, warning, type CheckResult } from './finding.ts';

/** What Ethernet carries everywhere, bytes. RFC 894. */
const ETHERNET_MTU = 1500;

/** Before this moment the clock was never set: this program is younger. Milliseconds since 1970. */
const OLDEST_WALL_MS = Date.UTC(2026, 0, 1);

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

function checkPath(path: PathFacts): CheckResult | undefined {
  const { peer, host, ethernet, interfaceMtu, pathMtu } = path;
  const check = `MTU to ${printable(peer)}`;
  const card = path.interface;
  if (card === '' || isLoopback(host)) return undefined;
  if (ethernet && interfaceMtu < ETHERNET_MTU) {
    const finding = `${card} sends at most ${interfaceMtu} bytes at once: more packets for each page`;
    return warning(check, finding, `ip link set dev ${card} mtu ${ETHERNET_MTU}`);
  }
  if (pathMtu !== undefined && pathMtu < interfaceMtu) {
    const finding =
      `${card} sends ${interfaceMtu} bytes at once, but something on the way takes only ` +
      `${pathMtu}: packets are lost until the kernel has learnt it, again and again`;
    return warning(check, finding, `ip route replace ${host} dev ${card} mtu ${pathMtu}`);
  }
  return ok(check, ethernet ? `${interfaceMtu} (${card})` : `${interfaceMtu} (${card}, a tunnel)`);
}

/** The ways to the peers. */
export function checkPaths({ network }: MachineFacts): CheckResult[] {
  return (network?.paths ?? []).flatMap((path) => checkPath(path) ?? []);
}

/**
 * Whether a rule set of nftables (iptables and its front ends show there too) may keep peers out:
 * it has a chain on input that drops or rejects, and no rule names the port. A hint, not a proof.
 */
export function firewallMayBlock(ruleset: string, port: number): boolean {
  const chains = ruleset.split(/\bchain\s/).slice(1);
  const input = chains.filter((chain) => /\bhook input\b/.test(chain));
  const drops = input.some((chain) => /policy drop|\b(drop|reject)\b/.test(chain));
  const named = new RegExp(`\\bdport\\b[^\\n]*\\b${port}\\b`).test(ruleset);
  return drops && !named;
}

/** Whether peers can reach memnode, as far as this machine can see. */
export function checkPort({ daemon, network }: MachineFacts): CheckResult[] {
  if (!('status' in daemon) || network === undefined) return [];
  const check = 'peer port';
  const { peerAddress, provider } = daemon.status;
  const { host, port } = parseAddress(peerAddress);
  if (isLoopback(host)) {
    const finding = `${peerAddress}: only this machine reaches memnode`;
    if (provider.usage.offeredBytes === 0) return [ok(check, `${finding}, which lends nothing`)];
    return [
      warning(check, `${finding}, which lends`, `memnode --listen ${formatAddress('', port)}`),
    ];
  }
  return [...checkProbes(check, network), ...checkFirewall(check, network, port)];
}

function checkProbes(check: string, { probes }: NetworkFacts): CheckResult[] {
  const failed = probes.filter(({ failure }) => failure !== '');
  if (probes.length === 0) {
    return [warning(check, 'this machine has no address that others could reach', 'ip address')];
  }
  if (failed.length === 0) {
    return [ok(check, `answers at ${probes.map(({ address }) => address).join(', ')}`)];
  }
  return failed.map(({ address, failure }) =>
    warning(check, `${address} does not answer (${failure})`, 'nft list ruleset'),
  );
}

function checkFirewall(check: string, { firewall }: NetworkFacts, port: number): CheckResult[] {
  if (firewall === undefined) {
    return [
      ok(check, `a firewall cannot be seen from here; on a peer try: nc -zv THIS-HOST ${port}`),
    ];
  }
  if (!firewallMayBlock(firewall, port)) return [];
  const finding = `the firewall drops packets and no rule names port ${port}: peers may not get in`;
  const fix = `nft insert rule inet filter input tcp dport ${port} accept`;
  return [warning(check, finding, fix)];
}

/** The clock: only logs, certificates and dates of trust go by it. */
export function checkClock({ clock: { wallMs, synchronised } }: MachineFacts): CheckResult[] {
  const check = 'clock';
  const cost =
    'dates in logs and trust, and the validity of certificates, go by it (leases do not)';
  const fix = 'timedatectl set-ntp true';
  if (wallMs < OLDEST_WALL_MS) {
    const date = new Date(wallMs).toISOString().slice(0, 10);
    return [warning(check, `it says ${date} and was never set: ${cost}`, fix)];
  }
  if (synchronised === false) return [warning(check, `nothing keeps it right: ${cost}`, fix)];
  return [ok(check, synchronised === true ? 'set and kept right' : 'set')];
}
