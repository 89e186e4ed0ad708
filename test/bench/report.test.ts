/** A report pairs trials by round, names what each workload is about, and judges the goals. */
import t from 'tap';
import type { Workload } from '../../bench/fio.ts';
import { Report, metricOf, metricsOf, renderGoals } from '../../bench/report.ts';
import { seededRandom } from '../../bench/statistics.ts';
import type { Trial } from '../../bench/trials.ts';

const READ: Workload = {
  name: 'randread-qd16',
  pattern: 'randread',
  blockSizeBytes: 4096,
  queueDepth: 16,
};

function trial(target: string, round: number, iops: number): Trial {
  const latencyUs = { p50: 10, p99: 20, p999: 30 };
  const fio = {
    requestCount: 1000,
    iops,
    bytesPerSecond: iops * 4096,
    latencyUs,
    completionUs: latencyUs,
  };
  return { round, workload: READ.name, target, fio, cpuUs: 5000, busyShare: 0 };
}

const TRIALS = [
  trial('nbdkit-tls', 2, 10),
  trial('memcloud', 1, 300),
  trial('memcloud', 2, 30),
  trial('nbdkit-tls', 1, 100),
];

t.test('a workload is reported by what it is about', async (t) => {
  t.same(metricsOf({ ...READ, queueDepth: 1 }), ['p50', 'p99']);
  t.same(metricsOf(READ), ['iops', 'p99']);
  t.same(metricsOf({ ...READ, blockSizeBytes: 131072 }), ['bandwidth']);
});

t.test('metrics of a trial', async (t) => {
  const one = trial('memcloud', 1, 250);
  t.equal(metricOf(one, 'p50', 4096), 10);
  t.equal(metricOf(one, 'p99', 4096), 20);
  t.equal(metricOf(one, 'iops', 4096), 250);
  t.equal(metricOf(one, 'bandwidth', 4096), 1.024);
  t.equal(metricOf(one, 'cpu', 4096), 5);
  t.equal(metricOf(one, 'cpu', 131072), 5 / 32, 'a large request holds many pages');
});

t.test('ratios pair the trials of a round, whatever order they ran in', async (t) => {
  const report = new Report([READ], TRIALS, 'memcloud', () => ['iops'], seededRandom(1));
  t.match(report.ratios, [
    { peer: 'nbdkit-tls', metric: 'iops', estimate: { value: 3, low: 3, high: 3 } },
  ]);
  t.same(
    report.summaries.map(({ target, estimate }) => [target, estimate.value]),
    [
      ['memcloud', 165],
      ['nbdkit-tls', 55],
    ],
  );
  t.match(report.panels(() => ['iops'], 'memcloud')[0]?.bars, [{ ours: true }, { ours: false }]);
});

t.test('goals that were measured are judged, others say so', async (t) => {
  const report = new Report([READ], TRIALS, 'memcloud', metricsOf, seededRandom(1));
  const goal = { metric: 'iops', peer: 'nbdkit-tls', sense: 'at least', bound: 2 } as const;
  const results = report.goals([
    { ...goal, workload: 'randread-qd16' },
    { ...goal, workload: 'randwrite-qd16' },
  ]);
  t.same(
    results.map(({ verdict }) => verdict),
    ['reached', 'not measured'],
  );
  t.match(renderGoals(results), /randwrite-qd16 .* at least 2x +- +not measured/);
});

t.test('a goal may compare another target of ours, or two loads of one target', async (t) => {
  const WRITE = { ...READ, name: 'randwrite-qd1', pattern: 'randwrite' } as const;
  const trials = [
    ...TRIALS,
    ...[1, 2].map((round) => trial('memcloud-local', round, 200)),
    ...['memcloud', 'memcloud-local', 'nbdkit-tls'].flatMap((target) =>
      [1, 2].map((round) => ({ ...trial(target, round, 50), workload: WRITE.name })),
    ),
  ];
  const report = new Report([READ, WRITE], trials, 'memcloud', metricsOf, seededRandom(1));
  const bound = { sense: 'at least', bound: 1.5 } as const;
  const [local, own, absent] = report.goals([
    {
      ...{ workload: READ.name, metric: 'iops', target: 'memcloud-local', peer: 'nbdkit-tls' },
      ...bound,
    },
    {
      ...{ workload: WRITE.name, metric: 'p999', peer: 'memcloud' },
      ...{ peerWorkload: READ.name, peerMetric: 'p50', sense: 'at most', bound: 3 },
    },
    { workload: 'seqread-qd8', metric: 'bandwidth', peer: 'nbdkit-tls', ...bound },
  ]);
  t.equal(local?.ratio?.value, 200 / 55);
  t.equal(local?.verdict, 'reached');
  t.equal(own?.ratio?.value, 3);
  t.equal(absent?.verdict, 'not measured');
  t.match(
    renderGoals([local, own].filter((goal) => goal !== undefined)),
    /memcloud-local .*[^]*memcloud randread-qd16 p50/,
  );
});

t.test('without ours there are medians and no ratios', async (t) => {
  const peers = TRIALS.filter(({ target }) => target !== 'memcloud');
  const report = new Report([READ], peers, 'memcloud', metricsOf, seededRandom(1));
  t.same(report.ratios, []);
  t.equal(report.summaries.length, 2);
});
