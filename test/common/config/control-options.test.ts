/** The options of a control node (common/config/control-options.ts). */
import t from 'tap';
import {
  CONTROL_OPTIONS,
  CONTROL_OPTION_KEYS,
  controlVariableOf,
  resolveControlOptions,
} from '../../../common/config/control-options.ts';
import { isOptionKey, variableOf } from '../../../common/config/options.ts';

t.test('keys and variables are spelled as documented, and none is one of memnode', (t) => {
  t.same(
    CONTROL_OPTION_KEYS,
    'store listen advertise name state socket log-level log-file'.split(' '),
  );
  t.equal(controlVariableOf('log-level'), 'MEMCLOUD_CONTROL_LOG_LEVEL');
  t.ok(isOptionKey('control-plane'));
  const variables: string[] = CONTROL_OPTION_KEYS.map(controlVariableOf);
  t.notOk(variables.includes(variableOf('control-plane')), 'MEMCLOUD_CONTROL_PLANE is memnode’s');
  t.end();
});

t.test('each default is a value that may be written', (t) => {
  for (const key of CONTROL_OPTION_KEYS) {
    const { kind, fallback, describe } = CONTROL_OPTIONS[key];
    t.match(describe, /^[A-Za-z].*[^.]$/, key);
    const value = fallback();
    if (value === undefined) continue;
    t.equal(kind.check(value, { ramBytes: 0, source: 'flag' }), value, key);
  }
  t.end();
});

t.test('a flag counts more than a variable, a variable more than the default', (t) => {
  const env = { MEMCLOUD_CONTROL_NAME: 'by-env', MEMCLOUD_CONTROL_LISTEN: '127.0.0.1:1' };
  const values = resolveControlOptions({ name: 'by-flag', store: undefined }, env);
  t.match(values, { name: 'by-flag', listen: '127.0.0.1:1', 'log-level': 'info' });
  t.equal(values.store, undefined);
  t.equal(resolveControlOptions({}, { MEMCLOUD_CONTROL_LISTEN: '' }).listen, '0.0.0.0:7071');
  const etcd = 'etcd://10.0.0.1:2379,10.0.0.2:2379?ca=/etc/ssl/etcd.pem';
  t.equal(resolveControlOptions({ store: etcd }, {}).store, etcd);
  t.end();
});

t.test('every mistake is told, with the place where it was written', (t) => {
  const env = { MEMCLOUD_CONTROL_LISTEN: 'nowhere', MEMCLOUD_CONTROL_LOG_LEVEL: 'loud' };
  const flags = { store: 'postgres://x', name: '_' };
  try {
    resolveControlOptions(flags, env);
    t.fail('it was taken');
  } catch (error) {
    t.match(error, { code: 'ERR_USAGE' });
    t.same(
      (error as Error).message.split('\n').map((line) => line.split(': expected')[0]),
      ['--store', 'MEMCLOUD_CONTROL_LISTEN', '--name', 'MEMCLOUD_CONTROL_LOG_LEVEL'],
    );
  }
  t.throws(() => resolveControlOptions({ listen: '7071' }, {}), { code: 'ERR_USAGE_ADDRESS' });
  t.end();
});
