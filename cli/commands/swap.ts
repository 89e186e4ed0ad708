/** `memcloud swap`: the pool as swap space of the whole machine. */
import type { Argv } from 'yargs';
import { MemcloudError } from '../../common/errors.ts';
import { formatSize, parseSize } from '../../common/units.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { note, printData, table, type GlobalFlags } from '../output.ts';
import { requireRoot } from '../system/exec.ts';
import { listSwaps, swapOff, swapOn, type SwapLine } from '../system/swap-device.ts';

const ATTACH_TIMEOUT_MS = 120_000;
const VOLUME_PREFIX = 'swap-';

const UNSAFE = `swap for the whole machine through a daemon on the same machine can freeze it when
memory runs out: the daemon needs memory to send the page that would free memory. Limit the programs
that should swap instead:
  memcloud run --memory 4G --swap 16G -- COMMAND
or, knowing the risk, add --force.`;

interface OnFlags {
  size: string;
  priority: number | undefined;
  copies: number | undefined;
  force: boolean;
}

async function turnOn(
  client: MemcloudClient,
  flags: OnFlags,
  sizeBytes: number,
): Promise<SwapLine | undefined> {
  const name = `${VOLUME_PREFIX}${process.pid}`;
  const copies = flags.copies === undefined ? {} : { copies: flags.copies };
  await client.call('volume.create', { name, sizeBytes, ...copies });
  try {
    const { device } = await client.call('nbd.attach', { name }, { timeoutMs: ATTACH_TIMEOUT_MS });
    await swapOn(device, flags.priority);
    return listSwaps().find((line) => line.device === device);
  } catch (error) {
    await client.call('volume.remove', { name, force: true });
    throw error;
  }
}

function render(lines: SwapLine[]): string {
  if (lines.length === 0) return 'No swap on the pool.';
  const rows = lines.map(({ device, sizeBytes, usedBytes, priority }) => [
    device,
    formatSize(sizeBytes),
    formatSize(usedBytes),
    String(priority),
  ]);
  return table(['DEVICE', 'SIZE', 'USED', 'PRIORITY'], rows);
}

/** The swap areas that lie on devices of the daemon. */
async function ourSwaps(client: MemcloudClient): Promise<SwapLine[]> {
  const devices = new Set((await client.call('nbd.list', {})).map(({ device }) => device));
  return listSwaps().filter(({ device }) => devices.has(device));
}

const on = command<OnFlags>({
  command: 'on <size>',
  describe: 'swap onto the pool',
  builder: (argv) =>
    argv
      .positional('size', { type: 'string', demandOption: true, describe: 'such as 8G' })
      .option('priority', {
        type: 'number',
        describe: 'higher is filled first (swapon --priority)',
      })
      .option('copies', { type: 'number', describe: 'providers that keep each page' })
      .option('force', { type: 'boolean', default: false, describe: 'although it can freeze' }),
  handler: async (flags) => {
    requireRoot('swap on');
    if (!flags.force) throw new MemcloudError('ERR_SWAP_UNSAFE', UNSAFE);
    const sizeBytes = parseSize(flags.size);
    note('memcloud: warning: this swap can freeze the machine when memory runs out (--force).');
    await withDaemon(flags, async (client) => {
      const line = await turnOn(client, flags, sizeBytes);
      printData(flags, line ?? null, () => render(line === undefined ? [] : [line]));
    });
  },
});

async function turnOff(flags: GlobalFlags, device: string | undefined): Promise<void> {
  requireRoot('swap off');
  await withDaemon(flags, async (client) => {
    const attachments = await client.call('nbd.list', {});
    const swaps = (await ourSwaps(client)).filter(
      (line) => device === undefined || line.device === device,
    );
    if (swaps.length === 0) {
      throw new MemcloudError('ERR_VOLUME_UNKNOWN', 'there is no swap on the pool to turn off');
    }
    for (const line of swaps) {
      note(`memcloud: moving ${formatSize(line.usedBytes)} back from ${line.device}`);
      await swapOff(line.device);
      const timeoutMs = ATTACH_TIMEOUT_MS;
      await client.call('nbd.detach', { device: line.device }, { timeoutMs });
      const volume = attachments.find((attachment) => attachment.device === line.device)?.volume;
      if (volume?.startsWith(VOLUME_PREFIX) === true) {
        await client.call('volume.remove', { name: volume });
      }
    }
    printData(
      flags,
      swaps,
      (lines) => `Swap is off on ${lines.map((line) => line.device).join(', ')}.`,
    );
  });
}

const off = command<{ device: string | undefined }>({
  command: 'off [device]',
  describe: 'move the pages back and stop swapping onto the pool',
  builder: (argv: Argv<GlobalFlags>) =>
    argv.positional('device', { type: 'string', describe: 'only this one' }),
  handler: (flags) => turnOff(flags, flags.device),
});

const list: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the swap areas on the pool',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await ourSwaps(client), render);
    }),
};

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('swap', 'the pool as swap space', [on, off, list]),
];
