/** The file of the seal key: made once, for its user alone, whole, and never in place of another. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import util from 'node:util';
import t, { type Test } from 'tap';
import { defaultSealKeyFile, loadSealKey } from '../../sdk/seal-key.ts';
import { openValue, sealValue } from '../../sdk/seal.ts';

const MODULE = path.join(import.meta.dirname, '../../sdk/seal-key.js');

function folderOf(t: Test): string {
  const folder = fs.mkdtempSync('/tmp/mc-seal-');
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

t.test('a key is made the first time, and the same ever after', (t) => {
  const folder = folderOf(t);
  const file = path.join(folder, 'a/b/seal.key');
  t.throws(() => loadSealKey(file), { code: 'ERR_OBJECT_SEAL', message: /no seal key at/ });
  t.notOk(fs.existsSync(path.dirname(file)), 'reading makes nothing');
  const made = loadSealKey(file, { make: true });
  t.equal(fs.statSync(file).size, 32);
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  t.equal(fs.statSync(path.dirname(file)).mode & 0o777, 0o700);
  t.same(fs.readdirSync(path.dirname(file)), ['seal.key'], 'nothing else is left there');
  const sealed = sealValue(made, { name: 'k' }, Buffer.from('value'));
  const again = loadSealKey(file, { make: true });
  t.equal(openValue(again, { name: 'k' }, sealed).toString(), 'value');
  t.equal(made.export().length, 32);
  t.notMatch(
    util.inspect(made, { depth: 9 }),
    made.export().toString('hex'),
    'a key does not print itself',
  );
  t.end();
});

t.test('a file that is no key, or that others may read, is refused', (t) => {
  const folder = folderOf(t);
  const file = path.join(folder, 'seal.key');
  for (const [size, got] of [
    [0, '0'],
    [31, '31'],
    [33, 'more'],
    [4096, 'more'],
  ] as const) {
    fs.writeFileSync(file, Buffer.alloc(size), { mode: 0o600 });
    t.throws(() => loadSealKey(file), { code: 'ERR_USAGE', message: new RegExp(`got ${got}`) });
    t.equal(fs.statSync(file).size, size, 'and stays as it is');
  }
  fs.writeFileSync(file, Buffer.alloc(32));
  for (const mode of [0o640, 0o604, 0o660]) {
    fs.chmodSync(file, mode);
    t.throws(() => loadSealKey(file), { code: 'ERR_USAGE', message: /chmod 600/ });
  }
  t.throws(() => loadSealKey(folder), { code: 'ERR_USAGE', message: /is no file/ });
  t.throws(() => loadSealKey(path.join(file, 'below'), { make: true }), { code: 'ERR_NATIVE' });
  t.end();
});

t.test('processes that make it at once have one key', async (t) => {
  const file = path.join(folderOf(t), 'seal.key');
  const code =
    `const { loadSealKey } = await import(${JSON.stringify(MODULE)});` +
    `console.log(loadSealKey(${JSON.stringify(file)}, { make: true }).export().toString('hex'));`;
  const keys = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const args = ['--input-type=module', '-e', code];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      let text = '';
      child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
      await once(child, 'close');
      return text;
    }),
  );
  t.equal(new Set(keys).size, 1);
  t.match(keys[0], /^[0-9a-f]{64}\n$/);
});

t.test('where it is', (t) => {
  const { MEMCLOUD_SEAL_KEY, XDG_CONFIG_HOME, HOME } = process.env;
  t.teardown(() => {
    for (const [name, value] of Object.entries({ MEMCLOUD_SEAL_KEY, XDG_CONFIG_HOME, HOME })) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });
  process.env['HOME'] = '/home/of-somebody';
  delete process.env['MEMCLOUD_SEAL_KEY'];
  delete process.env['XDG_CONFIG_HOME'];
  t.equal(defaultSealKeyFile(), '/home/of-somebody/.config/memcloud/seal.key');
  process.env['XDG_CONFIG_HOME'] = 'relative';
  t.equal(defaultSealKeyFile(), '/home/of-somebody/.config/memcloud/seal.key');
  process.env['XDG_CONFIG_HOME'] = '/etc/of-somebody';
  t.equal(defaultSealKeyFile(), '/etc/of-somebody/memcloud/seal.key');
  process.env['MEMCLOUD_SEAL_KEY'] = '/keys/one';
  t.equal(defaultSealKeyFile(), '/keys/one');
  t.end();
});
