/**
 * `memcloud run`: more memory than the machine has, for one command or for one running unit. What is
 * limited runs in a control group with `--memory` bytes of RAM; what does not fit goes to the pool.
 * Nothing else on the machine is pushed out, and the reserve guard keeps free memory above a floor:
 * that is what keeps the daemon able to serve (docs/architecture.md, "Not freezing").
 */
import { spawn } from 'node:child_process';
import os from 'node:os';
import { MemcloudError } from '../../common/errors.ts';
import { withoutIoFlusher } from '../../common/kit.ts';
import { formatSize, parseSize } from '../../common/units.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { note, type GlobalFlags } from '../output.ts';
import { SCOPED_WAYS, startScopedSwap, type ScopedSwap } from '../scoped-device.ts';
import {
  ENDING_SIGNALS,
  SCOPED_PRIORITY,
  checkReserve,
  enterCommandKit,
  holdScope,
  reportRun,
  requireMemoryController,
  restoreAbandonedScopes,
  startGuard,
} from '../scoped-swap.ts';
import { Cleanup } from '../system/cleanup.ts';
import { requireRoot } from '../system/root.ts';
import { MemoryGroup } from '../system/memory-group.ts';
import { defaultReserveBytes } from '../system/reserve-guard.ts';
import { findScope } from '../system/scope.ts';
import { swapCounters } from '../system/swap-counters.ts';

interface RunFlags {
  memory: string;
  swap: string;
  copies: number | undefined;
  priority: number;
  scope: string | undefined;
  reserve: string | undefined;
  via: (typeof SCOPED_WAYS)[number];
  kit: 'auto' | 'off';
  '--'?: string[];
}

/** Runs the command; resolves to its exit code, 128 + n for signal n. */
function runCommand(launcher: readonly string[], words: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const [program = '', ...args] = [...launcher, ...words];
    const child = withoutIoFlusher(() => spawn(program, args, { stdio: 'inherit' }));
    const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
    for (const signal of ENDING_SIGNALS) process.on(signal, forward);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      for (const name of ENDING_SIGNALS) process.off(name, forward);
      resolve(code ?? 128 + (signal === null ? 0 : os.constants.signals[signal]));
    });
  });
}

async function runWords(
  client: MemcloudClient,
  flags: RunFlags & GlobalFlags,
  swap: ScopedSwap,
  oomScore: number,
): Promise<number> {
  restoreAbandonedScopes();
  const cleanup = new Cleanup();
  try {
    const device = await startScopedSwap(client, swap, cleanup);
    const group = MemoryGroup.create(`memcloud-run-${process.pid}`, swap);
    cleanup.add('remove the control group', () => group.remove());
    const guard = startGuard(group.directory, swap, cleanup);
    const { memoryBytes, swapBytes } = swap;
    note(
      `memcloud: ${formatSize(memoryBytes)} of RAM and ${formatSize(swapBytes)} on ${device.device}`,
    );
    let peakBytes = 0;
    const run = { device, guard, before: swapCounters(), peakBytes: () => peakBytes };
    return await reportRun(flags.json, run, async () => {
      const exitCode = await runCommand(group.launcher(oomScore), flags['--'] ?? []);
      peakBytes = group.peakBytes();
      guard.stop();
      await group.remove();
      return exitCode;
    });
  } finally {
    await cleanup.run();
  }
}

function readSwap(flags: RunFlags): ScopedSwap {
  const words = flags['--'] ?? [];
  if (flags.scope === undefined && words.length === 0) {
    throw new MemcloudError('ERR_USAGE', 'run: expected a command after --, or --scope UNIT');
  }
  if (flags.scope !== undefined && words.length > 0) {
    throw new MemcloudError('ERR_USAGE', 'run: expected a command or --scope, got both');
  }
  const memoryBytes = parseSize(flags.memory);
  const swapBytes = parseSize(flags.swap);
  if (memoryBytes === 0 || swapBytes === 0) {
    throw new MemcloudError('ERR_USAGE', 'run: expected --memory and --swap of more than nothing');
  }
  const { reserve, copies, priority, via: way } = flags;
  const reserveBytes = reserve === undefined ? defaultReserveBytes() : parseSize(reserve);
  checkReserve(reserveBytes);
  return {
    way,
    memoryBytes,
    swapBytes,
    reserveBytes,
    copies,
    providers: [],
    priority,
    discard: true,
  };
}

async function run(flags: RunFlags & GlobalFlags): Promise<void> {
  const swap = readSwap(flags);
  requireRoot('run');
  requireMemoryController();
  const scope = flags.scope === undefined ? undefined : findScope(flags.scope);
  const kit = flags.kit === 'off' ? undefined : enterCommandKit('; --kit off is quiet');
  const exitCode = await withDaemon(flags, (client) =>
    scope === undefined
      ? runWords(client, flags, swap, kit?.originalOomScore ?? 0)
      : holdScope(client, flags.json, scope, swap),
  );
  process.exitCode = exitCode;
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  command<RunFlags>({
    command: 'run',
    describe: 'run a command whose memory overflows into the pool',
    builder: (argv) =>
      argv
        .usage(
          '$0 run --memory 4G --swap 16G -- COMMAND [ARGUMENT]...\n' +
            '$0 run --memory 4G --swap 16G --scope UNIT|CGROUP\n\n' +
            'The command, or what runs in the unit, gets --memory of RAM; what does not fit goes to' +
            ' the pool. With --scope it lasts until Ctrl-C or SIGTERM.',
        )
        .option('memory', { type: 'string', demandOption: true, describe: 'RAM for it' })
        .option('swap', { type: 'string', demandOption: true, describe: 'room in the pool' })
        .option('scope', {
          type: 'string',
          describe: 'limit a running systemd unit or control group instead of running a command',
        })
        .option('copies', { type: 'number', describe: 'providers that keep each page' })
        .option('reserve', {
          type: 'string',
          describe: 'memory of the machine that stays free (default: 3 %, at least 48M)',
        })
        .option('priority', {
          type: 'number',
          default: SCOPED_PRIORITY,
          describe: 'of the swap area',
        })
        .option('via', {
          choices: SCOPED_WAYS,
          default: 'auto' as const,
          describe: 'nbd, or loop: a loop device over a file on the pool, for kernels without nbd',
        })
        .option('kit', {
          choices: ['auto', 'off'] as const,
          default: 'auto' as const,
          describe:
            'protect this command from the memory shortage that it manages, as far as it may',
        })
        .example('$0 run --memory 4G --swap 16G -- make -j8', 'build with 4 GiB here, 16 there')
        .example('$0 run --memory 2G --swap 8G --scope nightly.service', 'a running unit'),
    handler: run,
  }),
];
