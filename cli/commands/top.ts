/** `memcloud top`: the whole node on one screen, live. */
import type { StatsInfo } from '../../common/rpc-nodes.ts';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { formatRate, ratePerS } from '../live/rates.ts';
import { readIntervalMs, watchOnScreen } from '../live/watch.ts';
import { printData, printable, type GlobalFlags } from '../output.ts';
import { renderMounts } from './mount.ts';
import { renderPeers } from './peer.ts';
import { renderVolumes } from './volume.ts';

/** What one look sees. */
export interface TopLook {
  /** The daemon. */
  readonly status: StatusInfo;
  /** Its numbers. */
  readonly stats: StatsInfo;
}

const BAR_LENGTH = 20;

/** A share of something as a bar. */
export function bar(part: number, whole: number): string {
  const share = whole <= 0 ? 0 : Math.min(1, part / whole);
  const full = Math.round(share * BAR_LENGTH);
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_LENGTH - full)}]`;
}

function objectLine({ stats }: TopLook, before: TopLook | undefined, elapsedMs: number): string {
  const { objects, objectCounters: counters } = stats;
  const rate = (name: keyof typeof counters): string =>
    before === undefined
      ? '-'
      : formatRate(ratePerS(before.stats.objectCounters[name], counters[name], elapsedMs));
  return (
    `objects  ${objects.objectCount}, ${formatSize(objects.valueBytes)}; reads ${rate('hitCount')}` +
    `, misses ${rate('missCount')}, writes ${rate('putCount')}, evicted ${rate('evictedCount')}`
  );
}

/** The screen. */
export function renderTop(look: TopLook, before: TopLook | undefined, elapsedMs: number): string {
  const { status, stats } = look;
  const { offeredBytes, usedBytes, residentBytes } = status.provider.usage;
  const calls =
    before === undefined
      ? '-'
      : formatRate(ratePerS(before.stats.rpc.callCount, stats.rpc.callCount, elapsedMs));
  const { availableBytes, level } = status.provider.giveBack;
  return [
    `memnode ${printable(status.name)} ${status.version}  up ${formatDuration(status.uptimeS * 1000)}` +
      `  rpc ${calls}  ${formatSize(stats.residentBytes)} resident  ${new Date().toTimeString().slice(0, 8)}`,
    ...status.health.map((sentence) => `! ${printable(sentence)}`),
    `lent     ${bar(usedBytes, offeredBytes)} ${formatSize(usedBytes)} of ${formatSize(offeredBytes)}` +
      `, ${formatSize(residentBytes)} resident; this machine has ${formatSize(availableBytes)} available, ${level}`,
    objectLine(look, before, elapsedMs),
    '',
    renderPeers([...status.peers]),
    '',
    renderVolumes([...status.volumes]),
    ...(status.mounts.length === 0 ? [] : ['', renderMounts(status.mounts)]),
    '',
    'q leaves',
  ].join('\n');
}

async function takeLook(client: MemcloudClient): Promise<TopLook> {
  const [status, stats] = await Promise.all([client.call('status', {}), client.call('stats', {})]);
  return { status, stats };
}

interface TopFlags {
  interval: number;
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  command<TopFlags>({
    command: 'top',
    describe: 'watch the node, its peers, volumes, mounts and objects; q leaves',
    builder: (argv) =>
      argv.option('interval', {
        type: 'number',
        default: 1,
        describe: 'seconds between two looks',
      }),
    handler: (flags: TopFlags & GlobalFlags) => {
      const intervalMs = readIntervalMs(flags.interval);
      return withDaemon(flags, async (client) => {
        const look = (): Promise<TopLook> => takeLook(client);
        if (process.stdout.isTTY && !flags.json) {
          return watchOnScreen({ intervalMs, look, render: renderTop });
        }
        printData(flags, await look(), (now) =>
          renderTop(now, undefined, 0).replace(/\n\nq leaves$/, ''),
        );
      });
    },
  }),
];
