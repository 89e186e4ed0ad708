import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { mountAt, readMountTable } from '../../common/mount-table.ts';
import { MOUNT_SOURCE, MOUNT_TYPE, mountFuse, unmountFuse } from '../../fuse-fs/mounting.ts';
import { fuseMissing, startMount } from '../helpers/fuse-mount/start.ts';
import { eventually } from '../helpers/nbd-fixture.ts';

const skip = fuseMissing() ?? false;
const hasHelper = spawnSync('sh', ['-c', 'command -v fusermount3']).status === 0;
const SIZE = 2 ** 26;

function directoryFor(t: Test): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-test-mount-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

t.test('names in the table of mounts', async (t) => {
  t.equal(MOUNT_SOURCE, 'memcloud');
  t.equal(MOUNT_TYPE, 'fuse.memcloud');
});

t.test('a mount is there until it is stopped, and then nothing is', { skip }, async (t) => {
  const directory = directoryFor(t);
  const mount = await startMount({ directory, sizeBytes: SIZE, mode: 0o750, uid: 12, gid: 34 });
  t.match(mountAt(readMountTable(), directory), { type: MOUNT_TYPE, source: MOUNT_SOURCE });
  const root = fs.statSync(directory);
  t.strictSame([root.mode & 0o7777, root.uid, root.gid, root.ino], [0o750, 12, 34, 1]);
  const line = fs
    .readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .find((text) => text.includes(directory));
  for (const option of ['nosuid', 'nodev', 'default_permissions', 'allow_other']) {
    t.ok(line?.includes(option), option);
  }
  fs.writeFileSync(path.join(directory, 'file'), 'text');
  t.equal((await mount.status()).defectCount, 0);
  t.equal(await mount.stop(), 'unmounted');
  t.equal(mountAt(readMountTable(), directory), undefined);
  t.strictSame(fs.readdirSync(directory), []);
  t.equal(await unmountFuse(directory, { lazy: false }), 'not-mounted');
});

t.test('a mount in use stays', { skip }, async (t) => {
  const directory = directoryFor(t);
  const mount = await startMount({ directory, sizeBytes: SIZE });
  const fd = fs.openSync(path.join(directory, 'file'), 'w');
  t.notOk(await mount.tryStop());
  fs.writeSync(fd, 'goes on');
  fs.closeSync(fd);
  t.ok(await mount.tryStop());
});

t.test(
  'a process that is killed leaves ENOTCONN, and the next start is told how to go on',
  { skip },
  async (t) => {
    const directory = directoryFor(t);
    const mount = await startMount({ directory, sizeBytes: SIZE });
    process.kill(mount.pid, 'SIGKILL');
    await eventually(() => !fs.existsSync(`/proc/${mount.pid}`), 'the process has ended');
    t.throws(() => fs.statSync(directory), { code: 'ENOTCONN' });
    await t.rejects(startMount({ directory, sizeBytes: SIZE }), {
      code: 'ERR_MOUNT_POINT',
      message: /umount -l/,
    });
    t.equal(await unmountFuse(directory, { lazy: true }), 'unmounted');
    const again = await startMount({ directory, sizeBytes: SIZE });
    t.equal(await again.stop(), 'unmounted');
  },
);

t.test('what cannot be mounted on', { skip }, async (t) => {
  const directory = directoryFor(t);
  const file = path.join(directory, 'file');
  fs.writeFileSync(file, '');
  const open = fs.readdirSync('/proc/self/fd').length;
  for (const [place, message] of [
    [path.join(directory, 'missing'), /there is no such directory/],
    [file, /it is no directory/],
    [path.join(file, 'below'), /it is no directory/],
  ] as const) {
    await t.rejects(mountFuse({ directory: place, allowOther: true }), {
      code: 'ERR_MOUNT_POINT',
      message,
    });
  }
  t.ok(fs.readdirSync('/proc/self/fd').length <= open, 'no descriptor is left');
});

t.test('unmounting what is not ours does nothing', { skip }, async (t) => {
  t.equal(await unmountFuse('/proc', { lazy: false }), 'not-mounted');
  t.ok(mountAt(readMountTable(), '/proc'));
});

const helperSkip = skip || (hasHelper ? false : 'fusermount3 is not installed');

t.test(
  'fusermount3 mounts, passes the descriptor, and unmounts',
  { skip: helperSkip },
  async (t) => {
    const directory = directoryFor(t);
    const mount = await startMount({ directory, sizeBytes: SIZE, helper: true });
    t.match(mountAt(readMountTable(), directory), { type: MOUNT_TYPE, source: MOUNT_SOURCE });
    fs.writeFileSync(path.join(directory, 'file'), 'text');
    t.equal(fs.readFileSync(path.join(directory, 'file'), 'utf8'), 'text');
    const user = spawn('sleep', ['60'], { cwd: directory });
    await new Promise((resolve) => user.once('spawn', resolve));
    t.notOk(await mount.tryStop(), 'busy');
    user.kill();
    await new Promise((resolve) => user.once('exit', resolve));
    t.equal(await mount.stop(), 'unmounted');
    await t.rejects(
      mountFuse({ directory: path.join(directory, 'missing'), allowOther: true, helper: true }),
      { code: 'ERR_MOUNT_POINT' },
    );
  },
);

t.test('a user who is not root mounts by fusermount3', { skip: helperSkip }, async (t) => {
  const runAs = { uid: 65534, gid: 65534 };
  const directory = directoryFor(t);
  fs.chownSync(directory, runAs.uid, runAs.gid);
  const mount = await startMount({
    directory,
    sizeBytes: SIZE,
    runAs,
    allowOther: false,
    ...runAs,
  });
  t.match(mountAt(readMountTable(), directory), { type: MOUNT_TYPE });
  const command = 'echo mine > "$0/file" && cat "$0/file"';
  const shell = spawnSync('sh', ['-c', command, directory], { uid: runAs.uid, gid: runAs.gid });
  t.equal(shell.stdout.toString(), 'mine\n');
  t.equal(await mount.stop(), 'unmounted');
});

t.test('without fusermount3 other users are told what to install', async (t) => {
  const before = process.env['PATH'];
  process.env['PATH'] = '/nonexistent';
  t.teardown(() => (process.env['PATH'] = before));
  const directory = directoryFor(t);
  await t.rejects(mountFuse({ directory, allowOther: false, helper: true }), {
    code: 'ERR_UNSUPPORTED',
    message: /fusermount3 is not installed.*fuse3/,
  });
});
