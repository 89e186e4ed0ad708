/** Checks of what the daemon says: peers, consents, volumes, leases. */
import { startCommand } from '../../common/paths.ts';
import type { PeerInfo, VolumeDetails } from '../../common/rpc-schema.ts';
import { formatDuration } from '../../common/units.ts';
import { printable } from '../output.ts';
import type { DaemonFacts, MachineFacts } from './facts.ts';
import { ok, problem, warning, type CheckResult } from './finding.ts';

/** A lease is renewed at a quarter of its time; below so much left, renewals have failed. */
const LEASE_SHARE_MIN = 0.5;

/** Whether memnode runs. */
export function checkDaemon({ daemon, socketPath }: MachineFacts): CheckResult[] {
  if (!('status' in daemon)) {
    const rest = 'peers, volumes and leases were not looked at';
    return [warning('daemon', `${daemon.reason}; ${rest}`, startCommand(socketPath))];
  }
  const { version, name } = daemon.status;
  return [ok('daemon', `memnode ${version} answers as ${printable(name)}`)];
}

function checkPeer(peer: PeerInfo): CheckResult {
  const { name, address, state, reason, quarantine, accepting, guest } = peer;
  const label = printable(name || address);
  const check = `peer ${label}`;
  if (quarantine !== '') {
    return problem(
      check,
      `in quarantine: ${printable(quarantine)}`,
      `memcloud peer pardon ${label}`,
    );
  }
  // It comes and goes by the word of the control plane.
  if (guest) return ok(check, state === 'up' ? `a guest, up at ${address}` : 'a guest, not here');
  if (state === 'up' && !accepting) {
    return warning(check, 'takes no pages: drained, or short of memory', 'memcloud peer ls');
  }
  const why = reason === '' ? state : `${state}: ${printable(reason)}`;
  switch (state) {
    case 'up':
      return ok(check, `up at ${address}`);
    case 'pending':
      return warning(check, `a human has to answer, here or there (${why})`, 'memcloud consent ls');
    case 'refused':
      return warning(check, why, `memcloud trust ls; memcloud trust rm ${label}`);
    case 'connecting':
      return warning(check, why, 'memcloud peer ls');
    default:
      return warning(check, why, `memcloud peer connect ${address}`);
  }
}

/** Each peer, up or not and why. */
export function checkPeers({ daemon }: MachineFacts): CheckResult[] {
  if (!('status' in daemon)) return [];
  const { peers } = daemon.status;
  if (peers.length > 0) return peers.map(checkPeer);
  const finding = 'none is known: volumes have nowhere to go';
  return [warning('peers', finding, 'memcloud peer connect HOST:PORT')];
}

/** Strangers that wait for a human. */
export function checkConsent({ daemon }: MachineFacts): CheckResult[] {
  if (!('status' in daemon)) return [];
  const { consentPending } = daemon.status;
  if (consentPending === 0) return [ok('consent', 'nobody waits')];
  return [warning('consent', `${consentPending} waiting for an answer`, 'memcloud consent ls')];
}

/** Lenders that new slabs of a volume can go to. */
function lendersUp({ status }: DaemonFacts, volume: VolumeDetails): number {
  const up = status.peers.filter(
    ({ state, usage, accepting, quarantine, guest }) =>
      state === 'up' && accepting && quarantine === '' && !guest && (usage?.offeredBytes ?? 0) > 0,
  );
  const ids = new Set(up.map(({ nodeId }) => nodeId));
  // This machine's own RAM, for a volume that was told to use it.
  const local = volume.providers.some(({ nodeId }) => nodeId === status.nodeId);
  return ids.size + (local ? 1 : 0);
}

function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}

function checkVolume(daemon: DaemonFacts, volume: VolumeDetails, swapped: boolean): CheckResult {
  const { name, copies, health } = volume;
  const check = `volume ${name}`;
  const inspect = `memcloud volume inspect ${name}`;
  if (health === 'lost') return problem(check, 'pages were lost', inspect);
  if (volume.managed) {
    // Its providers are those of its leases, which are checked by themselves.
    if (health !== 'ok') return warning(check, 'fewer copies than promised', inspect);
    return ok(check, `${counted(copies, 'copy', 'copies')} on managed leases`);
  }
  const up = lendersUp(daemon, volume);
  if (up < copies) {
    const finding = `${copies} copies need as many lenders, ${up} ${up === 1 ? 'is' : 'are'} up: no room for new pages`;
    const result = swapped ? problem : warning;
    return result(check, finding, 'memcloud peer connect HOST:PORT');
  }
  if (health !== 'ok') return warning(check, 'fewer copies than promised', inspect);
  return ok(check, `${counted(copies, 'copy', 'copies')}, ${counted(up, 'lender', 'lenders')} up`);
}

/** Each volume: its copies against the lenders that are up. */
export function checkVolumes({ daemon, swaps }: MachineFacts): CheckResult[] {
  if (!('status' in daemon)) return [];
  const devices = new Set(swaps.map(({ device }) => device));
  return daemon.volumes.map((volume) =>
    checkVolume(
      daemon,
      volume,
      volume.devices.some((device) => devices.has(device)),
    ),
  );
}

/** Leases that were not renewed in time. */
export function checkLeases({ daemon }: MachineFacts): CheckResult[] {
  if (!('status' in daemon)) return [];
  return daemon.volumes.flatMap(({ name, providers }) =>
    providers.flatMap((provider) => {
      const { leaseEndsInMs, leaseTtlMs } = provider;
      if (leaseEndsInMs > leaseTtlMs * LEASE_SHARE_MIN) return [];
      const lender = printable(provider.name);
      const finding =
        leaseEndsInMs > 0
          ? `${lender} was not reached for renewal: it wipes its pages in ${formatDuration(leaseEndsInMs)}`
          : `${lender} was not reached for renewal: its leases are over`;
      return [problem(`leases of ${name}`, finding, 'memcloud peer ls')];
    }),
  );
}
