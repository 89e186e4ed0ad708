/**
 * `memcloud swap on`: chooses the way (`../swap-choice.ts`), says which and why, and goes it. Where it
 * must stay to guard a unit, it does until Ctrl-C.
 */
import type { DirectConnection } from '../../common/rpc-schema.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, withDaemon } from '../command.ts';
import { MANAGED_OPTION, TTL_OPTION, ZONE_OPTION } from '../managed-options.ts';
import { note, printData, type GlobalFlags } from '../output.ts';
import { renderSwaps, swapOf } from '../pool-swaps.ts';
import { ATTACH_TIMEOUT_MS, createSwapVolume } from '../scoped-device.ts';
import {
  SCOPED_PRIORITY,
  enterCommandKit,
  holdScope,
  requireMemoryController,
  restoreAbandonedScopes,
} from '../scoped-swap.ts';
import { chooseSwapPath, type Choice } from '../swap-choice.ts';
import {
  SWAP_PATHS,
  checkSize,
  swapSettings,
  type SwapSettings,
  type SwapWords,
  requireSaidAloud,
} from '../swap-settings.ts';
import { loadSwapModules } from '../system/modules.ts';
import { defaultReserveBytes } from '../system/reserve-guard.ts';
import { requireRoot } from '../system/root.ts';
import { findScope } from '../system/scope.ts';
import { swapOn } from '../system/swap-device.ts';

/** Names of volumes that are swap of the whole machine begin so. */
export const POOL_VOLUME_PREFIX = 'swap-';

interface OnFlags extends SwapWords {
  force: boolean;
  'insecure-plain': boolean;
  'must-return': boolean;
}

function advise(advice: string): void {
  if (advice !== '') note(`memcloud: ${advice}`);
}

/**
 * A new area that the kernel reaches by itself.
 *
 * @param options - `avoid`: providers not to use; `oneCopy`: accept one copy although nobody asked for it
 * @returns its device
 * @throws MemcloudError as the daemon's `direct.attach`, and swapon
 */
export async function turnOnDirect(
  client: MemcloudClient,
  settings: SwapSettings,
  options: { avoid?: readonly string[]; insecurePlain?: boolean; oneCopy?: boolean } = {},
): Promise<string> {
  const { sizeBytes, copies, providers, priority, discard, managed } = settings;
  const { avoid = [], insecurePlain = false, oneCopy = false } = options;
  const device = await client.call(
    'direct.attach',
    {
      sizeBytes,
      ...(copies === undefined ? {} : { copies }),
      ...(providers.length === 0 ? {} : { providers: [...providers] }),
      ...(avoid.length === 0 ? {} : { avoid: [...avoid] }),
      ...(managed === undefined ? {} : { managed }),
      insecurePlain,
    },
    { timeoutMs: ATTACH_TIMEOUT_MS },
  );
  try {
    if (!oneCopy) requireSaidAloud(copies, device.copies);
    advise(await swapOn(device.device, priority, discard));
    return device.device;
  } catch (error) {
    await client.call('direct.detach', { device: device.device });
    throw error;
  }
}

async function turnOnPool(client: MemcloudClient, settings: SwapSettings): Promise<string> {
  note('memcloud: warning: this swap can freeze the machine when memory runs out (--force).');
  const name = `${POOL_VOLUME_PREFIX}${process.pid}`;
  const { sizeBytes, priority, discard } = settings;
  await createSwapVolume(client, { name, sizeBytes }, settings);
  try {
    const { device } = await client.call('nbd.attach', { name }, { timeoutMs: ATTACH_TIMEOUT_MS });
    advise(await swapOn(device, priority, discard));
    return device;
  } catch (error) {
    await client.call('volume.remove', { name, force: true });
    throw error;
  }
}

/** Stays until Ctrl-C: the guard of the group is this process. */
async function holdScoped(
  client: MemcloudClient,
  flags: GlobalFlags,
  settings: SwapSettings,
  choice: Choice & { path: 'scoped' },
): Promise<void> {
  requireMemoryController();
  const scope = findScope(choice.scope);
  enterCommandKit();
  note(`memcloud: scoped path, for ${scope} only: ${choice.why}`);
  const { sizeBytes, copies, providers, managed, discard, priority = SCOPED_PRIORITY } = settings;
  const swap = {
    way: settings.via === 'loop' ? ('loop' as const) : ('auto' as const),
    memoryBytes: choice.memoryBytes,
    swapBytes: sizeBytes,
    reserveBytes: defaultReserveBytes(),
    ...{ copies, providers, managed },
    priority,
    discard,
  };
  process.exitCode = await holdScope(client, flags.json, scope, swap, async (device) => {
    printData(flags, await swapOf(client, device), (line) => renderSwaps([line]));
  });
}

/** Pages are secret in any case; what is lost is that nobody can change them on the way. */
function noteInsecure(connection: DirectConnection | undefined): void {
  if (connection !== 'plain') {
    note('memcloud: --insecure-plain is not needed here, and not used');
    return;
  }
  note(`memcloud: WARNING: --insecure-plain: this swap goes over bare TCP. Whoever is on the network
memcloud: WARNING: cannot read pages, but can destroy or change them: programs may crash or compute
memcloud: WARNING: wrong results. With a WireGuard link, or the kernel module tls, it is not needed.`);
}

async function turnOn(client: MemcloudClient, flags: OnFlags & GlobalFlags): Promise<void> {
  const settings = await swapSettings(client, flags);
  const insecurePlain = flags['insecure-plain'];
  const options = { force: flags.force, mustReturn: flags['must-return'] };
  const choice = await chooseSwapPath(settings, options, async () => {
    await loadSwapModules();
    return client.call('direct.check', { insecurePlain });
  });
  const { path, why } = choice;
  if (path === 'scoped') return holdScoped(client, flags, settings, choice);
  restoreAbandonedScopes();
  note(`memcloud: ${path} path: ${why}`);
  if (path === 'direct' && insecurePlain) noteInsecure(choice.connection);
  if (path === 'direct' && flags.scope !== undefined) {
    note(`memcloud: the whole machine may swap there, so ${flags.scope} is not limited`);
  }
  const device = await (path === 'direct'
    ? turnOnDirect(client, settings, { insecurePlain })
    : turnOnPool(client, settings));
  printData(flags, await swapOf(client, device), (line) => renderSwaps([line]));
}

/** The command. */
export const on = command<OnFlags>({
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
        describe:
          'direct: the kernel alone; scoped: through memnode for one unit; loop: the same over a loop ' +
          'device, without nbd; pool: through memnode for all (can freeze, needs --force); auto: ' +
          'direct if possible, else scoped if a unit is named',
      })
      .option('scope', {
        type: 'string',
        describe:
          'unit or control group that swaps where the whole machine cannot; then the command stays ' +
          'until Ctrl-C or SIGTERM and guards it, as run --scope does',
      })
      .option('memory', { type: 'string', describe: 'RAM of the --scope' })
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
      .option('managed', MANAGED_OPTION)
      .option('ttl', TTL_OPTION)
      .option('zone', ZONE_OPTION)
      .option('force', { type: 'boolean', default: false, describe: 'although it can freeze' })
      .option('insecure-plain', {
        type: 'boolean',
        default: false,
        describe:
          'without kernel TLS or WireGuard: bare TCP. Pages stay secret (dm-crypt), but whoever is ' +
          'on the network can destroy or change them. Providers must run with --allow-plain',
      })
      .option('must-return', { type: 'boolean', default: false, hidden: true })
      .example('$0 swap on 8G', 'eight more gigabytes, on two providers where there are two')
      .example('$0 swap on 8G --scope nightly.service --memory 2G', 'else for this unit only'),
  handler: async (flags) => {
    requireRoot('swap on');
    checkSize(flags.size);
    checkSize(flags.memory);
    await withDaemon(flags, (client) => turnOn(client, flags));
  },
});
