/**
 * The words of the earlier MemCloud, whose program is called `memcli`: a command line as it was written
 * for that one, made one of ours. Options that have another name here are aliases in the commands
 * themselves; this file has what is one word there and another here, and what cannot be done as asked.
 */
import os from 'node:os';
import { MemcloudError } from '../common/errors.ts';
import { formatSize } from '../common/units.ts';

/** Words at the beginning of a command, there and here. */
const OLD_WORDS: readonly (readonly [there: readonly string[], here: readonly string[]])[] = [
  [['peers'], ['peer', 'ls']],
  [['connect'], ['peer', 'connect']],
  [
    ['trust', 'remove'],
    ['trust', 'rm'],
  ],
];

/** Global options that take a value. */
const VALUE_OPTIONS: readonly string[] = ['--socket', '-s'];

/** Where the first word of the command is; the number of words when there is none. */
export function commandIndex(args: readonly string[]): number {
  let index = 0;
  while (index < args.length) {
    const word = args[index] ?? '';
    if (VALUE_OPTIONS.includes(word)) index += 2;
    else if (word.startsWith('-') && word !== '-' && word !== '--') index += 1;
    else return index;
  }
  return args.length;
}

/** What `run` without our options was meant to do, and what does it here. */
function explainRun(words: readonly string[]): void {
  const isOurs = words.some((word) => /^--(memory|swap|scope|help)\b|^-h$|^--$/.test(word));
  const isOld = words.some((word) => /^(-t|--threshold)/.test(word)) || words.length > 0;
  if (isOurs || !isOld) return;
  const command = words.slice(/^(-t|--threshold)$/.test(words[0] ?? '') ? 2 : 0).join(' ');
  const total = os.totalmem();
  const size = (bytes: number): string =>
    formatSize(2 ** Math.floor(Math.log2(bytes))).replace(' ', '');
  throw new MemcloudError(
    'ERR_USAGE',
    'run: the kernel moves what does not fit to the pool, whatever allocated it, so there is no ' +
      'threshold; say how much RAM it may have and how much of the pool: memcloud run ' +
      `--memory ${size(total / 2)} --swap ${size(total)} -- ${command || 'COMMAND'}`,
  );
}

/**
 * Translates a command line.
 *
 * @throws MemcloudError `ERR_USAGE` when the earlier command has no counterpart
 */
export function translateOldNames(args: readonly string[]): string[] {
  const at = commandIndex(args);
  const words = args.slice(at);
  if (words[0] === 'run') explainRun(words.slice(1));
  for (const [there, here] of OLD_WORDS) {
    if (!there.every((word, index) => words[index] === word)) continue;
    return [...args.slice(0, at), ...here, ...words.slice(there.length)];
  }
  return [...args];
}
