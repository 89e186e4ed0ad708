/** Providers as the leader sees them. */
import t from 'tap';
import {
  drainProvider,
  heartbeat,
  providerLost,
  tickProviders,
} from '../../control-plane/provider-machine.ts';
import { revokeLeases } from '../../control-plane/lease-machine.ts';
import { providerState } from '../../control-plane/rows.ts';
import { CLIENT, LedgerRig, LIFE, nodeId } from '../helpers/ledger-rig.ts';

const P = nodeId('p');
const beat = {
  life: LIFE,
  offeredBytes: 1000,
  otherBytes: 0,
  accepting: true,
  draining: false,
  load: 0,
};

function makeRig(): {
  rig: LedgerRig;
  stateOf: () => string;
  beats: (changes?: object) => boolean;
} {
  const rig = new LedgerRig();
  rig.provider('p');
  const stateOf = (): string => providerState(rig.state, rig.state.providers.get(P)!);
  const beats = (changes = {}): boolean =>
    rig.take(heartbeat(rig.state, rig.nowMs, P, { ...beat, ...changes })).register === true;
  return { rig, stateOf, beats };
}

t.test('up, full, draining, down', async (t) => {
  const { rig, stateOf, beats } = makeRig();
  t.equal(stateOf(), 'up');
  beats({ accepting: false });
  t.equal(stateOf(), 'full');
  beats({ otherBytes: 1000 });
  t.equal(stateOf(), 'full');
  beats({ draining: true });
  t.equal(stateOf(), 'draining');
  beats();
  rig.take(drainProvider(rig.state, rig.nowMs, rig.state.providers.get(P)!, true));
  t.equal(stateOf(), 'draining');
  rig.nowMs += 3000;
  rig.note(tickProviders(rig.state, rig.nowMs));
  t.equal(stateOf(), 'draining', 'at its limit');
  rig.nowMs += 1;
  rig.note(tickProviders(rig.state, rig.nowMs));
  t.equal(stateOf(), 'down');
  t.equal(beats(), false, 'its session lives on');
  t.equal(stateOf(), 'draining');
  t.ok(beats({ life: '2'.repeat(32) }), 'another life is to register');
  rig.note(providerLost(rig.state, rig.nowMs, P));
  t.ok(beats(), 'without a registration in its session');
  t.equal(stateOf(), 'down');
});

t.test('a registration makes both books equal', async (t) => {
  const { rig } = makeRig();
  const [kept, revoked, missing] = [rig.active(), rig.active(), rig.active()];
  const [granted] = rig.request();
  rig.take(revokeLeases(rig.state, rig.nowMs, [revoked]));
  rig.messages.length = 0;
  const told = (leaseId: string, ttlMs = 7000, client = CLIENT): never =>
    ({ leaseId, client, sizeBytes: 100, ttlMs }) as never;
  const unknown = 'f'.repeat(32);
  const ids = { kept: kept.record.leaseId, revoked: revoked.record.leaseId };
  rig.note(providerLost(rig.state, rig.nowMs, P));
  const first = rig.provider('p', { leases: [told(ids.kept), told(unknown)], more: true });
  t.same(first, [unknown]);
  t.equal(rig.state.providers.get(P)!.isUp, false, 'not all was told');
  const second = rig.provider('p', { leases: [told(ids.revoked), told(granted!.lease.leaseId)] });
  t.same(second, [ids.revoked, granted!.lease.leaseId]);
  t.equal(kept.deadlineMs, rig.nowMs + 7000, "the deadline is the provider's");
  t.equal(missing.isOver, true);
  // What is ending is answered, and told as well to a provider whose session lived on.
  t.same(rig.messages, ['end:p:1:provider', 'admit:p:', 'end:p:1:revoked']);
});

t.test(
  'with another life all earlier leases are gone, but for those that were not presented',
  async (t) => {
    const { rig } = makeRig();
    const lease = rig.active();
    const [granted] = rig.request();
    rig.provider('p', { life: '2'.repeat(32), leases: [] });
    t.same([...rig.state.leases.keys()], [granted!.lease.leaseId]);
    t.notOk(rig.state.leases.has(lease.record.leaseId));
    t.same(rig.messages, ['ending:c:1:provider', 'admit:p:']);
    t.equal(rig.state.reservedBytes, 100);
  },
);

t.test('a lease told of for another client is ended', async (t) => {
  const { rig } = makeRig();
  const { leaseId } = rig.active().record;
  const leases = [{ leaseId, client: nodeId('x'), sizeBytes: 100, ttlMs: 1 }];
  t.same(rig.provider('p', { leases }), [leaseId]);
});
