import t from 'tap';
import type { ManagedLeaseInfo, ManagedStatus } from '../../../common/rpc-managed.ts';
import { managedHealth } from '../../../daemon/managed/health.ts';
import { managedLease } from '../../helpers/managed-lease.ts';

const STATUS: ManagedStatus = {
  ...{
    addresses: ['control:7071'],
    unpinned: [],
    connected: true,
    leader: 'control',
    cluster: 'c',
  },
  ...{ roles: ['client'], heardMsAgo: 100, provider: null, problem: '' },
};

const lease = (change: Partial<ManagedLeaseInfo> = {}): ManagedLeaseInfo =>
  managedLease({ endsInMs: 95_000, ...change });

t.test('nothing is said of a node without a control plane, or where all is well', (t) => {
  t.same(managedHealth(undefined, []), []);
  t.same(managedHealth(STATUS, [lease(), lease({ renews: false })]), []);
  t.end();
});

t.test('a lease that cannot be renewed is counted down, the first to end first', (t) => {
  const problem = 'no control node answers';
  const status = { ...STATUS, connected: false, heardMsAgo: 90_000 };
  const later = lease({ problem, endsInMs: 300_000, purpose: 'swap /dev/dm-0' });
  t.same(managedHealth(status, [later, lease({ problem })]), [
    'the control plane has not answered for 1 min 30 s: nothing can be leased, and leases are not renewed',
    'managed lease abababab of volume disk on alpha ends in 1 min 35 s: no control node answers',
    'managed lease abababab of swap /dev/dm-0 on alpha ends in 5 min 0 s: no control node answers',
  ]);
  t.end();
});

t.test('one that is taken back, and one that is over, say why', (t) => {
  t.same(
    managedHealth(STATUS, [
      lease({ state: 'ending', reason: 'revoked', endsInMs: 500 }),
      lease({ state: 'ended', reason: 'expired', endsInMs: 0 }),
    ]),
    [
      'managed lease abababab of volume disk on alpha has ended (expired): its memory is wiped',
      'managed lease abababab of volume disk on alpha ends in 500 ms: revoked',
    ],
  );
  t.end();
});

t.test('of many there is one sentence', (t) => {
  const many = Array.from({ length: 25 }, () => lease({ state: 'ending' }));
  const said = managedHealth({ ...STATUS, connected: false, heardMsAgo: null }, many);
  t.equal(said.length, 22);
  t.match(said[0], /has not answered yet/);
  t.equal(said.at(-1), '5 more managed leases end: memcloud lease ls');
  t.end();
});

t.test('what keeps the node from lending is said', (t) => {
  const problem = 'the control plane does not count this node among its providers';
  t.same(managedHealth({ ...STATUS, problem }, []), [problem]);
  t.end();
});
