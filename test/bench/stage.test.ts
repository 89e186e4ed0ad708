/** Whatever a benchmark starts is gone when its stage is closed, and failures say why. */
import fs from 'node:fs';
import t from 'tap';
import { Stage, waitFor } from '../../bench/stage.ts';

const READY_MS = 10_000;
const isReady = (output: string): boolean => output.includes('ready');
const node = (code: string): string[] => ['--eval', code];
const STAYS = 'console.log("ready"); setInterval(() => {}, 1000);';

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

t.test('closing ends servers and removes directories', async (t) => {
  const stage = new Stage();
  const elsewhere = stage.makeDirectoryIn(t.testdir());
  const inside = stage.makeDirectory('target');
  t.not(stage.makeDirectory('target'), inside, 'a name may be used again');
  const server = await stage.serve(process.execPath, node(STAYS), READY_MS, isReady);
  t.ok(isAlive(server.pid));
  await stage.close();
  t.notOk(isAlive(server.pid));
  t.notOk(fs.existsSync(inside) || fs.existsSync(elsewhere));
  await t.rejects(stage.run('true', [], READY_MS), /the benchmark is ending/);
});

t.test('servers that do not become ready', async (t) => {
  const stage = new Stage();
  t.teardown(() => stage.close());
  const fails = node('console.error("no room"); process.exit(3);');
  await t.rejects(stage.serve(process.execPath, fails, READY_MS, isReady), /start: no room/);
  await t.rejects(stage.serve('/nonexistent', [], READY_MS, isReady), /ENOENT/);
  const silent = node('setInterval(() => {}, 1000);');
  await t.rejects(stage.serve(process.execPath, silent, 100, isReady), /did not start/);
});

t.test('commands give their output, or fail with what they complained of', async (t) => {
  const stage = new Stage();
  t.teardown(() => stage.close());
  t.equal(await stage.run('echo', ['hello'], READY_MS), 'hello\n');
  const fails = node('console.error("bad disk"); process.exit(4);');
  await t.rejects(stage.run(process.execPath, fails, READY_MS), /ended with 4: bad disk/);
  await t.rejects(stage.run('sleep', ['60'], 50), /was killed \(limit 50 ms\)/);
  await t.rejects(stage.run('/nonexistent', [], READY_MS), /ENOENT/);
});

t.test('a server is stopped once, also when asked twice', async (t) => {
  const stage = new Stage();
  t.teardown(() => stage.close());
  const server = await stage.serve(process.execPath, node(STAYS), READY_MS, isReady);
  await server.stop();
  await server.stop();
  t.notOk(isAlive(server.pid));
  await t.rejects(
    waitFor('never', 30, () => false),
    /never: waited 30 ms in vain/,
  );
});
