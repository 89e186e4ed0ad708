/**
 * `memcloud run`: one command with more memory than the machine has. The command runs in a control
 * group with `--memory` bytes of RAM; what does not fit goes to the pool. Nothing else on the
 * machine is pushed out, which is what keeps the daemon able to serve (DESIGN D13, pool path).
 */
import { spawn } from 'node:child_process';
import os from 'node:os';
import { ExitCode, MemcloudError } from '../../common/errors.ts';
import { formatSize, parseSize } from '../../common/units.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { note, type GlobalFlags } from '../output.ts';
import { requireRoot } from '../system/root.ts';
import { MemoryGroup } from '../system/memory-group.ts';
import { swapCounters } from '../system/swap-counters.ts';
import { swapOff, swapOn } from '../system/swap-device.ts';

const ATTACH_TIMEOUT_MS = 120_000;
/** How long after its end a command's swap may take to be trimmed before we report. */
const TRIM_WAIT_MS = 20_000;
const TRIM_QUIET_MS = 1_000;
const TRIM_POLL_MS = 100;
const FORWARDED_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

interface RunFlags {
  memory: string;
  swap: string;
  copies: number | undefined;
  priority: number;
  '--'?: string[];
}

/** What is to be undone, last first. */
class Cleanup {
  readonly #steps: { what: string; undo: () => Promise<unknown> }[] = [];

  add(what: string, undo: () => Promise<unknown>): void {
    this.#steps.push({ what, undo });
  }

  async run(): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.undo();
      } catch (error) {
        note(`memcloud: cannot ${step.what}: ${error instanceof Error ? error.message : 'failed'}`);
      }
    }
  }
}

/** What a run did, as `--json` prints it on stderr after the command's own output. */
interface RunSummary {
  /** Of the command. */
  readonly exitCode: number;
  /** The swap device. */
  readonly device: string;
  /** Pages that the kernel swapped out and in meanwhile. */
  readonly pagesOut: number;
  readonly pagesIn: number;
  /** Pages that the kernel gave back when the command had ended. */
  readonly trimmedPages: number;
  /** Bytes of pages still kept then: whole 2 MiB clusters are trimmed, others stay until swap off. */
  readonly storedBytes: number;
  /** The most RAM of the command. */
  readonly peakBytes: number;
}

function describe(summary: RunSummary): string {
  const { exitCode, pagesOut, pagesIn, trimmedPages, storedBytes } = summary;
  return (
    `memcloud: exit code ${exitCode}, ${pagesOut} pages out, ${pagesIn} in, ` +
    `${trimmedPages} trimmed at the end, ${formatSize(storedBytes)} still kept`
  );
}

/** Waits until the kernel has trimmed what the command left in swap: until nothing came for a while. */
async function afterTrim(
  client: MemcloudClient,
  name: string,
): Promise<{ trimmedPages: number; storedBytes: number }> {
  const endMs = performance.now() + TRIM_WAIT_MS;
  let quietSinceMs = performance.now();
  for (let last = -1; ;) {
    const { counters, storedBytes } = await client.call('volume.inspect', { name });
    const trimmedPages = counters['trimmedPages'] ?? 0;
    const nowMs = performance.now();
    if (trimmedPages !== last) quietSinceMs = nowMs;
    if (nowMs - quietSinceMs > TRIM_QUIET_MS || nowMs > endMs) return { trimmedPages, storedBytes };
    last = trimmedPages;
    await new Promise((resolve) => setTimeout(resolve, TRIM_POLL_MS));
  }
}

/** Runs the command; resolves to its exit code, 128 + n for signal n. */
function runCommand(launcher: readonly string[], words: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const [program = '', ...args] = [...launcher, ...words];
    const child = spawn(program, args, { stdio: 'inherit' });
    const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
    for (const signal of FORWARDED_SIGNALS) process.on(signal, forward);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      for (const name of FORWARDED_SIGNALS) process.off(name, forward);
      resolve(code ?? 128 + (signal === null ? 0 : os.constants.signals[signal]));
    });
  });
}

async function run(client: MemcloudClient, flags: RunFlags & GlobalFlags): Promise<number> {
  const words = flags['--'] ?? [];
  const memoryBytes = parseSize(flags.memory);
  const swapBytes = parseSize(flags.swap);
  const name = `run-${process.pid}`;
  const cleanup = new Cleanup();
  try {
    const copies = flags.copies === undefined ? {} : { copies: flags.copies };
    await client.call('volume.create', { name, sizeBytes: swapBytes, ...copies });
    cleanup.add('remove the volume', () => client.call('volume.remove', { name, force: true }));
    const timeoutMs = ATTACH_TIMEOUT_MS;
    const { device } = await client.call('nbd.attach', { name }, { timeoutMs });
    cleanup.add(`detach ${device}`, () => client.call('nbd.detach', { device }, { timeoutMs }));
    await swapOn(device, flags.priority);
    cleanup.add(`swap off ${device}`, () => swapOff(device));
    const memoryGroup = MemoryGroup.create(`memcloud-${name}`, { memoryBytes, swapBytes });
    cleanup.add('remove the control group', () => memoryGroup.remove());
    note(`memcloud: ${formatSize(memoryBytes)} of RAM and ${formatSize(swapBytes)} on ${device}`);
    const before = swapCounters();
    const exitCode = await runCommand(memoryGroup.launcher, words);
    const after = swapCounters();
    const peakBytes = memoryGroup.peakBytes();
    await memoryGroup.remove();
    const { trimmedPages, storedBytes } = await afterTrim(client, name);
    const summary: RunSummary = {
      exitCode,
      device,
      pagesOut: after.pagesOut - before.pagesOut,
      pagesIn: after.pagesIn - before.pagesIn,
      trimmedPages,
      storedBytes,
      peakBytes,
    };
    note(flags.json ? JSON.stringify(summary) : describe(summary));
    return exitCode;
  } finally {
    await cleanup.run();
  }
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  command<RunFlags>({
    command: 'run',
    describe: 'run a command whose memory overflows into the pool',
    builder: (argv) =>
      argv
        .usage('$0 run --memory 4G --swap 16G -- COMMAND [ARGUMENT]...')
        .option('memory', { type: 'string', demandOption: true, describe: 'RAM for the command' })
        .option('swap', { type: 'string', demandOption: true, describe: 'room in the pool' })
        .option('copies', { type: 'number', describe: 'providers that keep each page' })
        .option('priority', { type: 'number', default: 100, describe: 'of the swap area' })
        .example('$0 run --memory 4G --swap 16G -- make -j8', 'build with 4 GiB here, 16 there'),
    handler: async (flags) => {
      if ((flags['--'] ?? []).length === 0) {
        throw new MemcloudError('ERR_USAGE', 'run: expected a command after --');
      }
      parseSize(flags.memory);
      parseSize(flags.swap);
      requireRoot('run');
      const exitCode = await withDaemon(flags, (client) => run(client, flags));
      process.exitCode = exitCode === 0 ? ExitCode.OK : exitCode;
    },
  }),
];
