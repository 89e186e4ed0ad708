import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { lockStateDirectory } from '../../daemon/state-lock.ts';

t.test('the directory is made, private, and the lock names its holder', async (t) => {
  const directory = path.join(t.testdir(), 'a/b/state');
  const lock = lockStateDirectory(directory);
  t.equal(fs.statSync(directory).mode & 0o777, 0o700);
  t.equal(fs.readFileSync(path.join(directory, 'memnode.pid'), 'utf8'), `${process.pid}\n`);
  lock.release();
  t.same(fs.readdirSync(directory), [], 'nothing is left');
});

t.test('a second holder is refused and told who has it', async (t) => {
  const directory = t.testdir();
  const lock = lockStateDirectory(directory);
  t.throws(() => lockStateDirectory(directory), {
    code: 'ERR_DAEMON_BUSY',
    message: new RegExp(`memnode with process id ${process.pid} uses`),
  });
  lock.release();
  lockStateDirectory(directory).release();
});

t.test('a file that a killed daemon left is taken over, whoever has its number now', async (t) => {
  for (const left of [`${process.pid}\n`, '1\n', 'garbage', '', '99999999\n']) {
    const directory = t.testdir({ 'memnode.pid': left });
    const lock = lockStateDirectory(directory);
    t.equal(fs.readFileSync(path.join(directory, 'memnode.pid'), 'utf8'), `${process.pid}\n`);
    lock.release();
  }
});

t.test('a directory that cannot be used is a plain error', async (t) => {
  const file = path.join(t.testdir({ file: '' }), 'file');
  // In a process of its own: Node's recursive mkdir never returned below /proc.
  const module = path.join(import.meta.dirname, '../../daemon/state-lock.js');
  const program = `import(${JSON.stringify(module)}).then(({ lockStateDirectory }) => {
    try { lockStateDirectory('/proc/none/state'); } catch (e) { console.log(e.code, e.message); }
  })`;
  const child = spawnSync(process.execPath, ['-e', program], { timeout: 10_000 });
  t.equal(
    child.stdout.toString(),
    'ERR_NATIVE cannot use state directory /proc/none/state: ENOENT\n',
  );
  t.throws(() => lockStateDirectory(file), { code: 'ERR_NATIVE', message: /ENOTDIR/ });
});

t.test('a link in the place of the lock is not followed', async (t) => {
  const directory = t.testdir({ target: 'keep', 'memnode.pid': t.fixture('symlink', 'target') });
  t.throws(() => lockStateDirectory(directory), { code: 'ERR_NATIVE' });
  t.equal(fs.readFileSync(path.join(directory, 'target'), 'utf8'), 'keep');
});
