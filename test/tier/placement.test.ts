/** Placement by two choices: never without room, never on one machine twice, and spread as theory says. */
import fc from 'fast-check';
import t from 'tap';
import { SLOW_START_MS, placeCopy, type PlacementCandidate } from '../../tier/placement.ts';
import { seededRandom } from '../helpers/sim-world.ts';

/** A provider near by, known for long, on a machine of its own. */
function candidate(host: string, changes: Partial<PlacementCandidate> = {}): PlacementCandidate {
  return { freeBytes: 100, host, zone: '', roundTripMs: 0, knownMs: SLOW_START_MS, ...changes };
}

function draws(...numbers: number[]): () => number {
  return () => numbers.shift() ?? 0;
}

/** What is chosen when each of the two is drawn once. */
function better(
  a: PlacementCandidate,
  b: PlacementCandidate,
  placed: readonly PlacementCandidate[] = [],
): string | undefined {
  const one = placeCopy([a, b], 1, placed, draws(0, 0.5))?.host;
  const other = placeCopy([a, b], 1, placed, draws(0.5, 0))?.host;
  return one === other ? one : `${one} or ${other}`;
}

t.test('only a candidate with room, on a machine that has no copy, is chosen', (t) => {
  const free = fc.oneof(fc.integer({ min: -5, max: 30 }), fc.constant(NaN), fc.constant(Infinity));
  const pool = fc.array(fc.record({ freeBytes: free, machine: fc.nat(5) }), { maxLength: 12 });
  fc.assert(
    fc.property(pool, fc.nat(20), fc.nat(5), fc.nat(), (list, need, taken, seed) => {
      const candidates = list.map(({ freeBytes, machine }) =>
        candidate(`m${machine}`, { freeBytes }),
      );
      const placed = [candidate(`m${taken}`)];
      const possible = candidates.filter(
        ({ freeBytes, host }) => freeBytes >= need && host !== `m${taken}`,
      );
      const chosen = placeCopy(candidates, need, placed, seededRandom(seed));
      return possible.length === 0 ? chosen === undefined : possible.includes(chosen ?? placed[0]!);
    }),
    { numRuns: 500 },
  );
  t.pass('every pool');
  t.end();
});

t.test('of two that are drawn, the better one is taken', (t) => {
  const cases = [
    { name: 'more room', worse: { freeBytes: 10 }, good: { freeBytes: 20 } },
    { name: 'nearer', worse: { roundTripMs: 20 }, good: { roundTripMs: 0.2 } },
    { name: 'known for longer', worse: { knownMs: 1_000 }, good: {} },
    {
      name: 'much nearer counts for more than a little more room',
      worse: { freeBytes: 120, roundTripMs: 5 },
      good: { roundTripMs: 0.3 },
    },
    {
      name: 'another zone counts for more than room',
      worse: { freeBytes: 1000, zone: 'rack-1' },
      good: { freeBytes: 10, zone: 'rack-2' },
    },
  ];
  const placed = [candidate('there', { zone: 'rack-1' })];
  for (const { name, worse, good } of cases) {
    t.equal(better(candidate('worse', worse), candidate('good', good), placed), 'good', name);
  }
  t.equal(better(candidate('a', { zone: 'rack-1' }), candidate('b'), placed), 'b', 'no zone');
  t.equal(placeCopy([candidate('a')], 1, placed, draws(0, 0))?.host, 'a', 'drawn twice');
  t.end();
});

t.test('a zone that has a copy is used when there is no other', (t) => {
  const placed = [candidate('there', { zone: 'rack-1' })];
  const same = candidate('next', { zone: 'rack-1' });
  t.equal(placeCopy([same], 1, placed, draws(0, 0))?.host, 'next');
  t.end();
});

t.test('two zones with room: never both copies in one', (t) => {
  const list = Array.from({ length: 20 }, (_, index) =>
    candidate(`m${index}`, { zone: index === 0 ? 'rack-2' : 'rack-1', freeBytes: 100 * index + 1 }),
  );
  const placed = [candidate('there', { zone: 'rack-1' })];
  for (let step = 0; step < 100; step += 1) {
    const at = step / 100;
    t.equal(placeCopy(list, 1, placed, draws(at, (99 - step) / 100))?.zone, 'rack-2');
  }
  t.equal(placeCopy(list, 2, placed, draws(0.5, 0.5))?.zone, 'rack-1', 'no room there');
  t.end();
});

t.test('the same seed places the same', (t) => {
  const list = Array.from({ length: 10 }, (_, index) =>
    candidate(`m${index}`, { freeBytes: 100 - index }),
  );
  t.same(placeCopy(list, 3, [], seededRandom(5)), placeCopy(list, 3, [], seededRandom(5)));
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
    const list = load.map((used, index) => candidate(`${index}`, { freeBytes: 1000 - used }));
    return Number(placeCopy(list, 1, [], random)?.host ?? -1);
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
  const list = ['a', 'b', 'c', 'd'].map((host) =>
    candidate(host, { freeBytes: host === 'a' ? 1000 : 100 }),
  );
  const random = seededRandom(9);
  let emptiest = 0;
  for (let turn = 0; turn < 4000; turn += 1) {
    if (placeCopy(list, 1, [], random)?.host === 'a') emptiest += 1;
  }
  // Drawn first or second: 1 - (3/4)^2 = 0.4375; five standard deviations are 0.04.
  t.ok(Math.abs(emptiest / 4000 - 0.4375) < 0.04, `${emptiest / 4000}`);
  t.end();
});
