/**
 * What a page costs: processor time of all processes of a target (for us consumer and provider, for
 * nbdkit both nbdkits), from before fio connects until they are calm again, over the pages that fio
 * moved. No ramp, so that fio counts every page that cost time; write-back is paid for as well.
 */
import type { Workload } from '../fio.ts';
import { CPU_GOALS, type Metric } from '../goals.ts';
import { Report, renderGoals } from '../report.ts';
import { runTrials } from '../trials.ts';
import { planOf } from './block.ts';
import type { Suite } from './suite.ts';

const WORKLOADS = (['randread', 'randwrite'] as const).map((pattern): Workload => {
  return { name: `${pattern}-qd128`, pattern, blockSizeBytes: 4096, queueDepth: 128 };
});

const metrics = (): Metric[] => ['cpu'];

/** See the top of the file. */
export const cpu: Suite = {
  name: 'cpu',
  description: 'processor time per 4 KiB page of all server processes, against the peers',
  run: async (options) => {
    const plan = { ...planOf(options, WORKLOADS), rampSeconds: 0 };
    const { trials, failures, counters } = await runTrials(
      options.stage,
      options.targets,
      plan,
      options.note,
    );
    const ours = options.targets.find((target) => target.ours)?.name ?? '';
    const report = new Report(WORKLOADS, trials, ours, metrics, options.random);
    const goals = report.goals(CPU_GOALS);
    const { summaries, ratios } = report;
    return {
      data: { plan, goals, ratios, summaries, counters, trials },
      text: [report.renderSummaries('cpu'), report.renderRatios(), renderGoals(goals)].join('\n\n'),
      panels: report.panels(metrics, ours),
      failures,
    };
  },
};
