import t from 'tap';
import { Patience } from '../../peer/patience.ts';

const LIMITS = { busyPingMs: 100, idlePingMs: 1000, deadMs: 500, idleDeadMs: 5000 };

t.test('a node that is back at once may be silent for twice as long, up to 5 s', async (t) => {
  const patience = new Patience(LIMITS);
  const seen: number[] = [];
  for (let now = 0; now < 50_000; now += 10_000) {
    seen.push(patience.onUp(now).deadMs);
    patience.onDown(now + 7001, true);
  }
  t.same(seen, [500, 1000, 2000, 4000, 5000]);
});

t.test('one that took 3 s or longer to come back was dead', async (t) => {
  const patience = new Patience(LIMITS);
  patience.onUp(0);
  patience.onDown(1000, true);
  t.equal(patience.onUp(4000).deadMs, 500);
  patience.onDown(5000, true);
  t.equal(patience.onUp(7999).deadMs, 1000);
});

t.test('a session that ended in another way says nothing', async (t) => {
  const patience = new Patience(LIMITS);
  patience.onUp(0);
  patience.onDown(1000, false);
  t.same(patience.onUp(1001), LIMITS);
});

t.test('a session of a minute forgets', async (t) => {
  const patience = new Patience(LIMITS);
  patience.onUp(0);
  patience.onDown(1000, true);
  t.equal(patience.onUp(1500).deadMs, 1000);
  patience.onDown(61_499, false);
  t.equal(patience.onUp(70_000).deadMs, 1000, 'not one of 59.999 s');
  patience.onDown(130_000, true);
  t.equal(patience.onUp(130_001).deadMs, 1000, 'doubled anew from 500');
});
