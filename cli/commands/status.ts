/** `memcloud status`: the daemon, its peers and its volumes at a glance. */
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { withDaemon, type Command } from '../command.ts';
import { printData, printable } from '../output.ts';
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

function render(status: StatusInfo): string {
  const { usage, directory, swapExposure } = status.provider;
  const health = status.health.map((sentence) => `! ${printable(sentence)}`);
  return [
    ...health,
    `memnode ${status.version}  ${status.name}  ${status.nodeId}`,
    `up ${formatDuration(status.uptimeS * 1000)}, pid ${status.pid}, peers reach it at ${status.peerAddress}`,
    `lends ${formatSize(usage.offeredBytes)}: ${formatSize(usage.usedBytes)} leased, ` +
      `${formatSize(usage.residentBytes)} resident, in ${directory} (${swapExposure})`,
    '',
    renderPeers([...status.peers]),
    '',
    renderVolumes([...status.volumes]),
    ...directLines(status),
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
