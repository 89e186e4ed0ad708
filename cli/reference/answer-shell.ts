/** `memcloud __complete WORD...`: what the scripts of `memcloud completion` ask. A line for each word. */
import { MemcloudClient } from '../../sdk/client.ts';
import { everyCommand } from '../modules.ts';
import { usualSocketPath } from '../usual-socket.ts';
import { printable } from '../output.ts';
import { complete, type Source } from './completion.ts';
import { globalEntries } from './documents.ts';
import { describeAll } from './recorder.ts';

/** Somebody waits with a finger over the tab key. */
const ANSWER_TIMEOUT_MS = 1_000;
const WORD_COUNT_MAX = 500;

/** The socket that the words being written name, else the usual one. */
async function socketOf(words: readonly string[]): Promise<string> {
  const at = words.findIndex((word) => word === '-s' || word === '--socket');
  const named = at < 0 ? undefined : words[at + 1];
  return named === undefined || named === '' ? usualSocketPath() : named;
}

async function askDaemon(source: Source, socketPath: string): Promise<string[]> {
  const client = await MemcloudClient.connect(socketPath);
  const options = { timeoutMs: ANSWER_TIMEOUT_MS };
  try {
    switch (source) {
      case 'peers':
        return (await client.call('peer.list', {}, options)).map(({ name }) => name);
      case 'keys': {
        const { objects } = await client.call('object.list', { countMax: WORD_COUNT_MAX }, options);
        return objects.flatMap(({ key }) => (key === null ? [] : [key]));
      }
      case 'volumes':
        return (await client.call('volume.list', {}, options)).map(({ name }) => name);
      case 'mounts':
        return (await client.call('mount.list', {}, options)).map(({ directory }) => directory);
      default:
        return [];
    }
  } finally {
    client.close();
  }
}

/** Prints what the last of the words may become; `:files` stands for files. Problems are silence. */
export async function answerShell(words: readonly string[]): Promise<void> {
  const entries = describeAll(await everyCommand());
  const { words: found, source } = complete(entries, globalEntries(), words);
  const last = words.at(-1) ?? '';
  let live: string[] = [];
  if (source !== 'none' && source !== 'files') {
    live = await askDaemon(source, await socketOf(words)).catch(() => []);
  }
  // A name with a control character cannot be typed; a word that begins with a dash would be an option.
  const safe = live.filter((word) => {
    return (
      word.startsWith(last) && word !== '' && !word.startsWith('-') && printable(word) === word
    );
  });
  const lines = [...found, ...new Set(safe), ...(source === 'files' ? [':files'] : [])];
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
}
