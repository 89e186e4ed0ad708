import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import t from 'tap';
import { cpioFile, cpioFolder, cpioLink, encodeCpio } from '../../../cli/guest/cpio.ts';

const busybox = ['/bin/busybox', '/usr/bin/busybox'];

t.test('the archive begins with the newc magic and is padded to four bytes', async (t) => {
  const archive = encodeCpio([cpioFile('/a', 'xyz')]);
  t.equal(archive.subarray(0, 6).toString(), '070701');
  t.equal(archive.length % 4, 0);
  // c_filesize is the seventh field after the magic, eight hex digits each.
  t.equal(archive.subarray(6 + 6 * 8, 6 + 7 * 8).toString(), '00000003');
  t.match(archive.toString('latin1'), /TRAILER!!!\0/);
});

t.test('folders on the way come before their files, once each', async (t) => {
  const text = encodeCpio([
    cpioFile('a/b/one', '1'),
    cpioFile('a/b/two', '2'),
    cpioFolder('a'),
  ]).toString('latin1');
  const names = [...text.matchAll(/070701[0-9a-f]{104}([^\0]+)\0/g)].map((match) => match[1]);
  t.same(names, ['a', 'a/b', 'a/b/one', 'a/b/two', 'TRAILER!!!']);
});

t.test('another implementation unpacks what we wrote', async (t) => {
  const archive = encodeCpio([
    cpioFile('bin/x', Buffer.from([0, 255, 10]), 0o755),
    cpioLink('bin/y', 'x'),
    cpioFolder('empty'),
  ]);
  const folder = t.testdir();
  const program = busybox.find((file) => existsSync(file));
  if (program === undefined) {
    t.comment('skipped: busybox is not installed');
    return;
  }
  execFileSync(program, ['cpio', '-idm'], { input: archive, cwd: folder, stdio: 'pipe' });
  const listing = execFileSync(
    'sh',
    ['-c', 'stat -c "%n %a %F" bin/x bin/y empty; cat bin/y | od -An -tx1'],
    {
      cwd: folder,
    },
  ).toString();
  t.same(
    listing
      .trim()
      .split('\n')
      .map((line) => line.trim()),
    ['bin/x 755 regular file', 'bin/y 777 symbolic link', 'empty 755 directory', '00 ff 0a'],
  );
});
