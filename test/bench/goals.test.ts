/** The goals of the first performance pass are what was promised, and verdicts follow the numbers. */
import t from 'tap';
import { GOALS, judge } from '../../bench/goals.ts';

t.test('the goals', async (t) => {
  t.same(
    GOALS.map(({ workload, metric, sense, bound }) => `${workload} ${metric} ${sense} ${bound}`),
    [
      'randread-qd1 p50 at most 0.8',
      'randread-qd16 iops at least 2',
      'randread-qd128 iops at least 3',
      'randwrite-qd1 p50 at most 0.8',
      'randwrite-qd16 iops at least 2',
      'randwrite-qd128 iops at least 3',
    ],
  );
  t.same([...new Set(GOALS.map(({ peer }) => peer))], ['nbdkit-tls']);
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
