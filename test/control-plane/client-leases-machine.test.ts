import t from 'tap';
import {
  ClientLeasesMachine,
  type LeaseAction,
  type NewClientLease,
} from '../../control-plane/client-leases-machine.ts';

const TTL_MS = 600_000;

function lease(leaseId: string, more: Partial<NewClientLease> = {}): NewClientLease {
  return {
    leaseId: leaseId.repeat(32),
    provider: {
      nodeId: '0'.repeat(32),
      publicKey: '1'.repeat(64),
      name: 'lender',
      address: '127.0.0.1:7070',
      hostId: 'host',
      zone: '',
    },
    sizeBytes: 1 << 24,
    ttlMs: TTL_MS,
    renews: true,
    purpose: 'volume disk',
    ...more,
  };
}

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);

function machineWith(...leases: NewClientLease[]): ClientLeasesMachine {
  const machine = new ClientLeasesMachine();
  for (const each of leases) machine.add(each, each.ttlMs);
  return machine;
}

const warnings = (actions: LeaseAction[]): number[] =>
  actions.flatMap((action) => (action.type === 'warn' ? [action.endsInMs] : []));

t.test('leases of one ttl are renewed together, a third into their time', (t) => {
  const machine = machineWith(lease('a'), lease('b'), lease('c', { renews: false }));
  t.equal(machine.nextTickMs(0), 200_000);
  t.same(machine.tick(199_999), []);
  t.same(machine.tick(200_000), [{ type: 'renew', ttlMs: TTL_MS, leaseIds: [A, B] }]);
  t.same(machine.tick(200_001), [], 'nothing is asked for twice');
  t.same(machine.onRenewed(A, TTL_MS, 200_000), []);
  t.equal(machine.get(A)?.endsAtMs, 800_000, 'counted from when it was asked for');
  t.equal(machine.get(B)?.endsAtMs, 600_000);
  t.end();
});

t.test('at most 256 leases go into one renewal', (t) => {
  const machine = new ClientLeasesMachine();
  for (let index = 0; index < 300; index += 1) {
    machine.add({ ...lease('a'), leaseId: index.toString(16).padStart(32, '0') }, TTL_MS);
  }
  const sizes = machine
    .tick(200_000)
    .map((action) => (action.type === 'renew' ? action.leaseIds.length : NaN));
  t.same(sizes, [256, 44]);
  t.end();
});

t.test('while nobody answers it is tried until the deadline, with warnings', (t) => {
  const machine = machineWith(lease('a'));
  let renewals = 0;
  const warned: number[] = [];
  let ended = 0;
  for (let nowMs = 0; nowMs <= TTL_MS; nowMs += 1000) {
    const actions = machine.tick(nowMs);
    warned.push(...warnings(actions));
    for (const action of actions) {
      if (action.type === 'changed') ended += action.lease.state === 'ended' ? 1 : 0;
      if (action.type !== 'renew') continue;
      renewals += 1;
      machine.onUnanswered(action.leaseIds, 'no control node answers', nowMs);
    }
  }
  t.equal(renewals, 80, 'every five seconds of the last 400');
  t.same(warned, [300_000, 150_000, 60_000, 10_000]);
  t.equal(ended, 1);
  t.match(machine.get(A), { state: 'ended', reason: 'expired' });
  machine.tick(TTL_MS + 60_000);
  t.equal(machine.get(A), undefined, 'and is forgotten a minute later');
  t.end();
});

t.test('a leader that comes back is asked at once, and the warnings begin anew', (t) => {
  const machine = machineWith(lease('a'));
  machine.tick(200_000);
  machine.onUnanswered([A], 'no control node answers', 200_000);
  t.equal(machine.nextTickMs(200_000), 5_000);
  t.equal(machine.get(A)?.problem, 'no control node answers');
  machine.hasten(201_000);
  t.match(machine.tick(201_000), [{ type: 'renew' }]);
  machine.onRenewed(A, TTL_MS, 201_000);
  t.match(machine.get(A), { state: 'active', problem: '', endsAtMs: 801_000 });
  t.same(warnings(machine.tick(501_000)), [300_000]);
  t.end();
});

t.test('short leases are warned of by shares alone', (t) => {
  const machine = machineWith(lease('a', { ttlMs: 8_000, renews: false }));
  const warned: number[] = [];
  for (let nowMs = 0; nowMs <= 8_000; nowMs += 500) warned.push(...warnings(machine.tick(nowMs)));
  t.same(warned, [4_000, 2_000]);
  t.end();
});

t.test('of warnings that were slept through only the last comes', (t) => {
  const machine = machineWith(lease('a', { renews: false }));
  t.same(warnings(machine.tick(TTL_MS - 9_000)), [9_000]);
  t.same(warnings(machine.tick(TTL_MS - 8_000)), []);
  t.end();
});

t.test('a refusal makes it end, unless it is lifted before the deadline', (t) => {
  const machine = machineWith(lease('a'));
  machine.tick(200_000);
  t.match(machine.onRefused(A, 'the provider is down', 200_000), [
    { type: 'changed', lease: { state: 'ending', final: false, problem: 'the provider is down' } },
  ]);
  t.match(machine.tick(205_000), [{ type: 'renew' }]);
  t.same(machine.onRefused(A, 'the provider is down', 205_000), [], 'it is told of once');
  machine.tick(210_000);
  t.match(machine.onRenewed(A, TTL_MS, 210_000), [
    { type: 'changed', lease: { state: 'active', problem: '' } },
  ]);
  t.end();
});

t.test('what the control plane knows no more is not asked for again', (t) => {
  const machine = machineWith(lease('a'));
  machine.tick(200_000);
  t.match(machine.onRefused(A, 'unknown', 200_000), [
    { type: 'changed', lease: { state: 'ending', final: true } },
  ]);
  t.same(machine.tick(250_000), []);
  t.same(machine.onRenewed(A, TTL_MS, 250_000), [], 'and a late answer changes nothing');
  t.equal(machine.get(A)?.endsAtMs, TTL_MS);
  t.end();
});

t.test('the control plane can end a lease earlier, never later', (t) => {
  const machine = machineWith(lease('a'), lease('b'));
  t.match(machine.onEnding([A, B, 'f'.repeat(32)], 'revoked', 3_000, 1_000), [
    { lease: { leaseId: A, state: 'ending', endsAtMs: 4_000, reason: 'revoked' } },
    { lease: { leaseId: B } },
  ]);
  machine.onEnding([A], 'revoked', 90_000, 2_000);
  t.equal(machine.get(A)?.endsAtMs, 4_000);
  t.match(machine.tick(4_000), [
    { type: 'changed', lease: { leaseId: A, state: 'ended', reason: 'revoked' } },
    { type: 'changed', lease: { leaseId: B, state: 'ended' } },
  ]);
  t.equal(machine.liveCount, 0);
  t.end();
});

t.test('what was given back is nobody’s business', (t) => {
  const machine = machineWith(lease('a'));
  machine.remove(A);
  t.equal(machine.nextTickMs(0), Infinity);
  t.same(machine.onRenewed(A, TTL_MS, 5), []);
  t.same(machine.onRefused(A, 'unknown', 5), []);
  t.same(machine.list(), []);
  t.end();
});
