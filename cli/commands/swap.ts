/**
 * `memcloud swap`: the pool as swap space. `on` is in `swap-on.ts`; here are `off`, `move` and `ls`.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { Argv } from 'yargs';
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import { formatSize } from '../../common/units.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { note, printData, type GlobalFlags } from '../output.ts';
import { idleDevices, poolSwaps, renderSwaps, swapOf, type PoolSwap } from '../pool-swaps.ts';
import { SCOPED_VOLUME_PREFIX } from '../scoped-device.ts';
import { liftAbandonedScope } from '../scoped-swap.ts';
import { swapSettings } from '../swap-settings.ts';
import { detachLoop, loopFile } from '../system/loop-device.ts';
import { requireRoot } from '../system/root.ts';
import { listSwaps, sameDevice, swapOff } from '../system/swap-device.ts';
import { requireRoomForSwapOff } from '../system/swap-preflight.ts';
import { SystemFiles } from '../system/system-files.ts';
import { POOL_VOLUME_PREFIX, on, turnOnDirect } from './swap-on.ts';

const DETACH_TIMEOUT_MS = 120_000;

/** A volume that is nothing but swap: of `swap on`, or of a `run` that was killed. */
function isLeftToUs(volume: string): boolean {
  if (volume.startsWith(POOL_VOLUME_PREFIX)) return true;
  if (!volume.startsWith(SCOPED_VOLUME_PREFIX)) return false;
  return !fs.existsSync(`/proc/${volume.slice(SCOPED_VOLUME_PREFIX.length)}`);
}

async function release(client: MemcloudClient, line: PoolSwap): Promise<void> {
  const timeoutMs = DETACH_TIMEOUT_MS;
  if (line.path === 'direct') {
    const device = (await client.call('direct.list', {})).find((each) =>
      sameDevice(each.device, line.device),
    );
    if (device !== undefined) {
      await client.call('direct.detach', { device: device.device }, { timeoutMs });
    }
    return;
  }
  const loop = loopFile(line.device);
  if (loop !== undefined) {
    const directory = path.dirname(loop);
    await detachLoop(line.device);
    await client.call('mount.remove', { directory, lazy: true }, { timeoutMs });
    fs.rmdirSync(directory);
    return;
  }
  const attachments = await client.call('nbd.list', {});
  await client.call('nbd.detach', { device: line.device }, { timeoutMs });
  const volume = attachments.find((attachment) => attachment.device === line.device)?.volume;
  if (volume !== undefined && isLeftToUs(volume)) {
    await client.call('volume.remove', { name: volume });
  }
}

interface OffFlags {
  device: string | undefined;
  'if-on': boolean;
  force: boolean;
}

async function turnOff(client: MemcloudClient, flags: OffFlags & GlobalFlags): Promise<void> {
  const wanted = (device: string): boolean =>
    flags.device === undefined || sameDevice(device, flags.device);
  const swaps = (await poolSwaps(client)).filter(({ device }) => wanted(device));
  const idle = (await idleDevices(client)).filter(({ device }) => wanted(device));
  if (swaps.length === 0 && idle.length === 0 && !flags['if-on']) {
    throw new MemcloudError('ERR_VOLUME_UNKNOWN', 'there is no swap on the pool to turn off');
  }
  const devices = swaps.map(({ device }) => device);
  if (!flags.force) requireRoomForSwapOff(new SystemFiles(), listSwaps(), devices);
  for (const line of swaps) {
    note(`memcloud: moving ${formatSize(line.usedBytes)} back from ${line.device}`);
    liftAbandonedScope(line.device);
    await swapOff(line.device);
    await release(client, line);
  }
  for (const { device } of idle) {
    note(`memcloud: ${device} was no swap any more; giving it back`);
    await client.call('direct.detach', { device });
  }
  printData(flags, swaps, (lines) =>
    lines.length === 0
      ? 'No swap on the pool.'
      : `Swap is off on ${lines.map(({ device }) => device).join(', ')}.`,
  );
}

const off = command<OffFlags>({
  command: 'off [device]',
  describe: 'move the pages back and stop swapping onto the pool',
  builder: (argv: Argv<GlobalFlags>) =>
    argv
      .positional('device', { type: 'string', describe: 'only this one' })
      .option('if-on', {
        type: 'boolean',
        default: false,
        describe: 'be content when there is none',
      })
      .option('force', {
        type: 'boolean',
        default: false,
        describe: 'although its pages may have no room',
      }),
  handler: async (flags) => {
    requireRoot('swap off');
    await withDaemon(flags, (client) => turnOff(client, flags));
  },
});

interface MoveFlags {
  device: string | undefined;
  provider: string[];
  copies: number | undefined;
}

/** A new area on other providers is filled while the old one is emptied: the kernel moves the pages. */
async function move(client: MemcloudClient, flags: MoveFlags & GlobalFlags): Promise<void> {
  const old = (await poolSwaps(client)).find(
    ({ path, device }) =>
      path === 'direct' && (flags.device === undefined || sameDevice(device, flags.device)),
  );
  if (old === undefined) {
    throw new MemcloudError('ERR_VOLUME_UNKNOWN', 'there is no direct swap on the pool to move');
  }
  const { provider, copies } = flags;
  const avoid = provider.length === 0 ? old.providers : [];
  const size = String(old.sizeBytes);
  const { managed } = old;
  const words = { size, via: 'direct' as const, priority: undefined, copies, provider, managed };
  // No fewer copies than before, unless one provider is what was asked for.
  const oneCopy = old.providers.length === 1 || provider.length === 1;
  const options = { avoid, oneCopy };
  const device = await turnOnDirect(client, await swapSettings(client, words), options);
  note(`memcloud: ${device} is on; moving ${formatSize(old.usedBytes)} from ${old.device}`);
  try {
    await swapOff(old.device);
  } catch (error) {
    const { code, message } = asMemcloudError(error);
    throw new MemcloudError(code, `${message}; both areas stay on, try again`, { cause: error });
  }
  await release(client, old);
  printData(flags, await swapOf(client, device), (line) => renderSwaps([line]));
}

const moveCommand = command<MoveFlags>({
  command: 'move [device]',
  describe: 'move a direct swap area, in use, to other providers',
  builder: (argv: Argv<GlobalFlags>) =>
    argv
      .positional('device', { type: 'string', describe: 'which (default: the first)' })
      .option('provider', {
        type: 'string',
        array: true,
        nargs: 1,
        default: [],
        describe: 'to this provider; may be repeated (default: any but those of now)',
      })
      .option('copies', { type: 'number', describe: 'providers that keep each page' }),
  handler: async (flags) => {
    requireRoot('swap move');
    await withDaemon(flags, (client) => move(client, flags));
  },
});

const list: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the swap areas on the pool',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await poolSwaps(client), renderSwaps);
    }),
};

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('swap', 'the pool as swap space', [on, off, moveCommand, list]),
];
