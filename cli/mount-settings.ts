/**
 * What `mount` makes: its words, and for what they leave open the table `[mount]` of the configuration, as
 * the daemon read it last. A reload therefore counts for the next `mount` and for none that is there.
 */
import os from 'node:os';
import path from 'node:path';
import type { OptionKey, OptionValue } from '../common/config/options.ts';
import { MemcloudError } from '../common/errors.ts';
import type { RpcParams } from '../common/rpc-schema.ts';
import { parseSizeExpression } from '../common/size-expression.ts';
import { managedSettings, type ManagedFlags } from './managed-options.ts';
import type { MemcloudClient } from '../sdk/client.ts';

/** Longer than the daemon takes to mount or unmount: it gives a process up by itself. */
export const MOUNT_CALL_TIMEOUT_MS = 90_000;
/** How to tune a mount. */
export const MOUNT_PROFILES = ['default', 'build-cache'] as const;
/** How requests come. */
export const MOUNT_TRANSPORTS = ['kernel', 'native'] as const;

/** What a command line may say about a new mount. */
export interface MountWords extends ManagedFlags {
  /** As written, relative to where the command runs. */
  readonly directory: string | undefined;
  /** As written: `8G`, `50%`. */
  readonly size: string | undefined;
  /** Providers that keep each page. */
  readonly copies: number | undefined;
  /** Its volume: a new name, or one under which files are kept. */
  readonly volume: string | undefined;
  /** Only these providers. */
  readonly provider: string[] | undefined;
  /** Let other users in. */
  readonly 'allow-other': boolean | undefined;
  /** How it is tuned. */
  readonly profile: (typeof MOUNT_PROFILES)[number] | undefined;
  /** How requests come. */
  readonly 'fuse-transport': (typeof MOUNT_TRANSPORTS)[number];
  /** The files outlive the mount. */
  readonly keep: boolean;
  /** Although the pool is smaller. */
  readonly overcommit: boolean;
  /** Owner, group and permissions of its root. */
  readonly uid: number | undefined;
  /** As `uid`. */
  readonly gid: number | undefined;
  /** Octal. */
  readonly mode: string | undefined;
}

const MODE_MAX = 0o7777;

function parseMode(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const mode = /^[0-7]{1,5}$/.test(text) ? parseInt(text, 8) : Infinity;
  if (mode <= MODE_MAX) return mode;
  throw new MemcloudError('ERR_USAGE', `--mode: expected octal digits, 0 to 7777, got "${text}"`);
}

function parseSize(text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseSizeExpression(text, os.totalmem());
}

/** An object without the keys that are undefined. */
function defined<T extends object>(object: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

/**
 * The words of a command over the daemon's `[mount]`. Of kept files nothing is configured anew.
 *
 * @throws MemcloudError `ERR_USAGE_SIZE`, `ERR_USAGE`
 */
export async function mountSettings(
  client: Pick<MemcloudClient, 'call'>,
  words: MountWords,
): Promise<RpcParams<'mount.create'>> {
  const said = {
    sizeBytes: parseSize(words.size),
    copies: words.copies,
    profile: words.profile,
    mode: parseMode(words.mode),
  };
  const [{ settings }, mounts] = await Promise.all([
    client.call('config.get', {}),
    client.call('mount.list', {}),
  ]);
  const configured = <K extends OptionKey>(key: K): OptionValue<K> | undefined => {
    const value = settings.find((setting) => setting.key === key)?.value;
    return (value ?? undefined) as OptionValue<K> | undefined;
  };
  const isKept = mounts.some(({ volume, state }) => volume === words.volume && state === 'kept');
  const { directory, volume, provider: providers, keep, overcommit, uid, gid } = words;
  const fromFiles = {
    sizeBytes: configured('mount.size'),
    copies: configured('mount.copies'),
    profile: configured('mount.profile'),
  };
  const managed = managedSettings(words);
  return {
    directory: path.resolve(directory ?? configured('mount.directory') ?? '/mnt/memcloud'),
    makeDirectory: directory === undefined,
    ...(isKept ? {} : defined(fromFiles)),
    ...defined({ ...said, managed, volume, providers, uid, gid, allowOther: words['allow-other'] }),
    ...{ keep, overcommit, transport: words['fuse-transport'] },
  };
}
