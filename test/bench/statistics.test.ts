/** The statistics of the benchmarks equal numbers worked out by hand, and repeat from their seed. */
import t from 'tap';
import {
  growthExponent,
  median,
  medianEstimate,
  quantile,
  ratioEstimate,
  seededRandom,
  shuffled,
  slope,
} from '../../bench/statistics.ts';

t.test('medians and quantiles', async (t) => {
  const cases: [number[], number, number][] = [
    [[7], 0.5, 7],
    [[3, 1, 2], 0.5, 2],
    [[4, 1, 3, 2], 0.5, 2.5],
    [[10, 20, 30, 40, 50], 0.25, 20],
    [[10, 20], 0.025, 10.25],
    [[5, 1], 0, 1],
    [[5, 1], 1, 5],
  ];
  for (const [sample, share, expected] of cases) {
    t.equal(quantile(sample, share), expected, `${share} of ${sample.join(' ')}`);
  }
  t.equal(median([9, 100, 11]), 11, 'numbers are ordered as numbers');
  t.ok(Number.isNaN(median([])), 'no sample has no median');
});

t.test('the generator repeats from its seed and fills [0, 1)', async (t) => {
  const draws = (seed: number) => {
    const random = seededRandom(seed);
    return Array.from({ length: 10_000 }, () => random());
  };
  t.same(draws(5), draws(5));
  t.not(draws(5)[0], draws(6)[0]);
  const all = draws(7);
  t.ok(all.every((draw) => draw >= 0 && draw < 1));
  const mean = all.reduce((sum, draw) => sum + draw, 0) / all.length;
  t.ok(Math.abs(mean - 0.5) < 0.02, `mean ${mean}`);
});

t.test('shuffling keeps every item, leaves its argument, and reaches every order', async (t) => {
  const random = seededRandom(1);
  const items = ['a', 'b', 'c'];
  const orders = new Set(Array.from({ length: 200 }, () => shuffled(items, random).join('')));
  t.same([...orders].sort(), ['abc', 'acb', 'bac', 'bca', 'cab', 'cba']);
  t.same(items, ['a', 'b', 'c']);
});

t.test('the interval of a median', async (t) => {
  t.same(medianEstimate([4, 4, 4], seededRandom(1)), { value: 4, low: 4, high: 4 });
  const sample = [10, 11, 12, 13, 14, 15, 16, 17, 18];
  const estimate = medianEstimate(sample, seededRandom(1));
  t.equal(estimate.value, 14);
  // 95 % of the medians of 9 draws: P(median <= 11) is 0.0304, P(median <= 10) is 0.0014.
  t.equal(estimate.low, 11);
  t.equal(estimate.high, 17);
  t.same(medianEstimate(sample, seededRandom(1)), estimate, 'the same seed, the same interval');
});

t.test('a ratio draws whole rounds: what slows both sides does not widen it', async (t) => {
  const slow = [100, 50, 200, 80, 120];
  const ratio = ratioEstimate(
    slow.map((value) => value * 3),
    slow,
    seededRandom(3),
  );
  t.match(ratio, { value: 3, low: 3, high: 3 });
  const unpaired = ratioEstimate(
    [300, 150, 600, 240, 360],
    [80, 120, 100, 50, 200],
    seededRandom(3),
  );
  t.equal(unpaired.value, 3);
  t.ok(unpaired.low < 3 && unpaired.high > 3);
  t.throws(() => ratioEstimate([1, 2], [1], seededRandom(1)), RangeError);
});

t.test('a slope ignores one point that lies off', async (t) => {
  const points = [0, 1, 2, 3, 4, 5, 6].map((x) => ({ x, y: 100 + 13 * x }));
  t.equal(slope(points), 13);
  points[3] = { x: 3, y: 5000 };
  t.equal(slope(points), 13);
});

t.test('growth is the exponent of a power law', async (t) => {
  const points = (of: (x: number) => number) => [1, 2, 4, 8, 16].map((x) => ({ x, y: of(x) }));
  const close = (value: number, expected: number): boolean => Math.abs(value - expected) < 1e-12;
  t.ok(close(growthExponent(points((x) => 7 * x)), 1), 'in proportion');
  t.ok(close(growthExponent(points(() => 7)), 0), 'not at all');
  t.ok(close(growthExponent(points((x) => 7 / x)), -1), 'in inverse proportion');
  t.ok(close(growthExponent(points((x) => 7 * x * x)), 2), 'as the square');
  t.throws(() => growthExponent(points((x) => x - 1)), /expected more than 0, got 1 and 0/);
});
