/** From trials on mounts to what is reported: medians, ratios, verdicts, tables, plot panels. Pure. */
import type { Panel } from '../bar-plot.ts';
import { judge, type Verdict } from '../goals.ts';
import { medianEstimate, ratioEstimate, type Estimate, type Random } from '../statistics.ts';
import { formatEstimate, layOut } from '../table.ts';
import type { FileGoal } from './file-goals.ts';
import type { FileTrial } from './file-trials.ts';
import type { FileWorkload } from './file-workloads.ts';

/** A median over rounds. */
export interface FileSummary {
  readonly workload: string;
  readonly target: string;
  readonly unit: FileWorkload['unit'];
  readonly estimate: Estimate;
}

/** A goal and how it fared. */
export interface FileGoalResult extends FileGoal {
  readonly ratio: Estimate | null;
  readonly verdict: Verdict;
}

function sampleOf(
  trials: readonly FileTrial[],
  workload: string,
  target: string,
): { rounds: number[]; values: number[] } {
  const own = trials
    .filter((trial) => trial.workload === workload && trial.target === target)
    .sort((a, b) => a.round - b.round);
  return { rounds: own.map(({ round }) => round), values: own.map(({ value }) => value) };
}

/** Medians of each workload and target, in the order of the workloads. */
export function summarise(
  workloads: readonly Pick<FileWorkload, 'name' | 'unit' | 'targets'>[],
  trials: readonly FileTrial[],
  random: Random,
): FileSummary[] {
  return workloads.flatMap(({ name, unit, targets }) =>
    targets.flatMap((target) => {
      const { values } = sampleOf(trials, name, target);
      if (values.length === 0) return [];
      return [{ workload: name, target, unit, estimate: medianEstimate(values, random) }];
    }),
  );
}

/** How the goals fared; a goal whose sides did not run in the same rounds was not measured. */
export function judgeGoals(
  goals: readonly FileGoal[],
  trials: readonly FileTrial[],
  random: Random,
): FileGoalResult[] {
  return goals.map((goal) => {
    const ours = sampleOf(trials, goal.workload, goal.ours);
    const theirs = sampleOf(trials, goal.workload, goal.peer);
    const isPaired = ours.values.length > 0 && ours.rounds.join() === theirs.rounds.join();
    const ratio = isPaired ? ratioEstimate(ours.values, theirs.values, random) : undefined;
    return { ...goal, ratio: ratio ?? null, verdict: judge(goal, ratio) };
  });
}

/** A row for each workload and target. */
export function renderSummaries(summaries: readonly FileSummary[]): string {
  const rows = summaries.map(({ workload, target, unit, estimate }) => [
    ...[workload, target, formatEstimate(estimate), unit],
  ]);
  return layOut(['workload', 'target', 'median [95 %]', 'unit'], rows);
}

/** Goals and verdicts. */
export function renderFileGoals(goals: readonly FileGoalResult[]): string {
  const rows = goals.map(({ workload, ours, peer, sense, bound, ratio, verdict }) => [
    ...[workload, ours, peer, `${sense} ${bound}x`],
    ...[ratio === null ? '-' : formatEstimate(ratio), verdict],
  ]);
  return layOut(['goal', 'ours', 'peer', 'bound', 'ratio of medians [95 %]', 'verdict'], rows);
}

/** One panel for each workload. */
export function filePanels(summaries: readonly FileSummary[]): Panel[] {
  const names = [...new Set(summaries.map(({ workload }) => workload))];
  return names.map((name) => {
    const own = summaries.filter(({ workload }) => workload === name);
    const unit = own[0]?.unit ?? 's';
    const sense = unit === 's' ? 'less is better' : 'more is better';
    const bars = own.map(({ target, estimate }) => ({
      ...{ label: target, estimate, ours: target.startsWith('memcloud') },
    }));
    return { title: `${name}: ${unit} (${sense})`, bars };
  });
}
