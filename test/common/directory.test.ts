import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { makeDirectory } from '../../common/directory.ts';

const MODULE = path.join(import.meta.dirname, '../../common/directory.js');

t.test('what is missing is made, what is there is left as it is', async (t) => {
  const folder = t.testdir({ there: {}, file: 'kept' });
  fs.chmodSync(path.join(folder, 'there'), 0o755);
  makeDirectory(path.join(folder, 'there/a/b'), 0o700);
  t.equal(fs.statSync(path.join(folder, 'there')).mode & 0o777, 0o755);
  t.equal(fs.statSync(path.join(folder, 'there/a')).mode & 0o777, 0o700);
  t.equal(fs.statSync(path.join(folder, 'there/a/b')).mode & 0o777, 0o700);
  makeDirectory(path.join(folder, 'there/a/b'), 0o777);
  t.equal(fs.statSync(path.join(folder, 'there/a/b')).mode & 0o777, 0o700);
  t.throws(() => makeDirectory(path.join(folder, 'file/below'), 0o700), { code: 'ENOTDIR' });
});

t.test('below /proc it fails, where Node itself would go on for ever', async (t) => {
  // A process of its own: what hangs here would hang the test with it.
  const program = `import { makeDirectory } from ${JSON.stringify(MODULE)};
    try { makeDirectory('/proc/nowhere/x/y', 0o700); } catch ({ code }) { console.log(code); }`;
  const { stdout, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  t.same({ stdout, signal }, { stdout: 'ENOENT\n', signal: null });
});
