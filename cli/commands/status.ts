/** `memcloud status`: the daemon, its peers, its volumes and its mounts at a glance. */
import type { GiveBackInfo, StatusInfo } from '../../common/rpc-schema.ts';
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
    ...(status.mounts.length === 0 ? [] : ['', renderMounts(status.mounts)]),
  ].join('\n');
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  {
    command: 'status',
    describe: 'show the daemon, its peers and its volumes',
    handler: (flags) =>
      withDaemon(flags, async (client) => {
        printData(flags, await client.call('status', {}), render);
      }),
  },
];
