/** `memcloud status`: the daemon, its peers, its volumes and its mounts at a glance. */
import { MemcloudError } from '../../common/errors.ts';
import type { GiveBackInfo } from '../../common/rpc-nodes.ts';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { withDaemon, type Command } from '../command.ts';
import { printData, printable } from '../output.ts';
import type { KitPart } from '../../common/kit-status.ts';
import { renderMounts } from './mount.ts';
import { renderPeers } from './peer.ts';
import { renderVolumes } from './volume.ts';

/** Direct swap of this machine, and what it keeps for others. */
function directLines({ directDevices, directExports }: StatusInfo): string[] {
  const devices = directDevices.map(
    ({ device, sizeBytes, health, legs }) =>
      `direct ${device}: ${formatSize(sizeBytes)}, ${health}, on ` +
      legs.map(({ name, state }) => `${printable(name)} (${state})`).join(' and '),
  );
  const exports = directExports.map(
    ({ holder, sizeBytes, residentBytes, connected }) =>
      `lends ${formatSize(sizeBytes)} directly to ${holder}: ${formatSize(residentBytes)} resident` +
      (connected ? '' : ', not connected'),
  );
  const lines = [...devices, ...exports];
  return lines.length === 0 ? [] : ['', ...lines];
}

/** The owner's share, and what is asked back for it. */
function pressureLines(giveBack: GiveBackInfo): string[] {
  const { level, availableBytes, reserveBytes, askedCount } = giveBack;
  const { givenBackBytes, endedBytes } = giveBack;
  const parts = [
    `keeps ${formatSize(reserveBytes)} for its owner: ${formatSize(availableBytes)} available`,
    ...(level === 'calm' ? [] : [level]),
    ...(askedCount === 0 ? [] : [`${askedCount} slabs asked back`]),
    ...(givenBackBytes === 0 ? [] : [`${formatSize(givenBackBytes)} given back so far`]),
    ...(endedBytes === 0 ? [] : [`${formatSize(endedBytes)} ended in emergencies`]),
  ];
  return [parts.join(', ')];
}

/** The control plane, and what is leased by it. */
function managedLines({ managed }: StatusInfo): string[] {
  if (managed === null) return [];
  const { connected, leader, roles, addresses, leaseCount, leasedBytes, endsInMs, provider } =
    managed;
  const is = roles.length === 0 ? 'no member' : roles.join(', ');
  const stands = connected
    ? `control plane: ${printable(leader)} leads; this node is ${is}`
    : `control plane: nobody leads at ${addresses.join(', ')}`;
  const counted = leaseCount === 1 ? '1 managed lease' : `${leaseCount} managed leases`;
  const first =
    endsInMs === null ? '' : `; unless renewed, the first ends in ${formatDuration(endsInMs)}`;
  const lends =
    provider === null
      ? []
      : [
          `lends ${formatSize(provider.reservedBytes)} under ${provider.leaseCount} managed leases` +
            (provider.registered ? '' : ' (not registered now)'),
        ];
  const borrows = `holds ${counted}, ${formatSize(leasedBytes)}${first}`;
  return ['', stands, borrows, ...lends];
}

/** Which protections memnode has; what is missing matters once this machine swaps through it. */
function renderKit(kit: readonly KitPart[]): string {
  const names = (parts: readonly KitPart[]): string =>
    parts.map(({ part }) => part).join(', ') || 'nothing';
  const missing = kit.filter(({ active, optional }) => !active && !optional);
  const text = `protected by ${names(kit.filter(({ active }) => active))}`;
  return missing.length === 0 ? text : `${text}; not by ${names(missing)}`;
}

function render(status: StatusInfo): string {
  const { usage, directory, swapExposure } = status.provider;
  const health = status.health.map((sentence) => `! ${printable(sentence)}`);
  return [
    ...health,
    `memnode ${status.version}  ${status.name}  ${status.nodeId}`,
    `we are: ${status.fingerprint} (what they see)`,
    `up ${formatDuration(status.uptimeS * 1000)}, pid ${status.pid}, peers reach it at ${status.peerAddress}`,
    `lends ${formatSize(usage.offeredBytes)}: ${formatSize(usage.usedBytes)} leased, ` +
      `${formatSize(usage.residentBytes)} resident, in ${directory} (${swapExposure})`,
    ...pressureLines(status.provider.giveBack),
    renderKit(status.kit),
    '',
    renderPeers([...status.peers]),
    '',
    renderVolumes([...status.volumes]),
    ...directLines(status),
    ...managedLines(status),
    ...(status.mounts.length === 0 ? [] : ['', renderMounts(status.mounts)]),
  ].join('\n');
}

/** Of a control node nothing of this page is true. @throws MemcloudError `ERR_UNSUPPORTED` */
function refuseControlNode({ daemon }: StatusInfo, socketPath: string): void {
  if (daemon !== 'control-node') return;
  throw new MemcloudError(
    'ERR_UNSUPPORTED',
    `a control node answers on ${socketPath}, and this is about a memnode; see: ` +
      `memcloud control-plane status --socket ${socketPath}`,
  );
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  {
    command: 'status',
    describe: 'show the daemon, its peers and its volumes',
    handler: (flags) =>
      withDaemon(flags, async (client) => {
        const status = await client.call('status', {});
        refuseControlNode(status, flags.socket);
        printData(flags, status, render);
      }),
  },
];
