import fs from 'node:fs';
import t from 'tap';
import {
  isFuse,
  isWithin,
  mountAt,
  parseMountTable,
  readMountTable,
} from '../../common/mount-table.ts';

const TEXT = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
35 22 0:52 / /mnt/a\\040b rw,nosuid master:3 propagate_from:2 - fuse.memcloud memcloud:x rw,user_id=0
36 22 0:53 / /mnt/a\\040b rw - tmpfs tmpfs rw
37 22 0:54 / /back\\134slash rw - fuseblk /dev/sdb1 rw

nonsense
1 2 3 4 5 6 7
`;

t.test('mounts as proc(5) has them', async (t) => {
  const table = parseMountTable(TEXT);
  t.strictSame(
    table.map(({ mountPoint, device, type, source }) => [mountPoint, device, type, source]),
    [
      ['/', '8:1', 'ext4', '/dev/sda1'],
      ['/mnt/a b', '0:52', 'fuse.memcloud', 'memcloud:x'],
      ['/mnt/a b', '0:53', 'tmpfs', 'tmpfs'],
      ['/back\\slash', '0:54', 'fuseblk', '/dev/sdb1'],
    ],
  );
  t.equal(mountAt(table, '/mnt/a b')?.type, 'tmpfs', 'the uppermost');
  t.equal(mountAt(table, '/mnt'), undefined);
});

t.test('which types some program serves', async (t) => {
  for (const type of ['fuse', 'fuse.sshfs', 'fuseblk']) t.equal(isFuse({ type }), true, type);
  for (const type of ['ext4', 'fusectl', 'fusey']) t.equal(isFuse({ type }), false, type);
});

t.test('what lies within a directory', async (t) => {
  t.equal(isWithin('/a/b', '/a'), true);
  t.equal(isWithin('/a', '/a'), true);
  t.equal(isWithin('/ab', '/a'), false);
  t.equal(isWithin('/a', '/a/b'), false);
  t.equal(isWithin('/anything', '/'), true);
});

t.test('this machine', async (t) => {
  const root = mountAt(readMountTable(), '/');
  const { dev } = fs.statSync('/');
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  t.equal(root?.device, `${major}:${minor}`, 'st_dev of the root');
});
