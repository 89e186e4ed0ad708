/** From trials to what is reported: medians, ratios, verdicts, tables and plot panels. Pure. */
import type { Panel } from './bar-plot.ts';
import type { Workload } from './fio.ts';
import { judge, type Goal, type Metric, type Verdict } from './goals.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import { median, medianEstimate, ratioEstimate, type Estimate, type Random } from './statistics.ts';
import { formatEstimate, formatNumber, layOut } from './table.ts';
import type { Trial } from './trials.ts';

/** A median over rounds. */
export interface Summary {
  readonly workload: string;
  readonly target: string;
  readonly metric: Metric;
  readonly estimate: Estimate;
}

/** Ours over a peer's. */
export interface Ratio {
  readonly workload: string;
  readonly peer: string;
  readonly metric: Metric;
  readonly estimate: Estimate;
}

/** A goal and how it fared. */
export interface GoalResult extends Goal {
  readonly ratio: Estimate | null;
  readonly verdict: Verdict;
}

/** Unit and sense of each metric. */
export const METRIC_TITLES: Readonly<Record<Metric, string>> = {
  p50: 'median latency, us (less is better)',
  p99: '99th percentile of latency, us (less is better)',
  p999: '99.9th percentile of latency, us (less is better)',
  iops: 'requests per second (more is better)',
  bandwidth: 'MB/s (more is better)',
  cpu: 'CPU time of all server processes, us per 4 KiB page (less is better)',
};

/** The number that a trial gives for a metric. */
export function metricOf(trial: Trial, metric: Metric, blockSizeBytes: number): number {
  switch (metric) {
    case 'p50':
      return trial.fio.latencyUs.p50;
    case 'p99':
      return trial.fio.latencyUs.p99;
    case 'p999':
      return trial.fio.latencyUs.p999;
    case 'iops':
      return trial.fio.iops;
    case 'bandwidth':
      return trial.fio.bytesPerSecond / 1e6;
    case 'cpu':
      return trial.cpuUs / ((trial.fio.requestCount * blockSizeBytes) / PAGE_SIZE_BYTES);
  }
}

/** What a workload is about: latency of single requests, rate of small ones, MB/s of large ones. */
export function metricsOf(workload: Workload): Metric[] {
  if (workload.blockSizeBytes > PAGE_SIZE_BYTES) return ['bandwidth'];
  return workload.queueDepth === 1 ? ['p50', 'p99'] : ['iops', 'p99'];
}

/** Everything that a report computes from trials of one plan. */
export class Report {
  readonly summaries: Summary[] = [];
  readonly ratios: Ratio[] = [];
  readonly #workloads: readonly Workload[];
  readonly #trials: readonly Trial[];
  readonly #targets: readonly string[];
  readonly #ours: string;
  readonly #random: Random;

  /**
   * @param ours - name of the target that ratios are of
   * @param metrics - which metrics a workload is reported in
   */
  constructor(
    workloads: readonly Workload[],
    trials: readonly Trial[],
    ours: string,
    metrics: (workload: Workload) => Metric[],
    random: Random,
  ) {
    this.#workloads = workloads;
    this.#trials = trials;
    this.#ours = ours;
    this.#random = random;
    this.#targets = [...new Set(trials.map(({ target }) => target))].sort((a, b) =>
      a === ours ? -1 : b === ours ? 1 : a.localeCompare(b),
    );
    for (const workload of workloads) {
      for (const metric of metrics(workload)) {
        for (const target of this.#targets) {
          const sample = this.#sample(workload, target, metric);
          const estimate = medianEstimate(sample, random);
          this.summaries.push({ workload: workload.name, target, metric, estimate });
          if (target === ours || !this.#targets.includes(ours)) continue;
          const ratio = ratioEstimate(this.#sample(workload, ours, metric), sample, random);
          this.ratios.push({ workload: workload.name, peer: target, metric, estimate: ratio });
        }
      }
    }
  }

  /** How the goals fared. */
  goals(goals: readonly Goal[]): GoalResult[] {
    return goals.map((goal) => {
      const ratio = this.#ratioOf(goal);
      return { ...goal, ratio: ratio ?? null, verdict: judge(goal, ratio) };
    });
  }

  /** A row for each workload and target, medians over rounds. */
  renderTrials(): string {
    const header = ['workload', 'target', 'IOPS', 'MB/s', 'p50 us', 'p99 us', 'p99.9 us'];
    const rows = this.#workloads.flatMap((workload) =>
      this.#targets.map((target) => {
        const own = this.#own(workload, target).map(({ fio }) => fio);
        const middle = (of: (fio: Trial['fio']) => number): string =>
          formatNumber(median(own.map(of)));
        return [
          workload.name,
          target,
          middle(({ iops }) => iops),
          middle(({ bytesPerSecond }) => bytesPerSecond / 1e6),
          middle(({ latencyUs }) => latencyUs.p50),
          middle(({ latencyUs }) => latencyUs.p99),
          middle(({ latencyUs }) => latencyUs.p999),
        ];
      }),
    );
    return layOut(header, rows);
  }

  /** The medians of `metric` with their intervals, one row for each workload and target. */
  renderSummaries(metric: Metric): string {
    const rows = this.summaries
      .filter((summary) => summary.metric === metric)
      .map(({ workload, target, estimate }) => [workload, target, formatEstimate(estimate)]);
    return layOut(['workload', 'target', METRIC_TITLES[metric]], rows);
  }

  /** Ours over each peer's. */
  renderRatios(): string {
    const rows = this.ratios.map(({ workload, metric, peer, estimate }) => [
      ...[workload, metric, peer, formatEstimate(estimate)],
    ]);
    return layOut(['ours / theirs', 'metric', 'peer', 'ratio of medians [95 %]'], rows);
  }

  /** One panel for each workload, in the first of its metrics. */
  panels(metrics: (workload: Workload) => Metric[], ours: string): Panel[] {
    return this.#workloads.map((workload) => {
      const [metric = 'iops'] = metrics(workload);
      const bars = this.summaries
        .filter((summary) => summary.workload === workload.name && summary.metric === metric)
        .map(({ target, estimate }) => ({ label: target, estimate, ours: target === ours }));
      return { title: `${workload.name}: ${METRIC_TITLES[metric]}`, bars };
    });
  }

  #own(workload: Workload, target: string): Trial[] {
    return this.#trials.filter(
      (trial) => trial.workload === workload.name && trial.target === target,
    );
  }

  /** What a goal compares: one of {@link Report.ratios}, drawn once, or a comparison of its own. */
  #ratioOf(goal: Goal): Estimate | undefined {
    const { workload, metric, target = this.#ours, peer } = goal;
    const { peerWorkload = workload, peerMetric = metric } = goal;
    if (target === this.#ours && peerWorkload === workload && peerMetric === metric) {
      return this.ratios.find(
        (ratio) => ratio.workload === workload && ratio.peer === peer && ratio.metric === metric,
      )?.estimate;
    }
    const own = this.#named(workload, target, metric);
    const other = this.#named(peerWorkload, peer, peerMetric);
    return own.length > 0 && other.length > 0 ? ratioEstimate(own, other, this.#random) : undefined;
  }

  /** As `#sample`; empty when the plan has no such workload. */
  #named(name: string, target: string, metric: Metric): number[] {
    const workload = this.#workloads.find((one) => one.name === name);
    return workload === undefined ? [] : this.#sample(workload, target, metric);
  }

  #sample(workload: Workload, target: string, metric: Metric): number[] {
    return this.#own(workload, target)
      .sort((a, b) => a.round - b.round)
      .map((trial) => metricOf(trial, metric, workload.blockSizeBytes));
  }
}

/** `memcloud-local` or `memcloud randread-qd1 p50`: what of a side is not said by the columns before it. */
function nameSide(name: string, workload: string | undefined, metric: Metric | undefined): string {
  return [name, workload, metric].filter((word) => word !== undefined).join(' ');
}

/** Goals and verdicts. */
export function renderGoals(goals: readonly GoalResult[]): string {
  const rows = goals.map((goal) => {
    const { workload, metric, target, peer, peerWorkload, peerMetric } = goal;
    const { sense, bound, ratio, verdict } = goal;
    return [
      ...[nameSide(workload, target, undefined), metric, nameSide(peer, peerWorkload, peerMetric)],
      ...[`${sense} ${bound}x`, ratio === null ? '-' : formatEstimate(ratio), verdict],
    ];
  });
  return layOut(['goal', 'metric', 'peer', 'bound', 'ratio', 'verdict'], rows);
}
