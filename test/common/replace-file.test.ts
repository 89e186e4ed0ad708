/** Files replaced whole or not at all. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { replaceFile } from '../../common/replace-file.ts';

t.test('a file is made, replaced, and has the mode that was asked for', (t) => {
  const folder = t.testdir({});
  const file = path.join(folder, 'list');
  replaceFile(file, 'one\n', 0o600);
  const before = fs.statSync(file).ino;
  replaceFile(file, 'two\n', 0o600);
  t.equal(fs.readFileSync(file, 'utf8'), 'two\n');
  t.not(fs.statSync(file).ino, before, 'who had the old one open still has it whole');
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  t.same(fs.readdirSync(folder), ['list']);
  t.throws(() => replaceFile(path.join(folder, 'no', 'where'), 'x', 0o600), { code: 'ENOENT' });
  t.end();
});
