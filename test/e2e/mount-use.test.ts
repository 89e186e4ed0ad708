/**
 * A mount on the pool under what people do and what goes wrong meanwhile: the POSIX suite and the recipes,
 * sixteen processes at once, a lender that dies while git clones, the daemon killed at any moment.
 *
 * `KILL_ROUNDS=n` kills the daemon more often, `CLONE_FILES=n` clones more files.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { MOUNT, tryUnmount } from '../../common/libc.ts';
import { mountAt, readMountTable } from '../../common/mount-table.ts';
import type { MountInfo, StatusInfo } from '../../common/rpc-schema.ts';
import { fuseMissing } from '../helpers/fuse-mount/start.ts';
import { judge, requires } from '../helpers/judges.ts';
import {
  LabNode,
  type LabNodeOptions,
  eventually,
  eventuallyHealthy,
  labFolder,
  memcloud,
  memcloudJson,
} from '../helpers/lab-node.ts';
import { dropCaches } from '../helpers/mount-process.ts';
import { runRecipes } from '../helpers/recipes.ts';
import { smallTmpfs, tmpfsBase } from '../helpers/tmpfs.ts';
import { modelSeed, runModel } from '../posix/run-model.ts';
import { runPosixSuite } from '../posix/run-suite.ts';

const SKIP = { skip: fuseMissing() ?? false };
const KILL_ROUNDS = Number(process.env['KILL_ROUNDS'] ?? 3);
const CLONE_FILES = Number(process.env['CLONE_FILES'] ?? 10_000);

interface Pool {
  folder: string;
  lenders: LabNode[];
  borrower: LabNode;
  startBorrower: () => Promise<LabNode>;
  place: string;
}

/**
 * Lenders, a borrower, and a directory to mount on.
 *
 * @param more - how the borrower differs from any
 */
async function startPool(
  t: Test,
  lenderCount: number,
  offer: string,
  more: Partial<LabNodeOptions> = {},
): Promise<Pool> {
  const folder = labFolder(t);
  fs.chmodSync(folder, 0o755);
  const lenders = await Promise.all(
    ['alpha', 'beta', 'gamma']
      .slice(0, lenderCount)
      .map((name) => LabNode.start(t, { name, folder, offer })),
  );
  const connect = lenders.map(({ peerAddress }) => peerAddress);
  const startBorrower = async (): Promise<LabNode> => {
    const node = await LabNode.start(t, { name: 'borrower', folder, connect, ...more });
    await node.waitForPeers(lenderCount);
    return node;
  };
  const place = path.join(folder, 'files');
  fs.mkdirSync(place);
  t.teardown(() => void tryUnmount(place, MOUNT.MNT_DETACH));
  return { folder, lenders, borrower: await startBorrower(), startBorrower, place };
}

async function mount(t: Test, { borrower, place }: Pool, ...words: string[]): Promise<MountInfo> {
  return memcloudJson<MountInfo>(t, borrower.socketPath, 'mount', place, '--copies', '2', ...words);
}

t.test(
  'the POSIX suite, random operations and the recipes on the pool',
  { ...SKIP, timeout: 900_000 },
  async (t) => {
    const pool = await startPool(t, 2, '640M');
    await mount(t, pool, '--size', '512M');
    const directory = path.join(pool.place, 'suite');
    fs.mkdirSync(directory);

    await t.test('the POSIX suite', { timeout: 600_000 }, async (t) => {
      await runPosixSuite(t, { directory, large: false });
    });

    await t.test(
      'sixteen processes at once agree with tmpfs',
      { timeout: 4_000_000 },
      async (t) => {
        const oracle = smallTmpfs(t, 2 ** 30) ?? tmpfsBase(t);
        const judged = path.join(pool.place, 'model');
        fs.mkdirSync(judged);
        await runModel(t, { oracle, judged, attributes: true }, 16);
        fs.rmSync(judged, { recursive: true, force: true });
      },
    );

    await t.test('the recipes', { timeout: 900_000 }, async (t) => {
      const judged = path.join(pool.place, 'recipes');
      fs.mkdirSync(judged);
      await runRecipes(t, judged, tmpfsBase(t));
    });

    const status = await memcloudJson<StatusInfo>(t, pool.borrower.socketPath, 'status');
    const sound = { directory: pool.place, state: 'mounted', damagedFileCount: 0 };
    t.match(status, { mounts: [sound] });
    await eventuallyHealthy(pool.borrower);
    t.match(await memcloud(pool.borrower.socketPath, 'umount', pool.place), { code: 0 });
  },
);

/** A repository of many small files, made in one go by fast-import. */
async function makeRepository(directory: string, fileCount: number): Promise<void> {
  const words = ['commit refs/heads/main', 'committer n <n@n> 1700000000 +0000', 'data 1', 'x'];
  for (let i = 0; i < fileCount; i += 1) {
    const text = `file ${i}\n${'line of text\n'.repeat(i % 50)}`;
    words.push(`M 100644 inline d${i % 97}/e${i % 11}/file${i}`, `data ${text.length}`, text);
  }
  await judge('git', ['init', '-q', '-b', 'main', directory]);
  const made = await judge('git', ['-C', directory, 'fast-import', '--quiet'], {
    input: `${words.join('\n')}\n`,
    timeoutMs: 120_000,
  });
  if (made.code !== 0) throw new Error(made.stderr);
}

function countFiles(directory: string): number {
  try {
    return fs.readdirSync(directory).length;
  } catch {
    return 0;
  }
}

t.test(
  'a lender dies while git clones: nothing is lost, fsck is clean',
  { skip: SKIP.skip || requires('git').skip, timeout: 900_000 },
  async (t) => {
    const pool = await startPool(t, 3, '256M');
    await mount(t, pool, '--size', '256M');
    const source = path.join(pool.folder, 'source');
    await makeRepository(source, CLONE_FILES);
    const clone = path.join(pool.place, 'clone');
    const cloning = judge('git', ['clone', '-q', '--no-local', source, clone], {
      timeoutMs: 600_000,
    });
    let isOver = false;
    void cloning.then(() => (isOver = true));
    // In the midst of the files: git makes the directories as it goes.
    await eventually('it has begun to write files', () => isOver || countFiles(clone) > 20);
    t.notOk(isOver, 'the clone is under way');
    await pool.lenders[1]?.end('SIGKILL');
    const cloned = await cloning;
    t.equal(cloned.code, 0, `clone: ${cloned.stderr}`);
    const fsck = await judge('git', ['-C', clone, 'fsck', '--full', '--strict'], {
      timeoutMs: 300_000,
    });
    t.equal(fsck.code, 0, `fsck: ${fsck.stdout} ${fsck.stderr}`);
    const status = await judge('git', ['-C', clone, 'status', '--porcelain'], {
      timeoutMs: 300_000,
    });
    t.same([status.code, status.stdout], [0, ''], 'every file is as it was committed');
    const files = await judge('git', ['-C', clone, 'ls-files']);
    t.equal(files.stdout.trimEnd().split('\n').length, CLONE_FILES);
    // Once more without what the kernel holds of it: all bytes come from the lender that is left.
    await judge('sync', []);
    dropCaches();
    const compared = await judge(
      'sh',
      ['-c', `git -C "$1" read-tree --reset HEAD && git -C "$1" diff --quiet`, 'sh', clone],
      { timeoutMs: 300_000 },
    );
    t.equal(compared.code, 0, compared.stderr);
    t.match(await memcloud(pool.borrower.socketPath, 'umount', pool.place), { code: 0 });
  },
);

/** The state of a process: `D` for one that nobody can end, empty for none. */
function stateOf(pid: number): string {
  try {
    const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2, text.lastIndexOf(')') + 3);
  } catch {
    return '';
  }
}

/** Processes that write, read, list and remove in the mount until it is no more. */
function usersOf(t: Test, place: string): ChildProcess[] {
  const inside = path.join(place, 'inside');
  fs.mkdirSync(inside);
  const script = `
    while :; do
      i=0; while [ $i -lt 20 ]; do head -c 20000 /dev/urandom >"$1/$2-$i" || exit 1; i=$((i + 1)); done
      sync -f "$1" || exit 1; cat "$1/$2"-* >/dev/null || exit 1
      ls -l "$1" >/dev/null || exit 1; rm "$1/$2"-* || exit 1
    done`;
  return ['a', 'b', 'c', 'd'].map((name) => {
    const child = spawn('sh', ['-c', script, 'sh', inside, name], { stdio: 'ignore', cwd: '/' });
    t.teardown(() => void child.kill('SIGKILL'));
    return child;
  });
}

t.test(
  'the daemon is killed at any moment: nobody is stuck, nothing is left, the next mount works',
  { ...SKIP, timeout: 900_000 },
  async (t) => {
    const seed = modelSeed();
    t.comment(`SEED=${seed}`);
    // Lenders keep what a killed borrower had until its leases end: soon, so that they have room for the next.
    const pool = await startPool(t, 2, '256M', { leaseTtlS: 10 });
    for (let round = 0; round < KILL_ROUNDS; round += 1) {
      const made = await mount(t, pool, '--size', '128M');
      const users = usersOf(t, pool.place);
      const waitMs = ((seed + round * 7919) % 1500) + 50;
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      // The daemon alone, or with the process that serves; both must be survived.
      if (round % 2 === 1) process.kill(made.pid, 'SIGKILL');
      await pool.borrower.end('SIGKILL');
      pool.borrower = await pool.startBorrower();
      await eventually(
        'the mount is gone',
        () => mountAt(readMountTable(), pool.place) === undefined,
      );
      await Promise.all(
        users.map(async (child) => {
          if (child.exitCode === null && child.signalCode === null) {
            child.kill('SIGKILL');
            await once(child, 'exit');
          }
        }),
      );
      for (const { pid } of users) t.not(stateOf(pid ?? 0), 'D', 'no user is stuck');
      await eventually('the process that served has ended', () => stateOf(made.pid) === '');
      t.same(fs.readdirSync(pool.place), [], `round ${round}, after ${waitMs} ms: nothing is left`);
    }
    await mount(t, pool, '--size', '128M');
    fs.writeFileSync(path.join(pool.place, 'again'), 'works');
    t.equal(fs.readFileSync(path.join(pool.place, 'again'), 'utf8'), 'works');
    t.match(await memcloud(pool.borrower.socketPath, 'umount', pool.place), { code: 0 });
  },
);
