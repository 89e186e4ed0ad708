import { mock } from 'node:test';
import t from 'tap';
import { LmdbLeases } from '../../control-plane/lmdb-leases.ts';

/** Leases, and a clock and timers that the test turns. */
function setUp(): {
  leases: LmdbLeases;
  over: number[];
  pass: (ms: number, timersToo?: boolean) => void;
} {
  mock.timers.enable({ apis: ['setTimeout'] });
  const clock = { ms: 5000, nowMs: () => clock.ms };
  const over: number[] = [];
  const leases = new LmdbLeases(clock, (id) => over.push(id));
  const pass = (ms: number, timersToo = true): void => {
    clock.ms += ms;
    if (timersToo) mock.timers.tick(ms);
  };
  return { leases, over, pass };
}

t.afterEach(() => {
  mock.timers.reset();
});

t.test('a lease is over when its time has passed', async (t) => {
  const { leases, over, pass } = setUp();
  t.same(leases.grant(1500.5), { id: 1, ttlMs: 1501 });
  t.same(leases.grant(1), { id: 2, ttlMs: 1000 }, 'the shortest');
  t.same(leases.grant(1e12), { id: 3, ttlMs: 86_400_000 }, 'the longest');
  pass(999);
  t.ok(leases.holds(2));
  pass(1);
  t.notOk(leases.holds(2));
  t.same(over, [2]);
  t.notOk(leases.keepalive(2));
  t.notOk(leases.drop(2));
  pass(501);
  t.same(over, [2, 1]);
  t.ok(leases.holds(3));
  leases.close();
});

t.test('kept alive, its time begins again', async (t) => {
  const { leases, over, pass } = setUp();
  const { id } = leases.grant(1000);
  for (let round = 0; round < 5; round += 1) {
    pass(900);
    t.ok(leases.keepalive(id));
  }
  pass(999);
  t.same(over, []);
  pass(1);
  t.same(over, [id]);
});

t.test('the clock decides, whenever the timer comes', async (t) => {
  const { leases, over, pass } = setUp();
  const { id } = leases.grant(1000);
  pass(1000, false);
  t.notOk(leases.holds(id));
  t.notOk(leases.keepalive(id), 'it does not come back to life');
  t.same(over, []);
  mock.timers.tick(1000);
  t.same(over, [id]);
});

t.test('dropped or closed, it says nothing', async (t) => {
  const { leases, over, pass } = setUp();
  t.ok(leases.drop(leases.grant(1000).id));
  leases.grant(1000);
  leases.close();
  pass(5000);
  t.same(over, []);
});

t.test('of 10 000 leases at a time there is not one more', async (t) => {
  const { leases } = setUp();
  for (let count = 0; count < 10_000; count += 1) leases.grant(1000);
  t.throws(() => leases.grant(1000), { code: 'ERR_CONTROL_STORE' });
  leases.drop(1);
  t.equal(leases.grant(1000).id, 10_001);
  leases.close();
});
