/** Extended attributes of files: names, limits, and what access lists do to modes and new files. */
import t from 'tap';
import { aclValue } from '../helpers/acl-value.ts';
import { FileSystemRig, ROOT } from '../helpers/file-system-rig.ts';

const E2BIG = -7;
const EPERM = -1;
const EACCES = -13;
const EEXIST = -17;
const EINVAL = -22;
const ENOSPC = -28;
const ERANGE = -34;
const ENODATA = -61;
const EOPNOTSUPP = -95;
const ESTALE = -116;
const CREATE = 1;
const REPLACE = 2;
const NONE = 0xffff_ffff;
const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';

/** rwx for the owner, rw for user 1000, r-x for the group, mask rw-, r-- for others. */
const NAMED = aclValue([1, 7, NONE], [2, 6, 1000], [4, 5, NONE], [0x10, 6, NONE], [0x20, 4, NONE]);

t.test('values are set, replaced, listed and removed', (t) => {
  const { fs, ...rig } = withFile();
  const value = '\0\xff'.repeat(500);
  t.equal(fs.setAttribute(ROOT, rig.node, 'user.b', value, 0, false), 0);
  t.equal(fs.setAttribute(ROOT, rig.node, 'user.a', '', CREATE, false), 0);
  t.equal(fs.getAttribute(rig.node, 'user.b'), value);
  t.equal(fs.getAttribute(rig.node, 'user.a'), '');
  t.equal(fs.listAttributes(rig.node), 'user.a\0user.b\0');
  t.equal(fs.setAttribute(ROOT, rig.node, 'user.a', 'x', CREATE, false), EEXIST);
  t.equal(fs.setAttribute(ROOT, rig.node, 'user.c', 'x', REPLACE, false), ENODATA);
  t.equal(fs.setAttribute(ROOT, rig.node, 'user.a', 'x', 4, false), EINVAL);
  t.equal(fs.setAttribute(ROOT, rig.node, 'user.a', 'longer', REPLACE, false), 0);
  t.equal(fs.getAttribute(rig.node, 'user.a'), 'longer');
  t.equal(fs.removeAttribute(ROOT, rig.node, 'user.b'), 0);
  t.equal(fs.removeAttribute(ROOT, rig.node, 'user.b'), ENODATA);
  t.equal(fs.getAttribute(rig.node, 'user.b'), ENODATA);
  t.equal(fs.getAttribute(999, 'user.b'), ESTALE);
  t.end();
});

t.test(
  'names of other spaces, and user names on what is no file or directory, are refused',
  (t) => {
    const { fs, node } = withFile();
    const link = fs.symlink(ROOT, 1, 'l', 'x');
    const cases: [number, string, number][] = [
      [node, 'other.a', EOPNOTSUPP],
      [node, 'system.other', EOPNOTSUPP],
      [node, 'user', EOPNOTSUPP],
      [node, 'user.', EINVAL],
      [node, '', ERANGE],
      [node, `user.${'x'.repeat(251)}`, ERANGE],
      [node, `user.${'x'.repeat(250)}`, 0],
      [link, 'user.a', EPERM],
      [link, 'trusted.a', 0],
      [link, 'security.a', 0],
      [1, 'user.a', 0],
      [link, ACCESS, EOPNOTSUPP],
    ];
    for (const [on, name, result] of cases) {
      t.equal(fs.setAttribute(ROOT, on, name, 'v', 0, false), result, `${name} on ${on}`);
    }
    t.end();
  },
);

t.test(
  'a value has 64 KiB at most, the names of a file too, all of it the bound of metadata',
  (t) => {
    const { fs, node } = withFile();
    t.equal(fs.setAttribute(ROOT, node, 'user.a', 'x'.repeat(65_537), 0, false), E2BIG);
    const greatest = '0123456789abcdef'.repeat(4096);
    t.equal(fs.setAttribute(ROOT, node, 'user.a', greatest, 0, false), 0);
    t.equal(fs.getAttribute(node, 'user.a'), greatest);
    let count = 0;
    while (
      fs.setAttribute(ROOT, node, `user.${`${count}`.padStart(250, '-')}`, '', 0, false) === 0
    ) {
      count += 1;
    }
    t.equal(count, Math.floor((65_536 - 7) / 256));

    const small = new FileSystemRig({ metadataBytesMax: 100_000 });
    const file = small.file(1, 'f');
    t.equal(small.fs.setAttribute(ROOT, file, 'user.a', greatest, 0, false), 0);
    t.equal(small.fs.setAttribute(ROOT, file, 'user.b', greatest, 0, false), ENOSPC);
    t.equal(small.fs.setAttribute(ROOT, file, 'user.a', greatest, 0, false), 0, 'one for another');
    t.end();
  },
);

t.test('all attributes end with their file', (t) => {
  const rig = new FileSystemRig();
  const empty = rig.fs.metadataBytes;
  for (let round = 0; round < 100; round += 1) {
    const node = rig.file(1, 'f');
    rig.fs.setAttribute(ROOT, node, 'user.a', 'x'.repeat(60_000), 0, false);
    rig.fs.unlink(1, 'f');
    rig.fs.forget(node, 1);
  }
  t.ok(rig.fs.metadataBytes - empty < 1_500_000, `${rig.fs.metadataBytes - empty} bytes more`);
  t.end();
});

t.test('an access list sets the mode, and chmod sets the list', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'f', 0o600);
  rig.clock.seconds += 5;
  t.equal(rig.fs.setAttribute(ROOT, node, ACCESS, NAMED, 0, false), 0);
  t.match(rig.stat(node), { mode: 0o100764, changeSeconds: 1_000_005 });
  t.equal(rig.fs.listAttributes(node), `${ACCESS}\0`);
  rig.change(node, { valid: 1, mode: 0o640 });
  t.equal(
    rig.fs.getAttribute(node, ACCESS),
    aclValue([1, 6, NONE], [2, 6, 1000], [4, 5, NONE], [0x10, 4, NONE], [0x20, 0, NONE]),
  );
  t.equal(rig.fs.removeAttribute(ROOT, node, ACCESS), 0);
  t.equal(rig.stat(node).mode, 0o100640);
  t.equal(rig.fs.removeAttribute(ROOT, node, ACCESS), 0, 'as tmpfs: no list is no error');
  t.end();
});

t.test('a list that says no more than the mode is not kept', (t) => {
  const { fs, node, stat } = withFile();
  const minimal = aclValue([1, 7, NONE], [4, 1, NONE], [0x20, 0, NONE]);
  fs.setAttribute(ROOT, node, ACCESS, NAMED, 0, false);
  t.equal(fs.setAttribute(ROOT, node, ACCESS, minimal, 0, false), 0);
  t.equal(fs.getAttribute(node, ACCESS), ENODATA);
  t.equal(stat(node).mode, 0o100710);
  t.end();
});

t.test('malformed lists are refused, and a default list only of a directory', (t) => {
  const { fs, node, stat } = withFile();
  t.equal(fs.setAttribute(ROOT, node, ACCESS, 'nonsense', 0, false), EINVAL);
  t.equal(fs.setAttribute(ROOT, 1, DEFAULT, NAMED.slice(0, 8), 0, false), EINVAL);
  t.equal(fs.setAttribute(ROOT, node, DEFAULT, NAMED, 0, false), EACCES);
  t.equal(fs.setAttribute(ROOT, 1, DEFAULT, NAMED, 0, false), 0);
  t.equal(stat(1).mode, 0o040755, 'a default list says nothing of the directory itself');
  t.equal(fs.setAttribute(ROOT, 1, DEFAULT, aclValue(), 0, false), 0);
  t.equal(fs.getAttribute(1, DEFAULT), ENODATA, 'an empty one is none');
  t.end();
});

t.test('set-group-id falls with a list by who is not of the group', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'f', 0o2755);
  t.equal(rig.fs.setAttribute(ROOT, node, ACCESS, NAMED, 0, false), 0);
  t.equal(rig.stat(node).mode, 0o102764);
  t.equal(rig.fs.setAttribute(ROOT, node, ACCESS, NAMED, 0, true), 0);
  t.equal(rig.stat(node).mode, 0o100764);
  t.end();
});

t.test('new files begin with the default list, and the umask has no say', (t) => {
  const rig = new FileSystemRig();
  const d = rig.directory(1, 'd');
  rig.fs.setAttribute(ROOT, d, DEFAULT, NAMED, 0, false);
  const file = rig.fs.makeNode(ROOT, d, 'f', 0o100666, 0o077, 0);
  t.equal(rig.stat(file).mode, 0o100664);
  t.equal(
    rig.fs.getAttribute(file, ACCESS),
    aclValue([1, 6, NONE], [2, 6, 1000], [4, 5, NONE], [0x10, 6, NONE], [0x20, 4, NONE]),
  );
  t.equal(rig.fs.getAttribute(file, DEFAULT), ENODATA);
  const inner = rig.fs.makeDirectory(ROOT, d, 'i', 0o700, 0o022);
  t.equal(rig.stat(inner).mode, 0o040700);
  t.equal(rig.fs.getAttribute(inner, DEFAULT), NAMED);
  t.equal(rig.fs.listAttributes(inner), `${ACCESS}\0${DEFAULT}\0`);
  t.equal(rig.fs.listAttributes(rig.fs.symlink(ROOT, d, 'l', 'x')), '');
  const temporary = rig.fs.makeTemporary(ROOT, d, 0o600, 0o777);
  t.equal(rig.stat(temporary).mode, 0o100600);

  const minimal = aclValue([1, 7, NONE], [4, 5, NONE], [0x20, 0, NONE]);
  rig.fs.setAttribute(ROOT, d, DEFAULT, minimal, 0, false);
  const plain = rig.fs.makeNode(ROOT, d, 'g', 0o100666, 0, 0);
  t.equal(rig.stat(plain).mode, 0o100640);
  t.equal(rig.fs.getAttribute(plain, ACCESS), ENODATA);
  t.end();
});

t.test('capabilities fall when the file is written, truncated or given away', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'f');
  const capability = (): string | number => rig.fs.getAttribute(node, 'security.capability');
  const acts: Record<string, () => number> = {
    write: () => rig.write(node, 0, 'x'),
    chown: () => rig.change(node, { valid: 2 | 2048, uid: 5 }),
    truncate: () => rig.change(node, { valid: 8, size: 0 }),
  };
  for (const [name, act] of Object.entries(acts)) {
    rig.fs.setAttribute(ROOT, node, 'security.capability', 'caps', 0, false);
    rig.fs.setAttribute(ROOT, node, 'user.stays', 'v', 0, false);
    t.equal(capability(), 'caps');
    t.ok(act() >= 0);
    t.equal(capability(), ENODATA, name);
    t.equal(rig.fs.getAttribute(node, 'user.stays'), 'v');
  }
  rig.fs.setAttribute(ROOT, node, 'security.capability', 'caps', 0, false);
  rig.change(node, { valid: 1, mode: 0o700 });
  t.equal(capability(), 'caps', 'chmod takes none');
  t.end();
});

function withFile(): {
  fs: FileSystemRig['fs'];
  node: number;
  stat: (node: number) => { mode: number };
} {
  const rig = new FileSystemRig();
  return { fs: rig.fs, node: rig.file(1, 'f'), stat: (node) => rig.stat(node) };
}
