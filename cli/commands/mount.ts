/** `memcloud mount` and `memcloud umount`: files on the RAM of the pool, at a directory. */
import path from 'node:path';
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import type { MountInfo, RpcParams } from '../../common/rpc-schema.ts';
import { formatSize } from '../../common/units.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, withDaemon, type Command } from '../command.ts';
import {
  MOUNT_CALL_TIMEOUT_MS,
  MOUNT_PROFILES,
  MOUNT_TRANSPORTS,
  mountSettings,
  type MountWords,
} from '../mount-settings.ts';
import { requireVisible } from '../mount-visible.ts';
import { MANAGED_OPTION, TTL_OPTION, ZONE_OPTION } from '../managed-options.ts';
import { note, printData, printable, table, type GlobalFlags } from '../output.ts';
import { describeHolders, mountHolders } from '../system/mount-holders.ts';

/** 128 + SIGINT, as shells have it. */
const EXIT_INTERRUPTED = 130;

/** Mounts as a table, and under it what is lost. */
export function renderMounts(mounts: readonly MountInfo[]): string {
  if (mounts.length === 0) return 'No mounts. Make one: memcloud mount DIR';
  const rows = mounts.map((mount) => [
    mount.directory || '-',
    mount.volume,
    formatSize(mount.sizeBytes),
    formatSize(mount.usedBytes),
    String(mount.inodeCount),
    String(mount.copies),
    formatSize(mount.leasedBytes),
    mount.state,
  ]);
  const head = ['MOUNT', 'VOLUME', 'SIZE', 'USED', 'FILES', 'COPIES', 'LEASED', 'STATE'];
  const troubles = mounts.flatMap((mount) => {
    const where = mount.directory || mount.volume;
    const more = mount.damagedFileCount - mount.damagedFiles.length;
    return [
      ...(mount.reason === '' ? [] : [`${where}: ${mount.reason}`]),
      ...mount.damagedFiles.map((file) => `lost bytes: ${file}`),
      ...(more > 0 ? [`lost bytes: ${more} more files`] : []),
    ];
  });
  return [table(head, rows), ...troubles.map(printable)].join('\n');
}

function renderMounted({ directory, volume, sizeBytes, copies, keep }: MountInfo): string {
  const where = `${formatSize(sizeBytes)} at ${printable(directory)}`;
  const how = `${copies === 1 ? '1 copy' : `${copies} copies`}, volume ${volume}`;
  const end = keep
    ? 'Unmounting keeps its files while memnode runs.'
    : 'Its files are gone when it is unmounted, or memnode ends.';
  return `Mounted ${where} (${how}). ${end}`;
}

function explain(wish: RpcParams<'mount.create'>, made: MountInfo): void {
  const isOnlyHere = wish.providers?.every((name) => name === 'local') === true;
  if (wish.sizeBytes === undefined) {
    const copies = made.copies === 1 ? 'one copy' : `${made.copies} copies`;
    const who = isOnlyHere ? 'this machine can take now' : `the pool can take now with ${copies}`;
    note(`memcloud: ${formatSize(made.sizeBytes)} is what ${who}; say less with --size`);
  }
  if (wish.copies === undefined && made.copies === 1 && !isOnlyHere) {
    note(
      'memcloud: one copy: files are lost when its machine goes away; a second lender mends that',
    );
  }
}

/** Makes the mount; a signal meanwhile leaves nothing. */
async function mountUnlessInterrupted(
  client: MemcloudClient,
  wish: RpcParams<'mount.create'>,
): Promise<MountInfo | undefined> {
  const { directory } = wish;
  let interrupted = false;
  const takeBack = async (startingOnly: boolean): Promise<void> => {
    try {
      await client.call('mount.remove', { directory, lazy: true, startingOnly });
    } catch (error) {
      const { code } = asMemcloudError(error);
      if (code !== 'ERR_MOUNT_UNKNOWN' && code !== 'ERR_MOUNT_BUSY') throw error;
    }
  };
  const onSignal = (): void => {
    interrupted = true;
    takeBack(true).catch((error: unknown) => note(`memcloud: ${asMemcloudError(error).message}`));
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  try {
    const made = await client.call('mount.create', wish, { timeoutMs: MOUNT_CALL_TIMEOUT_MS });
    if (!interrupted) return made;
    await takeBack(false);
  } catch (error) {
    if (!interrupted || asMemcloudError(error).code !== 'ERR_CANCELLED') throw error;
  } finally {
    process.removeListener('SIGINT', onSignal);
    process.removeListener('SIGTERM', onSignal);
  }
  note('memcloud: interrupted; nothing is mounted');
  process.exitCode = EXIT_INTERRUPTED;
  return undefined;
}

const make = command<MountWords>({
  command: '$0 [directory]',
  describe: 'mount files on the RAM of the pool',
  builder: (argv) =>
    argv
      .positional('directory', {
        type: 'string',
        describe:
          'an empty directory (default: [mount] directory, else /mnt/memcloud, made if missing)',
      })
      .option('size', {
        type: 'string',
        describe: 'the most that its files may hold (default: what the pool can take)',
      })
      .option('copies', {
        type: 'number',
        describe: 'providers that keep each page (default 2 where two are up, else 1)',
      })
      .option('managed', MANAGED_OPTION)
      .option('ttl', TTL_OPTION)
      .option('zone', ZONE_OPTION)
      .option('volume', { type: 'string', describe: 'name it; or the name of files that are kept' })
      .option('provider', {
        alias: 'providers',
        type: 'string',
        array: true,
        nargs: 1,
        describe: 'use only these providers, by name or id; "local" is this machine',
      })
      .option('allow-other', {
        type: 'boolean',
        describe: 'let other users in; mounts of root always do',
      })
      .option('profile', {
        choices: MOUNT_PROFILES,
        describe: 'build-cache: quicker with many small files, slower with large ones',
      })
      .option('fuse-transport', {
        choices: MOUNT_TRANSPORTS,
        default: 'kernel' as const,
        describe: 'native: through fuse-native, if it is installed; see docs/mount.md',
      })
      .option('keep', {
        type: 'boolean',
        default: false,
        describe: 'umount keeps the files while memnode runs; mount DIR --volume NAME shows them',
      })
      .option('overcommit', {
        type: 'boolean',
        default: false,
        describe: 'although the pool is smaller; writes fail with ENOSPC once it is full',
      })
      .option('uid', { type: 'number', describe: 'owner of its root directory' })
      .option('gid', { type: 'number', describe: 'group of its root directory' })
      .option('mode', {
        type: 'string',
        describe: 'permissions of its root directory, octal (default 1777 for root, else 755)',
      }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const wish = await mountSettings(client, flags);
      const made = await mountUnlessInterrupted(client, wish);
      if (made === undefined) return;
      await requireVisible(client, made.directory);
      explain(wish, made);
      printData(flags, made, renderMounted);
    }),
});

const list: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the mounts, and files that are kept',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await client.call('mount.list', {}), renderMounts);
    }),
};

/** Says who uses the mount; the daemon only knows that somebody does. */
function withHolders(error: MemcloudError, directory: string): MemcloudError {
  if (error.code !== 'ERR_MOUNT_BUSY') return error;
  const holders = describeHolders(mountHolders(directory));
  const who = holders === '' ? 'by a program that cannot be seen from here' : `by ${holders}`;
  const text = `${error.message} ${who}; end that, or use --lazy`;
  return new MemcloudError(error.code, text, { cause: error });
}

interface UnmountWords {
  readonly directory: string | undefined;
  readonly lazy: boolean;
}

/** The directory of the only mount. @throws MemcloudError when there is none, or there are several */
function onlyMounted(mounts: readonly MountInfo[]): string {
  const directories = mounts.map(({ directory }) => directory).filter((each) => each !== '');
  const [only, ...others] = directories;
  if (only === undefined) throw new MemcloudError('ERR_MOUNT_UNKNOWN', 'nothing is mounted');
  if (others.length === 0) return only;
  const all = directories.map(printable).join(', ');
  throw new MemcloudError('ERR_USAGE', `several are mounted, say which: ${all}`);
}

async function unmount(flags: UnmountWords & GlobalFlags): Promise<void> {
  const named = flags.directory === undefined ? undefined : path.resolve(flags.directory);
  // Whoever stands in the mount may still ask; this process must not be the one that uses it.
  process.chdir('/');
  await withDaemon(flags, async (client) => {
    const mounts = await client.call('mount.list', {});
    const directory = named ?? onlyMounted(mounts);
    const found = mounts.find((mount) => mount.directory === directory);
    try {
      await client.call(
        'mount.remove',
        { directory, lazy: flags.lazy },
        { timeoutMs: MOUNT_CALL_TIMEOUT_MS },
      );
    } catch (error) {
      throw withHolders(asMemcloudError(error), directory);
    }
    printData(flags, null, () =>
      found?.keep === true && found.state !== 'dead'
        ? `Unmounted ${printable(directory)}. Its files are kept: memcloud mount DIR --volume ${found.volume}`
        : `Unmounted ${printable(directory)}. Its files are gone.`,
    );
  });
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  {
    command: 'mount',
    describe: 'files on the RAM of the pool, at a directory',
    builder: (argv) => argv.command(make).command(list),
    handler: () => undefined,
  },
  command<UnmountWords>({
    command: 'umount [directory]',
    describe: 'unmount; files are gone unless the mount was made with --keep',
    builder: (argv) =>
      argv
        .positional('directory', {
          type: 'string',
          describe: 'where it is mounted (default: the only mount there is)',
        })
        .option('lazy', {
          type: 'boolean',
          default: false,
          describe: 'although it is used; programs that have files open there get errors',
        }),
    handler: unmount,
  }),
];
