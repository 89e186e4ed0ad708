/**
 * Latency and throughput of block requests: 4 KiB at random with 1, 16 and 128 in flight, 128 KiB in
 * sequence with 8. The kernel's swap sends both kinds.
 */
import type { Workload } from '../fio.ts';
import { BLOCK_GOALS } from '../goals.ts';
import { Report, metricsOf, renderGoals } from '../report.ts';
import { runTrials, type Plan } from '../trials.ts';
import type { Suite, SuiteOptions } from './suite.ts';

const MIB = 2 ** 20;

/** 4 KiB at random. */
export const RANDOM_WORKLOADS = (['randread', 'randwrite'] as const).flatMap((pattern) =>
  [1, 16, 128].map((queueDepth): Workload => {
    return { name: `${pattern}-qd${queueDepth}`, pattern, blockSizeBytes: 4096, queueDepth };
  }),
);
const sequential = (['read', 'write'] as const).map((pattern): Workload => {
  return { name: `seq${pattern}-qd8`, pattern, blockSizeBytes: 131072, queueDepth: 8 };
});

/** The plan that the options ask for. */
export function planOf(options: SuiteOptions, workloads: readonly Workload[]): Plan {
  const { quick, force, rounds = quick ? 3 : 9, seconds = quick ? 1 : 2 } = options;
  return {
    workloads,
    rounds,
    seconds,
    rampSeconds: quick ? 0.5 : 1,
    volumeBytes: 1024 * MIB,
    workingSetBytes: 512 * MIB,
    force,
    random: options.random,
  };
}

/** See the top of the file. */
export const block: Suite = {
  name: 'block',
  description: 'latency and throughput of block requests, against the peers',
  run: async (options) => {
    const workloads = [...RANDOM_WORKLOADS, ...sequential];
    const plan = planOf(options, workloads);
    const { trials, failures, counters } = await runTrials(
      options.stage,
      options.targets,
      plan,
      options.note,
    );
    const ours = options.targets.find((target) => target.ours)?.name ?? '';
    const report = new Report(workloads, trials, ours, metricsOf, options.random);
    const goals = report.goals(BLOCK_GOALS);
    const { summaries, ratios } = report;
    return {
      data: { plan, goals, ratios, summaries, counters, trials },
      text: [report.renderTrials(), report.renderRatios(), renderGoals(goals)].join('\n\n'),
      panels: report.panels(metricsOf, ours),
      failures,
    };
  },
};
