/** `memcloud config` and `memnode` as processes: what they say of files, and where they find them. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { LabNode, MEMNODE, labFolder, memcloud, runProgram } from '../helpers/lab-node.ts';

const MEMCLOUD = path.join(MEMNODE, '../../cli/main.js');

function files(t: Test, texts: Record<string, string>): string {
  const folder = labFolder(t);
  fs.mkdirSync(path.join(folder, 'config.d'));
  for (const [name, text] of Object.entries(texts)) {
    fs.writeFileSync(path.join(folder, name), text);
  }
  return folder;
}

t.test('config check tells every mistake, one a line, and exits with 2', async (t) => {
  const folder = files(t, {
    'config.toml': 'offer = "lots"\nconect = []\n',
    'config.d/a.toml': 'log-level = 5\n',
    'right.toml': 'offer = "50%"\n',
  });
  const absent = path.join(folder, 'absent.sock');
  const check = await memcloud(absent, 'config', 'check', '--config', folder);
  t.equal(check.code, 2);
  t.equal(check.stderr, '');
  t.same(check.stdout.replaceAll(`${folder}/`, '').split('\n'), [
    'config.toml:1: offer: expected a size such as 512M, 50% or min(ram/4, 8GiB), got "lots": "lots" is no number, ram, min() or max()',
    'config.toml:2: conect: no such key; did you mean connect?',
    'config.d/a.toml:1: log-level: expected one of debug, info, warn, error, silent, got 5',
    '',
  ]);
  const right = path.join(folder, 'right.toml');
  const one = await memcloud(absent, 'config', 'check', right);
  t.match(one, { code: 0, stdout: `Right: ${right}.\n`, stderr: '' });
  const json = await memcloud(absent, '--json', 'config', 'check', right, `${folder}/config.toml`);
  t.equal(json.code, 2);
  t.match(JSON.parse(json.stdout), [
    { file: `${folder}/config.toml`, line: 1, key: 'offer', message: /^expected a size/ },
    { line: 2, key: 'conect' },
  ]);
  t.match(await memcloud(absent, 'config', 'check', '/nowhere'), {
    code: 2,
    stdout: '/nowhere: cannot read: ENOENT\n',
  });
  t.match(await memcloud(absent, 'config', 'check', '--config', '/dev/null'), { code: 0 });
  const none = path.join(folder, 'empty');
  fs.mkdirSync(none);
  t.match(await memcloud(absent, 'config', 'check', '--config', none), {
    code: 0,
    stdout: 'There is no configuration file.\n',
  });
});

t.test('config show works without a daemon and tells where values come from', async (t) => {
  const folder = files(t, { 'config.toml': 'offer = 4096\n', 'config.d/x.toml': 'bogus = 1' });
  const env = { MEMCLOUD_CONFIG: folder, MEMCLOUD_LOG_LEVEL: 'warn' };
  const absent = ['--socket', path.join(folder, 'absent.sock')];
  const show = await runProgram([MEMCLOUD, ...absent, 'config', 'show', '--origin'], env);
  const rows = show.stdout.split('\n').map((line) => line.split(/ {2,}/));
  t.same(rows[0], ['KEY', 'VALUE', 'ORIGIN']);
  t.same(rows.find(([key]) => key === 'offer')?.slice(1), ['4 KiB', `${folder}/config.toml:1`]);
  t.same(rows.find(([key]) => key === 'log-level')?.slice(1), ['warn', 'MEMCLOUD_LOG_LEVEL']);
  t.same(rows.find(([key]) => key === 'connect')?.slice(1), ['-', 'default']);
  t.match(show, { code: 2, stderr: `memcloud: ${folder}/config.d/x.toml:1: bogus: no such key\n` });
  const json = await runProgram([MEMCLOUD, ...absent, '--json', 'config', 'show'], {
    MEMCLOUD_CONFIG: `${folder}/config.toml`,
  });
  t.equal(json.code, 0, json.stderr);
  t.match(JSON.parse(json.stdout), [
    { key: 'offer', value: 4096, source: 'file', at: `${folder}/config.toml:1` },
    { key: 'peer-allowed', value: null, source: 'default', at: '' },
  ]);
  t.match(await runProgram([MEMCLOUD, ...absent, 'config', 'reload']), { code: 3, stdout: '' });
});

t.test('memnode does not start on a mistake and tells all of them', async (t) => {
  const folder = files(t, { 'config.toml': 'ofer = 1\nname = ""\n' });
  const state = path.join(folder, 'state');
  const ended = await runProgram([MEMNODE, '--config', folder, '--state', state, '--listen', 'x']);
  t.match(ended, { code: 2, stdout: '' });
  t.same(ended.stderr.replaceAll(`${folder}/`, '').split('\n'), [
    'memnode: config.toml:1: ofer: no such key; did you mean offer?',
    'config.toml:2: name: expected 1 to 63 letters, digits, dots or dashes, got ""',
    '--listen: expected ADDR:PORT or ADDR:PORT-PORT, such as 0.0.0.0:7070 or [::]:7070-7079, got "x"',
    '',
  ]);
  t.notOk(fs.existsSync(state), 'nothing was made');
});

t.test('memcloud finds the daemon by the socket of the configuration', async (t) => {
  const folder = labFolder(t);
  await LabNode.start(t, { name: 'alpha', folder });
  const config = path.join(folder, 'c.toml');
  fs.writeFileSync(config, `socket = "${folder}/alpha.sock"\nbogus = 1\n`);
  const status = (env: NodeJS.ProcessEnv) => runProgram([MEMCLOUD, '--json', 'status'], env);
  const found = await status({ MEMCLOUD_CONFIG: config });
  t.equal(found.code, 0, found.stderr);
  t.match(JSON.parse(found.stdout), { name: 'alpha' });
  const other = { MEMCLOUD_CONFIG: config, MEMCLOUD_SOCKET: `${folder}/other.sock` };
  t.equal((await status(other)).code, 3, 'a variable wins');
});
