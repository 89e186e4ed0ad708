/**
 * Values on this node and its peers: `store`, `load` and `free` for blocks, `set`, `get` and `rm` for
 * keys. Values are bytes: they go to stdout as they are, and everything said about them to stderr.
 */
import { MemcloudError } from '../../common/errors.ts';
import type { ObjectRow } from '../../common/rpc-objects.ts';
import type { Caller } from '../../sdk/client.ts';
import { nameOf, type ObjectRange } from '../../sdk/pieces.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { interruptible } from '../interrupt.ts';
import { download } from '../objects/download.ts';
import {
  afterDashes,
  peerOption,
  peerParam,
  readDestination,
  requireBlockId,
  readOptions,
  writeOptions,
  type ReadFlags,
  type WriteFlags,
} from '../objects/flags.ts';
import { openInput, type Input } from '../objects/input.ts';
import { writeValue } from '../objects/output.ts';
import { Progress, counted } from '../objects/progress.ts';
import { keptText, objectJson } from '../objects/rows.ts';
import { upload } from '../objects/upload.ts';
import { unknownObject, type Destination, type WantedObject } from '../objects/wanted.ts';
import { note, printData, printable, type GlobalFlags } from '../output.ts';

/** A value goes into JSON up to here; more belongs into a file. */
const JSON_VALUE_SIZE_MAX_BYTES = 64 * 2 ** 20;

interface PutOptions {
  readonly data: string | undefined;
  readonly file: string | undefined;
  readonly destination: Destination;
}

/** Seals and compresses on the way out, as asked; loaded only then. */
async function encode(
  flags: WriteFlags,
  input: Input,
  destination: Destination,
): Promise<{ input: Input; destination: Destination }> {
  const { sealed, compress } = flags;
  if (!sealed && compress === undefined) return { input, destination };
  const { encoderFor } = await import('../../sdk/encode.ts');
  const { loadSealKey } = await import('../../sdk/seal-key.ts');
  const encoder = encoderFor({
    name: destination.key ?? '',
    compress,
    ...(sealed ? { sealKey: loadSealKey(undefined, { make: true }) } : {}),
    plainSizeBytes: input.sizeBytes,
  });
  return {
    // How long it gets shows only at the end.
    input: { bytes: encoder.encodeStream(input.bytes), sizeBytes: undefined },
    destination: { ...destination, meta: Uint8Array.from(encoder.meta) },
  };
}

/** Stores a value from the command line, a file or stdin, and shows how far it is. */
export function put(flags: GlobalFlags & WriteFlags, options: PutOptions): Promise<ObjectRow> {
  return interruptible(async (signal) => {
    const opened = openInput(options.data, options.file, signal);
    const { input, destination } = await encode(flags, opened, options.destination);
    return withDaemon(flags, async (client) => {
      const progress = new Progress(input.sizeBytes);
      const bytes = counted(input.bytes, progress);
      const { sizeBytes: sizeHint } = input;
      try {
        return await upload(client, bytes, destination, { signal, sizeHint, origin: opened.bytes });
      } finally {
        progress.end();
      }
    });
  });
}

/** A value as base64. */
async function asBase64(bytes: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of bytes) {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes > JSON_VALUE_SIZE_MAX_BYTES) {
      throw new MemcloudError('ERR_USAGE', 'the value is too long for JSON: use -o FILE');
    }
  }
  return Buffer.concat(chunks).toString('base64');
}

/** Prints a value, or with `--json` the object and, unless it goes into a file, its bytes as base64. */
export async function show(
  caller: Caller,
  flags: GlobalFlags & ReadFlags,
  wanted: WantedObject,
  range: ObjectRange = {},
): Promise<void> {
  const { raw, sealed, output: file } = flags;
  if (raw && sealed) throw new MemcloudError('ERR_USAGE', 'expected one of --raw and --sealed');
  const found = await download(caller, wanted, { range, raw, sealed });
  const { bytes, sizeBytes } = found;
  const object = objectJson(found.object);
  if (flags.json && (file === undefined || file === '-')) {
    return printData(flags, { object, data: await asBase64(bytes) }, () => '');
  }
  const progress = new Progress(sizeBytes);
  try {
    const isWatched = file !== undefined || !process.stdout.isTTY;
    await writeValue(file, isWatched ? counted(bytes, progress) : bytes);
  } finally {
    progress.end();
  }
  if (flags.json) printData(flags, { object }, () => '');
}

/** Prints the id of a new block on stdout, for scripts; where it is goes to a person at a terminal. */
export function reportBlock(flags: GlobalFlags, object: ObjectRow): void {
  printData(flags, objectJson(object), () => object.id ?? '');
  if (!flags.json && process.stderr.isTTY) note(`memcloud: ${keptText(object)}`);
}

/** Says that a key was set. */
export function reportKey(flags: GlobalFlags, object: ObjectRow): void {
  const key = printable(object.key ?? '');
  printData(flags, objectJson(object), () => `Set ${key}: ${keptText(object)}.`);
}

const FILE_OPTION = {
  type: 'string',
  describe: 'take the value from this file; - is stdin',
} as const;

const store = command<WriteFlags & { data: string | undefined; file: string | undefined }>({
  command: 'store [data]',
  describe: 'keep a value as a block and print its id',
  builder: (argv) =>
    writeOptions(argv)
      .positional('data', { type: 'string', describe: 'the value; - is stdin' })
      .option('file', FILE_OPTION)
      .example('$0 store hello', 'print the id of a block with five bytes')
      .example('$0 store --file a.iso --remote', 'keep a file on a peer')
      .example('tar c . | $0 store - --peer alpha --ttl 2h', 'for two hours on alpha'),
  handler: async (flags) => {
    const data = afterDashes(flags.data, flags);
    const destination = readDestination(flags);
    reportBlock(flags, await put(flags, { data, file: flags.file, destination }));
  },
});

const load = command<ReadFlags & { id: string }>({
  command: 'load <id>',
  describe: 'print the value of a block',
  builder: (argv) =>
    readOptions(argv)
      .positional('id', { type: 'string', demandOption: true, describe: 'from memcloud store' })
      .example('$0 load 1234567890123456789 -o a.iso', 'write it to a file'),
  handler: (flags) => {
    const wanted = { id: requireBlockId(flags.id), ...peerParam(flags.peer) };
    return withDaemon(flags, (client) => show(client, flags, wanted));
  },
});

const set = command<
  WriteFlags & {
    key: string;
    value: string | undefined;
    file: string | undefined;
    'if-version': number | undefined;
  }
>({
  command: 'set <key> [value]',
  describe: 'keep a value under a key',
  builder: (argv) =>
    writeOptions(argv)
      .positional('key', { type: 'string', demandOption: true, describe: 'its name' })
      .positional('value', { type: 'string', describe: 'the value; - is stdin' })
      .option('file', FILE_OPTION)
      .option('if-version', {
        type: 'number',
        describe: 'only if the key is at this version; 0: only if there is none',
      })
      .example('$0 set greeting hello', '')
      .example('$0 set model --file model.bin --peer alpha --mode cache', 'on alpha, evictable')
      .example('$0 set lock me --if-version 0 --ttl 30s', 'unless somebody has it'),
  handler: async (flags) => {
    const data = afterDashes(flags.value, flags);
    const { 'if-version': ifVersion } = flags;
    const destination = {
      ...readDestination(flags, flags.key),
      ...(ifVersion === undefined ? {} : { ifVersion }),
    };
    reportKey(flags, await put(flags, { data, file: flags.file, destination }));
  },
});

const get = command<ReadFlags & { key: string }>({
  command: 'get <key>',
  describe: 'print the value of a key, from here or from the peer that has it',
  builder: (argv) =>
    readOptions(argv)
      .positional('key', { type: 'string', demandOption: true, describe: 'its name' })
      .example('$0 get greeting', '')
      .example('$0 get model -o model.bin', 'write it to a file'),
  handler: (flags) =>
    withDaemon(flags, (client) =>
      show(client, flags, { key: flags.key, ...peerParam(flags.peer) }),
    ),
});

interface DeleteFlags {
  readonly peer: string | undefined;
  readonly force: boolean;
}

/** Deletes each, and fails in the end when there was none of some name and nobody said `--force`. */
async function deleteAll(
  flags: GlobalFlags & DeleteFlags,
  all: readonly WantedObject[],
): Promise<void> {
  await withDaemon(flags, async (client) => {
    const missing: WantedObject[] = [];
    for (const wanted of all) {
      const { deleted } = await client.call('object.delete', wanted);
      if (!deleted) missing.push(wanted);
    }
    const [first] = missing;
    if (first !== undefined && !flags.force) {
      for (const other of missing.slice(1)) note(`memcloud: ${unknownObject(other).message}`);
      throw unknownObject(first);
    }
    const texts = all.filter((wanted) => !missing.includes(wanted)).map(nameOf);
    const deletedCount = texts.length;
    const text = deletedCount === 0 ? 'Nothing was there.' : `Deleted ${texts.join(', ')}.`;
    printData(flags, { deletedCount, missingCount: missing.length }, () => printable(text));
  });
}

const FORCE_OPTION = {
  alias: 'f',
  type: 'boolean',
  default: false,
  describe: 'what is not there is no error',
} as const;

const free = command<DeleteFlags & { ids: string[] }>({
  command: 'free <ids..>',
  describe: 'delete blocks, wherever they are',
  builder: (argv) =>
    peerOption(argv)
      .positional('ids', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'from memcloud store',
      })
      .option('force', FORCE_OPTION),
  handler: (flags) => {
    const all = flags.ids.map((id) => ({ id: requireBlockId(id), ...peerParam(flags.peer) }));
    return deleteAll(flags, all);
  },
});

const remove = command<DeleteFlags & { keys: string[] }>({
  command: 'rm <keys..>',
  aliases: ['delete'],
  describe: 'delete keys, here or on the peer that has them',
  builder: (argv) =>
    peerOption(argv)
      .positional('keys', { type: 'string', array: true, demandOption: true, describe: 'names' })
      .option('force', FORCE_OPTION),
  handler: (flags) =>
    deleteAll(
      flags,
      flags.keys.map((key) => ({ key, ...peerParam(flags.peer) })),
    ),
});

/** The commands of this file. */
export const commands: readonly Command[] = [store, load, free, set, get, remove];
