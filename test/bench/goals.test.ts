/** The goals are what was promised, and verdicts follow the numbers. */
import t from 'tap';
import { BLOCK_GOALS, CPU_GOALS, judge, type Goal } from '../../bench/goals.ts';

function say(goal: Goal): string {
  const { workload, target = 'memcloud', metric, sense, bound, peer } = goal;
  const { peerWorkload = workload, peerMetric = metric } = goal;
  const other = peerWorkload === workload ? peer : `${peer} ${peerWorkload} ${peerMetric}`;
  return `${target} ${workload} ${metric} ${sense} ${bound} ${other}`;
}

t.test('the goals', async (t) => {
  t.same(BLOCK_GOALS.map(say), [
    'memcloud randread-qd1 p50 at most 0.5 nbdkit-tls',
    'memcloud randread-qd1 p99 at most 0.7 nbdkit-tls',
    'memcloud randread-qd16 iops at least 4 nbdkit-tls',
    'memcloud randread-qd128 iops at least 5 nbdkit-tls',
    'memcloud seqread-qd8 bandwidth at least 3 nbdkit-tls',
    'memcloud randwrite-qd16 iops at least 4 nbdkit-tls',
    'memcloud randwrite-qd128 iops at least 5 nbdkit-tls',
    'memcloud seqwrite-qd8 bandwidth at least 3 nbdkit-tls',
    'memcloud randread-qd16 iops at least 1 nbdkit-tcp',
    'memcloud-local randread-qd16 iops at least 1.5 nbdkit-unix',
    'memcloud randread-qd128 iops at least 1 nbdkit-tcp',
    'memcloud-local randread-qd128 iops at least 1.5 nbdkit-unix',
    'memcloud randwrite-qd16 iops at least 1 nbdkit-tcp',
    'memcloud-local randwrite-qd16 iops at least 1.5 nbdkit-unix',
    'memcloud randwrite-qd128 iops at least 1 nbdkit-tcp',
    'memcloud-local randwrite-qd128 iops at least 1.5 nbdkit-unix',
    'memcloud randwrite-qd1 p999 at most 3 memcloud randread-qd1 p50',
  ]);
  t.same(CPU_GOALS.map(say), [
    'memcloud randread-qd128 cpu at most 0.4 nbdkit-tls',
    'memcloud randwrite-qd128 cpu at most 0.4 nbdkit-tls',
  ]);
});

t.test('verdicts', async (t) => {
  const most = { sense: 'at most', bound: 0.8 } as const;
  const least = { sense: 'at least', bound: 2 } as const;
  const cases: [typeof most | typeof least, [number, number, number], string][] = [
    [most, [0.8, 0.7, 0.8], 'reached'],
    [most, [0.7, 0.6, 0.9], 'reached (interval crosses)'],
    [most, [0.81, 0.81, 0.9], 'missed'],
    [most, [0.9, 0.75, 1], 'missed (interval crosses)'],
    [least, [2, 2, 3], 'reached'],
    [least, [2.1, 1.9, 3], 'reached (interval crosses)'],
    [least, [1.99, 1, 1.99], 'missed'],
    [least, [1.9, 1, 2.5], 'missed (interval crosses)'],
    [least, [NaN, NaN, NaN], 'not measured'],
  ];
  for (const [goal, [value, low, high], verdict] of cases) {
    t.equal(judge(goal, { value, low, high }), verdict, `${goal.sense} ${goal.bound}: ${value}`);
  }
  t.equal(judge(most, undefined), 'not measured');
});
