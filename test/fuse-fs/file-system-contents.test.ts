/** Attributes and contents of files: times, sizes, privileges that fall, holes, and calls that fail. */
import t from 'tap';
import { FileSystemRig, ROOT } from '../helpers/file-system-rig.ts';

const EIO = -5;
const EBADF_LINK = -22;
const EISDIR = -21;
const EINVAL = -22;
const ENXIO = -6;
const EFBIG = -27;
const ENOSPC = -28;
const EOPNOTSUPP = -95;
const ESTALE = -116;
const MODE = 1;
const UID = 2;
const GID = 4;
const SIZE = 8;
const ATIME = 16;
const MTIME = 32;
const FH = 64;
const ATIME_NOW = 128;
const MTIME_NOW = 256;
const CTIME = 1024;
const KILL = 2048;
const NOW = 1_000_000;

t.test('bytes come back, holes as zeroes, and nothing from behind the end', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'f');
  t.equal(rig.read(node, 0, 10), '');
  t.equal(rig.write(node, 5, 'hello'), 5);
  t.equal(rig.stat(node).size, 10);
  t.equal(rig.read(node, 0, 100), '\0\0\0\0\0hello');
  t.equal(rig.read(node, 8, 1), 'l');
  t.equal(rig.read(node, 10, 1), '');
  t.equal(rig.read(node, 2 ** 40, 1), '');
  t.equal(rig.write(node, 0, ''), 0);
  t.equal(rig.read(node, -1, 1), EINVAL);
  t.equal(rig.read(1, 0, 1), EISDIR);
  t.equal(rig.write(rig.fs.symlink(ROOT, 1, 'l', 'x'), 0, 'x'), EBADF_LINK);
  t.equal(rig.read(77, 0, 1), ESTALE);
  t.end();
});

t.test('a file that is cut and grows again has zeroes where it was cut', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'f');
  rig.write(node, 0, 'x'.repeat(5000));
  t.equal(rig.stat(node).blocks, 16);
  t.equal(rig.change(node, { valid: SIZE, size: 10 }), 0);
  t.match(rig.stat(node), { size: 10, blocks: 8 });
  t.equal(rig.change(node, { valid: SIZE, size: 20 }), 0);
  t.equal(rig.read(node, 0, 100), `${'x'.repeat(10)}${'\0'.repeat(10)}`);
  t.equal(rig.change(node, { valid: SIZE, size: 2 ** 43 }), 0);
  t.match(rig.stat(node), { size: 2 ** 43, blocks: 8 });
  t.end();
});

t.test('sizes and offsets beyond 8 TiB are EFBIG, those that are no sizes EINVAL', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'f');
  t.equal(rig.change(node, { valid: SIZE, size: 2 ** 43 + 1 }), EFBIG);
  t.equal(rig.change(node, { valid: SIZE, size: -1 }), EINVAL);
  t.equal(rig.change(node, { valid: SIZE, size: 0.5 }), EINVAL);
  t.equal(rig.change(1, { valid: SIZE, size: 0 }), EISDIR);
  t.equal(rig.change(rig.fs.symlink(ROOT, 1, 'l', 'x'), { valid: SIZE, size: 0 }), EINVAL);
  t.equal(rig.write(node, 2 ** 43 - 1, 'x'), 1);
  t.equal(rig.write(node, 2 ** 43, 'x'), EFBIG);
  t.equal(rig.write(node, 2 ** 53, 'x'), EINVAL);
  t.equal(allocate(rig, node, 0, 2 ** 43, 1), EFBIG);
  t.equal(rig.fs.seek(node, 2 ** 53, 3), ENXIO);
  t.end();
});

t.test(
  'set-user-id falls when others write, when the owner changes, and set-group-id with execution',
  (t) => {
    const rig = new FileSystemRig();
    const node = rig.file(1, 'f');
    const cases: [string, number, () => number, number][] = [
      ['a write of root', 0o6755, () => rig.write(node, 0, 'x'), 0o106755],
      ['a write of others', 0o6755, () => rig.write(node, 0, 'x', true), 0o100755],
      ['fallocate of root', 0o6755, () => allocate(rig, node, 0, 0, 9), 0o106755],
      ['fallocate', 0o6755, () => allocate(rig, node, 0, 0, 9, true), 0o100755],
      ['punch', 0o6755, () => allocate(rig, node, 3, 0, 9, true), 0o100755],
      [
        'copy_file_range',
        0o6755,
        () => rig.call((tag) => rig.fs.copyRange(tag, node, 0, node, 5, 1, true)),
        0o100755,
      ],
      ['no group execution', 0o6745, () => rig.write(node, 0, 'x', true), 0o102745],
      ['chown', 0o6755, () => rig.change(node, { valid: UID | KILL, uid: 4 }), 0o100755],
      ['chown of nobody', 0o6755, () => rig.change(node, { valid: 0 }), 0o100755],
      ['its time alone', 0o6755, () => rig.change(node, { valid: CTIME }), 0o100755],
      ['chgrp', 0o6745, () => rig.change(node, { valid: GID | KILL, gid: 4 }), 0o102745],
      ['truncate of root', 0o6755, () => rig.change(node, { valid: SIZE, size: 0 }), 0o106755],
      ['truncate', 0o6755, () => rig.change(node, { valid: SIZE | KILL, size: 0 }), 0o100755],
    ];
    for (const [name, mode, act, after] of cases) {
      rig.change(node, { valid: MODE, mode });
      t.ok(act() >= 0);
      t.equal(rig.stat(node).mode, after, name);
    }
    t.equal(rig.change(node, { valid: MODE, mode: 0o177777 }), 0);
    t.equal(rig.stat(node).mode, 0o107777, 'the type cannot be changed');
    t.end();
  },
);

t.test('each operation sets the times that POSIX says', (t) => {
  const rig = new FileSystemRig();
  const d = rig.directory(1, 'd');
  const node = rig.file(d, 'f');
  const link = rig.fs.symlink(ROOT, d, 'l', 'x');
  rig.write(node, 0, 'hello');
  const cases: [string, () => unknown, number, string][] = [
    ['write', () => rig.write(node, 0, 'x'), node, 'mc'],
    ['read', () => rig.read(node, 0, 1), node, 'a'],
    ['a second read', () => rig.read(node, 0, 1), node, ''],
    ['chmod', () => rig.change(node, { valid: MODE, mode: 0o600 }), node, 'c'],
    ['chown', () => rig.change(node, { valid: UID, uid: 1 }), node, 'c'],
    ['truncate', () => rig.change(node, { valid: SIZE, size: 1 }), node, 'mc'],
    ['truncate to the same size', () => rig.change(node, { valid: SIZE, size: 1 }), node, 'mc'],
    ['ftruncate', () => rig.change(node, { valid: SIZE | FH, size: 1 }), node, 'mc'],
    ['fallocate', () => allocate(rig, node, 0, 0, 9), node, 'mc'],
    ['punch', () => allocate(rig, node, 3, 0, 9), node, 'mc'],
    ['setxattr', () => rig.fs.setAttribute(ROOT, node, 'user.a', 'x', 0, false), node, 'c'],
    ['removexattr', () => rig.fs.removeAttribute(ROOT, node, 'user.a'), node, 'c'],
    ['link', () => rig.fs.link(node, d, 'g'), node, 'c'],
    ['unlink', () => rig.fs.unlink(d, 'g'), node, 'c'],
    ['rename', () => rig.fs.rename(d, 'f', d, 'g', 0), node, 'c'],
    ['rename, of the directory', () => rig.fs.rename(d, 'g', d, 'f', 0), d, 'mc'],
    ['create, of the directory', () => rig.file(d, 'h'), d, 'mc'],
    ['unlink, of the directory', () => rig.fs.unlink(d, 'h'), d, 'mc'],
    ['readdir', () => rig.names(d), d, 'a'],
    ['lookup', () => rig.fs.lookup(d, 'f'), d, ''],
    ['readlink', () => rig.fs.readLink(link), link, 'a'],
    ['a read at the end', () => rig.read(node, 99, 1), node, ''],
  ];
  let now = NOW;
  for (const [name, act, on, changed] of cases) {
    now += 10;
    rig.clock.seconds = now;
    rig.clock.nanoseconds = now % 999;
    act();
    const stat = rig.stat(on);
    const got = [
      stat.accessSeconds === now && stat.accessNanoseconds === now % 999 ? 'a' : '',
      stat.modifySeconds === now && stat.modifyNanoseconds === now % 999 ? 'm' : '',
      stat.changeSeconds === now && stat.changeNanoseconds === now % 999 ? 'c' : '',
    ].join('');
    t.equal(got, changed, name);
  }
  rig.clock.seconds = now + 86_400;
  rig.read(node, 0, 1);
  t.equal(rig.stat(node).accessSeconds, now + 86_400, 'a day later even a second read counts');
  t.end();
});

t.test('utimensat sets what it is told, before 1970 and after 2038, to the nanosecond', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'f');
  for (const seconds of [0, -1, -(2 ** 40), 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 53 - 1]) {
    const change = { accessSeconds: seconds, accessNanoseconds: 999_999_999 };
    t.equal(rig.change(node, { valid: ATIME, ...change }), 0);
    const more = { modifySeconds: seconds, modifyNanoseconds: 1 };
    t.equal(rig.change(node, { valid: MTIME, ...more }), 0);
    t.match(rig.stat(node), { ...change, ...more, changeSeconds: NOW });
  }
  rig.clock.seconds = NOW + 3;
  rig.change(node, { valid: ATIME | ATIME_NOW, accessSeconds: 1 });
  t.match(rig.stat(node), { accessSeconds: NOW + 3, modifySeconds: 2 ** 53 - 1 });
  rig.change(node, { valid: MTIME | MTIME_NOW, modifySeconds: 1 });
  t.match(rig.stat(node), { modifySeconds: NOW + 3, changeSeconds: NOW + 3 });
  rig.change(node, { valid: MTIME | CTIME, modifySeconds: 7, changeSeconds: 8 });
  t.match(rig.stat(node), { modifySeconds: 7, changeSeconds: 8 }, 'times of the kernel');
  t.equal(rig.change(node, { valid: MTIME, modifyNanoseconds: 1_000_000_000 }), EINVAL);
  t.equal(rig.change(node, { valid: MTIME, modifySeconds: 2 ** 60 }), EINVAL);
  t.end();
});

t.test('what the kernel writes back from its cache leaves the times to the kernel', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'f');
  rig.clock.seconds = NOW + 5;
  const bytes = Buffer.from('hello');
  const end = rig.call((tag) =>
    rig.fs.write(tag, node, 0, 5, { bytes, address: 0 }, 0, false, true),
  );
  t.equal(end, 5);
  t.match(rig.stat(node), { size: 5, modifySeconds: NOW, changeSeconds: NOW });
  t.end();
});

t.test('fallocate promises room, punches holes and zeroes ranges', (t) => {
  const rig = new FileSystemRig({}, { pageCount: 8 });
  const node = rig.file(1, 'f');
  t.equal(allocate(rig, node, 0, 0, 10_000), 0);
  t.match(rig.stat(node), { size: 10_000, blocks: 24 });
  t.equal(allocate(rig, node, 1, 10_000, 10_000), 0, 'KEEP_SIZE');
  t.match(rig.stat(node), { size: 10_000, blocks: 40 });
  t.equal(allocate(rig, node, 0, 0, 9 * 4096), ENOSPC);
  t.equal(rig.stat(node).size, 10_000);
  rig.write(node, 0, 'x'.repeat(10_000));
  t.equal(allocate(rig, node, 3, 4000, 4192), 0);
  t.equal(rig.read(node, 0, 20_000), `${'x'.repeat(4000)}${'\0'.repeat(4192)}${'x'.repeat(1808)}`);
  t.equal(rig.stat(node).blocks, 32);
  t.equal(allocate(rig, node, 16, 9000, 2000), 0, 'ZERO_RANGE grows the file');
  t.equal(rig.stat(node).size, 11_000);
  t.equal(rig.read(node, 8999, 10), `x${'\0'.repeat(9)}`);
  t.equal(allocate(rig, node, 17, 11_000, 2000), 0);
  t.equal(rig.stat(node).size, 11_000);
  const refused: [number, number, number, number][] = [
    [2, 0, 1, EOPNOTSUPP],
    [8, 0, 4096, EOPNOTSUPP],
    [0x20, 0, 4096, EOPNOTSUPP],
    [0x40, 0, 4096, EOPNOTSUPP],
    [19, 0, 4096, EOPNOTSUPP],
    [0, 0, 0, EINVAL],
    [3, -1, 5, EINVAL],
  ];
  for (const [mode, offset, length, result] of refused) {
    t.equal(allocate(rig, node, mode, offset, length), result, `mode ${mode}`);
  }
  t.equal(allocate(rig, 1, 0, 0, 1), EISDIR);
  t.end();
});

t.test('seek finds data and holes, and nothing behind the end', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'f');
  t.equal(rig.fs.seek(node, 0, 3), ENXIO);
  rig.write(node, 8192, 'x');
  rig.change(node, { valid: SIZE, size: 20_000 });
  t.equal(rig.fs.seek(node, 0, 3), 8192);
  t.equal(rig.fs.seek(node, 0, 4), 0);
  t.equal(rig.fs.seek(node, 8192, 4), 12_288);
  t.equal(rig.fs.seek(node, 12_288, 3), ENXIO);
  t.equal(rig.fs.seek(node, 20_000, 4), ENXIO);
  t.equal(rig.fs.seek(node, 19_999, 4), 19_999);
  t.equal(rig.fs.seek(node, -1, 4), ENXIO);
  t.equal(rig.fs.seek(node, 0, 0), EINVAL);
  t.end();
});

t.test('copyRange copies what the source has, and not onto itself', (t) => {
  const rig = new FileSystemRig();
  const from = rig.file(1, 'f');
  const to = rig.file(1, 'g');
  const copy = (...args: [number, number, number, number, number]): number =>
    rig.call((tag) => rig.fs.copyRange(tag, ...args, false));
  rig.write(from, 0, 'hello world');
  t.equal(copy(from, 6, to, 3, 100), 5);
  t.equal(rig.read(to, 0, 99), '\0\0\0world');
  t.equal(copy(from, 11, to, 3, 100), 0);
  t.equal(copy(from, 0, from, 5, 6), EINVAL);
  t.equal(copy(from, 0, from, 11, 11), 11);
  t.equal(rig.read(from, 0, 99), 'hello worldhello world');
  t.equal(copy(from, 0, to, 2 ** 43, 6), EFBIG);
  t.equal(copy(from, 0, 1, 0, 6), EISDIR);
  t.end();
});

t.test(
  'a write that fails leaves the size as it was; one that is under way has its size at once',
  (t) => {
    const rig = new FileSystemRig({}, { pageCount: 2 });
    const node = rig.file(1, 'f');
    t.equal(rig.write(node, 0, 'x'.repeat(8192)), 8192);
    t.equal(rig.write(node, 8192, 'more'), ENOSPC);
    t.equal(rig.stat(node).size, 8192);
    t.equal(rig.write(node, 0, 'over'), 4);
    rig.store.options.failure = (operation) => (operation === 'write' ? 5 : 0);
    t.equal(rig.write(node, 0, 'over'), EIO);
    rig.store.options.failure = () => 0;

    rig.store.options.delayMs = () => 1;
    const bytes = Buffer.from('hello');
    const other = rig.file(1, 'g');
    rig.fs.write(1000, other, 0, 5, { bytes, address: 0 }, 0, false, false);
    t.equal(rig.stat(other).size, 5);
    rig.fs.write(1001, other, 2 ** 43, 5, { bytes, address: 0 }, 0, false, false);
    t.equal(rig.ends.get(1001), EFBIG);
    setTimeout(() => {
      t.equal(rig.ends.get(1000), ENOSPC);
      t.equal(rig.stat(other).size, 0);
      t.end();
    }, 20);
  },
);

t.test(
  'a write that fails after the file was used for another size takes nothing back',
  async (t) => {
    const rig = new FileSystemRig({}, { pageCount: 1 });
    const node = rig.file(1, 'f');
    rig.store.options.delayMs = () => 2;
    rig.store.options.failure = (operation) => (operation === 'write' ? 28 : 0);
    const bytes = Buffer.from('hello');
    rig.fs.write(1000, node, 0, 5, { bytes, address: 0 }, 0, false, false);
    rig.store.options.failure = () => 0;
    rig.fs.write(1001, node, 5, 5, { bytes, address: 0 }, 0, false, false);
    await new Promise((resolve) => setTimeout(resolve, 30));
    t.equal(rig.ends.get(1000), ENOSPC);
    t.equal(rig.ends.get(1001), 5);
    t.equal(rig.stat(node).size, 10);
    t.end();
  },
);

t.test('sync asks the store; an inode that is not there has nothing to sync', (t) => {
  const rig = new FileSystemRig();
  t.equal(
    rig.call((tag) => rig.fs.sync(tag, 1)),
    0,
  );
  t.equal(rig.store.syncCount, 1);
  t.equal(
    rig.call((tag) => rig.fs.sync(tag, 9)),
    ESTALE,
  );
  rig.fs.close();
  t.equal(rig.store.closed, true);
  t.end();
});

t.test('files of which bytes are lost are told by their paths', (t) => {
  const rig = new FileSystemRig();
  t.same(rig.fs.damagedPaths(100), { count: 0, paths: [] });
  const d = rig.directory(rig.directory(1, 'd'), Buffer.from('ö').toString('latin1'));
  const nodes = ['a', 'b', 'c', 'gone'].map((name) => rig.file(d, name));
  for (const node of [nodes[0]!, nodes[2]!, nodes[3]!]) rig.store.damaged.add(node - 1);
  rig.fs.unlink(d, 'gone');
  t.same(rig.fs.damagedPaths(100), { count: 3, paths: ['/d/ö/a', '/d/ö/c'] });
  t.equal(rig.fs.damagedPaths(1).paths.length, 1);
  rig.write(nodes[0]!, 0, 'x');
  t.equal(rig.read(nodes[0]!, 0, 1), EIO);
  t.end();
});

t.test('open takes regular files only, and any number released twice does no harm', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'f');
  t.equal(rig.fs.open(1, 0), EISDIR);
  t.equal(rig.fs.open(99, 0), ESTALE);
  t.equal(rig.fs.openDirectory(node), -20);
  const first = rig.fs.open(node, 0);
  const second = rig.fs.open(node, 0);
  t.ok(first > 0 && second > 0 && first !== second);
  for (const fh of [first, first, 0, -1, 12_345_678, 0.5]) rig.fs.release(fh);
  rig.fs.unlink(1, 'f');
  rig.fs.forget(node, 1);
  t.equal(rig.stat(node).linkCount, 0);
  rig.fs.release(second);
  t.throws(() => rig.stat(node));
  t.end();
});

function allocate(
  rig: FileSystemRig,
  node: number,
  mode: number,
  offset: number,
  length: number,
  kills = false,
): number {
  return rig.call((tag) => rig.fs.allocate(tag, node, mode, offset, length, kills));
}
