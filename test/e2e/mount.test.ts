/**
 * `memcloud mount` as people have it: two lenders and a borrower as processes, the borrower's child serving
 * a real kernel. What is shown is the life of a mount: made, used, refused, and gone, whoever dies.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { MOUNT, tryUnmount } from '../../common/libc.ts';
import { mountAt, readMountTable } from '../../common/mount-table.ts';
import type { MountInfo, StatusInfo } from '../../common/rpc-schema.ts';
import { judge, patternBytes } from '../helpers/judges.ts';
import { fuseMissing } from '../helpers/fuse-mount/start.ts';
import {
  CLEAN_ENV,
  LabNode,
  eventually,
  eventuallyHealthy,
  labFolder,
  memcloud,
  memcloudJson,
} from '../helpers/lab-node.ts';

const MIB = 2 ** 20;

const SKIP = { skip: fuseMissing() ?? false };

interface Pool {
  folder: string;
  lenders: LabNode[];
  /** The one that runs now. */
  borrower: LabNode;
  /** Starts the borrower anew, after its end. */
  again(t: Test): Promise<LabNode>;
  /** A directory to mount on; unmounted whatever becomes of the test. */
  directory(t: Test, name: string): string;
}

async function startPool(t: Test): Promise<Pool> {
  const folder = labFolder(t);
  const lenders = await Promise.all(
    ['alpha', 'beta'].map((name) => LabNode.start(t, { name, folder, offer: '256M' })),
  );
  const connect = lenders.map(({ peerAddress }) => peerAddress);
  const again = async (t: Test): Promise<LabNode> => {
    // Where `mount` without a word mounts, made when it is not there.
    const env = { MEMCLOUD_MOUNT_DIRECTORY: path.join(folder, 'usual/place') };
    const node = await LabNode.start(t, { name: 'borrower', folder, connect, env });
    await node.waitForPeers(2);
    return node;
  };
  let directoryCount = 0;
  const directory = (t: Test, name: string): string => {
    directoryCount += 1;
    const place = path.join(folder, String(directoryCount), name);
    fs.mkdirSync(place, { recursive: true });
    t.teardown(() => void tryUnmount(place, MOUNT.MNT_DETACH));
    return place;
  };
  return { folder, lenders, borrower: await again(t), again, directory };
}

function isMounted(directory: string): boolean {
  return mountAt(readMountTable(), directory) !== undefined;
}

/** A shell that stands in a directory until the test ends it. */
async function standIn(t: Test, directory: string): Promise<ChildProcess> {
  const child = spawn('sh', ['-c', `cd "${directory}" && echo there && exec sleep 300`]);
  t.teardown(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

/** The state of a process: `D` for one that nobody can end. */
function stateOf(pid: number): string {
  const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2, text.lastIndexOf(')') + 3);
}

async function leased(lenders: readonly LabNode[]): Promise<number> {
  const bytes = await Promise.all(lenders.map((node) => node.usedBytes()));
  return bytes.reduce((sum, each) => sum + each, 0);
}

t.test('the life of a mount', { ...SKIP, timeout: 240_000 }, async (t) => {
  const pool = await startPool(t);

  t.test('a mount from the first word to the last, twice in a row', async (t) => {
    const place = pool.directory(t, 'files');
    const { socketPath } = pool.borrower;
    const bytes = patternBytes(20 * MIB, 7);
    for (let round = 0; round < 2; round += 1) {
      const made = await memcloud(socketPath, 'mount', place);
      t.equal(made.code, 0, made.stderr);
      t.match(
        made.stdout,
        /^Mounted 2\d\d MiB at .*\/files \(2 copies, volume files\)\. Its files are/,
      );
      t.match(made.stderr, /is what the pool can take now with 2 copies/);
      t.strictSame(fs.readdirSync(place), [], 'it begins empty');
      fs.writeFileSync(path.join(place, 'data'), bytes);
      fs.mkdirSync(path.join(place, 'a/b'), { recursive: true });
      fs.renameSync(path.join(place, 'data'), path.join(place, 'a/b/data'));
      t.ok(fs.readFileSync(path.join(place, 'a/b/data')).equals(bytes), 'what was written is read');
      const synced = fs.openSync(path.join(place, 'a/b/data'), 'r+');
      fs.fsyncSync(synced);
      fs.closeSync(synced);
      t.ok((await leased(pool.lenders)) >= 2 * bytes.length, 'the lenders have it, twice');
      const [row] = await memcloudJson<MountInfo[]>(t, socketPath, 'mount', 'ls');
      t.match(row, {
        directory: place,
        volume: 'files',
        state: 'mounted',
        copies: 2,
        inodeCount: 4,
      });
      t.ok((row?.usedBytes ?? 0) >= bytes.length);
      const df = await judge('df', ['-B1', '--output=size', place]);
      t.match(df.stdout, new RegExp(`\\b${row?.sizeBytes}\\b`), 'df has its size');
      const status = await memcloudJson<StatusInfo>(t, socketPath, 'status');
      t.match(status, { mounts: [{ directory: place, damagedFileCount: 0 }] });
      await eventuallyHealthy(pool.borrower);
      const gone = await memcloud(socketPath, 'umount', place);
      t.match(gone, { code: 0, stdout: /^Unmounted .* Its files are gone\.\n$/ });
      t.equal(isMounted(place), false);
      await eventually('the RAM is back', async () => (await leased(pool.lenders)) === 0);
    }
    t.match(await memcloud(socketPath, 'mount', 'ls'), { code: 0, stdout: /^No mounts/ });
  });

  t.test('what is refused, with what to do', async (t) => {
    const { socketPath } = pool.borrower;
    const place = pool.directory(t, 'files');
    fs.writeFileSync(path.join(pool.folder, 'plain'), '');
    fs.mkdirSync(path.join(pool.folder, 'y'));
    t.equal((await memcloud(socketPath, 'mount', place, '--size', '64M')).code, 0);
    for (const [words, code, sentence] of [
      [`mount ${pool.folder}/nowhere`, 2, /there is no such directory; make it first: mkdir -p/],
      [`mount ${pool.folder}/plain`, 2, /expected a directory/],
      [`mount ${place}`, 2, /fuse\.memcloud is mounted there already/],
      [`mount ${place}/inside`, 2, /it lies inside .*files/],
      [`mount ${pool.folder}`, 2, /memnode needs .*, which a mount there would hide/],
      [`mount ${pool.folder}/x --size much`, 2, /size/],
      [`mount ${pool.folder}/x --mode 9`, 2, /octal/],
      [`mount ${pool.folder}/x --size 1T`, 7, /the providers that are up have .* free/],
      [`mount ${pool.folder}/x --copies 3`, 7, /3 copies need providers on 3 machines/],
      [`mount ${pool.folder}/y --volume files`, 1, /volume files exists/],
      [`mount ${pool.folder}/x --provider nobody`, 6, /nobody/],
      [`volume create files --size 1M`, 1, /that of a mount/],
      [`umount ${pool.folder}`, 6, /is no mount of this memnode; there are: .*files/],
      ['restart', 1, /served by a child of this memnode .* memcloud umount it first/],
      ['restart --force', 1, /served by a child of this memnode/],
    ] as const) {
      const ended = await memcloud(socketPath, ...words.split(' '));
      t.match(ended, { code, stdout: '', stderr: sentence }, words);
    }
    t.strictSame(fs.readdirSync(place), [], 'and the mount is as it was');
  });

  t.test('a busy mount says who uses it, stays, and goes lazily', async (t) => {
    const { socketPath } = pool.borrower;
    const place = pool.directory(t, 'files');
    t.equal((await memcloud(socketPath, 'mount', place)).code, 0);
    const user = await standIn(t, place);
    const busy = await memcloud(socketPath, 'umount', place);
    t.match(busy, {
      code: 5,
      stdout: '',
      stderr: new RegExp(`process ${user.pid}\\): its working`),
    });
    t.strictSame(fs.readdirSync(place), [], 'it stays');
    t.match(await memcloud(socketPath, 'umount', place, '--lazy'), { code: 0 });
    t.equal(isMounted(place), false);
    await eventually('its process has ended', async () => {
      return (await memcloudJson<MountInfo[]>(t, socketPath, 'mount', 'ls')).length === 0;
    });
  });

  t.test('full: ENOSPC, and room again after a removal', async (t) => {
    const place = pool.directory(t, 'files');
    t.equal((await memcloud(pool.borrower.socketPath, 'mount', place, '--size', '16M')).code, 0);
    const file = path.join(place, 'big');
    const fill = (): void => {
      const fd = fs.openSync(file, 'w');
      try {
        for (let count = 0; count < 24; count += 1) fs.writeSync(fd, Buffer.alloc(MIB, 1));
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
    };
    t.throws(fill, { code: 'ENOSPC' });
    fs.rmSync(file);
    fs.writeFileSync(path.join(place, 'small'), Buffer.alloc(4 * MIB, 2));
    t.ok(fs.readFileSync(path.join(place, 'small')).equals(Buffer.alloc(4 * MIB, 2)));
  });

  t.test('kept files outlive their mount and are shown again elsewhere', async (t) => {
    const { socketPath } = pool.borrower;
    const first = pool.directory(t, 'first');
    const second = pool.directory(t, 'second');
    t.equal((await memcloud(socketPath, 'mount', first, '--keep', '--volume', 'stuff')).code, 0);
    const bytes = patternBytes(3 * MIB, 3);
    fs.writeFileSync(path.join(first, 'data'), bytes);
    const gone = await memcloud(socketPath, 'umount');
    t.match(gone, { code: 0, stdout: /Its files are kept: memcloud mount DIR --volume stuff/ });
    t.equal(isMounted(first), false, 'the only one need not be named');
    t.match(await memcloud(socketPath, 'umount'), { code: 6, stderr: /nothing is mounted/ });
    const [kept] = await memcloudJson<MountInfo[]>(t, socketPath, 'mount', 'ls');
    t.match(kept, { directory: '', volume: 'stuff', state: 'kept' });
    const again = await memcloud(socketPath, 'mount', second, '--volume', 'stuff');
    t.equal(again.code, 0, again.stderr);
    t.ok(fs.readFileSync(path.join(second, 'data')).equals(bytes));
    t.match(await memcloud(socketPath, 'volume', 'rm', 'stuff'), { code: 1, stderr: /is mounted/ });
    t.equal((await memcloud(socketPath, 'mount', first, '--size', '16M')).code, 0);
    const which = /several are mounted, say which: .*(first|second), .*(first|second)/;
    t.match(await memcloud(socketPath, 'umount'), { code: 2, stderr: which });
    t.equal((await memcloud(socketPath, 'umount', first)).code, 0);
    t.equal((await memcloud(socketPath, 'umount', second)).code, 0);
    t.equal((await memcloud(socketPath, 'volume', 'rm', 'stuff')).code, 0);
    await eventually('the RAM is back', async () => (await leased(pool.lenders)) === 0);
  });

  t.test('the child is killed: the daemon takes the mount away and says so', async (t) => {
    const { socketPath } = pool.borrower;
    const place = pool.directory(t, 'files');
    const made = await memcloudJson<MountInfo>(t, socketPath, 'mount', place);
    const user = await standIn(t, place);
    process.kill(made.pid, 'SIGKILL');
    await eventually('the mount is gone', () => !isMounted(place));
    t.strictSame(fs.readdirSync(place), [], 'the directory under it can be used');
    t.not(stateOf(user.pid ?? 0), 'D', 'who stood in it is not stuck');
    const status = await memcloudJson<StatusInfo>(t, socketPath, 'status');
    t.match(status.mounts, [{ directory: place, state: 'dead', reason: /by SIGKILL/ }]);
    t.match(status.health, [/its process ended by SIGKILL; its files are gone/]);
    t.equal((await memcloud(socketPath, 'mount', place)).code, 0, 'and mounted anew');
  });

  t.test('the daemon is stopped: files go on, and nobody waits for ever', async (t) => {
    const place = pool.directory(t, 'files');
    const made = await memcloudJson<MountInfo>(t, pool.borrower.socketPath, 'mount', place);
    pool.borrower.child.kill('SIGSTOP');
    const bytes = patternBytes(8 * MIB, 5);
    fs.writeFileSync(path.join(place, 'data'), bytes);
    t.ok(fs.readFileSync(path.join(place, 'data')).equals(bytes));
    pool.borrower.child.kill('SIGCONT');
    process.kill(made.pid, 'SIGSTOP');
    const startMs = performance.now();
    const [row] = await memcloudJson<MountInfo[]>(t, pool.borrower.socketPath, 'mount', 'ls');
    t.match(row, { state: 'silent', reason: /does not answer/ }, 'the child: is shown as such');
    t.ok(performance.now() - startMs < 5000);
    t.match(await memcloud(pool.borrower.socketPath, 'umount', place, '--lazy'), { code: 0 });
    t.equal(isMounted(place), false, 'and is ended by force');
  });

  t.test('Ctrl-C while it is being made leaves nothing', async (t) => {
    const place = pool.directory(t, 'files');
    const cli = path.join(import.meta.dirname, '../../cli/main.js');
    const args = [cli, '--socket', pool.borrower.socketPath, 'mount', place];
    const child = spawn(process.execPath, args, { env: CLEAN_ENV, stdio: 'ignore' });
    const exited = once(child, 'exit');
    await eventually('it is under way', async () => {
      const mounts = await pool.borrower.use((client) => client.call('mount.list', {}));
      return mounts.length > 0;
    });
    child.kill('SIGINT');
    const [code, signal] = (await exited) as [number | null, NodeJS.Signals | null];
    // Whoever came later than the mount was made finds a mount, as with any command that is done.
    if (code === 0 || signal === 'SIGINT')
      return void t.ok(isMounted(place), 'it was done already');
    t.equal(code, 130);
    t.equal(isMounted(place), false);
    t.strictSame(await memcloudJson(t, pool.borrower.socketPath, 'mount', 'ls'), []);
  });

  t.test('mount(8) and /etc/fstab: the helper', async (t) => {
    const place = pool.directory(t, 'files');
    const helper = path.resolve('kernel-scripts/mount.memcloud');
    const options = `size=32M,copies=2,nofail,_netdev,x-systemd.x=1,socket=${pool.borrower.socketPath}`;
    const made = await judge(helper, ['memcloud', place, '-o', `rw,${options}`]);
    t.match(made, { code: 0 }, made.stderr);
    const [row] = await memcloudJson<MountInfo[]>(t, pool.borrower.socketPath, 'mount', 'ls');
    t.match(row, { directory: place, sizeBytes: 32 * MIB, copies: 2 });
    const twice = await judge(helper, ['memcloud', place, '-o', options]);
    t.match(twice, { code: 1, stderr: /mounted there already/ });
    t.match(await judge('umount', [place]), { code: 0 }, 'umount(8) is enough');
    await eventually('the daemon has noticed', async () => {
      return (
        (await memcloudJson<MountInfo[]>(t, pool.borrower.socketPath, 'mount', 'ls')).length === 0
      );
    });
  });

  t.test('what the units call: mounted once, unmounted although it is used', async (t) => {
    const { socketPath } = pool.borrower;
    const place = path.join(pool.folder, 'usual/place');
    t.teardown(() => void tryUnmount(place, MOUNT.MNT_DETACH));
    for (let round = 0; round < 2; round += 1) {
      const on = await memcloud(socketPath, 'service', 'mount-on', '--deadline', '20');
      t.match(on, { code: 0, stderr: `memcloud: mounted ${place}\n` });
    }
    t.equal(isMounted(place), true);
    const user = await standIn(t, place);
    const off = await memcloud(socketPath, 'service', 'mount-off', '--deadline', '1');
    t.match(off, { code: 0, stderr: new RegExp(`is in use: .*process ${user.pid}\\)`) });
    t.equal(isMounted(place), false);
    t.match(await memcloud(socketPath, 'service', 'mount-off'), { code: 0, stderr: '' });
  });

  t.test(
    'the daemon is killed: the mount goes, and the next daemon starts clean',
    SKIP,
    async (t) => {
      const first = pool.directory(t, 'first');
      const second = pool.directory(t, 'second');
      await memcloudJson<MountInfo>(t, pool.borrower.socketPath, 'mount', first);
      const stuck = await memcloudJson<MountInfo>(t, pool.borrower.socketPath, 'mount', second);
      const user = await standIn(t, second);
      // The worst of it: this child cannot even notice that its daemon is gone.
      process.kill(stuck.pid, 'SIGSTOP');
      await pool.borrower.end('SIGKILL');
      await eventually('the child that lives has unmounted by itself', () => !isMounted(first));
      t.equal(isMounted(second), true);
      const next = await pool.again(t);
      t.equal(isMounted(second), false, 'the next daemon has taken the other away');
      t.throws(() => process.kill(stuck.pid, 0), { code: 'ESRCH' });
      t.not(stateOf(user.pid ?? 0), 'D');
      t.equal(fs.existsSync(path.join(pool.folder, 'borrower.sock.mounts.json')), false);
      t.equal((await memcloud(next.socketPath, 'mount', second)).code, 0, 'and it works again');
      t.same(await next.end('SIGTERM'), { code: 0, signal: null });
      t.equal(isMounted(second), false, 'an end in order unmounts');
    },
  );
});
