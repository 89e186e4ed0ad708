/** The Debian package: made, unpacked, and its program run from there. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { judge, requires } from '../../helpers/judges.ts';
import { CLEAN_ENV, labFolder, runProgram } from '../../helpers/lab-node.ts';

const WRITE = path.join(import.meta.dirname, '../../../cli/package/write.js');

t.test('made, unpacked, run', requires('dpkg-deb'), async (t) => {
  const folder = labFolder(t);
  const made = spawnSync(process.execPath, [WRITE, folder], { env: CLEAN_ENV });
  t.equal(made.status, 0, made.stderr.toString());
  const file = made.stdout.toString().trim();
  t.match(path.basename(file), /^memcloud_\d+\.\d+\.\d+_(amd64|arm64)\.deb$/);

  const fields = (await judge('dpkg-deb', ['-f', file])).stdout;
  for (const line of [/^Package: memcloud$/m, /^Depends: nodejs \(>= 20\.19\)$/m])
    t.match(fields, line);
  const listed = (await judge('dpkg-deb', ['-c', file])).stdout.trim().split('\n');
  t.same(
    listed.filter((line) => !/^[dl-][rwx-]{9} root\/root /.test(line) || /^[d-].{7}w/.test(line)),
    [],
    'everything is root’s, and nobody else may write it',
  );
  const names = listed.map((line) => line.replace(/^(?:\S+ +){5}\./, '').replace(/ -> .*/, ''));
  for (const name of ['/usr/bin/memcloud', '/usr/bin/memcli', '/usr/bin/memnode']) {
    t.ok(names.includes(name), name);
  }
  t.ok(names.includes('/usr/lib/memcloud/LICENSE'));
  t.same(
    names.filter((name) => /\/(dist\/(test|bench|examples)|typescript|tap)\//.test(name)),
    [],
    'nothing that only a checkout uses',
  );

  const unpacked = path.join(folder, 'unpacked');
  t.equal((await judge('dpkg-deb', ['-R', file, unpacked])).code, 0);
  const prerm = path.join(unpacked, 'DEBIAN/prerm');
  t.match(await judge('sh', ['-n', prerm]), { code: 0, stderr: '' });
  t.match(
    await judge('sh', [prerm, 'upgrade', '1']),
    { code: 0, stdout: '' },
    'no unit is touched',
  );
  t.ok(fs.readFileSync(path.join(unpacked, 'usr/share/man/man1/memcli.1.gz')).length > 1000);
  for (const shell of [
    'bash-completion/completions/memcloud',
    'zsh/vendor-completions/_memcloud',
  ]) {
    t.match(fs.readFileSync(path.join(unpacked, 'usr/share', shell), 'utf8'), '__complete');
  }

  const memcloud = path.join(unpacked, 'usr/bin/memcloud');
  const socket = path.join(folder, 'n.sock');
  const run = (...words: string[]): ReturnType<typeof runProgram> =>
    runProgram([memcloud, '-s', socket, ...words], { MEMCLOUD_STATE: path.join(folder, 'state') });
  t.teardown(async () => void (await run('node', 'stop', '--force')));
  t.match(await run('version'), { code: 0, stdout: /^memcloud \d/ });
  const flags = ['--listen', '127.0.0.1:0', '--no-mdns', '--kit', 'off', '--offer', '64M'];
  const began = await run('node', 'start', ...flags);
  t.equal(began.code, 0, began.stderr);
  t.match(await run('set', 'k', 'v'), { code: 0 });
  t.match(await run('get', 'k'), { code: 0, stdout: 'v' }, 'the native parts are there');
  t.match(await run('node', 'stop'), { code: 0 });
});
