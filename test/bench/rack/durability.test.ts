/** The chances of loss: equal to what is worked out by hand, and to what a simulation finds. */
import t from 'tap';
import {
  lossChance,
  meanTimeToLoss,
  rackLossRate,
  sharedSetShare,
  simulateLosses,
} from '../../../bench/rack/durability.ts';
import { seededRandom } from '../../../bench/statistics.ts';

const close = (actual: number, expected: number, share: number): boolean =>
  Math.abs(actual - expected) <= share * expected;

t.test('one slab: the chain by hand', async (t) => {
  t.equal(meanTimeToLoss(1, 100, 1), 100, 'one copy lives as long as its donor');
  // (3 l + m) / (2 l^2) with l = 1 / 100, m = 1: 5150.
  t.ok(close(meanTimeToLoss(2, 100, 1), 5150, 1e-9));
  // m^2 / (3 l^3) and terms below 4 %.
  t.ok(close(meanTimeToLoss(3, 100, 1), 1e6 / 3, 0.04));
  t.ok(close(lossChance(1, 100, 1, 100), 1 - 1 / Math.E, 1e-9));
  t.ok(lossChance(3, 1e9, 1, 1) > 0, 'however small, it is not rounded to none');
});

t.test('a rack: sets of donors that share a slab', async (t) => {
  t.ok(close(sharedSetShare(10, 2, 1), 1 / 45, 1e-9));
  t.ok(sharedSetShare(10, 2, 1e6) > 0.999999);
  // 10 donors die every 100; of nine others one died within the last second: 0.09.
  t.ok(close(rackLossRate(10, 2, 1e6, 100, 1), 0.1 * 0.09, 1e-6));
  t.ok(close(rackLossRate(10, 3, 1e9, 100, 1), (0.1 * 0.09 * 0.08) / 2, 1e-6));
});

for (const copies of [1, 2, 3]) {
  t.test(`${copies} copies: simulated and by formula`, async (t) => {
    const plan = {
      ...{ donorCount: 40, slabCount: 800, copies, mttf: 1000 },
      ...{ repair: copies === 3 ? 25 : 5, duration: copies === 3 ? 80_000 : 20_000 },
    };
    const { deathCount, lossCount, lostSlabs } = simulateLosses(plan, seededRandom(4));
    t.ok(close(deathCount, (40 * plan.duration) / 1000, 0.1), `${deathCount} deaths`);
    const rate = rackLossRate(40, copies, 800, 1000, plan.repair);
    const slabs = (plan.duration * 800) / meanTimeToLoss(copies, 1000, plan.repair);
    t.comment(
      `${lossCount} losses, ${rate * plan.duration} by formula; ${lostSlabs} slabs, ${slabs}`,
    );
    // A donor that comes back has little: fewer sets of donors share a slab than could.
    const share = lossCount / (rate * plan.duration);
    t.ok(share > 0.5 && share < 1.1, `${share} of the bound`);
    t.ok(close(lostSlabs, slabs, 0.25));
    t.same(simulateLosses(plan, seededRandom(4)), { deathCount, lossCount, lostSlabs });
  });
}
