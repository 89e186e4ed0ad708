/**
 * `memcloud demo`: the main job on one machine. Two providers and a consumer, three processes with
 * three identities, a volume that is written, verified, robbed of a provider and verified again,
 * and then the real thing: a Linux kernel that swaps onto the providers' RAM.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline/promises';
import { ExitCode, MemcloudError, asMemcloudError } from '../../common/errors.ts';
import type { ProviderUsage } from '../../common/ports.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { command, type Command } from '../command.ts';
import { DiskCheck } from '../demo/disk-check.ts';
import { NodeProcess } from '../demo/node-process.ts';
import { StepList, type StepResult } from '../demo/step-list.ts';
import { swapHere, swapInGuest } from '../demo/swap-check.ts';
import { note, printData, table, type GlobalFlags } from '../output.ts';
import { hasMemoryController } from '../../common/control-group.ts';
import { kernelModule } from '../system/kernel-modules.ts';

const DISK_SIZE_BYTES = 256 * 2 ** 20;
const VOLUME = 'demo';
const GIVE_BACK_TIMEOUT_MS = 10_000;
const PEERS_TIMEOUT_MS = 10_000;
const SWAP_STEP = 'swap onto the providers, by a real kernel';

interface DemoFlags {
  quick: boolean;
  yes: boolean;
  install: boolean;
}

/** The nodes of the demo. */
interface Lab {
  readonly folder: string;
  readonly providers: NodeProcess[];
  /** Aborted when the user has had enough. */
  readonly signal: AbortSignal;
  consumer: NodeProcess | undefined;
}

async function until(
  lab: Lab,
  what: string,
  timeoutMs: number,
  check: () => Promise<boolean>,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await check())) {
    if (lab.signal.aborted) throw new MemcloudError('ERR_CANCELLED', 'interrupted');
    if (performance.now() > endMs) {
      throw new MemcloudError('ERR_TIMEOUT', `${what}: not within ${formatDuration(timeoutMs)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function consumerOf(lab: Lab): NodeProcess {
  if (lab.consumer === undefined) throw new MemcloudError('ERR_INTERNAL', 'there is no consumer');
  return lab.consumer;
}

function usageOf(node: NodeProcess): Promise<ProviderUsage> {
  return node.use(async (client) => (await client.call('status', {})).provider.usage);
}

async function startNodes(lab: Lab): Promise<string> {
  const { folder } = lab;
  for (const name of ['provider-a', 'provider-b']) {
    lab.providers.push(await NodeProcess.start({ name, folder, offer: '1G' }));
  }
  const connect = lab.providers.map(({ peerAddress }) => peerAddress);
  const consumer = await NodeProcess.start({ name: 'consumer', folder, offer: '0', connect });
  lab.consumer = consumer;
  await until(lab, 'both providers up', PEERS_TIMEOUT_MS, async () => {
    const peers = await consumer.use((client) => client.call('peer.list', {}));
    return peers.filter(({ state }) => state === 'up').length === connect.length;
  });
  return `two providers (1 GiB each) and a consumer, ${connect.join(' and ')}`;
}

async function serveVolume(lab: Lab): Promise<DiskCheck> {
  const socket = path.join(lab.folder, 'nbd.sock');
  await consumerOf(lab).use(async (client) => {
    await client.call('volume.create', { name: VOLUME, sizeBytes: DISK_SIZE_BYTES, copies: 2 });
    await client.call('nbd.serve', { name: VOLUME, unixPath: socket });
  });
  return DiskCheck.open(socket, VOLUME);
}

async function giveBack(lab: Lab, disk: DiskCheck): Promise<string> {
  const survivor = lab.providers[0];
  if (survivor === undefined) throw new MemcloudError('ERR_INTERNAL', 'there is no provider');
  const before = await usageOf(survivor);
  await disk.trim(DISK_SIZE_BYTES);
  await until(lab, 'RAM given back', GIVE_BACK_TIMEOUT_MS, async () => {
    return (await usageOf(survivor)).usedBytes === 0;
  });
  return `${formatSize(before.usedBytes)} before, 0 B after`;
}

/** Removes the volume, if it was made and the consumer still lives. */
async function removeVolume(lab: Lab): Promise<void> {
  try {
    await consumerOf(lab).use((client) =>
      client.call('volume.remove', { name: VOLUME, force: true }),
    );
  } catch (error) {
    if (!lab.signal.aborted)
      note(`  the volume was not removed: ${asMemcloudError(error).message}`);
  }
}

async function showDisk(lab: Lab, steps: StepList): Promise<void> {
  let disk: DiskCheck | undefined;
  const open = (): DiskCheck => {
    if (disk === undefined) throw new MemcloudError('ERR_INTERNAL', 'there is no disk');
    return disk;
  };
  try {
    const size = formatSize(DISK_SIZE_BYTES);
    const written = await steps.run(
      `write ${size} over NBD, sealed, to two providers`,
      async () => {
        disk = await serveVolume(lab);
        return disk.write(DISK_SIZE_BYTES);
      },
    );
    if (!written) return;
    await steps.run('read it back', () => open().verify(DISK_SIZE_BYTES));
    await steps.run('kill -9 one provider and read it back again', async () => {
      await lab.providers[1]?.kill();
      return open().verify(DISK_SIZE_BYTES);
    });
    await steps.run('trim: the other provider gets its RAM back', () => giveBack(lab, open()));
  } finally {
    await disk?.close();
    await removeVolume(lab);
  }
}

/** A fresh provider for the dead one; it removes what the dead one left in RAM. */
async function replaceProvider(lab: Lab): Promise<string> {
  const { folder } = lab;
  const fresh = await NodeProcess.start({ name: 'provider-c', folder, offer: '1G' });
  lab.providers[1] = fresh;
  const address = fresh.peerAddress;
  await consumerOf(lab).use((client) => client.call('peer.connect', { address }));
  return `provider-c at ${address}`;
}

async function mayUseHost(flags: DemoFlags): Promise<boolean> {
  if (flags.yes) return true;
  if (!process.stdin.isTTY) return false;
  const prompt = readline.createInterface({ input: process.stdin, output: process.stderr });
  const answer = await prompt.question('This kernel has nbd. Swap on this very machine? [y/N] ');
  prompt.close();
  return /^y(es)?$/i.test(answer.trim());
}

async function showSwap(
  lab: Lab,
  steps: StepList,
  flags: DemoFlags,
  signal: AbortSignal,
): Promise<void> {
  if (flags.quick) {
    steps.skip(SWAP_STEP, '--quick');
    return;
  }
  const addresses = lab.providers.map(({ peerAddress }) => peerAddress);
  const root = process.geteuid?.() === 0;
  const possibleHere = root && kernelModule('nbd') !== 'absent' && hasMemoryController();
  if (possibleHere && (await mayUseHost(flags))) {
    await steps.run(`${SWAP_STEP} (this one)`, () => swapHere(consumerOf(lab).socketPath));
    return;
  }
  await steps.run(`${SWAP_STEP} (Debian’s, in a guest)`, () =>
    swapInGuest(addresses, flags.install, signal),
  );
}

function render(results: StepResult[]): string {
  const rows = results.map(({ step, outcome, detail, ms }) => [
    outcome,
    ms === 0 ? '-' : formatDuration(ms),
    step,
    detail,
  ]);
  return table(['RESULT', 'TIME', 'STEP', 'SEEN'], rows);
}

function nodesOf(lab: Lab): NodeProcess[] {
  return lab.consumer === undefined ? lab.providers : [lab.consumer, ...lab.providers];
}

async function demo(flags: DemoFlags & GlobalFlags): Promise<void> {
  const abort = new AbortController();
  const steps = new StepList(abort.signal);
  const lab: Lab = {
    folder: fs.mkdtempSync(path.join(os.tmpdir(), 'memcloud-demo-')),
    providers: [],
    signal: abort.signal,
    consumer: undefined,
  };
  const interrupt = (): void => {
    const again = abort.signal.aborted;
    abort.abort();
    // What a step waits for fails once its node is gone, so that the step ends now.
    for (const node of nodesOf(lab)) void (again ? node.kill() : node.stop());
    if (!again) note('  interrupted: ending the nodes');
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  note('memcloud demo: remote RAM as a disk and as swap, on this one machine');
  try {
    const started = await steps.run('start three nodes, each with its own key', () =>
      startNodes(lab),
    );
    if (started) {
      await showDisk(lab, steps);
      await steps.run('put a fresh provider in its place', () => replaceProvider(lab));
    }
    if (started && !abort.signal.aborted) await showSwap(lab, steps, flags, abort.signal);
  } finally {
    await Promise.all(nodesOf(lab).map((node) => node.stop()));
    fs.rmSync(lab.folder, { recursive: true, force: true });
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
  note('');
  printData(flags, steps.results, render);
  if (!steps.allRight || abort.signal.aborted) process.exitCode = ExitCode.FAILURE;
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  command<DemoFlags>({
    command: 'demo',
    describe: 'show the main job: a disk and swap on other processes’ RAM, verified',
    builder: (argv) =>
      argv
        .option('quick', {
          type: 'boolean',
          default: false,
          describe: 'no guest: under 30 seconds',
        })
        .option('yes', {
          type: 'boolean',
          default: false,
          describe: 'swap on this machine unasked',
        })
        .option('install', {
          type: 'boolean',
          default: true,
          describe: 'apt-get install QEMU and the like when they are missing (root)',
        }),
    handler: (flags) => demo(flags),
  }),
];
