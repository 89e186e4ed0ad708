/** How leases live on and end. */
import t from 'tap';
import {
  leasesEnded,
  leasesUnknown,
  releaseLeases,
  renewLeases,
  revokeLeases,
  tickLeases,
} from '../../control-plane/lease-machine.ts';
import { providerLost } from '../../control-plane/provider-machine.ts';
import { CLIENT, LedgerRig, nodeId } from '../helpers/ledger-rig.ts';

/** Moves time and deals with what is due. */
function pass(rig: LedgerRig, ms: number): void {
  rig.nowMs += ms;
  rig.messages.length = 0;
  rig.note(tickLeases(rig.state, rig.nowMs));
}

function makeRig(): LedgerRig {
  const rig = new LedgerRig();
  rig.provider('p');
  return rig;
}

t.test('a lease that is over: its provider is waited for, asked, and asked again', async (t) => {
  const rig = makeRig();
  const lease = rig.active();
  pass(rig, 59_999);
  t.equal(lease.isOver, false);
  pass(rig, 1);
  t.same([lease.isOver, rig.messages], [true, []]);
  pass(rig, 2000);
  t.same(rig.messages, ['end:p:1:expired']);
  pass(rig, 4999);
  t.same(rig.messages, []);
  pass(rig, 1);
  t.same(rig.messages, ['end:p:1:expired']);
  leasesUnknown(rig.state, rig.nowMs, nodeId('p'), [lease.record.leaseId]);
  pass(rig, 1999);
  t.equal(rig.state.leases.size, 1, 'its word may be on the way');
  pass(rig, 1);
  t.equal(rig.state.leases.size, 0);
  t.same(rig.messages, ['ending:c:1:expired']);
});

t.test('while its provider is down it is counted to its deadline', async (t) => {
  const rig = makeRig();
  rig.active();
  rig.note(providerLost(rig.state, rig.nowMs, nodeId('p')));
  pass(rig, 59_999);
  t.equal(rig.state.leases.size, 1);
  pass(rig, 1);
  t.equal(rig.state.leases.size, 0);
  t.equal(rig.lines.at(-1), 'lease.ended');
});

t.test('revoked: told at once, counted until it is wiped', async (t) => {
  const rig = makeRig();
  const lease = rig.active();
  t.equal(rig.take(revokeLeases(rig.state, rig.nowMs, [lease])), 1);
  t.same(rig.messages, ['end:p:1:revoked', 'ending:c:1:revoked']);
  t.equal(rig.state.reservedBytes, 100);
  rig.messages.length = 0;
  const { leaseId } = lease.record;
  const ending = {
    leaseId,
    client: CLIENT,
    sizeBytes: 100,
    wipedBytes: 100,
    wipeMs: 1,
    receipt: 'r',
  };
  rig.take(
    leasesEnded(rig.state, rig.nowMs, nodeId('p'), [{ ...ending, reason: 'revoked' }], [true]),
  );
  t.same([rig.state.reservedBytes, rig.messages], [0, []], 'the client was told');
  t.same(rig.lines.slice(-2), ['lease.revoked', 'lease.wiped']);
  rig.take(
    leasesEnded(rig.state, rig.nowMs, nodeId('p'), [{ ...ending, reason: 'revoked' }], [true]),
  );
  t.equal(rig.state.reservedBytes, 0, 'told again changes nothing');
});

t.test('released: an unpresented lease goes at once, another one by its provider', async (t) => {
  const rig = makeRig();
  const lease = rig.active();
  const [grant] = rig.request();
  const ids = [lease.record.leaseId, grant!.lease.leaseId, 'f'.repeat(32)];
  t.same(rig.take(releaseLeases(rig.state, rig.nowMs, CLIENT, ids)), ['f'.repeat(32)]);
  t.equal(rig.state.leases.size, 1);
  t.same(rig.messages, ['end:p:1:released'], 'the client knows');
  t.same(rig.take(releaseLeases(rig.state, rig.nowMs, nodeId('x'), ids)), ids);
});

t.test('what is not renewed, and why', async (t) => {
  const rig = makeRig();
  const lease = rig.active();
  const { leaseId } = lease.record;
  const renew = (client = CLIENT, ttlMs = 90_000): string | undefined => {
    const wish = { leaseIds: [leaseId, leaseId], ttlMs };
    const { extend, refused } = rig.take(renewLeases(rig.state, rig.nowMs, client, wish));
    t.equal(extend.size + refused.length, 1, 'an id counts once');
    return refused[0]?.why;
  };
  t.equal(renew(), undefined);
  t.equal(lease.deadlineMs, rig.nowMs + 90_000);
  t.equal(renew(CLIENT, 5000), undefined);
  t.equal(lease.deadlineMs, rig.nowMs + 90_000, 'never earlier');
  t.equal(renew(nodeId('x')), 'unknown');
  t.match(renew(CLIENT, 4999), /at least 5000 ms/);
  rig.note(providerLost(rig.state, rig.nowMs, nodeId('p')));
  t.match(renew(), /p is down/);
  rig.take(revokeLeases(rig.state, rig.nowMs, [lease]));
  t.match(renew(), /is ending/);
});

t.test('a lease that ends at its provider by itself', async (t) => {
  const rig = makeRig();
  const lease = rig.active();
  const ending = {
    leaseId: lease.record.leaseId,
    client: CLIENT,
    sizeBytes: 100,
    wipedBytes: 1,
    wipeMs: 1,
  };
  const endings = [{ ...ending, reason: 'provider' as const, receipt: 'r' }];
  rig.take(leasesEnded(rig.state, rig.nowMs, nodeId('q'), endings, [true]));
  t.equal(rig.state.leases.size, 1, 'the word of another provider ends nothing');
  rig.take(leasesEnded(rig.state, rig.nowMs, nodeId('p'), endings, [false]));
  t.equal(rig.state.leases.size, 0);
  t.same(rig.messages, ['ending:c:1:provider']);
});
