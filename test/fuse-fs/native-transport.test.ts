/**
 * The same file system through fuse-native: what a mount by it does, and that what it cannot do is refused
 * or told, not done wrong. The process that serves is another one, as always.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { loadFuseNative } from '../../fuse-fs/native-binding.ts';
import { requires } from '../helpers/judges.ts';
import { fuseMissing, startMount, type FuseMount } from '../helpers/fuse-mount/start.ts';

const MIB = 2 ** 20;

function missing(): string | undefined {
  const reason = fuseMissing();
  if (reason !== undefined) return reason;
  try {
    loadFuseNative();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

const reason = missing();
const options = reason === undefined ? {} : { skip: reason };

const needing = (program: string): { skip?: string | false } =>
  reason === undefined ? requires(program) : options;

async function mounted(t: Test): Promise<FuseMount> {
  const directory = fs.mkdtempSync('/tmp/mc-test-native-');
  const mount = await startMount({ directory, sizeBytes: 256 * MIB, transport: 'native' });
  t.teardown(async () => {
    await mount.stop();
    fs.rmdirSync(directory);
  });
  return mount;
}

function complaintOf(command: string, ...args: string[]): string {
  const env = { ...process.env, LC_ALL: 'C' };
  return spawnSync(command, args, { encoding: 'utf8', env, timeout: 20_000 }).stderr;
}

t.test('names, links, bytes and attributes are those of the file system', options, async (t) => {
  const { directory } = await mounted(t);
  const at = (...names: string[]): string => path.join(directory, ...names);
  fs.writeFileSync(at('a'), 'hello');
  fs.mkdirSync(at('d'));
  fs.renameSync(at('a'), at('d', 'a'));
  fs.linkSync(at('d', 'a'), at('b'));
  const [a, b] = [fs.statSync(at('d', 'a')), fs.statSync(at('b'))];
  t.equal(a.ino, b.ino, 'names of one file show one inode number');
  t.equal(a.nlink, 2);
  fs.unlinkSync(at('b'));
  t.equal(fs.statSync(at('d', 'a')).nlink, 1, 'at once, also by the other name');
  fs.symlinkSync('d/a', at('s'));
  t.equal(fs.readFileSync(at('s'), 'utf8'), 'hello');
  fs.writeFileSync(at('ümlaut'), '');
  t.same(fs.readdirSync(directory).sort(), ['d', 's', 'ümlaut']);
  fs.chmodSync(at('d'), 0o700);
  fs.chownSync(at('d'), 12, -1);
  const d = fs.statSync(at('d'));
  t.same([d.mode & 0o777, d.uid, d.gid], [0o700, 12, 0]);
  t.throws(() => fs.rmdirSync(at('d')), { code: 'ENOTEMPTY' });
  t.throws(() => fs.mkdirSync(at('d')), { code: 'EEXIST' });
  t.throws(() => fs.readFileSync(at('none')), { code: 'ENOENT' });
  t.throws(() => fs.writeFileSync(at('n'.repeat(256)), ''), { code: 'ENAMETOOLONG' });
  t.equal(fs.statfsSync(directory).blocks, (256 * MIB) / 4096);
});

t.test('bytes come back as they were written, holes are zeroes', options, async (t) => {
  const { directory } = await mounted(t);
  const file = path.join(directory, 'file');
  const bytes = randomBytes(3 * MIB + 17);
  fs.writeFileSync(file, bytes);
  t.ok(fs.readFileSync(file).equals(bytes));
  fs.truncateSync(file, 100_000);
  fs.truncateSync(file, 300_000);
  const whole = Buffer.concat([bytes.subarray(0, 100_000), Buffer.alloc(200_000)]);
  t.ok(fs.readFileSync(file).equals(whole));
  const fd = fs.openSync(file, 'r+');
  fs.writeSync(fd, 'x', 2 ** 33);
  fs.fsyncSync(fd);
  fs.ftruncateSync(fd, 2 ** 33 + 1);
  t.equal(fs.fstatSync(fd).size, 2 ** 33 + 1, 'offsets beyond 32 bits');
  fs.closeSync(fd);
});

t.test('many callers at once get their own bytes', options, async (t) => {
  const { directory } = await mounted(t);
  const each = 'for i in $(seq 40); do echo "$0 $i" >> "f$0"; done; cat "f$0" | wc -l';
  const all = `for n in $(seq 16); do sh -c '${each}' $n & done; wait`;
  const output = execFileSync('sh', ['-c', all], { cwd: directory, encoding: 'utf8' });
  t.same(output.trim().split('\n'), Array(16).fill('40'));
});

t.test(
  'a value that is longer than its reader asked for gives nothing away',
  options,
  async (t) => {
    const { directory } = await mounted(t);
    const file = path.join(directory, 'file');
    fs.writeFileSync(file, '');
    const script = `import os,sys
f=sys.argv[1]
os.setxattr(f,'user.a',b'v'*5000)
os.setxattr(f,'user.b',b'')
assert os.getxattr(f,'user.a')==b'v'*5000
assert os.getxattr(f,'user.b')==b''
assert sorted(os.listxattr(f))==['user.a','user.b']
import ctypes
c=ctypes.CDLL(None,use_errno=True)
b=ctypes.create_string_buffer(16)
assert c.getxattr(f.encode(),b'user.a',b,16)==-1 and ctypes.get_errno()==34
assert c.listxattr(f.encode(),b,4)==-1 and ctypes.get_errno()==34
os.removexattr(f,'user.a')
assert os.listxattr(f)==['user.b']`;
    const { status, stderr } = spawnSync('python3', ['-c', script, file], { encoding: 'utf8' });
    t.equal(status, 0, stderr);
  },
);

t.test('what libfuse 2 cannot say is refused, not done wrong', options, async (t) => {
  const { directory } = await mounted(t);
  const file = path.join(directory, 'file');
  fs.writeFileSync(file, 'x');
  fs.writeFileSync(path.join(directory, 'other'), 'y');
  const notText = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0x61, 0xff])]);
  t.throws(() => fs.writeFileSync(notText, ''), { code: 'EINVAL' }, 'a name that is not UTF-8');
  t.match(complaintOf('fallocate', '--punch-hole', '-l', '4096', file), /unsupported/);
  if (spawnSync('setfacl', ['--version']).status === 0) {
    t.match(complaintOf('setfacl', '-m', 'u:5:r', file), /not supported/);
  }
  t.equal(fs.readFileSync(file, 'utf8'), 'x');
});

t.test('a mount in use stays; one that somebody unmounts ends its process', options, async (t) => {
  const { directory } = await mounted(t);
  const mount = await mounted(t);
  const fd = fs.openSync(path.join(mount.directory, 'file'), 'w');
  t.equal(await mount.tryStop(), false);
  fs.writeSync(fd, 'still served');
  fs.closeSync(fd);
  t.equal(await mount.tryStop(), true);
  t.same(fs.readdirSync(mount.directory), [], 'the directory below');
  execFileSync('umount', ['--internal-only', directory]);
  t.same(fs.readdirSync(directory), []);
});

t.test('git and tar work on it', needing('git'), async (t) => {
  const { directory } = await mounted(t);
  const script = `set -e
export HOME="$PWD" GIT_CONFIG_NOSYSTEM=1
mkdir a && cd a && git init -q && for i in $(seq 50); do echo $i > f$i; done && git add -A
git -c user.name=t -c user.email=t@t commit -qm t && cd ..
git clone -q a b && git -C b fsck --strict && tar cf t.tar b && mkdir c && tar xf t.tar -C c
diff -r b c/b`;
  const { status, stderr } = spawnSync('sh', ['-c', script], { cwd: directory, encoding: 'utf8' });
  t.equal(status, 0, stderr);
});
