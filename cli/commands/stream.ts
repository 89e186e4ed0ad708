/** Long values both ways, in pieces: `stream` up, `cat` down. */
import { MemcloudError } from '../../common/errors.ts';
import { parseSize } from '../../common/units.ts';
import { command, withDaemon, type Command } from '../command.ts';
import {
  readDestination,
  readOptions,
  readWanted,
  writeOptions,
  type ReadFlags,
  type WriteFlags,
} from '../objects/flags.ts';
import { put, reportBlock, reportKey, show } from './objects.ts';

const stream = command<WriteFlags & { file: string | undefined; key: string | undefined }>({
  command: 'stream [file]',
  describe: 'keep a file or stdin, of any length, and print the id of the block',
  builder: (argv) =>
    writeOptions(argv)
      .positional('file', { type: 'string', describe: 'the file; - or nothing is stdin' })
      .option('key', { type: 'string', describe: 'keep it under this key instead' })
      .example('$0 stream backup.tar --peer alpha', '')
      .example('pg_dump db | $0 stream --key dump --remote', ''),
  handler: async (flags) => {
    const { key } = flags;
    const destination = readDestination(flags, key);
    const object = await put(flags, {
      data: undefined,
      file: flags.file ?? '-',
      destination,
    });
    if (key === undefined) reportBlock(flags, object);
    else reportKey(flags, object);
  },
});

interface CatFlags extends ReadFlags {
  name: string | undefined;
  key: string | undefined;
  offset: string | undefined;
  length: string | undefined;
}

const cat = command<CatFlags>({
  command: 'cat [name]',
  describe: 'print a value of any length, or a part of it',
  builder: (argv) =>
    readOptions(argv)
      .positional('name', { type: 'string', describe: 'block id, or key' })
      .option('key', { type: 'string', describe: 'a key, also one that is only digits' })
      .option('offset', { type: 'string', describe: 'first byte: 0, 512K, 1G' })
      .option('length', { type: 'string', describe: 'bytes at most' })
      .example('$0 cat dump | psql db', '')
      .example('$0 cat dump --offset 1G --length 64K -o part', ''),
  handler: (flags) => {
    const wanted = readWanted(flags.name, flags.key, flags.peer);
    const range = {
      offset: flags.offset === undefined ? undefined : parseSize(flags.offset),
      length: flags.length === undefined ? undefined : parseSize(flags.length),
    };
    if (range.length === 0) throw new MemcloudError('ERR_USAGE', '--length: expected 1 or more');
    return withDaemon(flags, (client) => show(client, flags, wanted, range));
  },
});

/** The commands of this file. */
export const commands: readonly Command[] = [stream, cat];
