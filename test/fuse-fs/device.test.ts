/**
 * The shell against the real kernel. The mount is served by this process, so whoever uses it is a thread
 * of libuv's pool (fs.promises) or another process, never this thread.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { monotonicClock } from '../../common/clock.ts';
import { EventLoopSpin } from '../../common/event-loop-spin.ts';
import { MOUNT, tryUnmount } from '../../common/libc.ts';
import { createLogger } from '../../common/log.ts';
import { FuseDevice, type FuseEnd } from '../../fuse-fs/device.ts';
import { mountFuse, unmountFuse } from '../../fuse-fs/mounting.ts';
import { FUSE_PROFILES, type FuseProfile } from '../../fuse-fs/negotiation.ts';
import { FlatFiles, type FlatFilesOptions } from '../helpers/flat-files.ts';
import { fuseMissing } from '../helpers/fuse-mount/start.ts';
import { eventually } from '../helpers/nbd-fixture.ts';

const run = promisify(execFile);
const skip = fuseMissing() ?? false;

interface Rig {
  readonly directory: string;
  readonly device: FuseDevice;
  readonly files: FlatFiles;
  readonly ended: Promise<FuseEnd>;
}

async function rig(
  t: Test,
  options: FlatFilesOptions = {},
  profile: FuseProfile = FUSE_PROFILES.default,
  spinWindowUs = 100,
): Promise<Rig> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-test-fuse-'));
  const fd = await mountFuse({ directory, allowOther: true });
  let end: (end: FuseEnd) => void = () => undefined;
  const ended = new Promise<FuseEnd>((resolve) => (end = resolve));
  const device = new FuseDevice({
    fd,
    profile,
    spin: new EventLoopSpin(monotonicClock, spinWindowUs),
    clock: monotonicClock,
    log: createLogger('error'),
    onEnd: (why) => {
      device.close();
      end(why);
    },
  });
  const files = new FlatFiles(device.session, options);
  device.serve(files);
  t.teardown(async () => {
    tryUnmount(directory, MOUNT.MNT_DETACH);
    device.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    fs.rmdirSync(directory);
  });
  return { directory, device, files, ended };
}

for (const profile of ['default', 'build-cache'] as const) {
  for (const spinWindowUs of [0, 100]) {
    const label = `${profile}, ${spinWindowUs === 0 ? 'asleep between requests' : 'spinning'}`;
    t.test(`files are what was written: ${label}`, { skip }, async (t) => {
      const { directory, device, ended } = await rig(t, {}, FUSE_PROFILES[profile], spinWindowUs);
      const file = path.join(directory, 'file');
      const bytes = Buffer.alloc(5 * 2 ** 20 + 17, 'of pooled memory ');
      await fs.promises.writeFile(file, bytes);
      t.ok((await fs.promises.readFile(file)).equals(bytes));
      t.equal((await fs.promises.stat(file)).size, bytes.length);
      await fs.promises.writeFile(file, 'short');
      t.equal((await fs.promises.readFile(file)).toString(), 'short', 'O_TRUNC');
      await fs.promises.rename(file, path.join(directory, 'other'));
      t.strictSame(await fs.promises.readdir(directory), ['other']);
      await t.rejects(fs.promises.stat(file), { code: 'ENOENT' });
      await fs.promises.unlink(path.join(directory, 'other'));
      t.strictSame(await fs.promises.readdir(directory), []);
      t.equal(device.refusedReplyCount, 0);
      t.equal(device.session.statistics.malformedCount, 0);
      t.equal(await unmountFuse(directory, { lazy: false }), 'unmounted');
      t.equal(await ended, undefined, 'the kernel said that the mount is gone');
    });
  }
}

t.test('writes under way keep their bytes, whatever comes meanwhile', { skip }, async (t) => {
  let turn = 0;
  const delayMs = (operation: string): number =>
    operation === 'write' || operation === 'read' ? (turn = (turn + 1) % 4) - 1 : -1;
  const { directory, device } = await rig(t, { delayMs }, FUSE_PROFILES['build-cache']);
  const write = async (index: number): Promise<void> => {
    const bytes = Buffer.alloc(700_000 + index * 4097, `file ${index} `);
    const file = path.join(directory, `${index}`);
    await fs.promises.writeFile(file, bytes);
    await run('sh', ['-c', 'cat "$0" >"$0.copy"; cmp "$0" "$0.copy"', file]);
    t.ok((await fs.promises.readFile(`${file}.copy`)).equals(bytes), `file ${index}`);
  };
  await Promise.all(Array.from({ length: 12 }, (_, index) => write(index)));
  t.equal(device.refusedReplyCount, 0);
  t.equal(device.session.waitingCount, 0);
});

t.test(
  'a mount in use is busy, and stays; lazily it goes with its last user',
  { skip },
  async (t) => {
    const { directory, ended } = await rig(t);
    const file = await fs.promises.open(path.join(directory, 'file'), 'w+');
    t.equal(await unmountFuse(directory, { lazy: false }), 'busy');
    await file.writeFile('still here');
    t.equal(await unmountFuse(directory, { lazy: true }), 'unmounted');
    t.strictSame(await fs.promises.readdir(directory), [], 'out of the tree');
    const read = await file.read(Buffer.alloc(10), 0, 10, 0);
    t.equal(read.buffer.toString(), 'still here', 'but there for who has it open');
    await file.close();
    t.equal(await ended, undefined);
    t.equal(await unmountFuse(directory, { lazy: false }), 'not-mounted');
  },
);

t.test('a mount that goes while requests are on their way has ended well', { skip }, async (t) => {
  for (let round = 0; round < 40; round += 1) {
    const { directory, ended } = await rig(t);
    const names = Array.from({ length: 8 }, (_, index) => path.join(directory, `file-${index}`));
    const files = await Promise.all(names.map((name) => fs.promises.open(name, 'w+')));
    await Promise.all(files.map((file) => file.writeFile('dirty')));
    t.equal(await unmountFuse(directory, { lazy: true }), 'unmounted');
    await Promise.all(files.map((file) => file.close()));
    t.equal(await ended, undefined);
  }
});

t.test(
  'what the kernel holds is written back at unmount, by this very process',
  { skip },
  async (t) => {
    const { directory, files, ended } = await rig(t, { delayMs: () => 1 });
    const program = `
    import mmap, os, sys
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 20)
    m = mmap.mmap(fd, 1 << 20)
    os.close(fd)
    m[:] = b"d" * (1 << 20)
    m.close()`.replace(/^ {4}/gm, '');
    const python = await run('python3', ['-c', program, path.join(directory, 'mapped')]).catch(
      (error: unknown) => error,
    );
    if (python instanceof Error) {
      t.comment(`python3 cannot do it: ${python.message}`);
      await fs.promises.writeFile(path.join(directory, 'mapped'), Buffer.alloc(2 ** 20, 'd'));
    }
    t.equal(await unmountFuse(directory, { lazy: false }), 'unmounted');
    await ended;
    const [file] = files.files.values();
    t.equal(file?.size, 2 ** 20);
    t.ok(file?.bytes.subarray(0, 2 ** 20).equals(Buffer.alloc(2 ** 20, 'd')));
  },
);

t.test('what throws is EIO for who asked, and nobody else', { skip }, async (t) => {
  let broken = true;
  const defect = (operation: string): void => {
    if (broken && operation === 'write') throw new Error('as the test wants');
  };
  const { directory, device } = await rig(t, { defect }, FUSE_PROFILES['build-cache']);
  const file = path.join(directory, 'file');
  await t.rejects(fs.promises.writeFile(file, 'data'), { code: 'EIO' });
  broken = false;
  await fs.promises.writeFile(file, 'data');
  t.equal((await fs.promises.readFile(file)).toString(), 'data');
  t.ok(device.session.statistics.defectCount > 0);
});

t.test(
  'a device that is closed leaves ENOTCONN, and the mount can be taken away',
  { skip },
  async (t) => {
    const { directory, device } = await rig(t);
    await fs.promises.writeFile(path.join(directory, 'file'), 'x');
    device.close();
    await t.rejects(fs.promises.stat(path.join(directory, 'file2')), { code: 'ENOTCONN' });
    await t.rejects(mountFuse({ directory, allowOther: true }), { code: 'ERR_MOUNT_POINT' });
    t.equal(await unmountFuse(directory, { lazy: true }), 'unmounted');
    t.strictSame(await fs.promises.readdir(directory), []);
  },
);

t.test('a caller that was killed harms nobody', { skip }, async (t) => {
  const { directory, device } = await rig(t, {
    delayMs: (operation) => (operation === 'read' ? 50 : -1),
  });
  const file = path.join(directory, 'file');
  await fs.promises.writeFile(file, Buffer.alloc(2 ** 20, 'k'));
  await Promise.all(
    Array.from({ length: 6 }, async () => {
      const args = [
        '-s',
        'KILL',
        '0.02',
        'dd',
        `if=${file}`,
        'of=/dev/null',
        'iflag=direct',
        'bs=4k',
      ];
      await t.rejects(run('timeout', args));
    }),
  );
  await eventually(() => device.session.waitingCount === 0, 'nothing waits for them');
  t.equal((await fs.promises.readFile(file)).length, 2 ** 20);
});
