import t, { type Test } from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { Dialer, redialDelayMs } from '../../peer/dialer.ts';

const failure = new MemcloudError('ERR_PEER_UNREACHABLE', 'no');

function setUp(t: Test) {
  const world = { dials: 0, up: new Set<string>(), nowMs: 0, random: 0 };
  const dialer = new Dialer({
    address: 'h:1',
    dial: () => (world.dials += 1),
    isUp: (nodeId) => world.up.has(nodeId),
    random: () => world.random,
    nowMs: () => world.nowMs,
  });
  t.teardown(() => dialer.stop());
  return { world, dialer };
}

t.test('waits double from 200 ms to 30 s, half of each is jitter', async (t) => {
  t.same(
    [0, 1, 2, 7, 8, 1000].map((count) => redialDelayMs(count, 0)),
    [100, 200, 400, 12800, 15000, 15000],
  );
  t.equal(redialDelayMs(0, 0.5), 150);
  t.ok(redialDelayMs(1000, 0.999) < 30000);
});

t.test('a failure is followed by another attempt', async (t) => {
  const { world, dialer } = setUp(t);
  dialer.start();
  t.match(dialer, { state: 'connecting' });
  const outcome = dialer.outcome();
  dialer.onFailed(failure);
  t.equal(await outcome, 'waiting');
  t.equal(dialer.lastError, failure);
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.equal(world.dials, 2);
});

t.test('it says when it dials again, while it waits and only then', async (t) => {
  const { world, dialer } = setUp(t);
  t.equal(dialer.waitMs, undefined, 'before the first time');
  dialer.start();
  t.equal(dialer.waitMs, undefined);
  dialer.onFailed(failure);
  t.equal(dialer.waitMs, 100);
  world.nowMs = 60;
  t.equal(dialer.waitMs, 40);
  world.nowMs = 500;
  t.equal(dialer.waitMs, 0, 'late is now');
  dialer.onUp('n');
  t.equal(dialer.waitMs, undefined);
  dialer.onDown(undefined);
  t.equal(dialer.waitMs, 200, 'longer after the second failure in a row');
  dialer.stop();
  t.equal(dialer.waitMs, undefined);
});

t.test('start dials at once, and only once', async (t) => {
  const { world, dialer } = setUp(t);
  dialer.start();
  dialer.start();
  dialer.onPending();
  t.equal(dialer.state, 'pending');
  dialer.start();
  t.equal(world.dials, 1);
  dialer.onFailed(failure);
  dialer.start();
  t.equal(world.dials, 2);
});

t.test('a session that came the other way is as good', async (t) => {
  const { world, dialer } = setUp(t);
  dialer.start();
  dialer.nodeId = 'n';
  world.up.add('n');
  dialer.onFailed(failure);
  t.match(dialer, { state: 'up', lastError: undefined });
  t.equal(await dialer.outcome(), 'up');
});

t.test('the end of the session is followed by a dial, at once after a long one', async (t) => {
  const { world, dialer } = setUp(t);
  dialer.start();
  for (let count = 0; count < 6; count += 1) dialer.onFailed(failure);
  dialer.onUp('n');
  world.nowMs = 4999;
  dialer.onDown(failure);
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.equal(world.dials, 1, 'a short one does not reset the wait');
  dialer.onUp('n');
  world.nowMs += 5000;
  dialer.onDown(undefined);
  t.equal(dialer.state, 'waiting', 'though not within the end');
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal(world.dials, 2);
  dialer.onFailed(failure);
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.equal(world.dials, 3, 'a failure of that is the first one again');
});

t.test('a stopped dialler stays so', async (t) => {
  const { world, dialer } = setUp(t);
  dialer.start();
  dialer.stop();
  dialer.onFailed(failure);
  dialer.onDown(failure);
  t.equal(dialer.state, 'stopped');
  await new Promise((resolve) => setTimeout(resolve, 150));
  t.equal(world.dials, 1);
});

t.test('a dial that throws is a failure', async (t) => {
  const dialer = new Dialer({
    address: 'h:1',
    dial: () => {
      throw new Error('broken');
    },
    isUp: () => false,
    random: () => 0,
    nowMs: () => 0,
  });
  dialer.start();
  t.match(dialer, { state: 'waiting', lastError: { code: 'ERR_INTERNAL' } });
  dialer.stop();
});
