/**
 * `memcloud run`: more memory than the machine has, for one command or for one running unit. What is
 * limited runs in a control group with `--memory` bytes of RAM; what does not fit goes to the pool.
 * Nothing else on the machine is pushed out, and the reserve guard keeps free memory above a floor:
 * that is what keeps the daemon able to serve (docs/architecture.md, "Not freezing").
 */
import { spawn } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { CGROUP_ROOT, hasMemoryController } from '../../common/control-group.ts';
import { ExitCode, MemcloudError } from '../../common/errors.ts';
import { enterKit, withoutIoFlusher, type Kit } from '../../common/kit.ts';
import { formatSize, parseSize } from '../../common/units.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { note, type GlobalFlags } from '../output.ts';
import { Cleanup } from '../system/cleanup.ts';
import { requireRoot } from '../system/root.ts';
import { MemoryGroup } from '../system/memory-group.ts';
import { ReserveGuard, defaultReserveBytes } from '../system/reserve-guard.ts';
import { ScopedGroup, checkScope, findScope } from '../system/scope.ts';
import { swapCounters } from '../system/swap-counters.ts';
import { returnProblem, swapOff, swapOn } from '../system/swap-device.ts';
import { afterTrim, describeRun, type RunSummary } from './run-summary.ts';

const ATTACH_TIMEOUT_MS = 120_000;
const ENDING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** What `memory.min` asks for: this program is small. */
const MEMORY_MIN_BYTES = 96 * 2 ** 20;

interface RunFlags {
  memory: string;
  swap: string;
  copies: number | undefined;
  priority: number;
  scope: string | undefined;
  reserve: string | undefined;
  kit: 'auto' | 'off';
  '--'?: string[];
}

/** Sizes of a run, bytes. */
interface Sizes {
  readonly memoryBytes: number;
  readonly swapBytes: number;
  readonly reserveBytes: number;
}

/** Makes a volume and swaps onto it. @returns the device */
async function poolSwap(
  client: MemcloudClient,
  name: string,
  flags: RunFlags,
  sizes: Sizes,
  cleanup: Cleanup,
): Promise<string> {
  const copies = flags.copies === undefined ? {} : { copies: flags.copies };
  await client.call('volume.create', { name, sizeBytes: sizes.swapBytes, ...copies });
  cleanup.add('remove the volume', () => client.call('volume.remove', { name, force: true }));
  const timeoutMs = ATTACH_TIMEOUT_MS;
  const { device } = await client.call('nbd.attach', { name }, { timeoutMs });
  cleanup.add(`detach ${device}`, () => client.call('nbd.detach', { device }, { timeoutMs }));
  await swapOn(device, flags.priority);
  cleanup.add(`swap off ${device}`, () => swapOff(device));
  return device;
}

function startGuard(directory: string, sizes: Sizes, cleanup: Cleanup): ReserveGuard {
  const { memoryBytes, reserveBytes } = sizes;
  const guard = new ReserveGuard({ directory, reserveBytes, maximumBytes: memoryBytes });
  guard.start();
  cleanup.add('end the reserve guard', () => guard.stop());
  return guard;
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

/** Measures `work` and says what it did. */
async function report(
  client: MemcloudClient,
  flags: RunFlags & GlobalFlags,
  run: {
    name: string;
    device: string;
    guard: ReserveGuard;
    before: ReturnType<typeof swapCounters>;
    peakBytes: () => number;
  },
  work: () => Promise<number>,
): Promise<number> {
  const { before } = run;
  const exitCode = await work();
  const after = swapCounters();
  const summary: RunSummary = {
    exitCode,
    device: run.device,
    pagesOut: after.pagesOut - before.pagesOut,
    pagesIn: after.pagesIn - before.pagesIn,
    ...(await afterTrim(client, run.name)),
    peakBytes: run.peakBytes(),
    guard: run.guard.report,
  };
  note(flags.json ? JSON.stringify(summary) : describeRun(summary));
  return exitCode;
}

async function runWords(
  client: MemcloudClient,
  flags: RunFlags & GlobalFlags,
  sizes: Sizes,
  oomScore: number,
): Promise<number> {
  const name = `run-${process.pid}`;
  const cleanup = new Cleanup();
  try {
    const device = await poolSwap(client, name, flags, sizes, cleanup);
    const group = MemoryGroup.create(`memcloud-${name}`, sizes);
    cleanup.add('remove the control group', () => group.remove());
    const guard = startGuard(group.directory, sizes, cleanup);
    const { memoryBytes, swapBytes } = sizes;
    note(`memcloud: ${formatSize(memoryBytes)} of RAM and ${formatSize(swapBytes)} on ${device}`);
    let peakBytes = 0;
    return await report(
      client,
      flags,
      { name, device, guard, before: swapCounters(), peakBytes: () => peakBytes },
      async () => {
        const exitCode = await runCommand(group.launcher(oomScore), flags['--'] ?? []);
        peakBytes = group.peakBytes();
        guard.stop();
        await group.remove();
        return exitCode;
      },
    );
  } finally {
    await cleanup.run();
  }
}

/** Aborted by the signals that end a scope; a second one does nothing, the end is on its way. */
function endingSignal(): AbortSignal {
  const ending = new AbortController();
  for (const signal of ENDING_SIGNALS) process.on(signal, () => ending.abort());
  return ending.signal;
}

async function runScope(
  client: MemcloudClient,
  flags: RunFlags & GlobalFlags,
  sizes: Sizes,
  scope: string,
): Promise<number> {
  checkScope(scope, (await client.call('status', {})).pid);
  const ending = endingSignal();
  const group = new ScopedGroup(path.join(CGROUP_ROOT, scope));
  const name = `run-${process.pid}`;
  const cleanup = new Cleanup();
  try {
    const device = await poolSwap(client, name, flags, sizes, cleanup);
    cleanup.add(`restore the limits of ${scope}`, () => group.restore());
    const before = swapCounters();
    await group.limit(sizes, ending);
    const guard = startGuard(group.directory, sizes, cleanup);
    const { memoryBytes, swapBytes } = sizes;
    note(
      `memcloud: ${scope} has ${formatSize(memoryBytes)} of RAM and ${formatSize(swapBytes)} on ` +
        `${device} until Ctrl-C`,
    );
    const run = { name, device, guard, before, peakBytes: () => group.peakBytes };
    return await report(client, flags, run, async () => {
      await new Promise<void>((resolve) => {
        guard.onGone = resolve;
        if (ending.aborted) resolve();
        else ending.addEventListener('abort', () => resolve(), { once: true });
      });
      if (!group.exists) note(`memcloud: ${scope} has ended`);
      const problem = returnProblem(device, sizes.reserveBytes);
      if (problem === undefined) return ExitCode.OK;
      guard.stop();
      cleanup.abandon();
      throw new MemcloudError(
        'ERR_SWAP_UNSAFE',
        [
          `${problem}. The limits of ${scope} and the swap on ${device} stay. When there is room:`,
          ...group.restoreCommands.map((line) => `  ${line}`),
          `  memcloud swap off ${device}`,
        ].join('\n'),
      );
    });
  } finally {
    await cleanup.run();
  }
}

function readSizes(flags: RunFlags): Sizes {
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
  const reserveBytes =
    flags.reserve === undefined ? defaultReserveBytes() : parseSize(flags.reserve);
  if (reserveBytes >= os.totalmem()) {
    const got = `${formatSize(reserveBytes)} of ${formatSize(os.totalmem())}`;
    throw new MemcloudError(
      'ERR_USAGE',
      `--reserve: expected less than the machine has, got ${got}`,
    );
  }
  return { memoryBytes, swapBytes, reserveBytes };
}

/** Says which protections this command could not get: with them, a shortage finds it still running. */
function noteMissing(kit: Kit): void {
  const missing = kit.parts.filter(({ active, optional }) => !active && !optional);
  if (missing.length === 0) return;
  note(
    `memcloud: this command lacks ${missing.map(({ part }) => part).join(', ')}; --kit off is quiet`,
  );
}

async function run(flags: RunFlags & GlobalFlags): Promise<void> {
  const sizes = readSizes(flags);
  requireRoot('run');
  if (!hasMemoryController()) {
    throw new MemcloudError(
      'ERR_UNSUPPORTED',
      `no memory controller in ${CGROUP_ROOT}; mount cgroup2 there and boot without cgroup_disable=memory`,
    );
  }
  const scope = flags.scope === undefined ? undefined : findScope(flags.scope);
  const realtimePriority = 0;
  const kit: Kit | undefined =
    flags.kit === 'off'
      ? undefined
      : enterKit({ memoryMinBytes: MEMORY_MIN_BYTES, realtimePriority });
  if (kit !== undefined) noteMissing(kit);
  const exitCode = await withDaemon(flags, (client) =>
    scope === undefined
      ? runWords(client, flags, sizes, kit?.originalOomScore ?? 0)
      : runScope(client, flags, sizes, scope),
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
        .option('priority', { type: 'number', default: 100, describe: 'of the swap area' })
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
