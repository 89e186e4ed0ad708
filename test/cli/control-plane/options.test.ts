/** Roles and limits on the command line (cli/control-plane/options.ts). */
import t from 'tap';
import { readGrant, readNewGrant } from '../../../cli/control-plane/options.ts';

const NONE = { role: undefined, quota: undefined, leases: undefined };

t.test('what is said is read, what is not said is not there', (t) => {
  t.same(readGrant(NONE), {});
  t.same(readGrant({ ...NONE, role: 'client, provider,client' }), {
    roles: ['client', 'provider'],
  });
  t.same(readGrant({ ...NONE, quota: '8G', leases: '100' }), {
    quotaBytes: 8 * 2 ** 30,
    quotaLeases: 100,
  });
  t.same(readGrant({ ...NONE, quota: 'none', leases: 'none' }), {
    quotaBytes: null,
    quotaLeases: null,
  });
  t.same(readNewGrant({ ...NONE, role: 'admin' }), { roles: ['admin'] });
  t.end();
});

t.test('what is neither is refused in words', (t) => {
  for (const role of ['', ',', 'king', 'client,king']) {
    t.throws(() => readGrant({ ...NONE, role }), {
      code: 'ERR_USAGE',
      message: /--role: expected/,
    });
  }
  for (const leases of ['-1', '1.5', '', 'many']) {
    t.throws(() => readGrant({ ...NONE, leases }), { code: 'ERR_USAGE' }, leases);
  }
  t.throws(() => readGrant({ ...NONE, quota: '50%' }), { code: 'ERR_USAGE_SIZE' });
  t.throws(() => readNewGrant({ ...NONE, quota: '1G' }), { message: /expected --role/ });
  t.end();
});
