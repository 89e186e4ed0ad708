import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { readPrivateFile, writePrivateFile } from '../../peer/private-file.ts';

t.test('no file is undefined', async (t) => {
  t.equal(readPrivateFile(path.join(t.testdir({}), 'none'), 10), undefined);
});

t.test('what was written is read, mode 0600 whatever the umask', async (t) => {
  const file = path.join(t.testdir({}), 'a', 'b', 'file');
  const umask = process.umask(0);
  try {
    writePrivateFile(file, Buffer.from('one'), 'create');
    writePrivateFile(file, Buffer.from('two'), 'replace');
  } finally {
    process.umask(umask);
  }
  t.same(readPrivateFile(file, 3), Buffer.from('two'));
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  t.same(fs.readdirSync(path.dirname(file)), ['file']);
});

t.test('create never takes the place of a file, and leaves nothing behind', async (t) => {
  const file = path.join(t.testdir({ file: 'old' }), 'file');
  t.throws(() => writePrivateFile(file, Buffer.from('new'), 'create'), { code: 'EEXIST' });
  t.equal(fs.readFileSync(file, 'utf8'), 'old');
  t.same(fs.readdirSync(path.dirname(file)), ['file']);
});

t.test('what a crashed writer left is no obstacle', async (t) => {
  const directory = t.testdir({ [`file.tmp-${process.pid}`]: 'half' });
  writePrivateFile(path.join(directory, 'file'), Buffer.from('whole'), 'replace');
  t.same(fs.readdirSync(directory), ['file']);
});

t.test('one byte over the limit is refused, the limit is not', async (t) => {
  const file = path.join(t.testdir({}), 'file');
  writePrivateFile(file, Buffer.alloc(10), 'create');
  t.equal(readPrivateFile(file, 10)?.length, 10);
  t.throws(() => readPrivateFile(file, 9), { message: 'expected at most 9 bytes, got 10' });
});
