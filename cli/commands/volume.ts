/** `memcloud volume`: make, list and remove volumes. */
import path from 'node:path';
import type { VolumeDetails, VolumeInfo } from '../../common/rpc-schema.ts';
import { formatSize, parseSize } from '../../common/units.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import {
  MANAGED_CALL_TIMEOUT_MS,
  MANAGED_OPTION,
  TTL_OPTION,
  ZONE_OPTION,
  managedSettings,
  type ManagedFlags,
} from '../managed-options.ts';
import { note, printData, printable, table } from '../output.ts';

/** Volumes as a table. */
export function renderVolumes(volumes: VolumeInfo[]): string {
  if (volumes.length === 0) return 'No volumes. Make one: memcloud volume create NAME --size 1G';
  const rows = volumes.map((volume) => [
    volume.name,
    formatSize(volume.sizeBytes),
    String(volume.copies),
    formatSize(volume.storedBytes),
    formatSize(volume.leasedBytes),
    volume.health,
    [...volume.devices, ...volume.servedAt].join(' ') || '-',
  ]);
  return table(['VOLUME', 'SIZE', 'COPIES', 'STORED', 'LEASED', 'HEALTH', 'AT'], rows);
}

function renderDetails(volume: VolumeDetails): string {
  const providers = volume.providers.map(
    ({ name, nodeId, leasedBytes }) =>
      `  ${printable(name)} ${nodeId.slice(0, 12)}: ${formatSize(leasedBytes)}`,
  );
  const counters = Object.entries(volume.counters).map(([name, count]) => `  ${name}: ${count}`);
  return [
    renderVolumes([volume]),
    '',
    `slabs: ${volume.slabs.leased} leased, ${volume.slabs.degraded} with too few copies`,
    ...(volume.repair.slabs === 0
      ? []
      : [`repair: ${volume.repair.slabs} slabs, ${formatSize(volume.repair.bytesLeft)} to copy`]),
    `ring: ${volume.ring.used} of ${volume.ring.size} pages on their way` +
      (volume.ring.locked ? '' : ' (not in locked memory)'),
    `providers: ${providers.length === 0 ? 'none yet' : ''}`,
    ...providers,
    'counters, in pages:',
    ...counters,
  ].join('\n');
}

interface CreateFlags extends ManagedFlags {
  name: string;
  size: string;
  copies: number | undefined;
  provider: string[] | undefined;
  ring: string | undefined;
  spill: string | undefined;
  'spill-size': string | undefined;
  overcommit: boolean;
}

const create = command<CreateFlags>({
  command: 'create <name>',
  describe: 'make a volume; RAM is leased when pages are written',
  builder: (argv) =>
    argv
      .positional('name', { type: 'string', demandOption: true, describe: 'the volume' })
      .option('size', {
        type: 'string',
        demandOption: true,
        describe: 'such as 512M or 8GiB; rounded up to 4 KiB',
      })
      .option('copies', {
        type: 'number',
        describe: 'providers that keep each page (default 2 where two are up, else 1)',
      })
      .option('provider', {
        type: 'string',
        array: true,
        nargs: 1,
        describe: 'use only these providers, by name or id; "local" is this machine',
      })
      .option('managed', MANAGED_OPTION)
      .option('ttl', TTL_OPTION)
      .option('zone', ZONE_OPTION)
      .option('ring', { type: 'string', describe: 'RAM for page-outs on their way (default 64M)' })
      .option('spill', {
        type: 'string',
        describe: 'a new file, or a directory, for sealed pages that no provider can take',
      })
      .option('spill-size', {
        type: 'string',
        describe: 'the most that it may hold (default: the size of the volume)',
      })
      .option('overcommit', {
        type: 'boolean',
        default: false,
        describe: 'although the pool is smaller; writes fail with ENOSPC once it is full',
      }),
  handler: (flags) => {
    const managed = managedSettings(flags);
    const request = {
      ...(managed === undefined ? {} : { managed }),
      name: flags.name,
      sizeBytes: parseSize(flags.size),
      overcommit: flags.overcommit,
      ...(flags.copies === undefined ? {} : { copies: flags.copies }),
      ...(flags.provider === undefined ? {} : { providers: flags.provider }),
      ...(flags.spill === undefined
        ? {}
        : {
            spill: {
              place: path.resolve(flags.spill),
              sizeBytes: parseSize(flags['spill-size'] ?? flags.size),
            },
          }),
      ...(flags.ring === undefined ? {} : { ringBytes: parseSize(flags.ring) }),
    };
    return withDaemon(flags, async (client) => {
      const volume = await client.call('volume.create', request, {
        timeoutMs: MANAGED_CALL_TIMEOUT_MS,
      });
      if (volume.sizeBytes !== request.sizeBytes) {
        note(`memcloud: rounded up to ${volume.sizeBytes} bytes, a whole number of 4 KiB pages`);
      }
      printData(flags, volume, (data) => renderVolumes([data]));
    });
  },
});

const list: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the volumes',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await client.call('volume.list', {}), renderVolumes);
    }),
};

const inspect = command<{ name: string }>({
  command: 'inspect <name>',
  describe: 'show slabs, providers, ring and counters of a volume',
  builder: (argv) =>
    argv.positional('name', { type: 'string', demandOption: true, describe: 'the volume' }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await client.call('volume.inspect', { name: flags.name }), renderDetails);
    }),
});

const remove = command<{ name: string; force: boolean }>({
  command: 'rm <name>',
  describe: 'remove a volume and destroy its key: the pages are gone',
  builder: (argv) =>
    argv
      .positional('name', { type: 'string', demandOption: true, describe: 'the volume' })
      .option('force', { type: 'boolean', default: false, describe: 'also while it is in use' }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      await client.call('volume.remove', { name: flags.name, force: flags.force });
      printData(flags, null, () => `Removed ${printable(flags.name)}.`);
    }),
});

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('volume', 'make, list and remove volumes', [create, list, inspect, remove]),
];
