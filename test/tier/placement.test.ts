/** Placement by two choices: never without room, never twice, and spread as the theory says. */
import fc from 'fast-check';
import t from 'tap';
import { placeSlab } from '../../tier/placement.ts';
import { seededRandom } from '../helpers/sim-world.ts';

t.test('only candidates with room are chosen, each once, as many as there are', (t) => {
  const candidates = fc.array(
    fc.oneof(fc.integer({ min: -5, max: 30 }), fc.constant(NaN), fc.constant(Infinity)),
    { maxLength: 12 },
  );
  fc.assert(
    fc.property(candidates, fc.nat(8), fc.nat(20), fc.nat(), (free, count, need, seed) => {
      const list = free.map((freeBytes) => ({ freeBytes }));
      const chosen = placeSlab(list, count, need, seededRandom(seed));
      const roomy = list.filter(({ freeBytes }) => freeBytes >= need);
      return (
        chosen.length === Math.min(count, roomy.length) &&
        new Set(chosen).size === chosen.length &&
        chosen.every((candidate) => roomy.includes(candidate))
      );
    }),
    { numRuns: 500 },
  );
  t.pass('every pool');
  t.end();
});

t.test('of two that are drawn, the one with more room is taken', (t) => {
  const small = { freeBytes: 10 };
  const large = { freeBytes: 20 };
  const draws =
    (...numbers: number[]): (() => number) =>
    () =>
      numbers.shift() ?? 0;
  t.equal(placeSlab([small, large], 1, 1, draws(0, 0.5))[0], large);
  t.equal(placeSlab([small, large], 1, 1, draws(0.5, 0))[0], large);
  t.equal(placeSlab([small, large], 1, 1, draws(0, 0))[0], small, 'drawn twice');
  t.equal(placeSlab([small, large], 1, 1, draws(0.999999, 0.999999))[0], large);
  t.end();
});

t.test('the same seed places the same', (t) => {
  const list = Array.from({ length: 10 }, (_, index) => ({ freeBytes: 100 - index }));
  const first = placeSlab(list, 3, 1, seededRandom(5));
  t.same(placeSlab(list, 3, 1, seededRandom(5)), first);
  t.end();
});

t.test('slabs spread evenly over equal providers: two choices beat one by far', (t) => {
  const providers = 32;
  const slabs = 32 * 32;
  const spread = (
    place: (load: number[], random: () => number) => number,
    seed: number,
  ): number => {
    const random = seededRandom(seed);
    const load = new Array<number>(providers).fill(0);
    for (let slab = 0; slab < slabs; slab += 1) {
      const chosen = place(load, random);
      load[chosen] = (load[chosen] ?? 0) + 1;
    }
    return Math.max(...load) - slabs / providers;
  };
  const two = (load: number[], random: () => number): number => {
    const list = load.map((used, index) => ({ freeBytes: 1000 - used, index }));
    return placeSlab(list, 1, 1, random)[0]?.index ?? -1;
  };
  const one = (load: number[], random: () => number): number => Math.floor(random() * load.length);
  let worstTwo = 0;
  let sumOne = 0;
  for (let seed = 1; seed <= 20; seed += 1) {
    worstTwo = Math.max(worstTwo, spread(two, seed));
    sumOne += spread(one, seed);
  }
  // Theory: log log n / log 2 + O(1), against about sqrt(2 * 32 * ln 32) for one choice.
  t.ok(worstTwo <= 4, `at most ${worstTwo} above the mean`);
  t.ok(sumOne / 20 > 8, `one choice: ${sumOne / 20} above the mean`);
  t.end();
});

t.test('the emptiest provider does not get everything', (t) => {
  const list = [{ freeBytes: 1000 }, { freeBytes: 100 }, { freeBytes: 100 }, { freeBytes: 100 }];
  const random = seededRandom(9);
  let emptiest = 0;
  for (let turn = 0; turn < 4000; turn += 1) {
    if (placeSlab(list, 1, 1, random)[0] === list[0]) emptiest += 1;
  }
  // Drawn first or second: 1 - (3/4)^2 = 0.4375; five standard deviations are 0.04.
  t.ok(Math.abs(emptiest / 4000 - 0.4375) < 0.04, `${emptiest / 4000}`);
  t.end();
});
