/**
 * `swap move` with swap in use: two programs in a guest, each with half of the memory that it needs,
 * swap to one provider, and are moved to another. Every word must be right before and after, and the
 * first provider must hold nothing any more. Meanwhile one of them stands still with its pages out,
 * and one goes on: two that page without end leave an emulated machine no time for the command.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import type { PoolSwap } from '../../cli/pool-swaps.ts';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { bootGuest, runOk, skipWithoutGuest } from '../helpers/guest.ts';
import { LabNode, labFolder, memcloudJson } from '../helpers/lab-node.ts';
import {
  HOG_PROGRAM,
  Hogs,
  SoakGuest,
  buildHog,
  skipWithoutCompiler,
} from '../helpers/soak/soak-guest.ts';

const SWAP = '384M';
const HOG_COUNT = 2;
const HOG_MIB = 56;
const HOG_LIMIT = '28M';
const SECONDS = 75;
/** When both have filled their memory. */
const MOVE_AFTER_MS = 20_000;
/** Every page is read back by an emulated processor, maybe beside others. */
const MOVE_TIMEOUT_MS = 400_000;

t.test(
  'swap in use moves from one provider to another under the programs that use it',
  { skip: skipWithoutGuest() || skipWithoutCompiler(), timeout: 1_200_000 },
  async (t) => {
    const folder = labFolder(t);
    const names = ['provider-a', 'provider-b'];
    const providers = await Promise.all(
      names.map((name) => LabNode.start(t, { name, folder, offer: '2G' })),
    );
    const held = async (index: number): Promise<StatusInfo> =>
      memcloudJson<StatusInfo>(t, providers[index]?.socketPath ?? '', 'status');
    const guest = await bootGuest(t, {
      timeoutMs: 1_100_000,
      memoryMib: 640,
      files: { [HOG_PROGRAM]: { hostPath: buildHog(t) } },
      hungTaskTimeoutS: 60,
      modules: ['nbd nbds_max=4', 'tls', 'chacha20poly1305', 'xts', 'dm-crypt', 'raid1'],
      programs: ['mdadm'],
    });
    const soak = new SoakGuest(t, guest);
    await soak.startMemnode(providers.map(({ peerAddress }) => peerAddress));
    await soak.memcloud(`swap on ${SWAP} --copies 1 --provider provider-a`);
    const hogs = await Hogs.start(t, guest, {
      count: HOG_COUNT,
      mebibytes: HOG_MIB,
      seconds: SECONDS,
      canary: randomBytes(32),
      memoryMax: HOG_LIMIT,
    });
    await delay(MOVE_AFTER_MS);
    const before = await held(0);
    t.match(before.directExports, [{ connected: true }]);
    const heldBytes = before.directExports[0]?.residentBytes ?? 0;
    t.ok(heldBytes > 20 * 2 ** 20, `the first provider holds ${heldBytes} bytes`);

    await runOk(t, guest, `set -- $(busybox pidof hog); kill -STOP $1`);
    const startMs = performance.now();
    const { stdout, stderr } = await soak.memcloud(
      'swap move --provider provider-b --json',
      MOVE_TIMEOUT_MS,
    );
    t.comment(`moved in ${Math.round(performance.now() - startMs)} ms: ${stderr.trim()}`);
    const moved = JSON.parse(stdout) as PoolSwap;
    t.same(moved.providers, ['provider-b']);
    const swaps = JSON.parse((await soak.memcloud('swap ls --json')).stdout) as PoolSwap[];
    t.equal(swaps.length, 1, 'the old area is off');

    const after = await held(0);
    t.same(after.directExports, [], 'its export is gone');
    t.equal(after.provider.usage.usedBytes, 0);
    t.equal(after.provider.usage.residentBytes, 0, 'and wiped');
    t.match((await held(1)).directExports, [{ connected: true }]);

    await runOk(t, guest, 'kill -CONT $(busybox pidof hog) || true');
    const results = await hogs.end();
    t.equal(results.length, HOG_COUNT);
    for (const { checked, wrong } of results) t.equal(wrong, 0, `of ${checked} words`);
    t.notMatch(guest.kernelLog, /blocked for more than|Out of memory|oom-kill|Kernel panic/);
    await soak.memcloud('swap off');
    t.equal((await held(1)).provider.usage.usedBytes, 0);
    await runOk(t, guest, 'cat /proc/swaps');
    await t.resolves(soak.powerOff(), 'the machine powers off by itself');
  },
);
