/**
 * What must be reached, as data, and the verdict on it. A goal is a ratio of medians against one
 * peer. It is reached or missed by its median; when its 95 % interval lies on both sides of the
 * bound, the verdict says so, and the answer is more rounds, never a softer bound. Pure.
 */
import type { Estimate } from './statistics.ts';

/** What is compared. */
export type Metric = 'p50' | 'p99' | 'iops' | 'bandwidth' | 'cpu';

/** One goal: `metric` of ours over that of `peer`, at most or at least `bound`. */
export interface Goal {
  readonly workload: string;
  readonly metric: Metric;
  readonly peer: string;
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

const TLS_PEER = 'nbdkit-tls';

/** The goals of the first performance pass, against nbdkit in our own topology. */
export const GOALS: readonly Goal[] = ['read', 'write'].flatMap((way): Goal[] => [
  { workload: `rand${way}-qd1`, metric: 'p50', peer: TLS_PEER, sense: 'at most', bound: 0.8 },
  { workload: `rand${way}-qd16`, metric: 'iops', peer: TLS_PEER, sense: 'at least', bound: 2 },
  { workload: `rand${way}-qd128`, metric: 'iops', peer: TLS_PEER, sense: 'at least', bound: 3 },
]);

/** Says how `goal` fared with `ratio`; undefined when it was not measured. */
export function judge(goal: Pick<Goal, 'sense' | 'bound'>, ratio: Estimate | undefined): Verdict {
  if (ratio === undefined || Number.isNaN(ratio.value)) return 'not measured';
  const passes = (value: number): boolean =>
    goal.sense === 'at most' ? value <= goal.bound : value >= goal.bound;
  const verdict = passes(ratio.value) ? 'reached' : 'missed';
  const crosses = passes(ratio.low) !== passes(ratio.high);
  return crosses ? `${verdict} (interval crosses)` : verdict;
}
