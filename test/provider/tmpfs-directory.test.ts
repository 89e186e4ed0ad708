/** The directory: on tmpfs or refused, private, and nothing left by the dead. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { MOUNT, tryUnmount } from '../../common/libc.ts';
import {
  removeLeftovers,
  TmpfsDirectory,
  type TmpfsDirectoryOptions,
} from '../../provider/tmpfs-directory.ts';
import { tmpfsBase } from '../helpers/tmpfs.ts';

function options(base: string, noswap: 'auto' | 'off' = 'off'): TmpfsDirectoryOptions {
  return { base, noswap, sizeBytes: 2 ** 20 };
}

t.test('is private, and gone after close', async (t) => {
  const base = tmpfsBase(t);
  const directory = TmpfsDirectory.open(options(base));
  t.match(path.relative(base, directory.path), /^memcloud-\w{6}$/);
  t.equal(fs.statSync(directory.path).mode & 0o777, 0o700);
  t.equal(directory.noMountReason, 'switched off');
  const { bavail, bsize } = fs.statfsSync('/dev/shm');
  t.equal(directory.freeBytes() > 0.5 * bavail * bsize, true);
  fs.writeFileSync(path.join(directory.path, 'arena-0'), 'left');
  directory.close();
  t.strictSame(fs.readdirSync(base), []);
});

t.test('a directory on disk is refused and left as it was', async (t) => {
  const base = t.testdir({});
  t.throws(() => TmpfsDirectory.open(options(base)), {
    code: 'ERR_UNSUPPORTED',
    message: /expected a tmpfs/,
  });
  t.strictSame(fs.readdirSync(base), []);
});

t.test('a directory that is not there is an error', async (t) => {
  const missing = path.join(tmpfsBase(t), 'missing');
  t.throws(() => TmpfsDirectory.open(options(missing)), { code: 'ERR_NATIVE' });
});

t.test('auto mounts noswap where it may, and says why where it may not', async (t) => {
  const base = tmpfsBase(t);
  const directory = TmpfsDirectory.open(options(base, 'auto'));
  t.teardown(() => directory.close());
  const mounts = fs.readFileSync('/proc/mounts', 'utf8');
  const line = mounts.split('\n').find((each) => each.includes(` ${directory.path} `));
  if (directory.noMountReason === '') {
    t.match(line, /^memcloud \S+ tmpfs .*noswap/);
    t.equal(directory.swap, 'noswap');
    t.equal(directory.freeBytes(), 2 * 2 ** 20, 'the mount is limited to the offer and 1 MiB');
    directory.close();
    t.notMatch(fs.readFileSync('/proc/mounts', 'utf8'), directory.path);
  } else {
    t.match(directory.noMountReason, /^mount failed: E/);
    t.equal(line, undefined);
  }
});

t.test('a private mount grows under its files and never shrinks', async (t) => {
  const directory = TmpfsDirectory.open(options(tmpfsBase(t), 'auto'));
  t.teardown(() => directory.close());
  if (directory.noMountReason !== '') {
    t.doesNotThrow(() => directory.grow(2 ** 40), 'there is no mount to grow');
    return;
  }
  fs.writeFileSync(path.join(directory.path, 'arena-0'), 'lent');
  directory.grow(8 * 2 ** 20);
  const grownBytes = directory.freeBytes();
  t.equal(grownBytes, 9 * 2 ** 20 - 4096);
  directory.grow(2 ** 20);
  t.equal(directory.freeBytes(), grownBytes, 'files may lie there');
  t.equal(fs.readFileSync(path.join(directory.path, 'arena-0'), 'utf8'), 'lent');
  const line = fs
    .readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .find((each) => each.includes(` ${directory.path} `));
  t.match(line, /nosuid,nodev,noexec.*noswap/, 'protected as before');
});

for (const who of ['the next provider', 'the daemon']) {
  t.test(
    `${who} removes what a killed process left, mount included, and nothing else`,
    async (t) => {
      const base = tmpfsBase(t);
      const living = TmpfsDirectory.open(options(base));
      t.teardown(() => living.close());
      fs.mkdirSync(path.join(base, 'memcloud-notours'));
      fs.writeFileSync(path.join(base, 'memcloud-aaaaaa'), 'a file');
      const module = new URL('../../provider/tmpfs-directory.js', import.meta.url).href;
      const program = `
    import fs from 'node:fs';
    const { TmpfsDirectory } = await import(${JSON.stringify(module)});
    const directory = TmpfsDirectory.open(${JSON.stringify(options(base, 'auto'))});
    fs.writeFileSync(directory.path + '/arena-0', 'lent');
    console.log(directory.path);
    setInterval(() => {}, 1000);`;
      const child = spawn(process.execPath, ['--input-type=module', '-e', program]);
      t.teardown(() => child.kill('SIGKILL'));
      const closed = new Promise((resolve) => child.once('close', resolve));
      const left = await new Promise<string>((resolve) => {
        child.stdout.once('data', (text: Buffer) => resolve(text.toString().trim()));
      });
      t.teardown(() => tryUnmount(left, MOUNT.MNT_DETACH));
      const during = TmpfsDirectory.open(options(base));
      t.equal(fs.readFileSync(`${left}/arena-0`, 'utf8'), 'lent', 'the living keep theirs');
      during.close();
      child.kill('SIGKILL');
      await closed;
      t.equal(fs.existsSync(left), true, 'a killed process leaves its directory');
      if (who === 'the daemon') await removeLeftovers(base);
      else TmpfsDirectory.open(options(base)).close();
      t.equal(fs.existsSync(left), false);
      t.notMatch(fs.readFileSync('/proc/mounts', 'utf8'), left);
      t.equal(fs.existsSync(living.path), true);
      t.equal(fs.existsSync(path.join(base, 'memcloud-notours')), true);
      t.equal(fs.readFileSync(path.join(base, 'memcloud-aaaaaa'), 'utf8'), 'a file');
    },
  );
}
