/**
 * A budget: processor microseconds for each page, by stage, of one process under one load. Two runs make
 * it. The first, undisturbed, says what a page costs, in the processor time of the process. The second,
 * profiled, says how that time is shared out. A sample means that the function was under way, not that
 * it had a processor: so the sampled time is scaled by the share in which the thread ran of the time in
 * which it could have run (schedstat). What the thread used beyond that is outside JavaScript. Pure.
 */
import type { ProcessTimes } from '../proc-parse.ts';
import { formatNumber, layOut } from '../table.ts';
import { largest, type ProfileSum } from './cpu-profile.ts';
import { OUTSIDE_JAVASCRIPT, OUTSIDE_STAGE, STAGE_ROWS, THREADS_STAGE } from './stages.ts';

/** What a process used between two readings, and for how many pages. */
export interface Used {
  readonly times: ProcessTimes;
  readonly pages: number;
}

/** See the top of the file. */
export interface Budget {
  readonly side: 'consumer' | 'provider';
  readonly workload: string;
  /** Of the undisturbed run, all threads. */
  readonly totalUs: number;
  /** Of that, in the kernel. */
  readonly systemUs: number;
  /** Of the profiled run, which the profiler slows. */
  readonly profiledUs: number;
  /** Microseconds of {@link Budget.totalUs} for a page by stage. */
  readonly stages: Readonly<Record<string, number>>;
  /** Functions with the most time of their own, in the same microseconds. */
  readonly functions: readonly { readonly name: string; readonly us: number }[];
}

const FUNCTION_COUNT = 25;

function sum(values: Iterable<number>): number {
  return [...values].reduce((all, value) => all + value, 0);
}

function pageUs({ times, pages }: Used): number {
  return (times.userUs + times.systemUs) / pages;
}

/** What share of a process's time its main thread takes, 0 to 1. */
function mainShare({ mainRunUs, userUs, systemUs }: ProcessTimes): number {
  // The two are counted by different clocks, which may differ by a tick.
  return Math.min(1, mainRunUs / (userUs + systemUs));
}

/**
 * Makes the budget of one process.
 *
 * @param plain - used in the undisturbed run
 * @param profiled - used in the profiled run, over the same window as `profile`
 */
export function budgetOf(
  which: Pick<Budget, 'side' | 'workload'>,
  plain: Used,
  profiled: Used,
  profile: ProfileSum,
): Budget {
  const { mainRunUs, mainWaitUs } = profiled.times;
  const ranShare = mainRunUs / (mainRunUs + mainWaitUs);
  const inside = new Map(
    [...profile.stages]
      .filter(([stage]) => !OUTSIDE_JAVASCRIPT.includes(stage))
      .map(([stage, us]) => [stage, us * ranShare]),
  );
  const outsideUs = Math.max(0, mainRunUs - sum(inside.values()));
  const mainUs = sum(inside.values()) + outsideUs;
  const totalUs = pageUs(plain);
  const mainPageUs = totalUs * mainShare(plain.times);
  const scaled = (us: number): number => (us / mainUs) * mainPageUs;
  const stages = Object.fromEntries([...inside].map(([stage, us]) => [stage, scaled(us)]));
  return {
    ...which,
    totalUs,
    systemUs: plain.times.systemUs / plain.pages,
    profiledUs: pageUs(profiled),
    stages: {
      ...stages,
      [OUTSIDE_STAGE]: scaled(outsideUs),
      [THREADS_STAGE]: totalUs - mainPageUs,
    },
    functions: largest(profile.functions, FUNCTION_COUNT + OUTSIDE_JAVASCRIPT.length)
      .filter(([name]) => !OUTSIDE_JAVASCRIPT.includes(name))
      .map(([name, us]) => ({ name, us: scaled(us * ranShare) })),
  };
}

/** Stages in the order of the table; those that it does not know come last. */
function stagesIn(budgets: readonly Budget[]): string[] {
  const found = new Set(budgets.flatMap(({ stages }) => Object.keys(stages)));
  const known = STAGE_ROWS.map(({ stage }) => stage);
  return [...known.filter((stage) => found.has(stage)), ...found].filter(
    (stage, at, all) => all.indexOf(stage) === at,
  );
}

/** One table for each side: a row for each stage, a column for each load. */
export function renderBudgets(budgets: readonly Budget[]): string {
  const tables = (['consumer', 'provider'] as const).map((side) => {
    const own = budgets.filter((budget) => budget.side === side);
    if (own.length === 0) return '';
    const cells = (of: (budget: Budget) => number): string[] =>
      own.map((budget) => formatNumber(of(budget)));
    const rows = stagesIn(own).map((stage) => [
      stage,
      ...cells(({ stages }) => stages[stage] ?? 0),
    ]);
    const header = [`${side}, us per page`, ...own.map(({ workload }) => workload)];
    return layOut(header, [
      ...rows,
      ['sum', ...cells(({ totalUs }) => totalUs)],
      ['of it in the kernel', ...cells(({ systemUs }) => systemUs)],
    ]);
  });
  return tables.filter((table) => table !== '').join('\n\n');
}
