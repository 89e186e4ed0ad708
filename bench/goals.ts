/**
 * What must be reached, as data, and the verdict on it. A goal is a ratio of medians against one
 * peer. It is reached or missed by its median; when its 95 % interval lies on both sides of the
 * bound, the verdict says so, and the answer is more rounds, never a softer bound. Pure.
 */
import type { Estimate } from './statistics.ts';

/** What is compared. */
export type Metric = 'p50' | 'p99' | 'p999' | 'iops' | 'bandwidth' | 'cpu';

/**
 * One goal: `metric` of `target` (ours, unless it names another) in `workload`, over that of `peer`, at most or at
 * least `bound`. The peer does the same work and is measured by the same, unless the goal says otherwise.
 */
export interface Goal {
  readonly workload: string;
  readonly metric: Metric;
  readonly target?: string;
  readonly peer: string;
  readonly peerWorkload?: string;
  readonly peerMetric?: Metric;
  readonly sense: 'at most' | 'at least';
  readonly bound: number;
}

/** How a goal fared. */
export type Verdict =
  | 'reached'
  | 'reached (interval crosses)'
  | 'missed'
  | 'missed (interval crosses)'
  | 'not measured';

const TLS = { peer: 'nbdkit-tls' } as const;
const PLAIN_TCP = { peer: 'nbdkit-tcp', metric: 'iops', sense: 'at least', bound: 1 } as const;
/** Provider in the same process against one hop in C. */
const ONE_HOP: Omit<Goal, 'workload'> = {
  ...{ target: 'memcloud-local', peer: 'nbdkit-unix' },
  ...{ metric: 'iops', sense: 'at least', bound: 1.5 },
};
const WAYS = ['read', 'write'] as const;

/** What block requests must reach. */
export const BLOCK_GOALS: readonly Goal[] = [
  { workload: 'randread-qd1', metric: 'p50', ...TLS, sense: 'at most', bound: 0.5 },
  { workload: 'randread-qd1', metric: 'p99', ...TLS, sense: 'at most', bound: 0.7 },
  ...WAYS.flatMap((way): Goal[] => [
    { workload: `rand${way}-qd16`, metric: 'iops', ...TLS, sense: 'at least', bound: 4 },
    { workload: `rand${way}-qd128`, metric: 'iops', ...TLS, sense: 'at least', bound: 5 },
    { workload: `seq${way}-qd8`, metric: 'bandwidth', ...TLS, sense: 'at least', bound: 3 },
  ]),
  ...WAYS.flatMap((way) => [16, 128].map((depth) => `rand${way}-qd${depth}`)).flatMap(
    (workload): Goal[] => [
      { workload, ...PLAIN_TCP },
      { workload, ...ONE_HOP },
    ],
  ),
  // One page-out at a time is drained faster than it comes: the ring is not full.
  {
    ...{ workload: 'randwrite-qd1', metric: 'p999', peer: 'memcloud' },
    ...{ peerWorkload: 'randread-qd1', peerMetric: 'p50', sense: 'at most', bound: 3 },
  },
];

/** What a page may cost of processor time, consumer and provider together. */
export const CPU_GOALS: readonly Goal[] = WAYS.map((way) => {
  return { workload: `rand${way}-qd128`, metric: 'cpu', ...TLS, sense: 'at most', bound: 0.4 };
});

/** Says how `goal` fared with `ratio`; undefined when it was not measured. */
export function judge(goal: Pick<Goal, 'sense' | 'bound'>, ratio: Estimate | undefined): Verdict {
  if (ratio === undefined || Number.isNaN(ratio.value)) return 'not measured';
  const passes = (value: number): boolean =>
    goal.sense === 'at most' ? value <= goal.bound : value >= goal.bound;
  const verdict = passes(ratio.value) ? 'reached' : 'missed';
  const crosses = passes(ratio.low) !== passes(ratio.high);
  return crosses ? `${verdict} (interval crosses)` : verdict;
}
