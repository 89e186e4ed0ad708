/** The options that commands about objects share. */
import type { Argv } from 'yargs';
import { MemcloudError } from '../../common/errors.ts';
import { parseDuration } from '../duration.ts';
import type { GlobalFlags } from '../output.ts';
import type { Destination, WantedObject } from './wanted.ts';

/** Digits of a 64-bit number at most. */
const BLOCK_ID_PATTERN = /^(0|[1-9][0-9]{0,19})$/;

/** Options of commands that store a value. */
export interface WriteFlags {
  readonly peer: string | undefined;
  readonly remote: boolean;
  readonly mode: 'pinned' | 'cache';
  readonly ttl: string | undefined;
  readonly private: boolean;
  readonly share: readonly string[] | undefined;
  readonly sealed: boolean;
  readonly compress: 'lz4' | 'zstd' | undefined;
}

/** Adds the options of {@link WriteFlags}. */
export function writeOptions<T>(argv: Argv<T>): Argv<T & WriteFlags> {
  return argv
    .option('peer', { type: 'string', describe: 'keep it on this node, by name or id' })
    .option('remote', {
      alias: 'r',
      type: 'boolean',
      default: false,
      describe: 'keep it on any peer with room instead of here',
    })
    .option('mode', {
      choices: ['pinned', 'cache'] as const,
      default: 'pinned' as const,
      describe: 'pinned: until it is deleted; cache: may be evicted when room is wanted',
    })
    .option('ttl', { type: 'string', describe: 'time until it is gone: 90s, 15m, 2h, 7d' })
    .option('private', {
      type: 'boolean',
      default: false,
      describe: 'nobody but this node may read it (default: every node its holder trusts)',
    })
    .option('share', {
      type: 'string',
      array: true,
      nargs: 1,
      describe: 'only this node, besides the writer, may read it; may be repeated',
    })
    .option('compress', {
      choices: ['lz4', 'zstd'] as const,
      describe: 'compress it before it leaves; readers see it as it was',
    })
    .option('sealed', {
      type: 'boolean',
      default: false,
      describe: 'encrypt it before it leaves, with the seal key of this user',
    });
}

/** Options of commands that print a value. */
export interface ReadFlags {
  readonly peer: string | undefined;
  readonly output: string | undefined;
  readonly sealed: boolean;
  readonly raw: boolean;
}

/** Adds the options of {@link ReadFlags}. */
export function readOptions<T>(argv: Argv<T>): Argv<T & ReadFlags> {
  return peerOption(argv)
    .option('output', {
      alias: 'o',
      type: 'string',
      describe: 'write the value to this file; - is stdout',
    })
    .option('sealed', {
      type: 'boolean',
      default: false,
      describe: 'refuse a value that was not sealed with the seal key of this user',
    })
    .option('raw', {
      type: 'boolean',
      default: false,
      describe: 'the bytes as they lie on the holder: sealed and compressed ones stay so',
    });
}

/** Adds the option that names whom to ask. */
export function peerOption<T>(argv: Argv<T>): Argv<T & { peer: string | undefined }> {
  return argv.option('peer', {
    type: 'string',
    describe: 'ask this node only, by name or id',
  });
}

/** The peer as a parameter. */
export function peerParam(peer: string | undefined): { peer?: string } {
  return peer === undefined ? {} : { peer };
}

/** Checks the options of a command that stores and makes parameters of them. @throws MemcloudError `ERR_USAGE` */
export function readDestination(flags: WriteFlags, key?: string): Destination {
  const { peer, remote, mode, ttl, share = [] } = flags;
  if (peer !== undefined && remote) {
    throw new MemcloudError('ERR_USAGE', 'expected one of --peer and --remote, got both');
  }
  if (flags.private && share.length > 0) {
    throw new MemcloudError('ERR_USAGE', 'expected one of --private and --share, got both');
  }
  return {
    ...(key === undefined ? {} : { key }),
    ...peerParam(peer),
    ...(remote ? { remote } : {}),
    mode,
    ...(ttl === undefined ? {} : { ttlMs: parseDuration(ttl, '--ttl') }),
    ...(flags.private ? { readers: 'private' as const } : {}),
    ...(share.length > 0 ? { readers: [...share] } : {}),
  };
}

/** Whether a word is a block id; a key of that shape needs `--key`. */
export function isBlockId(word: string): boolean {
  return BLOCK_ID_PATTERN.test(word);
}

/** Which object a command means. @throws MemcloudError `ERR_USAGE` */
export function readWanted(
  word: string | undefined,
  key: string | undefined,
  peer: string | undefined,
): WantedObject {
  if (word !== undefined && key !== undefined) {
    throw new MemcloudError('ERR_USAGE', 'expected ID|KEY or --key, got both');
  }
  const name = word ?? key;
  if (name === undefined) throw new MemcloudError('ERR_USAGE', 'expected ID|KEY, or --key KEY');
  return {
    ...(word !== undefined && isBlockId(word) ? { id: word } : { key: name }),
    ...peerParam(peer),
  };
}

/** A block id. @throws MemcloudError `ERR_USAGE` */
export function requireBlockId(word: string): string {
  if (isBlockId(word)) return word;
  throw new MemcloudError(
    'ERR_USAGE',
    `block id: expected a number, as "memcloud store" prints it, got ${JSON.stringify(word)}`,
  );
}

/**
 * A positional that yargs left out, because it begins with a dash and came after `--`.
 *
 * @throws MemcloudError `ERR_USAGE` for words too many
 */
export function afterDashes(
  word: string | undefined,
  flags: GlobalFlags & { '--'?: readonly string[] },
): string | undefined {
  const words = flags['--'] ?? [];
  if (words.length > (word === undefined ? 1 : 0)) {
    throw new MemcloudError(
      'ERR_USAGE',
      `expected one value, got ${JSON.stringify(words)} as well`,
    );
  }
  return word ?? words[0];
}
