/** Percentiles by nearest rank, against values worked out by hand. */
import t from 'tap';
import { percentilesOf } from '../../common/percentiles.ts';

t.test('of nothing there are none', async (t) => {
  t.equal(percentilesOf([]), null);
});

t.test('each is a sample, whatever the order', async (t) => {
  const times = (count: number): number[] =>
    Array.from({ length: count }, (_, index) => count - index);
  const cases: [number[], object][] = [
    [[7], { count: 1, min: 7, p50: 7, p90: 7, p99: 7, max: 7 }],
    [[3, 1], { count: 2, min: 1, p50: 1, p90: 3, p99: 3, max: 3 }],
    [[3, 1, 2], { count: 3, min: 1, p50: 2, p90: 3, p99: 3, max: 3 }],
    [times(100), { count: 100, min: 1, p50: 50, p90: 90, p99: 99, max: 100 }],
    [times(101), { count: 101, min: 1, p50: 51, p90: 91, p99: 100, max: 101 }],
    [times(1000), { count: 1000, min: 1, p50: 500, p90: 900, p99: 990, max: 1000 }],
  ];
  for (const [samples, expected] of cases) t.same(percentilesOf(samples), expected);
});

t.test('the samples stay as they were', async (t) => {
  const samples = [3, 1, 2];
  percentilesOf(samples);
  t.same(samples, [3, 1, 2]);
});
