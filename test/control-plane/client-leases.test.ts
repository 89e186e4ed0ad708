import t, { type Test } from 'tap';
import { silentLogger } from '../../common/log.ts';
import { ClientLeases, type LeaseNews, type LeaseWish } from '../../control-plane/client-leases.ts';
import { LeaseDouble } from '../helpers/lease-double.ts';

const MIB = 2 ** 20;
const WISH: LeaseWish = {
  ...{ sizeBytes: 64 * MIB, ttlMs: 60_000, count: 1, purpose: 'volume disk', renews: true },
};

interface Scene {
  readonly double: LeaseDouble;
  readonly leases: ClientLeases;
  readonly news: LeaseNews[];
  readonly clock: { now: number; nowMs(): number };
  /** Passes time, and lets what follows from it happen. */
  readonly pass: (ms: number) => Promise<void>;
}

function scene(t: Test, prepare: (double: LeaseDouble) => void = () => undefined): Scene {
  const double = new LeaseDouble();
  prepare(double);
  const clock = { now: 1000, nowMs: () => clock.now };
  const news: LeaseNews[] = [];
  const leases = new ClientLeases({
    ...{ control: double, links: double, door: double, clock, logger: silentLogger },
    hostId: 'here',
    presentDeadlineMs: 300,
  });
  leases.onNews((each) => news.push(each));
  t.teardown(() => leases.abandon());
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const pass = async (ms: number): Promise<void> => {
    clock.now += ms;
    leases.tick();
    for (let count = 0; count < 5; count += 1) await turn();
  };
  return { double, leases, news, clock, pass };
}

const callsOf = (double: LeaseDouble, call: string): number =>
  double.calls.filter((each) => each.call === call).length;

t.test('a lease is asked for, its provider dialled, its token presented', async (t) => {
  const { double, leases } = scene(t);
  const alpha = double.provider('alpha');
  double.provider('beta');
  const held = await leases.request({ ...WISH, count: 2 });
  t.same(
    held.map(({ provider }) => provider.name),
    ['alpha', 'beta'],
  );
  t.same(alpha.calls, ['lease.present']);
  t.same([...double.openDoors], ['alpha', 'beta']);
  t.match(held[0], { state: 'active', purpose: 'volume disk', sizeBytes: 64 * MIB });
  const request = double.calls.find(({ call }) => call === 'lease.request');
  t.match(request?.params, { hostId: 'here', requestId: /^[0-9a-f]{32}$/ });
});

t.test('a token that died is followed by a fresh one', async (t) => {
  const { double, leases } = scene(t);
  const alpha = double.provider('alpha');
  alpha.failures.push({ code: 'ERR_TOKEN', done: false });
  const [held] = await leases.request(WISH);
  t.equal(held?.state, 'active');
  t.same(alpha.calls, ['lease.present', 'lease.present']);
  t.equal(callsOf(double, 'lease.token'), 1);
});

t.test('an answer that was lost is found in the list', async (t) => {
  const { double, leases } = scene(t);
  const alpha = double.provider('alpha');
  alpha.failures.push({ code: 'ERR_TIMEOUT', done: true });
  const [held] = await leases.request(WISH);
  t.equal(held?.state, 'active');
  t.same(alpha.calls, ['lease.present'], 'it is not presented twice');
});

t.test('with a provider that cannot be reached nothing stays behind', async (t) => {
  const { double, leases, clock } = scene(t);
  double.answering = false;
  double.provider('alpha');
  const asked = leases.request(WISH);
  await t.rejects(asked, { code: 'ERR_PEER_UNREACHABLE' });
  t.equal(double.leases.size, 0);
  t.same([...double.openDoors], []);
  t.same(leases.list(), []);
  t.equal(clock.now, 1000);
});

t.test(
  'a provider that is connected without managed calls is not said to be out of reach',
  async (t) => {
    const { double, leases } = scene(t);
    double.answering = false;
    double.provider('alpha').isPlain = true;
    const asked = leases.request(WISH);
    await t.rejects(asked, { code: 'ERR_UNSUPPORTED', message: /takes part in no control plane/ });
    t.equal(double.leases.size, 0, 'and nothing stays behind');
  },
);

t.test('one that is taken back leaves nothing either', async (t) => {
  const { double, leases } = scene(t);
  double.answering = false;
  double.provider('alpha');
  const cancel = new AbortController();
  const asked = leases.request(WISH, cancel.signal);
  setImmediate(() => cancel.abort());
  await t.rejects(asked, { code: 'ERR_CANCELLED' });
  t.equal(double.leases.size, 0);
});

t.test('a refusal comes as it is', async (t) => {
  const { double, leases } = scene(t);
  double.provider('alpha', MIB);
  await t.rejects(leases.request(WISH), { code: 'ERR_LEASE_CAPACITY' });
  t.equal(callsOf(double, 'lease.request'), 1, 'and is not asked for again');
});

t.test('leases are renewed a third into their time', async (t) => {
  const { double, leases, news, clock, pass } = scene(t);
  double.provider('alpha');
  const [held] = await leases.request(WISH);
  const id = held?.leaseId ?? '';
  await pass(19_000);
  t.equal(callsOf(double, 'lease.renew'), 0);
  await pass(1_000);
  t.equal(callsOf(double, 'lease.renew'), 1);
  t.equal(leases.get(id)?.endsAtMs, clock.now + 60_000);
  t.same(news, []);
});

t.test(
  'a control plane that is away is warned of, and asked at once when it is back',
  async (t) => {
    const { double, leases, news, pass } = scene(t);
    double.provider('alpha');
    const [held] = await leases.request(WISH);
    const id = held?.leaseId ?? '';
    double.leads = false;
    for (let second = 0; second < 52; second += 1) await pass(1_000);
    t.same(
      news.map(({ type, endsInMs }) => `${type} ${endsInMs}`),
      ['warn 30000', 'warn 15000', 'warn 10000'],
    );
    t.match(leases.get(id), {
      state: 'active',
      problem: 'no control node answers',
      warnedMs: 10_000,
    });
    double.elect();
    await pass(0);
    t.match(leases.get(id), { state: 'active', problem: '', warnedMs: null });
  },
);

t.test('a lease that nobody renews ends, and its provider is left', async (t) => {
  const { double, leases, news, pass } = scene(t);
  double.provider('alpha');
  const [held] = await leases.request(WISH);
  double.leads = false;
  for (let second = 0; second < 61; second += 1) await pass(1_000);
  t.match(news.at(-1), { type: 'changed', lease: { state: 'ended', reason: 'expired' } });
  t.same([...double.openDoors], []);
  t.equal(leases.get(held?.leaseId ?? ''), undefined);
  t.equal(leases.list().length, 1, 'it is shown for a while');
});

t.test('a word of the control plane ends a lease', async (t) => {
  const { double, leases, news, pass } = scene(t);
  double.provider('alpha');
  const [held] = await leases.request(WISH);
  const leaseIds = [held?.leaseId ?? ''];
  leases.onEnding({ epoch: 1, leaseIds, reason: 'revoked', endsInMs: 0 });
  t.match(news, [{ type: 'changed', lease: { state: 'ending', reason: 'revoked' } }]);
  await pass(1);
  t.match(news.at(-1), { lease: { state: 'ended' } });
  t.same([...double.openDoors], []);
});

t.test('a lease goes back to its provider, or to the leader when that is away', async (t) => {
  const { double, leases } = scene(t);
  const alpha = double.provider('alpha');
  const beta = double.provider('beta');
  const held = await leases.request({ ...WISH, count: 2 });
  double.setUp(beta, false);
  await leases.release(held.map(({ leaseId }) => leaseId));
  t.same(alpha.calls, ['lease.present', 'lease.return']);
  t.equal(callsOf(double, 'lease.release'), 1);
  t.equal(double.leases.size, 0);
  t.same([...double.openDoors], []);
  t.same(leases.list(), []);
});

t.test('what nobody takes back ends by itself, and that is said', async (t) => {
  const { double, leases } = scene(t);
  const alpha = double.provider('alpha');
  const held = await leases.request(WISH);
  double.setUp(alpha, false);
  double.leads = false;
  const released = leases.release(held.map(({ leaseId }) => leaseId));
  await t.rejects(released, { code: 'ERR_CONTROL_UNREACHABLE', message: /end at their deadlines/ });
  t.same(leases.list(), [], 'it is not renewed any more');
});

t.test('what a former process left is given back, what goes on is renewed', async (t) => {
  const { double, leases, clock, pass } = scene(t);
  const alpha = double.provider('alpha');
  const stray = double.lease(alpha, MIB);
  const kept = double.lease(alpha, MIB);
  const { leaseId } = kept;
  const provider = alpha.identity;
  const about = { purpose: 'swap /dev/dm-0', renews: true, outlives: true };
  leases.adopt({ leaseId, provider, sizeBytes: MIB, ttlMs: 60_000, ...about });
  leases.start();
  await pass(0);
  t.notOk(double.leases.has(stray.leaseId));
  t.ok(double.leases.has(leaseId));
  t.equal(leases.get(leaseId)?.endsAtMs, clock.now + 60_000);
  await leases.close();
  t.ok(double.leases.has(leaseId), 'and outlives this process');
});

t.test('the end gives back what does not outlive it', async (t) => {
  const { double, leases } = scene(t);
  double.provider('alpha');
  await leases.request(WISH);
  await leases.close();
  t.equal(double.leases.size, 0);
});

t.test('renewal by hand says why it failed', async (t) => {
  const { double, leases } = scene(t);
  double.provider('alpha');
  const [held] = await leases.request(WISH);
  const id = held?.leaseId ?? '';
  t.match(await leases.renew([id], 120_000), [{ ttlMs: 120_000 }]);
  double.refusal = 'the provider drains';
  await t.rejects(leases.renew([id]), { message: /the provider drains/ });
  t.equal(leases.get(id)?.state, 'ending');
  await t.rejects(leases.renew(['f'.repeat(32)]), { code: 'ERR_LEASE_UNKNOWN' });
});
