/** The law of growth is that of the points, round by round. */
import t from 'tap';
import {
  pointName,
  renderMetadata,
  renderSeries,
  summarizeSeries,
} from '../../../bench/scale/series.ts';
import { seededRandom } from '../../../bench/statistics.ts';
import type { Trial } from '../../../bench/trials.ts';

const XS = [1, 2, 4, 8];

/** Rates as x^0.5, latency as x^1, processor time of a page always 20 us; a round may be slow for all. */
function trials(slowness: readonly number[]): Trial[] {
  return slowness.flatMap((slow, index) =>
    XS.map((x): Trial => {
      const latencyUs = { p50: 100 * x * slow, p99: 200 * x * slow, p999: 1 };
      return {
        ...{ workload: 'randread-qd16', target: pointName('volumes', x), round: index + 1 },
        ...{ busyShare: 0, cpuUs: 20_000 },
        fio: {
          ...{ requestCount: 1000, iops: (1000 * Math.sqrt(x)) / slow, bytesPerSecond: 1 },
          ...{ latencyUs, completionUs: latencyUs },
        },
      };
    }),
  );
}

t.test('medians of points and exponents of the laws', async (t) => {
  const result = summarizeSeries('volumes', XS, trials([1, 3, 2]), seededRandom(1));
  t.same(
    result.rows.map(({ x, values }) => [x, Math.round(values['iops']!), values['p50']]),
    [
      [1, 500, 200],
      [2, 707, 400],
      [4, 1000, 800],
      [8, 1414, 1600],
    ],
  );
  const exponents = Object.fromEntries(
    result.laws.map(({ metric, exponent }) => [metric, exponent]),
  );
  for (const [metric, expected] of Object.entries({ iops: 0.5, p50: 1, p99: 1, cpu: 0 })) {
    const { value, low, high } = exponents[metric]!;
    t.ok(Math.abs(value - expected) < 1e-9, `${metric} as x^${expected}`);
    t.ok(high - low < 1e-9, 'a round that is slow for all does not bend it');
  }
  const text = renderSeries(result);
  t.match(text, /^8 +randread-qd16 +1414 +1600 +3200 +20\.0$/m);
  t.match(text, /^randread-qd16 +0\.500 \[0\.500, 0\.500\] +requests per second$/m);
});

t.test('a point that failed is left out; one point has no law', async (t) => {
  const some = trials([1]).filter(({ target }) => target !== 'volumes=4');
  const result = summarizeSeries('volumes', XS, some, seededRandom(1));
  t.same(
    result.rows.map(({ x }) => x),
    [1, 2, 8],
  );
  t.equal(result.laws.length, 4);
  const one = trials([1]).filter(({ target }) => target === 'volumes=1');
  t.same(summarizeSeries('volumes', XS, one, seededRandom(1)).laws, []);
});

t.test('metadata that is the same at all sizes grows as size^0', async (t) => {
  const row = { pages: 1000, emptyBytes: 2 ** 20, bytesPerPage: 14 };
  const text = renderMetadata([
    { ...row, sizeGib: 1 },
    { ...row, sizeGib: 64, emptyBytes: 64 * 2 ** 20 },
  ]);
  t.match(text, /^64 +1000 +14\.0 +64\.0$/m);
  t.match(text, /page written grow as size\^0, bytes when empty as size\^(1\.0|0\.99)/);
  t.notMatch(renderMetadata([{ ...row, sizeGib: 1 }]), /grow/);
});
