/** The table of options, and the document and the example that people read instead of it. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import {
  OPTION_KEYS,
  OPTION_TABLES,
  isOptionKey,
  optionOf,
  variableOf,
} from '../../../common/config/options.ts';
import { checkConfigFiles, describeProblem } from '../../../common/config/resolve.ts';

const DOCS = path.join(import.meta.dirname, '../../../../docs');
const EXAMPLE = path.join(DOCS, 'examples/config.toml');
const GIB = 2 ** 30;

t.test('keys, variables and tables are spelled as documented', (t) => {
  t.same(
    OPTION_KEYS,
    'offer peer-allowed name host zone reserve recall-grace object-readers listen connect mdns mdns-interfaces dns peer-exchange control-plane managed-only auto-trust trust-fingerprint obey-revocations allow-plain memory-dir state socket rpc-group rpc-tcp log-level log-file kit realtime lease-ttl peer-dead-ms swap.size swap.copies swap.priority swap.path swap.scope swap.memory swap.discard mount.directory mount.size mount.copies mount.profile'.split(
      ' ',
    ),
  );
  t.same(OPTION_TABLES, ['swap', 'mount']);
  t.equal(variableOf('auto-trust'), 'MEMCLOUD_AUTO_TRUST');
  t.equal(variableOf('swap.size'), 'MEMCLOUD_SWAP_SIZE');
  t.equal(isOptionKey('swap.size'), true);
  for (const key of ['swap', 'toString', '__proto__', '', 'Offer'])
    t.equal(isOptionKey(key), false);
  t.end();
});

t.test('each default is a value that may be written', (t) => {
  for (const key of OPTION_KEYS) {
    const { kind, fallback } = optionOf(key);
    const value = fallback({ ramBytes: 24 * GIB });
    if (value === undefined) continue;
    t.same(kind.check(value, { ramBytes: 24 * GIB, source: 'file' }), value, key);
  }
  t.equal(optionOf('offer').fallback({ ramBytes: 24 * GIB }), 6 * GIB);
  t.equal(optionOf('offer').fallback({ ramBytes: 64 * GIB }), 8 * GIB);
  t.end();
});

t.test('what help says is one line without a full stop', (t) => {
  for (const key of OPTION_KEYS) {
    const { describe, hasFlag } = optionOf(key);
    t.match(describe, /^[A-Za-z].*[^.]$/, key);
    t.notMatch(describe, /\n/);
    t.equal(hasFlag, !key.includes('.'), 'tables are for files');
  }
  t.end();
});

t.test(
  'docs/configuration.md has a row for each option and no other, equal in every column',
  (t) => {
    const text = fs.readFileSync(path.join(DOCS, 'configuration.md'), 'utf8');
    const section = text.split(/^## /m).find((part) => part.startsWith('Keys')) ?? '';
    const rows = section
      .split('\n')
      .filter((line) => /^\| `/.test(line))
      .map((line) => line.split('|').map((cell) => cell.trim().replaceAll('`', '')));
    const when = {
      live: 'at a reload',
      restart: 'at the next start',
      'next swap on': 'for the next swap on',
      'next mount': 'for the next mount',
    };
    t.same(
      rows.map((cells) => cells.slice(1, -1)),
      OPTION_KEYS.map((key) => {
        const { kind, fallbackText, change, describe } = optionOf(key);
        const meaning = describe.replaceAll('`', '');
        return [key, variableOf(key), kind.name, fallbackText, when[change], meaning];
      }),
    );
    t.end();
  },
);

t.test('the example is right as it stands and with every line made active', (t) => {
  const text = fs.readFileSync(EXAMPLE, 'utf8');
  t.same(checkConfigFiles([EXAMPLE]).map(describeProblem), []);
  const active = path.join(t.testdir(), 'active.toml');
  const lines = text.split('\n').map((line) => line.replace(/^#(?=[a-z])/, ''));
  fs.writeFileSync(active, lines.join('\n'));
  t.same(checkConfigFiles([active]).map(describeProblem), []);
  for (const key of OPTION_KEYS.filter((each) => !optionOf(each).isHidden)) {
    const [name = '', section = ''] = key.split('.').reverse();
    const start = section === '' ? 0 : lines.indexOf(`[${section}]`);
    const end = lines.findIndex((line, index) => index > start && line.startsWith('['));
    const part = lines.slice(start, end < 0 ? undefined : end);
    t.equal(part.filter((line) => line.startsWith(`${name} = `)).length, 1, key);
  }
  t.end();
});
