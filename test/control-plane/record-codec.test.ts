/** What lies in the store. */
import t from 'tap';
import { CLUSTER_KEY, PREFIX, readRecord } from '../../control-plane/record-codec.ts';

t.test('where things lie', async (t) => {
  t.same(PREFIX, {
    control: '/memcloud/v1/control/',
    member: '/memcloud/v1/member/',
    provider: '/memcloud/v1/provider/',
    lease: '/memcloud/v1/lease/',
    token: '/memcloud/v1/token/',
    request: '/memcloud/v1/request/',
    usage: '/memcloud/v1/usage/',
  });
  t.equal(CLUSTER_KEY, '/memcloud/v1/cluster');
});

const LEASE = {
  ...{ leaseId: 'l', client: 'c', provider: 'p', sizeBytes: 1, ttlMs: 2, purpose: 'x' },
  ...{ requestId: 'r', state: 'active', reason: null },
};

t.test('what was written is read, with fields of later versions left out', async (t) => {
  t.same(readRecord.lease(JSON.stringify({ ...LEASE, later: 1 })), LEASE);
});

t.test('anything else is an error of the store that names no value', async (t) => {
  const bad = [
    '',
    'null',
    '[]',
    '{}',
    '"x"',
    '{"leaseId":7}',
    JSON.stringify({ ...LEASE, state: 'x' }),
  ];
  for (const value of [...bad, JSON.stringify({ ...LEASE, sizeBytes: -1 })]) {
    for (const [name, read] of Object.entries(readRecord)) {
      t.throws(() => read(value), { code: 'ERR_CONTROL_STORE', message: /^the record of a/ }, name);
    }
  }
});
