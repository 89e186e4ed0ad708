/** `memcloud logs`: what memnode said, from its file or from the journal. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import readline from 'node:readline';
import { MemcloudError } from '../../common/errors.ts';
import { command, type Command } from '../command.ts';
import { interruptible } from '../interrupt.ts';
import { parseLogLine, renderLogLine } from '../node/log-lines.ts';
import { findLog, type LogPlace } from '../node/log-place.ts';
import { follow, lastLines } from '../node/log-reader.ts';
import { printable, type GlobalFlags } from '../output.ts';

const LINES_DEFAULT = 100;

interface LogsFlags {
  follow: boolean;
  lines: string | undefined;
}

/** What `-n` asks for. @throws MemcloudError `ERR_USAGE` */
function readCount(text: string | undefined): number {
  if (text === undefined) return LINES_DEFAULT;
  if (text === 'all') return Infinity;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new MemcloudError(
    'ERR_USAGE',
    `--lines: expected a number of lines, or all, got "${text}"`,
  );
}

/** A line as JSON: the record that memnode wrote, or the words of another program as `msg`. */
function lineJson(line: string): Record<string, unknown> {
  return parseLogLine(line) ?? { msg: printable(line) };
}

/** Lines of the journal; the message is what memnode wrote. */
async function* journalLines(
  unit: string,
  count: number,
  isFollowed: boolean,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const lines = count === Infinity ? 'all' : String(count);
  const words = ['-u', unit, '-o', 'cat', '--no-pager', '-q', '-n', lines];
  const child = spawn('journalctl', [...words, ...(isFollowed ? ['-f'] : [])], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close').catch((cause: unknown) => {
    throw new MemcloudError('ERR_UNSUPPORTED', 'journalctl could not be run', { cause });
  });
  ended.catch(() => undefined);
  const stop = (): void => void child.kill();
  signal.addEventListener('abort', stop);
  try {
    yield* readline.createInterface({ input: child.stdout });
    await ended;
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}

/** Every line that was asked for. */
async function* linesOf(
  place: LogPlace,
  count: number,
  isFollowed: boolean,
  signal: AbortSignal,
): AsyncGenerator<string> {
  if ('unit' in place) {
    yield* journalLines(place.unit, count, isFollowed, signal);
    return;
  }
  const { lines, end } = lastLines(place.file, count);
  yield* lines;
  if (isFollowed) yield* follow(place.file, end, signal);
}

async function logs(flags: LogsFlags & GlobalFlags): Promise<void> {
  const count = readCount(flags.lines);
  const place = await findLog(flags.socket);
  await interruptible(async (signal) => {
    const whole: Record<string, unknown>[] = [];
    for await (const line of linesOf(place, count, flags.follow, signal)) {
      if (!flags.json) process.stdout.write(`${renderLogLine(line)}\n`);
      else if (flags.follow) process.stdout.write(`${JSON.stringify(lineJson(line))}\n`);
      else whole.push(lineJson(line));
    }
    if (flags.json && !flags.follow) process.stdout.write(`${JSON.stringify(whole)}\n`);
  });
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  command<LogsFlags>({
    command: 'logs',
    describe: 'show the log of memnode, from its file or from the journal',
    builder: (argv) =>
      argv
        .option('follow', {
          alias: 'f',
          type: 'boolean',
          default: false,
          describe: 'go on with what comes, until Ctrl-C',
        })
        .option('lines', {
          alias: 'n',
          type: 'string',
          describe: `the last so many, or all (default: ${LINES_DEFAULT})`,
        })
        .example('$0 logs -f', '')
        .example('$0 logs -n all --json', 'every line, as one JSON array'),
    handler: logs,
  }),
];
