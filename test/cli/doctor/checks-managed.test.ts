import t from 'tap';
import { checkControlPlane, checkManagedLeases } from '../../../cli/doctor/checks-managed.ts';
import type { MachineFacts } from '../../../cli/doctor/facts.ts';
import type { ManagedLeaseInfo, ManagedSummary } from '../../../common/rpc-managed.ts';
import { daemonFacts, healthyFacts } from '../../helpers/machine-facts.ts';
import { managedLease } from '../../helpers/managed-lease.ts';

const MANAGED: ManagedSummary = {
  ...{
    addresses: ['control:7071'],
    unpinned: [],
    connected: true,
    leader: 'control',
    cluster: 'c',
  },
  ...{ roles: ['client'], heardMsAgo: 10, provider: null, problem: '' },
  ...{ leaseCount: 0, leasedBytes: 0, endsInMs: null },
};

function facts(
  change: Partial<ManagedSummary> | null,
  managedLeases: readonly ManagedLeaseInfo[] = [],
): MachineFacts {
  const managed = change === null ? null : { ...MANAGED, ...change };
  return { ...healthyFacts(), daemon: { ...daemonFacts({ managed }), managedLeases } };
}

t.test('nothing is said without a control plane, or without a daemon', (t) => {
  t.same(checkControlPlane(facts(null)), []);
  t.same(checkManagedLeases(facts(null)), []);
  const absent = { ...healthyFacts(), daemon: { reason: 'not there' } };
  t.same([...checkControlPlane(absent), ...checkManagedLeases(absent)], []);
  t.end();
});

t.test('the control plane: who leads, or since when nobody does', (t) => {
  t.match(checkControlPlane(facts({})), [
    { level: 'ok', finding: /control leads at control:7071/ },
  ]);
  t.match(checkControlPlane(facts({ unpinned: ['control:7071'] })), [
    { level: 'warning', finding: /at control:7071 any trusted node would be believed/ },
  ]);
  t.match(checkControlPlane(facts({ connected: false, heardMsAgo: 65_000 })), [
    { level: 'problem', finding: /was heard of 1 min 5 s ago/ },
  ]);
  t.match(checkControlPlane(facts({ connected: false, heardMsAgo: null })), [
    { level: 'problem', finding: /was never heard of/ },
  ]);
  t.match(checkControlPlane(facts({ roles: [] })), [{ level: 'warning', finding: /no.* member/ }]);
  t.match(checkControlPlane(facts({ problem: 'not registered' })), [
    { level: 'warning', finding: 'not registered' },
  ]);
  t.end();
});

t.test('leases: renewed in time, or counted down', (t) => {
  t.same(checkManagedLeases(facts({}, [])), []);
  t.match(checkManagedLeases(facts({}, [managedLease()])), [
    { level: 'ok', finding: '1 in time, 1 B' },
  ]);
  const late = managedLease({ endsInMs: 95_000, problem: 'no control node answers' });
  t.match(checkManagedLeases(facts({}, [managedLease(), late])), [
    { level: 'problem', finding: /volume disk on alpha ends in 1 min 35 s: no control node/ },
  ]);
  t.match(
    checkManagedLeases(facts({}, [managedLease({ problem: 'its provider does not answer' })])),
    [{ level: 'problem', finding: /its provider does not answer$/ }],
  );
  const swap = managedLease({ state: 'ending', purpose: 'swap /dev/dm-0', reason: 'revoked' });
  t.match(checkManagedLeases(facts({}, [swap])), [
    { level: 'problem', finding: /: revoked$/, fix: 'memcloud swap move' },
  ]);
  t.match(checkManagedLeases(facts({}, [managedLease({ state: 'ended', reason: 'expired' })])), [
    { level: 'problem', finding: /has ended, it is wiped: expired/ },
  ]);
  const meant = managedLease({ renews: false, endsInMs: 5 });
  t.match(checkManagedLeases(facts({}, [meant])), [{ level: 'ok' }]);
  t.end();
});
