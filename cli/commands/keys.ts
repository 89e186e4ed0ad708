/** What there is: `keys` lists it, `stat` looks at one, `flush` deletes all of it. */
import readline from 'node:readline/promises';
import { ExitCode, MemcloudError } from '../../common/errors.ts';
import type { ObjectUsage } from '../../common/objects.ts';
import type { ObjectFlushRow, ObjectRow } from '../../common/rpc-objects.ts';
import type { RpcResults } from '../../common/rpc-schema.ts';
import { formatSize } from '../../common/units.ts';
import type { Caller } from '../../sdk/client.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { peerOption, peerParam, readWanted } from '../objects/flags.ts';
import { objectJson, objectName, renderObject, renderObjects } from '../objects/rows.ts';
import { unknownObject } from '../objects/wanted.ts';
import { note, printData, printable, table, type GlobalFlags } from '../output.ts';

/** Deleting many objects on a busy peer takes a while. */
const FLUSH_TIMEOUT_MS = 120_000;

interface KeysFlags {
  patterns: string[] | undefined;
  peer: string | undefined;
  pool: boolean;
  kind: 'key' | 'block' | 'all';
  long: boolean;
}

/** Pages of a listing, one after the other. */
async function* pages(
  caller: Caller,
  flags: KeysFlags,
  unreachable: Set<string>,
): AsyncGenerator<readonly ObjectRow[]> {
  const { patterns = [], kind, pool, peer } = flags;
  let cursor: string | null = null;
  do {
    const page: RpcResults['object.list'] = await caller.call('object.list', {
      ...(patterns.length === 0 ? {} : { patterns }),
      ...peerParam(peer),
      ...(pool ? { pool } : {}),
      ...(cursor === null ? {} : { cursor }),
      kind,
    });
    for (const name of page.unreachable) unreachable.add(name);
    yield page.objects;
    ({ cursor } = page);
  } while (cursor !== null);
}

/** Names page by page, so that a million of them need no memory; JSON and tables are made whole. */
async function listKeys(caller: Caller, flags: KeysFlags & GlobalFlags): Promise<void> {
  const isWhole = flags.json || flags.long;
  const unreachable = new Set<string>();
  const rows: ObjectRow[] = [];
  let count = 0;
  for await (const objects of pages(caller, flags, unreachable)) {
    count += objects.length;
    if (isWhole) rows.push(...objects);
    else if (objects.length > 0) {
      const lines = objects.map((row) => printable(objectName(row)));
      process.stdout.write(`${lines.join('\n')}\n`);
    }
  }
  for (const name of unreachable) note(`memcloud: ${printable(name)} did not answer`);
  if (isWhole && (flags.json || count > 0))
    printData(flags, rows.map(objectJson), () => renderObjects(rows));
  if (count > 0 || flags.json) return;
  note('memcloud: nothing found; patterns are * ? [a-z], in quotes, or the shell reads them first');
}

const keys = command<KeysFlags>({
  command: 'keys [patterns..]',
  describe: 'list keys, of this node or of the whole pool',
  builder: (argv) =>
    peerOption(argv)
      .positional('patterns', {
        type: 'string',
        array: true,
        describe: 'such as "user:*"; one must fit (default: all)',
      })
      .option('pool', {
        type: 'boolean',
        default: false,
        describe: 'here and on every peer that answers',
      })
      .option('kind', {
        choices: ['key', 'block', 'all'] as const,
        default: 'key' as const,
        describe: 'keys, blocks or both',
      })
      .option('long', {
        alias: 'l',
        type: 'boolean',
        default: false,
        describe: 'with sizes, holders and the time that is left',
      })
      .example('$0 keys "user:*" --pool', '')
      .example('$0 keys --kind block -l', 'the blocks that are here'),
  handler: (flags) => {
    if (flags.pool && flags.peer !== undefined) {
      throw new MemcloudError('ERR_USAGE', 'expected one of --pool and --peer, got both');
    }
    return withDaemon(flags, (client) => listKeys(client, flags));
  },
});

function renderUsage(usage: ObjectUsage): string {
  const { objectCount, valueBytes, chargedBytes, uploadCount, evictedCount } = usage;
  return (
    `${objectCount} objects, ${formatSize(valueBytes)} of values, ${formatSize(chargedBytes)} charged` +
    `, ${uploadCount} uploads under way, ${evictedCount} evicted so far`
  );
}

const stat = command<{
  name: string | undefined;
  key: string | undefined;
  peer: string | undefined;
}>({
  command: 'stat [name]',
  describe: 'show an object, or without a name what objects take here',
  builder: (argv) =>
    peerOption(argv)
      .positional('name', { type: 'string', describe: 'block id, or key' })
      .option('key', { type: 'string', describe: 'a key, also one that is only digits' }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const { name, key, peer } = flags;
      if (name === undefined && key === undefined) {
        const usage = await client.call('object.usage', peerParam(peer));
        return printData(flags, usage, renderUsage);
      }
      const wanted = readWanted(name, key, peer);
      const object = await client.call('object.stat', wanted);
      if (object === null) throw unknownObject(wanted);
      printData(flags, objectJson(object), () => renderObject(object));
    }),
});

function renderFlush(rows: readonly ObjectFlushRow[]): string {
  const lines = rows.map(({ holderName, objectCount, valueBytes, problem }) => [
    holderName,
    String(objectCount),
    formatSize(valueBytes),
    problem === '' ? 'done' : problem,
  ]);
  return table(['NODE', 'OBJECTS', 'FREED', 'RESULT'], lines);
}

/** Asks a person. Only `y` and `yes` are yes. */
async function confirm(question: string): Promise<boolean> {
  const lines = readline.createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await lines.question(`${question} [y/N] `);
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}

interface FlushFlags {
  peer: string | undefined;
  all: boolean;
  force: boolean;
}

async function flush(flags: FlushFlags & GlobalFlags): Promise<void> {
  const { peer, all, force } = flags;
  if (all && peer !== undefined) {
    throw new MemcloudError('ERR_USAGE', 'expected one of --all and --peer, got both');
  }
  const where = all
    ? 'here and on every peer'
    : peer === undefined
      ? 'here'
      : `on ${printable(peer)}`;
  if (!force) {
    const question = `Delete every object that this node wrote, ${where}?`;
    if (!process.stdin.isTTY) {
      throw new MemcloudError('ERR_USAGE', `${question} There is nobody to ask: say --force`);
    }
    if (!(await confirm(question))) {
      note('Nothing was deleted.');
      process.exitCode = ExitCode.FAILURE;
      return;
    }
  }
  await withDaemon(flags, async (client) => {
    const params = { ...peerParam(peer), ...(all ? { all } : {}) };
    const rows = await client.call('object.flush', params, { timeoutMs: FLUSH_TIMEOUT_MS });
    printData(flags, rows, renderFlush);
    if (rows.some(({ problem }) => problem !== '')) process.exitCode = ExitCode.RETRYABLE;
  });
}

const flushCommand = command<FlushFlags>({
  command: 'flush',
  describe: 'delete every object that this node wrote, here, on a peer or everywhere',
  builder: (argv) =>
    argv
      .option('peer', { type: 'string', describe: 'on this node, by name or id' })
      .option('all', { type: 'boolean', default: false, describe: 'here and on every peer' })
      .option('force', {
        alias: 'f',
        type: 'boolean',
        default: false,
        describe: 'without asking; needed where nobody can be asked',
      }),
  handler: flush,
});

/** The commands of this file. */
export const commands: readonly Command[] = [keys, stat, flushCommand];
