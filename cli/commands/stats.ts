/** `memcloud stats`: counters and gauges of the daemon, once or as they change. */
import type { StatsInfo } from '../../common/rpc-nodes.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { formatRate, ratePerS } from '../live/rates.ts';
import { readIntervalMs, watchOnPipe, watchOnScreen } from '../live/watch.ts';
import { printData, type GlobalFlags } from '../output.ts';

/** Counters with the words for them. */
const COUNTERS = [
  ['hitCount', 'hits'],
  ['missCount', 'misses'],
  ['putCount', 'writes'],
  ['deleteCount', 'deletes'],
  ['evictedCount', 'evicted'],
  ['expiredCount', 'expired'],
] as const;

/** Numbers of a daemon, with rates when there was a look before. */
export function renderStats(
  now: StatsInfo,
  before: StatsInfo | undefined,
  elapsedMs: number,
): string {
  const { objects, objectCounters, provider, peers, volumes, rpc } = now;
  const counters = COUNTERS.map(([name, word]) => {
    const count = objectCounters[name];
    const rate =
      before === undefined
        ? ''
        : ` (${formatRate(ratePerS(before.objectCounters[name], count, elapsedMs))})`;
    return `${count} ${word}${rate}`;
  });
  const calls =
    before === undefined
      ? ''
      : ` (${formatRate(ratePerS(before.rpc.callCount, rpc.callCount, elapsedMs))})`;
  const rows: [string, string][] = [
    ['up', formatDuration(now.uptimeS * 1000)],
    ['peers', `${peers.up} up of ${peers.known}`],
    [
      'lent',
      `${formatSize(provider.usedBytes)} of ${formatSize(provider.offeredBytes)}` +
        `, ${formatSize(provider.residentBytes)} resident, ${provider.leaseCount} leases`,
    ],
    [
      'objects',
      `${objects.objectCount}, ${formatSize(objects.valueBytes)} of values` +
        `, ${formatSize(objects.chargedBytes)} charged, ${objects.uploadCount} uploads under way`,
    ],
    ['', counters.slice(0, 4).join(', ')],
    ['', counters.slice(4).join(', ')],
    ['volumes', `${volumes.count}, ${formatSize(volumes.storedBytes)} of pages`],
    [
      'rpc',
      `${rpc.connectionCount} connections, ${rpc.callCount} calls${calls}, ${rpc.errorCount} failed`,
    ],
    ['memory', `${formatSize(now.residentBytes)} resident in memnode`],
  ];
  return rows.map(([name, text]) => `${name.padEnd(8)} ${text}`).join('\n');
}

interface StatsFlags {
  follow: boolean;
  interval: number;
}

async function stats(flags: StatsFlags & GlobalFlags): Promise<void> {
  const intervalMs = readIntervalMs(flags.interval);
  await withDaemon(flags, async (client) => {
    const look = (): Promise<StatsInfo> => client.call('stats', {});
    if (!flags.follow)
      return printData(flags, await look(), (now) => renderStats(now, undefined, 0));
    if (flags.json) return watchOnPipe({ intervalMs, look, render: (now) => JSON.stringify(now) });
    const watch = { intervalMs, look, render: renderStats };
    return process.stdout.isTTY ? watchOnScreen(watch) : watchOnPipe(watch);
  });
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  command<StatsFlags>({
    command: 'stats',
    describe: 'show counters and gauges of the daemon',
    builder: (argv) =>
      argv
        .option('follow', {
          alias: 'f',
          type: 'boolean',
          default: false,
          describe: 'again and again, with rates, until q or Ctrl-C; JSON is a line for each look',
        })
        .option('interval', { type: 'number', default: 1, describe: 'seconds between two looks' })
        .example('$0 stats -f', ''),
    handler: stats,
  }),
];
