/** What a provider says to leaders that answer, refuse, change, forget and vanish. */
import t, { type Test } from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { silentLogger } from '../../common/log.ts';
import type { ManagedLeaseState } from '../../common/managed.ts';
import { encodeManagedCall } from '../../control-plane/messages.ts';
import { ProviderRegistration } from '../../control-plane/provider-registration.ts';
import { ScriptedLeader, settle, settled } from '../helpers/scripted-leader.ts';

const CLIENT = 'c'.repeat(32);

function hexId(n: number): string {
  return n.toString(16).padStart(32, '0');
}

function begin(t: Test, leases: ManagedLeaseState[] = []) {
  const clock = { ms: 0, nowMs: () => clock.ms };
  const leader = new ScriptedLeader();
  leader.answers['provider.register'] = () => ({ epoch: 1, end: [], heartbeatMs: 1000 });
  leader.answers['provider.heartbeat'] = () => ({ epoch: 1 });
  leader.answers['provider.ended'] = () => ({});
  const room = { offeredBytes: 1000, otherBytes: 10, accepting: true, draining: false, load: 0 };
  const disowned: string[] = [];
  const registration = new ProviderRegistration({
    link: leader,
    leases: () => leases,
    onDisowned: (ids) => disowned.push(...ids),
    usage: () => ({ ...room }),
    port: () => 7070,
    ...{ hostId: 'host', zone: 'z', clock, logger: silentLogger },
  });
  t.teardown(() => registration.close());
  const tickAt = async (ms: number): Promise<void> => {
    clock.ms = ms;
    registration.tick();
    await settle();
  };
  return { clock, leader, room, disowned, registration, tickAt };
}

function ending(n: number) {
  const rest = { client: CLIENT, sizeBytes: 1, reason: 'expired' as const };
  return { leaseId: hexId(n), ...rest, wipedBytes: 0, wipeMs: 0, receipt: 'r'.repeat(450) };
}

t.test('it says who it is as soon as somebody leads, and then that it is there', async (t) => {
  const { leader, registration, room, tickAt } = begin(t);
  await tickAt(0);
  t.strictSame(leader.said, []);
  t.equal(registration.registered, false);
  leader.lead(1);
  await settle();
  t.equal(registration.registered, true);
  const { life } = registration;
  t.match(life, /^[0-9a-f]{32}$/);
  const { offeredBytes, otherBytes, accepting, draining } = room;
  const told = { offeredBytes, otherBytes, accepting, draining };
  t.strictSame(leader.take('provider.register'), [
    { life, hostId: 'host', zone: 'z', port: 7070, ...told, leases: [] },
  ]);
  await tickAt(999);
  t.strictSame(leader.said, []);
  await tickAt(1000);
  await tickAt(1001);
  t.strictSame(leader.take('provider.heartbeat'), [{ life, ...room }]);
  room.draining = true;
  await tickAt(1250);
  t.match(leader.take('provider.heartbeat'), [{ draining: true }], 'what changed is said at once');
  room.otherBytes = 11;
  await tickAt(1500);
  t.strictSame(leader.said, []);
});

t.test(
  'leases are told in parts, and those that the leader knows not are handed back',
  async (t) => {
    const leases = Array.from({ length: 600 }, (_, n) => ({
      ...{ leaseId: hexId(n), client: CLIENT, sizeBytes: 2 ** 40, usedBytes: 5 },
      ttlMs: 86_400_000.7,
    }));
    const { leader, disowned } = begin(t, leases);
    leader.answers['provider.register'] = ({ leases: [first] }) => {
      return { epoch: 1, end: first === undefined ? [] : [first.leaseId], heartbeatMs: 1000 };
    };
    leader.lead(1);
    await settle();
    const parts = leader.take('provider.register');
    t.strictSame(
      parts.map((part) => [part.leases.length, part.more]),
      [
        [256, true],
        [256, true],
        [88, undefined],
      ],
    );
    for (const part of parts) t.doesNotThrow(() => encodeManagedCall('provider.register', part));
    t.strictSame(parts[0]?.leases[0], {
      ...{ leaseId: hexId(0), client: CLIENT, sizeBytes: 2 ** 40, ttlMs: 86_400_000 },
    });
    t.strictSame(disowned, [hexId(0), hexId(256), hexId(512)]);
  },
);

t.test(
  'another leader is told everything, in the middle of what was said to the last one',
  async (t) => {
    const { leader, registration } = begin(t);
    const first = settled<{ epoch: number; end: string[]; heartbeatMs: number }>();
    leader.answers['provider.register'] = () => first.promise;
    leader.lead(1);
    const { signal } = registration;
    await settle();
    leader.answers['provider.register'] = () => ({ epoch: 2, end: [], heartbeatMs: 500 });
    leader.lead(2);
    t.equal(signal.aborted, true);
    await settle();
    t.equal(registration.registered, true);
    t.equal(registration.epoch, 2);
    t.equal(leader.take('provider.register').length, 2);
    first.resolve({ epoch: 1, end: [], heartbeatMs: 1 });
    await settle();
    t.equal(registration.epoch, 2);
  },
);

t.test('a call that fails ends the registration; a second later it is tried again', async (t) => {
  const { leader, registration, tickAt } = begin(t);
  leader.lead(1);
  await settle();
  const { signal } = registration;
  leader.answers['provider.heartbeat'] = () => {
    throw new MemcloudError('ERR_CONTROL_UNREACHABLE', 'no answer');
  };
  await tickAt(1000);
  t.equal(registration.registered, false);
  t.equal(signal.aborted, true, 'what was asked under it counts no more');
  leader.take('provider.register');
  await tickAt(1999);
  t.strictSame(leader.take('provider.register'), []);
  await tickAt(2000);
  t.equal(leader.take('provider.register').length, 1);
  t.equal(registration.registered, true);
});

t.test('a leader that forgot it is told again at once', async (t) => {
  const { leader, registration, tickAt } = begin(t);
  leader.lead(1);
  await settle();
  leader.take('provider.register');
  leader.answers['provider.heartbeat'] = () => ({ epoch: 1, register: true });
  await tickAt(1000);
  t.equal(leader.take('provider.register').length, 1);
  t.equal(registration.registered, true);
});

t.test('one that is no provider there says so, and asks seldom', async (t) => {
  const { leader, registration, tickAt } = begin(t);
  leader.answers['provider.register'] = () => {
    throw new MemcloudError('ERR_CONTROL_DENIED', 'not a provider');
  };
  leader.lead(1);
  await settle();
  t.equal(registration.problem, 'not a provider');
  await tickAt(2999);
  t.equal(leader.take('provider.register').length, 1);
  leader.answers['provider.register'] = () => ({ epoch: 1, end: [], heartbeatMs: 1000 });
  await tickAt(3000);
  t.equal(registration.registered, true);
  t.equal(registration.problem, '');
});

t.test('a term that is over is not heard', async (t) => {
  const { leader, registration, tickAt } = begin(t);
  registration.hear(5);
  t.throws(() => registration.hear(4), { code: 'ERR_CONTROL_NOT_LEADER' });
  t.doesNotThrow(() => registration.hear(5));
  leader.lead(4);
  await settle();
  t.equal(registration.registered, false, 'nor registered with');
  leader.answers['provider.register'] = () => ({ epoch: 6, end: [], heartbeatMs: 1000 });
  await tickAt(1000);
  t.equal(registration.registered, true);
});

t.test('endings wait for a leader and are told until one has them', async (t) => {
  const { leader, registration, tickAt } = begin(t);
  for (let n = 0; n < 50; n += 1) registration.tellEnded(ending(n));
  await settle();
  t.equal(registration.untoldCount, 50);
  leader.answers['provider.ended'] = () => {
    throw new MemcloudError('ERR_CONTROL_STORE', 'the store is away');
  };
  leader.lead(1);
  await settle();
  t.equal(leader.take('provider.ended').length, 1);
  await tickAt(999);
  t.strictSame(leader.take('provider.ended'), []);
  t.equal(registration.untoldCount, 50);
  leader.answers['provider.ended'] = () => ({});
  await tickAt(1000);
  const told = leader.take('provider.ended');
  t.strictSame(
    told.map(({ endings }) => endings.length),
    [48, 2],
  );
  for (const each of told) t.doesNotThrow(() => encodeManagedCall('provider.ended', each));
  t.equal(registration.untoldCount, 0);
  registration.tellEnded(ending(99));
  await settle();
  t.equal(leader.take('provider.ended').length, 1, 'at once while registered');
});

t.test('endings that a leader can never take are dropped', async (t) => {
  const { leader, registration } = begin(t);
  leader.answers['provider.ended'] = () => {
    throw new MemcloudError('ERR_CONTROL_PROTOCOL', 'malformed');
  };
  leader.lead(1);
  await settle();
  registration.tellEnded(ending(1));
  await settle();
  t.equal(registration.untoldCount, 0);
});

t.test('after its end it says nothing', async (t) => {
  const { leader, registration, tickAt } = begin(t);
  registration.close();
  leader.lead(1);
  await tickAt(5000);
  t.strictSame(leader.said, []);
});
