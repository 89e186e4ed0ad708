/**
 * `memcloud swap`: the pool as swap space of the whole machine. `on` chooses the way: direct, where
 * the kernel reaches the providers by itself and nothing of ours is in the path of a page; through
 * memnode only with `--force`, because that can freeze a machine that runs out of memory.
 */
import type { Argv } from 'yargs';
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import type { DirectDeviceInfo } from '../../common/rpc-schema.ts';
import { formatSize } from '../../common/units.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { note, printData, table, type GlobalFlags } from '../output.ts';
import {
  SWAP_PATHS,
  checkSize,
  swapSettings,
  type SwapSettings,
  type SwapWords,
} from '../swap-settings.ts';
import { loadSwapModules } from '../system/modules.ts';
import { requireRoot } from '../system/root.ts';
import { listSwaps, sameDevice, swapOff, swapOn, type SwapLine } from '../system/swap-device.ts';
import { requireRoomForSwapOff } from '../system/swap-preflight.ts';
import { SystemFiles } from '../system/system-files.ts';

const ATTACH_TIMEOUT_MS = 120_000;
const VOLUME_PREFIX = 'swap-';

const UNSAFE = `Through memnode it can freeze the machine when memory runs out: memnode needs
memory to send the page that would free memory. Limit the programs that should swap instead:
  memcloud run --memory 4G --swap 16G -- COMMAND
or, knowing the risk, add --force.`;

const NO_LOOP =
  '--via loop needs a file system mount of the pool, which this version does not have';

interface OnFlags extends SwapWords {
  force: boolean;
}

/** A swap area on the pool. */
interface PoolSwap extends SwapLine {
  /** `direct`, or `pool`: through memnode. */
  readonly path: 'direct' | 'pool';
  /** `ok`, `degraded` or `lost`. */
  readonly health: string;
  /** Names of the providers; empty where memnode chooses them page by page. */
  readonly providers: readonly string[];
}

/** The path for a new swap area, and why. */
interface Choice {
  readonly path: 'direct' | 'pool';
  readonly why: string;
}

async function choose(
  client: MemcloudClient,
  { via }: SwapSettings,
  force: boolean,
): Promise<Choice> {
  if (via === 'loop') throw new MemcloudError('ERR_UNSUPPORTED', NO_LOOP);
  let obstacle = 'asked for';
  if (via !== 'pool') {
    await loadSwapModules();
    const { possible, problems } = await client.call('direct.check', {});
    if (possible) {
      return { path: 'direct', why: 'the kernel reaches the providers by itself: safe' };
    }
    obstacle = `direct swap is not possible here: ${problems.join('; ')}`;
    if (via === 'direct') throw new MemcloudError('ERR_UNSUPPORTED', obstacle);
  }
  if (!force) throw new MemcloudError('ERR_SWAP_UNSAFE', `${obstacle}.\n${UNSAFE}`);
  return { path: 'pool', why: obstacle };
}

function advise(advice: string): void {
  if (advice !== '') note(`memcloud: ${advice}`);
}

async function turnOnDirect(
  client: MemcloudClient,
  settings: SwapSettings,
  avoid: readonly string[] = [],
): Promise<string> {
  const { sizeBytes, copies, providers, priority, discard } = settings;
  const device = await client.call(
    'direct.attach',
    {
      sizeBytes,
      ...(copies === undefined ? {} : { copies }),
      ...(providers.length === 0 ? {} : { providers: [...providers] }),
      ...(avoid.length === 0 ? {} : { avoid: [...avoid] }),
    },
    { timeoutMs: ATTACH_TIMEOUT_MS },
  );
  if (device.copies === 1 && copies !== 1) {
    note(
      'memcloud: warning: only one provider has room: if it dies, programs whose pages it held die.',
    );
  }
  try {
    advise(await swapOn(device.device, priority, discard));
    return device.device;
  } catch (error) {
    await client.call('direct.detach', { device: device.device });
    throw error;
  }
}

async function turnOnPool(client: MemcloudClient, settings: SwapSettings): Promise<string> {
  note('memcloud: warning: this swap can freeze the machine when memory runs out (--force).');
  const name = `${VOLUME_PREFIX}${process.pid}`;
  const { sizeBytes, copies, providers, priority, discard } = settings;
  await client.call('volume.create', {
    name,
    sizeBytes,
    ...(copies === undefined ? {} : { copies }),
    ...(providers.length === 0 ? {} : { providers: [...providers] }),
  });
  try {
    const { device } = await client.call('nbd.attach', { name }, { timeoutMs: ATTACH_TIMEOUT_MS });
    advise(await swapOn(device, priority, discard));
    return device;
  } catch (error) {
    await client.call('volume.remove', { name, force: true });
    throw error;
  }
}

/** The swap areas that lie on devices of the daemon. */
async function poolSwaps(client: MemcloudClient): Promise<PoolSwap[]> {
  const direct = await client.call('direct.list', {});
  const attachments = await client.call('nbd.list', {});
  const volumes = await client.call('volume.list', {});
  return listSwaps().flatMap((line): PoolSwap[] => {
    const device = direct.find((each) => sameDevice(each.device, line.device));
    if (device !== undefined) {
      const providers = device.legs.map(({ name }) => name);
      return [{ ...line, path: 'direct', health: device.health, providers }];
    }
    const attachment = attachments.find((each) => each.device === line.device);
    if (attachment === undefined) return [];
    const volume = volumes.find(({ name }) => name === attachment.volume);
    return [{ ...line, path: 'pool', health: volume?.health ?? 'lost', providers: [] }];
  });
}

async function swapOf(client: MemcloudClient, device: string): Promise<PoolSwap> {
  const found = (await poolSwaps(client)).find((line) => sameDevice(line.device, device));
  if (found === undefined) {
    throw new MemcloudError('ERR_NATIVE', `${device} is not in /proc/swaps after swapon`);
  }
  return found;
}

function render(lines: readonly PoolSwap[]): string {
  if (lines.length === 0) return 'No swap on the pool.';
  const rows = lines.map((line) => [
    line.device,
    line.path,
    formatSize(line.sizeBytes),
    formatSize(line.usedBytes),
    String(line.priority),
    line.health,
    line.providers.join(', '),
  ]);
  return table(['DEVICE', 'PATH', 'SIZE', 'USED', 'PRIORITY', 'HEALTH', 'PROVIDERS'], rows);
}

const on = command<OnFlags>({
  command: 'on [size]',
  describe: 'swap onto the pool',
  builder: (argv) =>
    argv
      .positional('size', {
        type: 'string',
        describe: 'such as 8G, or 50% of the RAM (default: [swap] size of the configuration)',
      })
      .option('via', {
        choices: SWAP_PATHS,
        describe: 'direct: the kernel alone; pool: through memnode (can freeze, needs --force)',
      })
      .option('priority', {
        type: 'number',
        describe: 'higher is filled first (swapon --priority)',
      })
      .option('copies', {
        type: 'number',
        describe: 'providers that keep each page (default: 2 where two have room)',
      })
      .option('provider', {
        type: 'string',
        array: true,
        nargs: 1,
        default: [],
        describe: 'only this provider, by name or id; may be repeated',
      })
      .option('force', { type: 'boolean', default: false, describe: 'although it can freeze' })
      .example('$0 swap on 8G', 'eight more gigabytes, on two providers where there are two'),
  handler: async (flags) => {
    requireRoot('swap on');
    const { force } = flags;
    checkSize(flags.size);
    await withDaemon(flags, async (client) => {
      const settings = await swapSettings(client, flags);
      const { path, why } = await choose(client, settings, force);
      note(`memcloud: ${path} path: ${why}`);
      const device = await (path === 'direct'
        ? turnOnDirect(client, settings)
        : turnOnPool(client, settings));
      printData(flags, await swapOf(client, device), (line) => render([line]));
    });
  },
});

async function release(client: MemcloudClient, line: PoolSwap): Promise<void> {
  const timeoutMs = ATTACH_TIMEOUT_MS;
  if (line.path === 'direct') {
    const device = (await client.call('direct.list', {})).find((each) =>
      sameDevice(each.device, line.device),
    );
    if (device !== undefined) {
      await client.call('direct.detach', { device: device.device }, { timeoutMs });
    }
    return;
  }
  const attachments = await client.call('nbd.list', {});
  await client.call('nbd.detach', { device: line.device }, { timeoutMs });
  const volume = attachments.find((attachment) => attachment.device === line.device)?.volume;
  if (volume?.startsWith(VOLUME_PREFIX) === true) {
    await client.call('volume.remove', { name: volume });
  }
}

/** Direct devices that are no swap: left over when swapoff was run by hand. */
async function idleDevices(client: MemcloudClient): Promise<DirectDeviceInfo[]> {
  const swaps = listSwaps();
  const devices = await client.call('direct.list', {});
  return devices.filter(({ device }) => !swaps.some((line) => sameDevice(line.device, device)));
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
  const words = { size, via: 'direct' as const, priority: undefined, copies, provider };
  const device = await turnOnDirect(client, await swapSettings(client, words), avoid);
  note(`memcloud: ${device} is on; moving ${formatSize(old.usedBytes)} from ${old.device}`);
  try {
    await swapOff(old.device);
  } catch (error) {
    const { code, message } = asMemcloudError(error);
    throw new MemcloudError(code, `${message}; both areas stay on, try again`, { cause: error });
  }
  await release(client, old);
  printData(flags, await swapOf(client, device), (line) => render([line]));
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
      printData(flags, await poolSwaps(client), render);
    }),
};

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('swap', 'the pool as swap space', [on, off, moveCommand, list]),
];
