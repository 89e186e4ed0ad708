/**
 * Swap for the whole machine on memory of a control plane: a guest without a friend in the world but the
 * control node leases from two providers, which its kernel then reaches by itself. While programs swap the
 * control node is killed and comes back: the lease has not ended, so nothing happens to the swap. Then the swap
 * is taken away, and with it the leases.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { PoolSwap } from '../../cli/pool-swaps.ts';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { bootGuest, runOk, skipWithoutGuest } from '../helpers/guest.ts';
import { eventually } from '../helpers/lab-node.ts';
import { ManagedLab, leasesOf } from '../helpers/managed-lab.ts';
import {
  HOG_PROGRAM,
  Hogs,
  SoakGuest,
  buildHog,
  skipWithoutCompiler,
} from '../helpers/soak/soak-guest.ts';

const MEMORY_MIB = 512;
const HOG_COUNT = 2;
const HOG_MIB = 215;
const SECONDS = 60;
/** The guest reaches the host's own addresses, but not its loopback ones, by the names that they have there. */
const HOST = '10.213.77.1';

/** Gives this machine an address that nodes here and in the guest mean the same by. */
function hostAddress(t: Test): void {
  const change = (verb: string): void =>
    void execFileSync('ip', ['address', verb, `${HOST}/32`, 'dev', 'lo']);
  // A test that was killed left it.
  change('replace');
  t.teardown(() => change('del'));
}

t.test(
  'swap on --managed, through the death of the control node',
  {
    skip: skipWithoutGuest() || skipWithoutCompiler() || (process.getuid?.() !== 0 && 'needs root'),
    timeout: 900_000,
  },
  async (t) => {
    hostAddress(t);
    const listen = `${HOST}:0`;
    const lab = await ManagedLab.start(t, {
      clients: [],
      offer: '1G',
      node: (name) => ({ listen, host: name }),
      control: { listen },
    });
    const guest = await bootGuest(t, {
      timeoutMs: 880_000,
      memoryMib: MEMORY_MIB,
      files: { [HOG_PROGRAM]: { hostPath: buildHog(t) } },
      hungTaskTimeoutS: 60,
      modules: ['nbd nbds_max=4', 'tls', 'chacha20poly1305', 'xts', 'dm-crypt', 'raid1'],
      programs: ['mdadm'],
    });
    const soak = new SoakGuest(t, guest);
    await soak.startMemnode([], lab.control.memberFlags.join(' '));
    const { nodeId } = JSON.parse((await soak.memcloud('status --json')).stdout) as StatusInfo;
    await lab.control.addMember(nodeId, ['client']);
    await eventually(
      'the guest is a client',
      async () => {
        const { managed } = JSON.parse((await soak.memcloud('status --json')).stdout) as StatusInfo;
        return managed?.connected === true && managed.roles.includes('client');
      },
      60_000,
    );

    const { stdout } = await soak.memcloud('swap on 640M --managed --copies 2 --json');
    const { path: way, health, managed, providers } = JSON.parse(stdout) as PoolSwap;
    t.strictSame(
      { way, health, managed, providers: [...providers].sort() },
      { way: 'direct', health: 'ok', managed: true, providers: ['alpha', 'beta'] },
    );
    t.equal((await leasesOf(lab.control)).length, 2);

    const canary = randomBytes(32);
    const hogs = await Hogs.start(t, guest, {
      ...{ count: HOG_COUNT, mebibytes: HOG_MIB, seconds: SECONDS, canary },
    });
    await delay(SECONDS * 300);
    await lab.control.end('SIGKILL');
    await delay(SECONDS * 300);
    await (await lab.addControl(t, { name: 'control' })).waitForLeader();
    const results = await hogs.end();
    t.equal(results.length, HOG_COUNT);
    for (const { checked, wrong } of results) t.equal(wrong, 0, `of ${checked} words`);
    const { pagesOut, pagesIn } = await soak.swapCounters();
    t.ok(pagesOut > 5_000 && pagesIn > 2_000, `${pagesOut} pages out, ${pagesIn} in`);
    t.notMatch(guest.kernelLog, /blocked for more than|Out of memory|oom-kill|Kernel panic/);
    await eventually(
      'the control node that came back knows the leases',
      async () => (await leasesOf(lab.control)).every(({ state }) => state === 'active'),
      30_000,
    );

    await soak.memcloud('swap off --json');
    await eventually(
      'the leases are given back',
      async () => (await leasesOf(lab.control)).length === 0,
      30_000,
    );
    await runOk(t, guest, '! grep -q ^/dev /proc/swaps');
    await t.resolves(soak.powerOff(), 'the machine powers off by itself');
  },
);
