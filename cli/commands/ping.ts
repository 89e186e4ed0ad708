/** `memcloud ping`: how long a peer takes, as a page fault feels it. */
import { MemcloudError } from '../../common/errors.ts';
import { percentilesOf } from '../../common/percentiles.ts';
import type { PeerPing, Percentiles } from '../../common/rpc-nodes.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { interruptible } from '../interrupt.ts';
import { printData, printable, table } from '../output.ts';

const COUNT_DEFAULT = 20;
const COUNT_MAX = 10_000;
/** Longer than the daemon measures. */
const CALL_TIMEOUT_MS = 30_000;

/** `85 us`, `1.25 ms`. */
function formatTime(us: number): string {
  return us < 1000 ? `${us.toFixed(0)} us` : `${(us / 1000).toFixed(2)} ms`;
}

function row(what: string, times: Percentiles | null): string[] {
  if (times === null) return [what, '-', '-', '-', '-', '-', '-'];
  const { count, min, p50, p90, p99, max } = times;
  return [what, String(count), ...[min, p50, p90, p99, max].map(formatTime)];
}

/** A measurement for people. */
export function renderPing({ name, path, roundTrip, write, read }: PeerPing): string {
  const lines = [
    `${printable(name)}: ${printable(path)}`,
    table(
      ['', 'COUNT', 'MIN', 'MEDIAN', 'P90', 'P99', 'MAX'],
      [row('round trip', roundTrip), row('4 KiB write', write), row('4 KiB read', read)],
    ),
  ];
  if (write === null) lines.push('It lends this machine no page now.');
  return lines.join('\n');
}

/** Many measurements of one request each, as one: of a single sample every percentile is that sample. */
export function mergePings(pings: readonly PeerPing[]): PeerPing {
  const last = pings.at(-1);
  const times = (of: (ping: PeerPing) => Percentiles | null): Percentiles | null =>
    percentilesOf(pings.flatMap((ping) => of(ping)?.p50 ?? []));
  const roundTrip = times((ping) => ping.roundTrip);
  if (last === undefined || roundTrip === null) {
    throw new MemcloudError('ERR_CANCELLED', 'interrupted before the first answer');
  }
  return {
    ...last,
    roundTrip,
    write: times((ping) => ping.write),
    read: times((ping) => ping.read),
  };
}

/** One request at a time, so that Ctrl-C finds what there is so far. */
async function measure(
  client: MemcloudClient,
  peer: string,
  count: number,
  signal: AbortSignal,
): Promise<PeerPing> {
  const pings: PeerPing[] = [];
  const interrupted = new Promise<undefined>((resolve) => {
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
  while (pings.length < count && !signal.aborted) {
    const call = client.call('peer.ping', { peer, count: 1 }, { timeoutMs: CALL_TIMEOUT_MS });
    // Its failure is nobody's once the user has gone.
    call.catch(() => undefined);
    const ping = await Promise.race([call, interrupted]);
    if (ping !== undefined) pings.push(ping);
  }
  return mergePings(pings);
}

const ping = command<{ node: string; count: number }>({
  command: 'ping <node>',
  describe: 'measure how long a peer takes to answer, and to take and give a page',
  builder: (argv) =>
    argv
      .positional('node', { type: 'string', demandOption: true, describe: 'name or id' })
      .option('count', {
        alias: 'c',
        type: 'number',
        default: COUNT_DEFAULT,
        describe: 'requests of each kind',
      })
      .example('$0 ping alpha', 'round trip, and 4 KiB there and back, with percentiles'),
  handler: (flags) => {
    const { node, count } = flags;
    if (!(Number.isInteger(count) && count >= 1 && count <= COUNT_MAX)) {
      throw new MemcloudError('ERR_USAGE', `--count: expected 1 to ${COUNT_MAX}, got ${count}`);
    }
    return withDaemon(flags, (client) =>
      interruptible(async (signal) => {
        printData(flags, await measure(client, node, count, signal), renderPing);
      }),
    );
  },
});

/** The commands of this file. */
export const commands: readonly Command[] = [ping];
