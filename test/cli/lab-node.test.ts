/** `node start|status|stop` and `logs`: memnode in the background, with nothing left in /tmp. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { CLEAN_ENV, LabNode, eventually, labFolder, runProgram } from '../helpers/lab-node.ts';
import { MemcloudClient } from '../../sdk/client.ts';

const MAIN = path.join(import.meta.dirname, '../../cli/main.js');

/** A home of its own, and memcloud in it. */
function labHome(t: Test) {
  const folder = labFolder(t);
  const state = path.join(folder, 'state');
  const socketPath = path.join(folder, 'n.sock');
  const env = { MEMCLOUD_STATE: state, MEMCLOUD_SOCKET: socketPath };
  const run = (...args: string[]): ReturnType<typeof runProgram> =>
    runProgram([MAIN, ...args], env);
  t.teardown(async () => void (await run('node', 'stop', '--force')));
  const start = ['node', 'start', '--listen', '127.0.0.1:0', '--no-mdns', '--kit', 'off'];
  return { state, socketPath, env, run, start, log: path.join(state, 'memnode.log') };
}

t.test('a path where no folder can be made is refused, and not tried for ever', async (t) => {
  const { run, start, socketPath } = labHome(t);
  const nowhere = '/proc/nowhere/deep/x';
  for (const option of ['--log-file', '--state', '--socket']) {
    const words = [option, nowhere];
    const { code, stdout, stderr } = await run(...start, ...words);
    const said = words.join(' ');
    t.ok(code !== null && code > 0, `${said} ended by itself with ${code}`);
    t.equal(stdout, '', said);
    t.match(stderr, /^memcloud: [^]*\/proc\/nowhere[^]*ENOENT/, said);
    t.notMatch(stderr, /\n {4}at /, said);
  }
  t.notOk(fs.existsSync(socketPath));
});

t.test('a life: start, start again, logs, restart, stop, stop again', async (t) => {
  const { log, run, start, socketPath, env } = labHome(t);
  t.match(await run('node', 'status'), { code: 3, stdout: '' });
  t.match(await run('logs'), { code: 3, stdout: '' });

  const began = await run(...start, '-n', 'attic', '--memory', '64mb', '--json');
  t.equal(began.code, 0, began.stderr);
  const node = JSON.parse(began.stdout) as { pid: number };
  const expected = { running: true, name: 'attic', socketPath, logFile: log };
  t.match(node, { started: true, offerBytes: 67_108_864, ...expected });
  t.equal(fs.statSync(log).mode & 0o777, 0o600);

  const again = await run('--json', 'node', 'start', '--name', 'other');
  t.equal(again.code, 0);
  t.match(JSON.parse(again.stdout), {
    started: false,
    running: true,
    pid: node.pid,
    name: 'attic',
  });
  t.match(await run('node', 'status'), { code: 0, stdout: new RegExp(`process ${node.pid}`) });

  t.equal((await run('node', 'restart')).code, 0);
  const after = JSON.parse((await run('--json', 'node', 'status')).stdout) as { pid: number };
  t.not(after.pid, node.pid);
  const lines = JSON.parse((await run('--json', 'logs')).stdout) as { msg: string }[];
  t.ok(
    lines.some(({ msg }) => msg === 'took over'),
    'the log goes on in the same file',
  );
  t.match(await run('logs', '-n', '1'), {
    code: 0,
    stdout: /^\d{4}-\d\d-\d\d \S+ info {2}[^\n]+\n$/,
  });
  t.match(await run('logs', '-n', 'few'), { code: 2 });

  const args = [MAIN, 'logs', '-f', '-n', '0'];
  const follower = spawn(process.execPath, args, {
    env: { ...CLEAN_ENV, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.teardown(() => void follower.kill('SIGKILL'));
  let followed = '';
  follower.stdout.on('data', (chunk: Buffer) => (followed += chunk.toString()));
  const marked = eventually('a line comes', async () => {
    fs.appendFileSync(log, '{"level":30,"msg":"marked"}\n');
    return Promise.resolve(followed.includes('marked'));
  });
  await marked;
  follower.kill('SIGINT');
  t.equal(((await once(follower, 'close')) as [number])[0], 130);

  const stopped = await run('--json', 'node', 'stop');
  t.equal(stopped.code, 0, stopped.stderr);
  t.match(JSON.parse(stopped.stdout), { stopped: true, pid: after.pid });
  t.throws(() => process.kill(after.pid, 0), { code: 'ESRCH' }, 'it is gone when the command ends');
  t.match(await run('node', 'stop'), { code: 0, stdout: /^No memnode runs/ });
  t.match(await run('logs', '-n', '1'), { code: 0, stdout: /shutting down/ }, 'the log stays');
});

t.test('a node that cannot start says why, in its own words', async (t) => {
  const { run, start } = labHome(t);
  const cases: [string[], number, RegExp][] = [
    [['--offer', '1Q'], 2, /did not start: --offer: .*1Q/],
    [['--port', '1'], 2, /expected one of --port and --listen/],
    [['--bogus'], 2, /Unknown argument/],
    [['--log-file', '/dev/null/log'], 2, /cannot write the log/],
  ];
  for (const [args, code, sentence] of cases) {
    const ended = await run(...start, ...args);
    t.equal(ended.code, code, args.join(' '));
    t.match(ended.stderr, sentence);
    t.equal(ended.stdout, '');
  }
});

t.test('two starts at once: one node, and both commands succeed', async (t) => {
  const { run, start } = labHome(t);
  const ended = await Promise.all([run(...start, '--json'), run(...start, '--json')]);
  t.same(
    ended.map(({ code }) => code),
    [0, 0],
    ended.map(({ stderr }) => stderr).join(),
  );
  const nodes = ended.map(({ stdout }) => JSON.parse(stdout) as { pid: number; started: boolean });
  t.equal(nodes[0]?.pid, nodes[1]?.pid);
  t.same(nodes.map(({ started }) => started).sort(), [false, true]);
});

t.test('in the foreground it ends with Ctrl-C', async (t) => {
  const { env, start, socketPath } = labHome(t);
  const child = spawn(process.execPath, [MAIN, ...start, '--foreground'], {
    env: { ...CLEAN_ENV, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.teardown(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  (await MemcloudClient.connect(socketPath)).close();
  const ended = once(child, 'close') as Promise<[number]>;
  child.kill('SIGINT');
  t.equal((await ended)[0], 0);
});

t.test('a node that logs to where it was started has no log to show', async (t) => {
  const folder = labFolder(t);
  const { socketPath } = await LabNode.start(t, { name: 'plain', folder });
  const ended = await runProgram([MAIN, '-s', socketPath, 'logs']);
  t.match(ended, { code: 1, stdout: '', stderr: /logs to where it was started/ });
});
