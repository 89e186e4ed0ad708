/** Operations on names: what POSIX and tmpfs say of links, directories and renames. */
import t from 'tap';
import { FileSystemRig, ROOT } from '../helpers/file-system-rig.ts';

const EPERM = -1;
const ENOENT = -2;
const EBUSY = -16;
const EEXIST = -17;
const ENOTDIR = -20;
const EISDIR = -21;
const EINVAL = -22;
const ENOSPC = -28;
const ENAMETOOLONG = -36;
const ENOTEMPTY = -39;
const ESTALE = -116;

t.test('a name leads to its file, with one lookup more each time', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'a');
  t.ok(node > 1);
  t.equal(rig.fs.lookup(1, 'a'), node);
  t.equal(rig.fs.lookup(1, 'b'), ENOENT);
  t.equal(rig.fs.lookup(1, '.'), 1);
  t.equal(rig.fs.lookup(1, '..'), 1);
  t.equal(rig.fs.lookup(node, 'a'), ENOTDIR);
  t.equal(rig.fs.lookup(999, 'a'), ESTALE);
  t.equal(rig.fs.lookup(0.5, 'a'), ESTALE);
  t.equal(rig.fs.lookup(2 ** 53, 'a'), ESTALE);
  t.equal(rig.fs.unlink(1, 'a'), 0);
  rig.fs.forget(node, 1);
  t.equal(rig.stat(node).linkCount, 0, 'one lookup is left');
  rig.fs.forget(node, 1);
  t.throws(() => rig.stat(node));
  t.same(rig.store.removed, [node - 1]);
  t.end();
});

t.test('a nodeid that is used again has another generation', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'a');
  const generation = rig.fs.generation(node);
  rig.fs.unlink(1, 'a');
  rig.fs.forget(node, 1);
  t.equal(rig.file(1, 'b'), node);
  t.not(rig.fs.generation(node), generation);
  t.end();
});

t.test('names that nobody can have are refused', (t) => {
  const rig = new FileSystemRig();
  t.equal(rig.file(1, ''), ENOENT);
  t.equal(rig.file(1, '.'), EEXIST);
  t.equal(rig.file(1, '..'), EEXIST);
  t.equal(rig.file(1, 'a/b'), EINVAL);
  t.equal(rig.file(1, 'a\0'), EINVAL);
  t.equal(rig.file(1, 'x'.repeat(256)), ENAMETOOLONG);
  t.ok(rig.file(1, 'x'.repeat(255)) > 0);
  t.equal(rig.fs.lookup(1, 'x'.repeat(256)), ENAMETOOLONG);
  t.equal(rig.file(1, 'x'.repeat(255)), EEXIST);
  t.same(rig.names(1), ['x'.repeat(255)]);
  t.end();
});

t.test('all types are made with their device numbers, and no others', (t) => {
  const rig = new FileSystemRig();
  for (const type of [0o100000, 0o010000, 0o140000, 0o020000, 0o060000]) {
    const node = rig.fs.makeNode(ROOT, 1, `t${type}`, type | 0o640, 0, 0x0501);
    const stat = rig.stat(node);
    t.equal(stat.mode, type | 0o640);
    t.equal(stat.rdev, type === 0o020000 || type === 0o060000 ? 0x0501 : 0);
    t.equal(stat.linkCount, 1);
  }
  t.equal(rig.fs.makeNode(ROOT, 1, 'd', 0o040755, 0, 0), EINVAL);
  t.equal(rig.fs.makeNode(ROOT, 1, 'l', 0o120777, 0, 0), EINVAL);
  t.equal(rig.fs.makeNode(ROOT, 1, 'x', 0o170000, 0, 0), EINVAL);
  t.end();
});

t.test('the umask takes bits, but not set-user-id', (t) => {
  const rig = new FileSystemRig();
  const node = rig.fs.makeNode(ROOT, 1, 'a', 0o106777, 0o027, 0);
  t.equal(rig.stat(node).mode, 0o106750);
  t.equal(rig.stat(rig.fs.makeDirectory(ROOT, 1, 'd', 0o1777, 0o022)).mode, 0o041755);
  t.equal(rig.stat(rig.fs.makeTemporary(ROOT, 1, 0o666, 0o022)).mode, 0o100644);
  t.end();
});

t.test('a set-group-id directory hands on its group, and the bit to directories', (t) => {
  const rig = new FileSystemRig();
  const caller = { uid: 7, gid: 8, pid: 1 };
  const plain = rig.directory(1, 'plain', 0o755, caller);
  t.match(rig.stat(rig.file(plain, 'f', 0o644, caller)), { uid: 7, gid: 8 });
  const shared = rig.directory(1, 'shared');
  rig.change(shared, { valid: 1 | 4, mode: 0o2775, gid: 50 });
  const other = { uid: 9, gid: 9, pid: 1 };
  t.match(rig.stat(rig.file(shared, 'f', 0o644, other)), { uid: 9, gid: 50, mode: 0o100644 });
  t.match(rig.stat(rig.directory(shared, 'd', 0o755, other)), { gid: 50, mode: 0o042755 });
  t.match(rig.stat(rig.fs.symlink(other, shared, 'l', 'x')), { gid: 50, mode: 0o120777 });
  t.match(rig.stat(rig.fs.makeTemporary(other, shared, 0o600, 0)), { gid: 50 });
  t.end();
});

t.test('directories count the directories in them and their entries', (t) => {
  const rig = new FileSystemRig();
  const above = rig.directory(1, 'd');
  t.match(rig.stat(above), { linkCount: 2, size: 40 });
  t.match(rig.stat(1), { linkCount: 3, size: 60 });
  rig.directory(above, 'e');
  rig.file(above, 'f');
  t.match(rig.stat(above), { linkCount: 3, size: 80 });
  t.equal(rig.fs.removeDirectory(1, 'd'), ENOTEMPTY);
  t.equal(rig.fs.removeDirectory(above, 'f'), ENOTDIR);
  t.equal(rig.fs.removeDirectory(above, '.'), EINVAL);
  t.equal(rig.fs.removeDirectory(above, '..'), ENOTEMPTY);
  t.equal(rig.fs.unlink(above, 'e'), EISDIR);
  t.equal(rig.fs.unlink(above, 'f'), 0);
  t.equal(rig.fs.unlink(above, 'f'), ENOENT);
  t.equal(rig.fs.removeDirectory(above, 'e'), 0);
  t.equal(rig.fs.removeDirectory(1, 'd'), 0);
  t.match(rig.stat(1), { linkCount: 2, size: 40 });
  t.match(rig.stat(above), { linkCount: 0 });
  t.equal(rig.file(above, 'x'), ENOENT, 'nothing is made in a directory that is gone');
  t.equal(rig.fs.lookup(above, '..'), ENOENT);
  t.end();
});

t.test('symbolic links keep their target byte by byte', (t) => {
  const rig = new FileSystemRig();
  const target = `${'\xff\x80/'.repeat(1365)}`;
  const node = rig.fs.symlink(ROOT, 1, 'l', target);
  t.equal(target.length, 4095);
  t.equal(rig.fs.readLink(node), target);
  t.match(rig.stat(node), { mode: 0o120777, size: 4095, linkCount: 1 });
  t.equal(rig.fs.symlink(ROOT, 1, 'm', `${target}x`), ENAMETOOLONG);
  t.equal(rig.fs.symlink(ROOT, 1, 'm', ''), ENOENT);
  t.equal(rig.fs.readLink(1), EINVAL);
  t.end();
});

t.test('hard links are one file, and directories have none', (t) => {
  const rig = new FileSystemRig();
  const file = rig.file(1, 'a');
  const directory = rig.directory(1, 'd');
  rig.clock.seconds += 10;
  t.equal(rig.fs.link(file, directory, 'b'), file);
  t.match(rig.stat(file), { linkCount: 2, changeSeconds: 1_000_010, modifySeconds: 1_000_000 });
  t.match(rig.stat(directory), { modifySeconds: 1_000_010, changeSeconds: 1_000_010 });
  t.equal(rig.fs.link(file, directory, 'b'), EEXIST);
  t.equal(rig.fs.link(directory, 1, 'e'), EPERM);
  t.equal(rig.fs.link(999, 1, 'e'), ESTALE);
  t.equal(rig.fs.unlink(1, 'a'), 0);
  t.equal(rig.fs.lookup(directory, 'b'), file);
  t.end();
});

t.test('a file without a name lives while it is open; one made so can be given a name', (t) => {
  const rig = new FileSystemRig();
  const node = rig.file(1, 'a');
  const fh = rig.fs.open(node, 0);
  rig.write(node, 0, 'hello');
  rig.fs.unlink(1, 'a');
  t.equal(rig.fs.link(node, 1, 'b'), ENOENT);
  rig.fs.forget(node, 1);
  t.equal(rig.read(node, 0, 9), 'hello');
  rig.fs.release(fh);
  rig.fs.release(fh);
  t.same(rig.store.removed, [node - 1]);

  const temporary = rig.fs.makeTemporary(ROOT, 1, 0o600, 0);
  t.equal(rig.stat(temporary).linkCount, 0);
  t.equal(rig.fs.link(temporary, 1, 'c'), temporary);
  t.equal(rig.stat(temporary).linkCount, 1);
  rig.fs.unlink(1, 'c');
  t.equal(rig.fs.link(temporary, 1, 'c'), ENOENT, 'it had its name');

  const symlink = rig.fs.symlink(ROOT, 1, 'l', 'x');
  rig.fs.unlink(1, 'l');
  t.equal(rig.fs.link(symlink, 1, 'm'), ENOENT, 'a symbolic link is no temporary file');
  t.end();
});

t.test('rename moves, replaces, and refuses what POSIX refuses', (t) => {
  const rig = new FileSystemRig();
  const file = rig.file(1, 'f');
  const other = rig.file(1, 'g');
  const d = rig.directory(1, 'd');
  const e = rig.directory(1, 'e');
  const inner = rig.directory(d, 'inner');
  rig.file(e, 'x');
  const cases: [number, string, number, string, number, number][] = [
    [1, 'none', 1, 'x', 0, ENOENT],
    [1, 'f', 1, 'd', 0, EISDIR],
    [1, 'd', 1, 'f', 0, ENOTDIR],
    [1, 'd', 1, 'e', 0, ENOTEMPTY],
    [1, 'd', d, 'y', 0, EINVAL],
    [1, 'd', inner, 'y', 0, EINVAL],
    [1, 'f', 1, 'g', 1, EEXIST],
    [1, 'f', 1, 'none', 2, ENOENT],
    [1, 'f', 1, 'g', 3, EINVAL],
    [1, 'f', 1, 'g', 6, EINVAL],
    [1, 'f', 1, 'g', 8, EINVAL],
    [1, '.', 1, 'g', 0, EBUSY],
    [1, 'f', 1, '..', 0, EBUSY],
    [1, 'f', file, 'g', 0, ENOTDIR],
    [1, 'd', inner, 'y', 2, ENOENT],
    [d, 'inner', 1, 'd', 2, EINVAL],
    [1, 'd', 1, 'd', 0, 0],
  ];
  for (const [from, name, to, newName, flags, result] of cases) {
    const got = rig.fs.rename(from, name, to, newName, flags);
    t.equal(got, result, `${from} ${name} -> ${to} ${newName} flags ${flags}`);
  }
  t.same(rig.names(1), ['f', 'g', 'd', 'e'], 'nothing changed');

  rig.clock.seconds += 10;
  t.equal(rig.fs.rename(1, 'f', 1, 'g', 0), 0);
  t.equal(rig.fs.lookup(1, 'g'), file);
  t.equal(rig.fs.lookup(1, 'f'), ENOENT);
  t.match(rig.stat(other), { linkCount: 0, changeSeconds: 1_000_010 });
  t.match(rig.stat(file), { linkCount: 1, changeSeconds: 1_000_010 });

  t.equal(rig.fs.rename(d, 'inner', e, 'inner', 0), 0);
  t.match(rig.stat(d), { linkCount: 2, size: 40 });
  t.match(rig.stat(e), { linkCount: 3, size: 80 });
  t.equal(rig.fs.lookup(inner, '..'), e);
  t.equal(rig.fs.rename(1, 'e', 1, 'd', 0), 0, 'an empty directory is replaced');
  t.equal(rig.stat(d).linkCount, 0);
  t.equal(rig.fs.lookup(1, 'd'), e);
  t.match(rig.stat(1), { linkCount: 3, size: 80 });
  t.end();
});

t.test('two names of one file stay as they are when one is renamed to the other', (t) => {
  const rig = new FileSystemRig();
  const file = rig.file(1, 'a');
  rig.fs.link(file, 1, 'b');
  t.equal(rig.fs.rename(1, 'a', 1, 'b', 0), 0);
  t.same(rig.names(1), ['a', 'b']);
  t.equal(rig.stat(file).linkCount, 2);
  t.end();
});

t.test('exchange swaps files and directories, with the links of their parents', (t) => {
  const rig = new FileSystemRig();
  const d = rig.directory(1, 'd');
  const inner = rig.directory(d, 'inner');
  const file = rig.file(1, 'f');
  t.equal(rig.fs.rename(1, 'f', d, 'inner', 2), 0);
  t.equal(rig.fs.lookup(1, 'f'), inner);
  t.equal(rig.fs.lookup(d, 'inner'), file);
  t.equal(rig.fs.lookup(inner, '..'), 1);
  t.match(rig.stat(d), { linkCount: 2, size: 60 });
  t.match(rig.stat(1), { linkCount: 4 });
  t.equal(rig.fs.rename(1, 'd', 1, 'f', 2), 0);
  t.equal(rig.fs.lookup(1, 'f'), d);
  t.end();
});

t.test('whiteout leaves the character device 0, 0', (t) => {
  const rig = new FileSystemRig();
  const file = rig.file(1, 'f');
  t.equal(rig.fs.rename(1, 'f', 1, 'g', 4), 0);
  t.equal(rig.fs.lookup(1, 'g'), file);
  const whiteout = rig.fs.lookup(1, 'f');
  t.match(rig.stat(whiteout), { mode: 0o020000, rdev: 0, linkCount: 1 });
  t.equal(rig.stat(1).size, 80);
  t.end();
});

t.test('readdir shows an entry that stays exactly once, whatever else changes', (t) => {
  const rig = new FileSystemRig();
  for (let index = 0; index < 50; index += 1) rig.file(1, `keep${index}`);
  for (let index = 0; index < 50; index += 1) rig.file(1, `gone${index}`);
  const fh = rig.fs.openDirectory(1);
  const seen: string[] = [];
  let cookie = 0;
  for (let round = 0; ; round += 1) {
    let room = 3;
    const before = cookie;
    rig.fs.readDirectory(fh, cookie, {
      onEntry: (_nodeid, name, _mode, next) => {
        if (room === 0) return false;
        room -= 1;
        seen.push(name);
        cookie = next;
        return true;
      },
    });
    if (cookie === before) break;
    const last = seen.at(-1)!;
    if (last.startsWith('gone')) rig.fs.unlink(1, last);
    rig.fs.unlink(1, `gone${round}`);
    rig.file(1, `new${round}`);
    // A replaced name is there all the time.
    rig.file(1, 'temporary');
    rig.fs.rename(1, 'temporary', 1, `keep${(round * 7) % 50}`, 0);
  }
  t.same(seen.slice(0, 2), ['.', '..']);
  t.equal(new Set(seen).size, seen.length, 'nothing comes twice');
  for (let index = 0; index < 50; index += 1) t.ok(seen.includes(`keep${index}`));
  t.notOk(
    seen.some((name) => name.startsWith('new')),
    'what came later is not shown',
  );
  cookie = 0;
  const again: string[] = [];
  rig.fs.readDirectory(fh, 0, { onEntry: (_nodeid, name) => again.push(name) > 0 });
  t.ok(
    again.some((name) => name.startsWith('new')),
    'from cookie 0 the handle looks anew',
  );
  t.end();
});

t.test('a cookie of readdir is a place to come back to', (t) => {
  const rig = new FileSystemRig();
  const nodes = ['a', 'b', 'c', 'd'].map((name) => rig.file(1, name));
  const fh = rig.fs.openDirectory(1);
  const entries: { nodeid: number; name: string; mode: number; cookie: number }[] = [];
  const readFrom = (cookie: number): string => {
    entries.length = 0;
    rig.fs.readDirectory(fh, cookie, {
      onEntry: (nodeid, name, mode, next) => entries.push({ nodeid, name, mode, cookie: next }) > 0,
    });
    return entries.map((entry) => entry.name).join(' ');
  };
  t.equal(readFrom(0), '. .. a b c d');
  t.match(entries[0], { nodeid: 1, mode: 0o040000 });
  t.match(entries[2], { nodeid: nodes[0], mode: 0o100000 });
  const afterB = entries[3]!.cookie;
  const afterDot = entries[0]!.cookie;
  t.equal(readFrom(afterB), 'c d');
  rig.fs.unlink(1, 'b');
  t.equal(readFrom(afterB), 'c d');
  t.equal(readFrom(afterDot), '.. a c d');
  rig.fs.unlink(1, 'a');
  rig.fs.unlink(1, 'c');
  t.equal(readFrom(afterB), 'd');
  t.equal(rig.fs.readDirectory(fh + 1, 0, { onEntry: () => true }), -9);
  rig.fs.releaseDirectory(fh);
  t.equal(rig.fs.readDirectory(fh, 0, { onEntry: () => true }), -9);
  t.end();
});

t.test('an open directory that was removed lives until it is closed', (t) => {
  const rig = new FileSystemRig();
  const d = rig.directory(1, 'd');
  const fh = rig.fs.openDirectory(d);
  rig.fs.removeDirectory(1, 'd');
  rig.fs.forget(d, 1);
  t.equal(rig.fs.readDirectory(fh, 0, { onEntry: () => true }), ENOENT);
  t.equal(rig.stat(d).linkCount, 0);
  rig.fs.releaseDirectory(fh);
  t.throws(() => rig.stat(d));
  t.end();
});

t.test('what is removed and not open counts as free before the kernel forgets it', (t) => {
  const rig = new FileSystemRig({}, { pageCount: 10 });
  const statistics = { blockCount: 0, freeBlockCount: 0, inodeCount: 0, freeInodeCount: 0 };
  const free = (): string => {
    rig.fs.statistics(statistics);
    return `${statistics.freeBlockCount} pages, ${statistics.inodeCount - statistics.freeInodeCount} inodes`;
  };
  const node = rig.file(1, 'f');
  rig.write(node, 0, 'x'.repeat(5000));
  t.equal(free(), '8 pages, 2 inodes');
  const fh = rig.fs.open(node, 0);
  rig.fs.unlink(1, 'f');
  t.equal(free(), '8 pages, 2 inodes', 'it is open');
  rig.fs.release(fh);
  t.equal(free(), '10 pages, 1 inodes');
  t.equal(rig.read(node, 0, 1), 'x', 'and yet it is there');
  rig.fs.forget(node, 1);
  t.equal(free(), '10 pages, 1 inodes');
  t.end();
});

t.test('out of inodes or of bytes for names there is ENOSPC, and room again after unlink', (t) => {
  const rig = new FileSystemRig({ inodeCountMax: 4 });
  for (const name of ['a', 'b', 'c']) t.ok(rig.file(1, name) > 0);
  t.equal(rig.file(1, 'd'), ENOSPC);
  t.equal(rig.directory(1, 'd'), ENOSPC);
  t.equal(rig.fs.symlink(ROOT, 1, 'd', 'x'), ENOSPC);
  t.equal(rig.fs.makeTemporary(ROOT, 1, 0o600, 0), ENOSPC);
  t.equal(rig.fs.rename(1, 'a', 1, 'z', 4), ENOSPC);
  const statistics = { blockCount: 0, freeBlockCount: 0, inodeCount: 0, freeInodeCount: 0 };
  rig.fs.statistics(statistics);
  t.match(statistics, { blockCount: 2 ** 20, inodeCount: 4, freeInodeCount: 0 });
  const a = rig.fs.lookup(1, 'a');
  rig.fs.unlink(1, 'a');
  t.equal(rig.file(1, 'd'), ENOSPC, 'the kernel still holds it');
  rig.fs.forget(a, 2);
  t.ok(rig.file(1, 'd') > 0);

  const narrow = new FileSystemRig({ metadataBytesMax: 4000 });
  let links = 0;
  const file = narrow.file(1, 'first');
  while (narrow.fs.link(file, 1, `link${links}`) === file) links += 1;
  t.equal(narrow.fs.link(file, 1, 'more'), ENOSPC);
  t.ok(links > 10 && links < 100, `${links} links`);
  t.end();
});
