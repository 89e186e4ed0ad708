/**
 * Swap for the whole machine over the direct path, under global memory pressure: no control group
 * limits anybody. A guest with 512 MiB runs programs that need half as much again; what they lack
 * is on two providers outside. Meanwhile the link is cut, the providers fall silent, the consumer's memnode is killed for good,
 * a provider is killed. `SOAK_SECONDS=600` gives each scenario of the long form its own ten minutes.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { PoolSwap } from '../../cli/pool-swaps.ts';
import type { Guest } from '../../cli/guest/guest.ts';
import { bootGuest, runOk, skipWithoutGuest } from '../helpers/guest.ts';
import { LabNode, labFolder } from '../helpers/lab-node.ts';
import { fileContains, memoryContains } from '../helpers/namespaces.ts';
import { Loopback, skipWithoutCapture } from '../helpers/soak/loopback.ts';
import {
  HOG_PROGRAM,
  SoakGuest,
  buildHog,
  Hogs,
  skipWithoutCompiler,
} from '../helpers/soak/soak-guest.ts';

const SOAK_S = Number(process.env['SOAK_SECONDS'] ?? 0);
const MEMORY_MIB = 512;
const SWAP = '1G';
const HOG_COUNT = 2;
/** Together half as much again as the guest has free. */
const HOG_MIB = 270;
/** A mirror costs an emulated processor more than twice as much: less, so that it ends in CI's time. */
const HOG_MIRRORED_MIB = 215;

/** Something that happens at a fraction of the soak. */
interface Blow {
  readonly name: string;
  readonly at: number;
  strike(scene: Scene): Promise<void>;
}

interface Scene {
  readonly t: Test;
  readonly guest: Guest;
  readonly soak: SoakGuest;
  readonly providers: readonly LabNode[];
}

/** From outside: a machine that has no memory left cannot run the command that plugs its cable in again. */
const CUT: Blow = {
  name: 'the link is cut for 10 s',
  at: 0.2,
  strike: async ({ guest }) => {
    await guest.plugCable(false);
    await delay(10_000);
    await guest.plugCable(true);
  },
};

const STANDSTILL: Blow = {
  name: 'the providers stand still for 10 s',
  at: 0.4,
  strike: async ({ providers }) => {
    for (const { child } of providers) child.kill('SIGSTOP');
    await delay(10_000);
    for (const { child } of providers) child.kill('SIGCONT');
  },
};

const KILL_MEMNODE: Blow = {
  name: "the consumer's memnode is killed for good",
  at: 0.6,
  strike: ({ soak }) => soak.killMemnode(),
};

const KILL_PROVIDER: Blow = {
  name: 'one of two providers is killed',
  at: 0.4,
  strike: async ({ providers }) => {
    await providers[0]?.end('SIGKILL');
  },
};

interface Scenario {
  readonly name: string;
  readonly seconds: number;
  readonly copies: 1 | 2;
  readonly mebibytes: number;
  readonly blows: readonly Blow[];
}

const ONE_COPY = { copies: 1, mebibytes: HOG_MIB } as const;
const TWO_COPIES = { copies: 2, mebibytes: HOG_MIRRORED_MIB } as const;

const SCENARIOS: readonly Scenario[] =
  SOAK_S > 0
    ? [
        { name: 'in peace', seconds: SOAK_S, ...ONE_COPY, blows: [] },
        { name: KILL_PROVIDER.name, seconds: SOAK_S, ...TWO_COPIES, blows: [KILL_PROVIDER] },
        { name: CUT.name, seconds: SOAK_S, ...ONE_COPY, blows: [CUT] },
        { name: STANDSTILL.name, seconds: SOAK_S, ...ONE_COPY, blows: [STANDSTILL] },
        { name: KILL_MEMNODE.name, seconds: SOAK_S, ...ONE_COPY, blows: [KILL_MEMNODE] },
      ]
    : [
        {
          name: 'no link, then silence, then no memnode',
          seconds: 120,
          ...ONE_COPY,
          blows: [CUT, STANDSTILL, KILL_MEMNODE],
        },
        { name: KILL_PROVIDER.name, seconds: 45, ...TWO_COPIES, blows: [KILL_PROVIDER] },
      ];

async function startProviders(t: Test): Promise<LabNode[]> {
  const folder = labFolder(t);
  const names = ['provider-a', 'provider-b'];
  return Promise.all(names.map((name) => LabNode.start(t, { name, folder, offer: '2G' })));
}

/** Nobody outside may have seen a page: not on the wire, not at a provider. */
async function lookForCanary(t: Test, scene: Scene, wire: Loopback, canary: Buffer): Promise<void> {
  const { file, sizeBytes } = await wire.stop();
  t.ok(sizeBytes > 2 ** 20, `the capture holds ${sizeBytes} bytes`);
  t.equal(fileContains(file, canary), false, 'no page on the wire');
  let heldBytes = 0;
  for (const provider of scene.providers) {
    const { pid, signalCode } = provider.child;
    if (pid === undefined || signalCode !== null) continue;
    t.equal(memoryContains(pid, canary), false, `not in the memory of ${provider.name}`);
    // Its memory file system is mounted where only its own mount namespace shows it.
    const directory = `/proc/${pid}/root${await provider.memoryDirectory()}`;
    const files = fs.readdirSync(directory).map((name) => path.join(directory, name));
    const blocks = files.reduce((sum, name) => sum + fs.statSync(name).blocks, 0);
    heldBytes += blocks * 512;
    for (const name of files) t.equal(fileContains(name, canary), false, `not in ${name}`);
  }
  t.ok(heldBytes > 2 ** 20, `providers hold ${heldBytes} bytes`);
}

for (const { name, seconds, copies, mebibytes, blows } of SCENARIOS) {
  t.test(
    `global memory pressure: ${name}`,
    {
      skip: skipWithoutGuest() || skipWithoutCapture() || skipWithoutCompiler(),
      timeout: (seconds + 600) * 1000,
    },
    async (t) => {
      const providers = await startProviders(t);
      const guest = await bootGuest(t, {
        timeoutMs: (seconds + 580) * 1000,
        memoryMib: MEMORY_MIB,
        files: { [HOG_PROGRAM]: { hostPath: buildHog(t) } },
        hungTaskTimeoutS: 60,
        modules: ['nbd nbds_max=4', 'tls', 'chacha20poly1305', 'xts', 'dm-crypt', 'raid1'],
        programs: ['mdadm'],
      });
      const soak = new SoakGuest(t, guest);
      await soak.startMemnode(providers.map(({ peerAddress }) => peerAddress));
      const { stdout } = await soak.memcloud(`swap on ${SWAP} --copies ${copies} --json`);
      const { path: way, health, providers: used } = JSON.parse(stdout) as PoolSwap;
      t.strictSame(
        { way, health, used: used.length },
        { way: 'direct', health: 'ok', used: copies },
      );

      const canary = randomBytes(32);
      const wire = await Loopback.capture(
        t,
        providers.map(({ peerAddress }) => peerAddress),
      );
      const scene: Scene = { t, guest, soak, providers };
      const hogs = await Hogs.start(t, guest, { count: HOG_COUNT, mebibytes, seconds, canary });
      const startMs = performance.now();
      for (const blow of blows) {
        await delay(Math.max(0, startMs + blow.at * seconds * 1000 - performance.now()));
        t.comment(blow.name);
        await blow.strike(scene);
      }
      const results = await hogs.end();
      t.equal(results.length, HOG_COUNT);
      for (const { checked, wrong } of results) t.equal(wrong, 0, `of ${checked} words`);
      const { pagesOut, pagesIn } = await soak.swapCounters();
      const pages = (HOG_COUNT * mebibytes * 2 ** 20) / 4096;
      t.ok(pagesOut > pages / 8 && pagesIn > pages / 16, `${pagesOut} pages out, ${pagesIn} in`);
      t.comment(`longest wait for a piece: ${Math.max(...results.map((r) => r.longestMs))} ms`);
      await lookForCanary(t, scene, wire, canary);

      t.notMatch(guest.kernelLog, /blocked for more than|Out of memory|oom-kill|Kernel panic/);
      await runOk(t, guest, 'swapoff -a', { timeoutMs: 120_000 });
      if (!blows.includes(KILL_MEMNODE)) {
        const swaps = await soak.memcloud('swap off --if-on --json');
        t.equal(swaps.exitCode, 0, 'what is left of the device is taken away');
      }
      await t.resolves(soak.powerOff(), 'the machine powers off by itself');
    },
  );
}
