/**
 * `memcloud drain` and `undrain`: empty a provider while what it holds stays in use. The command
 * watches until the node is empty; the drain itself belongs to memnode and goes on without it.
 */
import { ExitCode, MemcloudError } from '../../common/errors.ts';
import { pause } from '../../common/pause.ts';
import type { DrainInfo } from '../../common/rpc-nodes.ts';
import { formatSize } from '../../common/units.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { note, printData, printable, type GlobalFlags } from '../output.ts';

const POLL_INTERVAL_MS = 500;
/** The exit code of a command that Ctrl-C ended: 128 + SIGINT. */
const INTERRUPTED_EXIT_CODE = 130;

function isEmpty({ heldBytes, direct }: DrainInfo): boolean {
  return heldBytes === 0 && direct.length === 0;
}

/** What is left, in a line for each who has it. */
export function renderDrain(info: DrainInfo): string {
  const { name, side, draining, heldBytes, holders, direct } = info;
  const whose = side === 'provider' ? '' : ' of this node’s pages';
  const objects = info.objects.map(({ name: owner, objectCount, valueBytes }) =>
    printable(
      `  ${owner} has ${objectCount} objects there, ${formatSize(valueBytes)}: they stay, and end with that node`,
    ),
  );
  const empty = objects.length === 0 ? `is empty${whose}.` : 'has no lent pages any more.';
  if (isEmpty(info)) return [`${printable(name)} ${empty}`, ...objects].join('\n');
  const state = draining ? 'is being drained' : 'is in use';
  return [
    `${printable(name)} ${state}: ${formatSize(heldBytes)}${whose} are left.`,
    ...holders.map(({ name: holder, heldBytes: held, problem }) => {
      const why = problem === '' ? '' : `: ${problem}`;
      return printable(`  ${holder} has ${formatSize(held)}${why}`);
    }),
    ...direct.map(({ what, sizeBytes, mover }) =>
      printable(`  ${what}, ${formatSize(sizeBytes)}: run "memcloud swap move" on ${mover}`),
    ),
    ...objects,
  ].join('\n');
}

interface WatchOptions {
  readonly node: string | undefined;
  readonly timeoutS: number | undefined;
  readonly interrupted: AbortSignal;
}

/** Watches until the node is empty. @throws MemcloudError `ERR_TIMEOUT` */
async function watch(client: MemcloudClient, options: WatchOptions): Promise<DrainInfo> {
  const { node, timeoutS, interrupted } = options;
  const endMs = timeoutS === undefined ? Infinity : performance.now() + timeoutS * 1000;
  let told = '';
  for (;;) {
    const info = await client.call('drain.status', node === undefined ? {} : { node });
    if (isEmpty(info) || !info.draining || interrupted.aborted) return info;
    const text = renderDrain(info);
    if (text !== told) note(text);
    told = text;
    const leftMs = endMs - performance.now();
    if (leftMs <= 0) {
      throw new MemcloudError(
        'ERR_TIMEOUT',
        `${info.name} is not empty after ${timeoutS} s: ${formatSize(info.heldBytes)} and ` +
          `${info.direct.length} direct devices are left; it is still being drained, until memcloud undrain`,
      );
    }
    await pause(Math.min(POLL_INTERVAL_MS, leftMs), interrupted);
  }
}

interface DrainFlags {
  node: string | undefined;
  force: boolean;
  timeout: number | undefined;
}

async function drain(client: MemcloudClient, flags: DrainFlags & GlobalFlags): Promise<void> {
  const { node, force, timeout: timeoutS } = flags;
  if (timeoutS !== undefined && !(timeoutS >= 0)) {
    throw new MemcloudError('ERR_USAGE', `--timeout: expected seconds from 0 on, got ${timeoutS}`);
  }
  await client.call('drain.start', { ...(node === undefined ? {} : { node }), force });
  const interruption = new AbortController();
  const onInterrupt = (): void => interruption.abort();
  process.once('SIGINT', onInterrupt);
  try {
    const info = await watch(client, { node, timeoutS, interrupted: interruption.signal });
    if (interruption.signal.aborted && !isEmpty(info)) {
      note(`${printable(info.name)} is still being drained. To end that: memcloud undrain`);
      process.exitCode = INTERRUPTED_EXIT_CODE;
    } else if (!isEmpty(info)) {
      note(`The drain of ${printable(info.name)} was ended meanwhile.`);
      process.exitCode = ExitCode.FAILURE;
    }
    printData(flags, info, renderDrain);
  } finally {
    process.removeListener('SIGINT', onInterrupt);
  }
}

const drainCommand = command<DrainFlags>({
  command: 'drain [node]',
  describe: 'empty a provider, its pages in use, and wait until it is empty',
  builder: (argv) =>
    argv
      .positional('node', {
        type: 'string',
        describe: 'a peer: this node’s pages leave it (default: this node, everybody’s pages)',
      })
      .option('force', {
        type: 'boolean',
        default: false,
        describe: 'although the rest of the pool cannot take everything',
      })
      .option('timeout', {
        type: 'number',
        describe: 'seconds to watch; the drain goes on after them (default: until it is empty)',
      })
      .example('$0 drain', 'before this machine is shut down')
      .example('$0 drain alpha --timeout 60', 'move the pages of this machine away from alpha'),
  handler: (flags) => withDaemon(flags, (client) => drain(client, flags)),
});

const undrainCommand = command<{ node: string | undefined }>({
  command: 'undrain [node]',
  describe: 'use a provider again that was drained',
  builder: (argv) =>
    argv.positional('node', { type: 'string', describe: 'a peer (default: this node)' }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const { node } = flags;
      const info = await client.call('drain.stop', node === undefined ? {} : { node });
      printData(flags, info, ({ name }) => `${printable(name)} takes pages again.`);
    }),
});

/** The commands of this file. */
export const commands: readonly Command[] = [drainCommand, undrainCommand];
