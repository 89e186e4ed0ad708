/**
 * What a link between two machines is like, and what may be asked of it. Pure. The rate is that of the
 * whole frame with its Ethernet header, as the shaper counts: of 1514 bytes 1448 are TCP payload, so that
 * 0.956 is what the best sender reaches. Delay is that of one direction; a round trip has it twice.
 */
import type { Workload } from '../fio.ts';
import { judge, type Verdict } from '../goals.ts';
import { median, medianEstimate, type Estimate, type Random } from '../statistics.ts';
import { formatEstimate, formatNumber, layOut } from '../table.ts';
import { metricOf } from '../report.ts';
import type { Trial } from '../trials.ts';

/** A link. */
export interface LinkCondition {
  readonly name: string;
  /** Bits a second in each direction. */
  readonly bitsPerSecond: number;
  /** Of each direction, microseconds. */
  readonly delayUs: number;
}

const GIGABIT = 1e9;

/** The links that are measured. */
export const LINK_CONDITIONS: readonly LinkCondition[] = [
  { name: '1g', bitsPerSecond: GIGABIT, delayUs: 0 },
  { name: '1g-0.1ms', bitsPerSecond: GIGABIT, delayUs: 100 },
  { name: '1g-1ms', bitsPerSecond: GIGABIT, delayUs: 1000 },
  { name: '1g-5ms', bitsPerSecond: GIGABIT, delayUs: 5000 },
  { name: '100m', bitsPerSecond: GIGABIT / 10, delayUs: 0 },
];

/** What is done over each link. */
export const LINK_WORKLOADS: readonly Workload[] = [
  { name: 'pageout-qd16', pattern: 'randwrite', blockSizeBytes: 4096, queueDepth: 16 },
  { name: 'pageout-qd128', pattern: 'randwrite', blockSizeBytes: 4096, queueDepth: 128 },
  { name: 'seqwrite-qd16', pattern: 'write', blockSizeBytes: 131072, queueDepth: 16 },
  { name: 'seqread-qd16', pattern: 'read', blockSizeBytes: 131072, queueDepth: 16 },
  { name: 'pagein-qd1', pattern: 'randread', blockSizeBytes: 4096, queueDepth: 1 },
  { name: 'pageout-qd1', pattern: 'randwrite', blockSizeBytes: 4096, queueDepth: 1 },
  {
    ...{ name: 'pagein-beside-pageout', pattern: 'randread', blockSizeBytes: 4096, queueDepth: 1 },
    beside: { pattern: 'randwrite', blockSizeBytes: 4096, queueDepth: 128 },
    // Before, the ring fills: reads that nothing delays yet would be most of those that are counted.
    rampSeconds: 2,
  },
];

/** A workload over a link; its name is that of both. */
export interface LinkWorkload extends Workload {
  readonly condition: LinkCondition;
}

/** Every workload over every link, link by link. */
export function linkWorkloads(
  conditions: readonly LinkCondition[],
  workloads: readonly Workload[],
): LinkWorkload[] {
  return conditions.flatMap((condition) =>
    workloads.map((workload) => {
      return { ...workload, name: `${condition.name} ${workload.name}`, condition };
    }),
  );
}

/** A bucket holds what the link sends in a millisecond, but some packets at least. */
const BURST_SECONDS = 0.001;
const BURST_SIZE_MIN = 16 * 1024;
/** A queue holds what the link sends in so long, but a burst of TCP at least. */
const QUEUE_SECONDS = 0.02;
const QUEUE_SIZE_MIN = 512 * 1024;

/** The arguments of tc-tbf(8) for one direction of a link. */
export function shaperArguments({ bitsPerSecond }: LinkCondition): string[] {
  const bytesIn = (seconds: number): number => Math.round((bitsPerSecond / 8) * seconds);
  const burst = Math.max(BURST_SIZE_MIN, bytesIn(BURST_SECONDS));
  const limit = Math.max(QUEUE_SIZE_MIN, bytesIn(QUEUE_SECONDS));
  return ['tbf', 'rate', `${bitsPerSecond}bit`, 'burst', `${burst}b`, 'limit', `${limit}b`];
}

/** Share of the link that page data must fill, and over which links and workloads. */
export const LINK_GOAL = {
  conditions: ['1g'],
  workloads: ['pageout-qd16', 'pageout-qd128', 'seqwrite-qd16', 'seqread-qd16'],
  bound: 0.93,
} as const;

/** How much of a link one target filled with page data. */
export interface LinkShare {
  readonly workload: string;
  readonly target: string;
  readonly share: Estimate;
  /** What the goal says of it; undefined where none is set. */
  readonly verdict: Verdict | undefined;
}

function isGoal({ name, condition }: LinkWorkload): boolean {
  const { conditions, workloads } = LINK_GOAL;
  return (
    conditions.some((wanted) => wanted === condition.name) &&
    workloads.some((wanted) => name === `${condition.name} ${wanted}`)
  );
}

/** Share of the link for each workload and target that was measured. */
export function linkShares(
  workloads: readonly LinkWorkload[],
  trials: readonly Trial[],
  ours: string,
  random: Random,
): LinkShare[] {
  const targets = [...new Set(trials.map(({ target }) => target))];
  return workloads.flatMap((workload) =>
    targets.flatMap((target) => {
      const shares = trials
        .filter((trial) => trial.workload === workload.name && trial.target === target)
        .map(({ fio }) => (fio.bytesPerSecond * 8) / workload.condition.bitsPerSecond);
      if (shares.length === 0) return [];
      const share = medianEstimate(shares, random);
      const { bound } = LINK_GOAL;
      const judged = target === ours && isGoal(workload);
      const verdict = judged ? judge({ sense: 'at least', bound }, share) : undefined;
      return [{ workload: workload.name, target, share, verdict }];
    }),
  );
}

/** A row for each workload and target: medians over rounds. */
export function renderLinks(
  workloads: readonly LinkWorkload[],
  trials: readonly Trial[],
  shares: readonly LinkShare[],
): string {
  const rows = shares.map(({ workload: name, target, share, verdict }) => {
    const workload = workloads.find((candidate) => candidate.name === name);
    const own = trials.filter((trial) => trial.workload === name && trial.target === target);
    const middle = (of: (trial: Trial) => number): string => formatNumber(median(own.map(of)));
    return [
      ...[name, target, middle(({ fio }) => fio.bytesPerSecond / 1e6), formatEstimate(share)],
      ...[middle(({ fio }) => fio.latencyUs.p50), middle(({ fio }) => fio.latencyUs.p99)],
      // Beside other work, the time is not that of these pages alone.
      workload?.beside === undefined
        ? middle((trial) => metricOf(trial, 'cpu', workload?.blockSizeBytes ?? NaN))
        : '-',
      middle(({ fio }) => (fio.besideBytesPerSecond ?? NaN) / 1e6),
      verdict === undefined ? '' : `${verdict} (>= ${LINK_GOAL.bound})`,
    ];
  });
  const header = ['link and work', 'target', 'MB/s', 'share of link [95 %]', 'p50 us', 'p99 us'];
  return layOut([...header, 'CPU us/page', 'MB/s beside', 'goal'], rows);
}
