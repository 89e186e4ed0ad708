/** A reload: what is applied, what waits, and that a mistake changes nothing. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { silentLogger } from '../../common/log.ts';
import { readConfig } from '../../daemon/config.ts';
import { LiveConfig, type Appliers } from '../../daemon/live-config.ts';

/** A configuration of one file under some flags, and what was applied of it. */
async function live(t: Test, text: string, flags: string[] = []) {
  const file = path.join(t.testdir(), 'c.toml');
  const write = (next: string): void => fs.writeFileSync(file, next);
  write(text);
  const env = { MEMCLOUD_SWAP_COPIES: '3' };
  const config = await readConfig(['--config', file, '--state', '/s', ...flags], env);
  if (config === undefined) throw new Error('no configuration');
  const calls: unknown[][] = [];
  const appliers: Appliers = {
    offer: (value, before) => {
      if (value === 666) throw new MemcloudError('ERR_NATIVE', 'mount failed: EPERM');
      calls.push(['offer', value, before]);
    },
    'peer-allowed': (value, before) => calls.push(['peer-allowed', value, before]),
    reserve: (value, before) => calls.push(['reserve', value, before]),
    'recall-grace': (value, before) => calls.push(['recall-grace', value, before]),
    connect: (value, before) => calls.push(['connect', value, before]),
    'log-level': (value, before) => calls.push(['log-level', value, before]),
    'trust-fingerprint': (value, before) => calls.push(['trust-fingerprint', value, before]),
    'obey-revocations': (value, before) => calls.push(['obey-revocations', value, before]),
  };
  const subject = new LiveConfig(config.written, appliers, silentLogger);
  const phases: string[] = [];
  subject.onPhase = (phase) => phases.push(phase);
  const setting = (key: string): unknown => {
    const found = subject.info().settings.find((each) => each.key === key);
    return found && [found.value, found.source, found.at.replace(`${file}:`, 'line ')];
  };
  return { subject, file, write, calls, phases, setting };
}

t.test('what can be applied is applied, the rest is told', async (t) => {
  const { subject, file, write, calls, phases, setting } = await live(
    t,
    'offer = 1\nconnect = ["a:1"]\nname = "old"',
  );
  t.same(subject.info().files, [file]);
  t.equal(subject.info().configPath, file);
  t.same(subject.reload(), [], 'all is as it was');
  write(
    '\noffer = 2\nconnect = ["b:1"]\nname = "new"\nlog-level = "warn"\n[swap]\nsize = 4096\ncopies = 8',
  );
  t.same(subject.reload(), [
    { key: 'offer', before: 1, after: 2, effect: 'applied', note: '' },
    { key: 'name', before: 'old', after: 'new', effect: 'restart', note: '' },
    { key: 'connect', before: ['a:1'], after: ['b:1'], effect: 'applied', note: '' },
    { key: 'log-level', before: 'info', after: 'warn', effect: 'applied', note: '' },
    { key: 'swap.size', before: null, after: 4096, effect: 'next swap on', note: '' },
  ]);
  t.same(calls, [
    ['offer', 2, 1],
    ['connect', ['b:1'], ['a:1']],
    ['log-level', 'warn', 'info'],
  ]);
  t.same(setting('offer'), [2, 'file', 'line 2']);
  t.same(setting('name'), ['old', 'file', 'line 3'], 'it still goes by the old name');
  t.same(setting('swap.size'), [4096, 'file', 'line 7']);
  t.same(setting('swap.copies'), [3, 'env', 'MEMCLOUD_SWAP_COPIES']);
  t.match(subject.reload(), [{ key: 'name', before: 'old', after: 'new', effect: 'restart' }]);
  t.equal(calls.length, 3, 'what is done is not done again');
  write('name = "old"');
  t.match(subject.reload(), [
    { key: 'offer', before: 2 },
    { key: 'connect', before: ['b:1'], after: [] },
    { key: 'log-level', before: 'warn', after: 'info' },
    { key: 'swap.size', before: 4096, after: null },
  ]);
  t.same(setting('log-level'), ['info', 'default', '']);
  t.same(setting('swap.size'), [null, 'default', '']);
  t.same(phases, [
    'reloading',
    'ready',
    'reloading',
    'ready',
    'reloading',
    'ready',
    'reloading',
    'ready',
  ]);
});

t.test('a flag of the start goes on to win', async (t) => {
  const { subject, write, calls, setting } = await live(t, 'offer = 1', ['--offer', '7']);
  write('offer = 2\nlog-level = "warn"');
  t.match(subject.reload(), [{ key: 'log-level' }]);
  t.equal(calls.length, 1);
  t.same(setting('offer'), [7, 'flag', '--offer']);
});

t.test('with a mistake anywhere nothing changes', async (t) => {
  const { subject, file, write, calls, phases, setting } = await live(t, 'offer = 1');
  const wrongs = ['offer = 2\nnmae = "x"', 'offer = 2\nlog-level = 5', 'offer = 2\noffer = 3', '['];
  for (const text of wrongs) {
    write(text);
    t.throws(() => subject.reload(), { code: 'ERR_CONFIG' }, text);
  }
  fs.rmSync(file);
  t.throws(() => subject.reload(), { code: 'ERR_CONFIG', message: `${file}: cannot read: ENOENT` });
  t.same(calls, []);
  t.same(setting('offer'), [1, 'file', 'line 1']);
  t.equal(phases.length, 10);
  t.equal(phases.at(-1), 'ready', 'the service manager is told also then');
});

t.test('what fails stays as it was and is tried again', async (t) => {
  const { subject, write, calls, setting } = await live(t, 'offer = 1');
  write('offer = 666\nlog-level = "warn"');
  const failed = {
    key: 'offer',
    before: 1,
    after: 666,
    effect: 'failed',
    note: 'mount failed: EPERM',
  };
  t.match(subject.reload(), [failed, { key: 'log-level', effect: 'applied' }]);
  t.same(setting('offer'), [1, 'file', 'line 1']);
  t.match(subject.reload(), [failed]);
  write('\noffer = 667\nlog-level = "warn"');
  t.match(subject.reload(), [{ key: 'offer', before: 1, after: 667, effect: 'applied' }]);
  t.same(calls.at(-1), ['offer', 667, 1]);
});
