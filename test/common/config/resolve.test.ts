/** Files, environment and flags: which counts, where it came from, and everything that is wrong. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import {
  checkConfigFiles,
  describeProblem,
  refuseProblems,
  resolveConfig,
  type ConfigInput,
} from '../../../common/config/resolve.ts';
import type { OptionKey } from '../../../common/config/options.ts';

const GIB = 2 ** 30;

/** A folder of configuration, and what is made of it without the folder's name in it. */
function folder(t: Test, files: Record<string, string>) {
  const base = t.testdir({ 'config.d': {} });
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(base, name), text);
  const bare = (text: string): string => text.replaceAll(`${base}/`, '');
  return {
    base,
    read: (input: Partial<ConfigInput> = {}) => {
      const resolved = resolveConfig({ env: {}, configPath: base, ramBytes: 24 * GIB, ...input });
      const setting = (key: OptionKey): unknown[] => {
        const { source, at } = resolved.origins[key];
        return [resolved.values[key], source, bare(at)];
      };
      return {
        ...resolved,
        files: resolved.files.map(bare),
        setting,
        said: resolved.problems.map((problem) => bare(describeProblem(problem))),
      };
    },
  };
}

t.test('a flag wins over the environment over config.d over config.toml over the default', (t) => {
  const { read } = folder(t, {
    'config.toml': 'offer = "1G"\nname = "toml"\nlisten = ":1"\nlog-level = "error"\n',
    'config.d/10-a.toml': '\noffer = "2G"\nname = "ten"\nlisten = ":10"',
    'config.d/20-b.toml': 'offer = "3G"\nname = "twenty"',
    'config.d/15.toml': 'offer = "9G"',
    'config.d/.hidden.toml': 'offer = "9G"',
    'config.d/30-c.toml.bak': 'offer = "9G"',
  });
  const env = { MEMCLOUD_OFFER: '4G', MEMCLOUD_NAME: 'environment' };
  const { setting, files, said } = read({ env, flags: { offer: '50%', bogus: 1 } });
  t.same(said, []);
  t.same(files, ['config.toml', 'config.d/10-a.toml', 'config.d/15.toml', 'config.d/20-b.toml']);
  t.same(setting('offer'), [12 * GIB, 'flag', '--offer']);
  t.same(setting('name'), ['environment', 'env', 'MEMCLOUD_NAME']);
  t.same(setting('listen'), [':10', 'file', 'config.d/10-a.toml:4']);
  t.same(setting('log-level'), ['error', 'file', 'config.toml:4']);
  t.same(setting('auto-trust'), [false, 'default', '']);
  t.same(read().setting('offer'), [3 * GIB, 'file', 'config.d/20-b.toml:1']);
  t.end();
});

t.test('flags, variables and files mean the same', (t) => {
  const { read } = folder(t, {
    'config.toml':
      'connect = ["a:1",\n "b:2"]\nauto-trust = true\nlease-ttl = 7.5\nswap.copies = 3\n[swap]\npath = "direct"',
  });
  t.match(read().said, [/redefine/], 'a table cannot be given twice');
  const file = folder(t, {
    'config.toml':
      'connect = ["a:1",\n "b:2"]\nauto-trust = true\nlease-ttl = 7.5\n[swap]\ncopies = 3\npath = "direct"',
  }).read();
  const env = folder(t, {}).read({
    env: {
      MEMCLOUD_CONNECT: 'a:1, b:2',
      MEMCLOUD_AUTO_TRUST: 'yes',
      MEMCLOUD_LEASE_TTL: '7.5',
      MEMCLOUD_SWAP_COPIES: '3',
      MEMCLOUD_SWAP_PATH: 'direct',
      MEMCLOUD_NAME: '',
    },
  });
  t.same(file.said, []);
  t.same(env.said, []);
  t.same(file.values, env.values);
  t.match(file.values, { connect: ['a:1', 'b:2'], 'auto-trust': true, 'lease-ttl': 7.5 });
  t.match(file.values, { 'swap.copies': 3, 'swap.path': 'direct', 'swap.size': undefined });
  t.same(env.setting('name').slice(1), ['default', ''], 'an empty variable counts as none');
  const flags = { connect: ['a:1', 'b:2'], 'auto-trust': true, 'lease-ttl': '7.5' };
  const flag = folder(t, {}).read({ flags: { ...flags, 'swap.copies': '3' } });
  t.match(flag.values, { connect: ['a:1', 'b:2'], 'auto-trust': true, 'lease-ttl': 7.5 });
  t.equal(flag.values['swap.copies'], undefined, 'which has no flag');
  t.end();
});

t.test('a list replaces the one below it', (t) => {
  const { read } = folder(t, {
    'config.toml': 'connect = ["a:1"]',
    'config.d/1.toml': 'connect = ["b:2"]',
  });
  t.same(read().setting('connect'), [['b:2'], 'file', 'config.d/1.toml:1']);
  t.end();
});

t.test('every mistake is told, in the order of reading, also where another value wins', (t) => {
  const { read } = folder(t, {
    'config.toml': [
      'ofer = "1G"',
      'listen = 7070',
      'name = "a b"',
      '[swap]',
      'size = "8X"',
      'sise = 1',
      '[swpa]',
      'x = 1',
      'y = 2',
      '[zzz]',
      '["a\\nb"]',
    ].join('\n'),
    'config.d/1.toml': 'offer = 8G\nlisten = "x"',
    'config.d/2.toml': '[[swap]]\nsize = 1\n[offer]\nx = 1',
    'config.d/3.toml': 'swap = 5\nname.x = 1\nstate = "here"\noffer = {}',
  });
  const { said, values } = read({
    env: { MEMCLOUD_LISTEN: 'h:1', MEMCLOUD_LOG_LEVEL: 'loud' },
    flags: { offer: '1Y', connect: ['x'] },
  });
  t.same(said, [
    'config.toml:1: ofer: no such key; did you mean offer?',
    'config.toml:2: listen: expected ADDR:PORT or ADDR:PORT-PORT, such as 0.0.0.0:7070 or [::]:7070-7079, got 7070',
    'config.toml:3: name: expected 1 to 63 letters, digits, dots or dashes, got "a b"',
    'config.toml:5: swap.size: expected a size such as 512M, 50% or min(ram/4, 8GiB), got "8X": "X" is not expected there',
    'config.toml:6: swap.sise: no such key; did you mean swap.size?',
    'config.toml:7: swpa: no such table; did you mean swap?',
    'config.toml:10: zzz: no such table',
    'config.toml:11: "a\\nb": no such table',
    'config.d/1.toml:1: expected TOML, but found: illegal character in numeric literal; text stands in quotes: "8G"',
    'config.d/2.toml:1: swap: expected the table [swap]',
    'config.d/2.toml:2: swap.size: expected at least 4 KiB, got 1',
    'config.d/2.toml:3: offer: expected offer = ..., not a table',
    'config.d/3.toml:1: swap: expected the table [swap]',
    'config.d/3.toml:2: name.x: no such key; did you mean name?',
    'config.d/3.toml:3: state: expected an absolute path, got "here"',
    'config.d/3.toml:4: offer: expected bytes, or a size in quotes such as "8G" or "50%", got {}',
    'MEMCLOUD_LOG_LEVEL: expected one of debug, info, warn, error, silent, got "loud"',
    '--offer: expected a size such as 512M, 50% or min(ram/4, 8GiB), got "1Y": "Y" is not expected there',
    '--connect: expected HOST:PORT, such as 192.168.1.20:7070 or [::1]:7070, got "x"',
  ]);
  t.equal(values.listen, 'h:1', 'what is right counts all the same');
  t.end();
});

t.test('the error has the code of the first mistake and a line for each', (t) => {
  refuseProblems([]);
  const { read } = folder(t, {});
  const codes: [Partial<ConfigInput>, string][] = [
    [{ flags: { offer: 'x' } }, 'ERR_USAGE_SIZE'],
    [{ flags: { listen: 'x' } }, 'ERR_USAGE_ADDRESS'],
    [{ env: { MEMCLOUD_NAME: '/' } }, 'ERR_USAGE'],
    [{ configPath: '/nowhere/at/all' }, 'ERR_CONFIG'],
  ];
  for (const [input, code] of codes) {
    t.throws(() => refuseProblems(read(input).problems), { code }, code);
  }
  const two = folder(t, { 'config.toml': 'a = 1\nb = 2' }).read();
  t.throws(() => refuseProblems(two.problems), {
    code: 'ERR_CONFIG',
    message: /:1: a: no such key\n.*:2: b: no such key$/,
  });
  t.end();
});

t.test('MEMCLOUD_CONFIG names a file or folder, and --config wins over it', (t) => {
  const { base } = folder(t, { 'config.toml': 'offer = 1', 'other.toml': 'offer = 2' });
  const env = { MEMCLOUD_CONFIG: path.join(base, 'other.toml') };
  t.equal(resolveConfig({ env }).values.offer, 2);
  t.equal(resolveConfig({ env, configPath: base }).values.offer, 1);
  const none = resolveConfig({ env: { MEMCLOUD_CONFIG: '/dev/null' } });
  t.same([none.problems, none.files], [[], ['/dev/null']]);
  t.same(resolveConfig({ env: {}, configPath: `${base}/config.d` }).files, [], 'an empty folder');
  t.end();
});

t.test('what cannot be read, or believed, is told and not waited for', (t) => {
  const { base } = folder(t, { 'open.toml': 'offer = 1' });
  const said = (...names: string[]): string[] =>
    checkConfigFiles(names.map((name) => path.join(base, name))).map((problem) =>
      describeProblem(problem).replace(`${base}/`, ''),
    );
  t.same(said('absent.toml', 'config.d'), [
    'absent.toml: cannot read: ENOENT',
    'config.d: expected a file',
  ]);
  t.same(checkConfigFiles(['/dev/zero']).map(describeProblem), ['/dev/zero: expected a file']);
  fs.chmodSync(path.join(base, 'open.toml'), 0o666);
  const isRoot = process.geteuid?.() === 0;
  const distrusted = 'open.toml: everybody may write to this file; as root: chmod o-w';
  t.same(said('open.toml'), isRoot ? [distrusted] : []);
  fs.chmodSync(path.join(base, 'open.toml'), 0o664);
  t.same(said('open.toml'), [], 'a group may');
  fs.writeFileSync(path.join(base, 'long.toml'), '#'.repeat(70_000));
  t.same(said('long.toml'), ['long.toml:1: expected at most 64 KiB and 2000 lines']);
  for (let index = 0; index < 257; index += 1) {
    fs.writeFileSync(path.join(base, 'config.d', `${index}.toml`), '');
  }
  const many = resolveConfig({ env: {}, configPath: base });
  t.match(many.problems, [{ message: 'expected at most 256 files' }]);
  t.equal(many.files.length, 256);
  t.end();
});
