/**
 * Pages over a link that is the bottleneck: 1 Gb/s and 100 Mb/s, and 1 Gb/s with 0.1, 1 and 5 ms in each
 * direction; beside nbdkit's memory plugin over plain TCP on the very same link. Each write ends with a
 * flush whose time counts, and meets no page that is still on its way, so that bytes a second are bytes
 * that crossed the link. Volumes are filled before the link becomes slow.
 */
import {
  LINK_CONDITIONS,
  LINK_GOAL,
  LINK_WORKLOADS,
  linkShares,
  linkWorkloads,
  renderLinks,
} from '../links/conditions.ts';
import { Link } from '../links/link.ts';
import { Report, metricsOf } from '../report.ts';
import { refuseCoalescing, startMemcloud } from '../targets/memcloud.ts';
import { serveMemoryAt } from '../targets/nbdkit.ts';
import type { Target, ToolName } from '../targets/target.ts';
import { describeTool, installTools, missingTools } from '../tools.ts';
import { reasonOf, runTrials } from '../trials.ts';
import type { Suite, SuiteOptions, SuiteResult } from './suite.ts';

const MIB = 2 ** 20;
const TOOLS: readonly ToolName[] = ['nbdkit', 'tc', 'nsenter', 'gcc'];
/** IANA: nbd. */
const NBD_PORT = 10809;
const QUICK_CONDITIONS = ['1g', '1g-1ms'];

/** Words for `--works`: links and what is done over them. */
export const LINK_WORK_NAMES: readonly string[] = [
  ...LINK_CONDITIONS.map(({ name }) => name),
  ...LINK_WORKLOADS.map(({ name }) => name),
];

function targetsOn(link: Link): Target[] {
  return [
    {
      name: 'memcloud',
      description: 'memnode -> encrypted session over the link -> memnode',
      tools: [],
      ours: true,
      start: async (stage, sizeBytes) => {
        const running = await startMemcloud(stage, sizeBytes, link);
        const verify = async (): Promise<Readonly<Record<string, number>>> => {
          const counters = await running.verify();
          refuseCoalescing(counters);
          return counters;
        };
        return { ...running, verify };
      },
    },
    {
      name: 'nbdkit-tcp',
      description: 'nbdkit memory over the link, plain',
      tools: ['nbdkit'],
      ours: false,
      start: (stage, sizeBytes) => serveMemoryAt(stage, link.provider, NBD_PORT, sizeBytes),
    },
  ];
}

/** Those that were asked for by name, or all where none of them was. */
function chosen<T extends { readonly name: string }>(
  all: readonly T[],
  names: readonly string[] | undefined,
): T[] {
  const asked = all.filter(({ name }) => names?.includes(name));
  return asked.length > 0 ? asked : [...all];
}

async function run(options: SuiteOptions): Promise<SuiteResult> {
  const { stage, quick, force, random, note, works } = options;
  const { rounds = quick ? 1 : 3, seconds = quick ? 1.5 : 3 } = options;
  const lacking = missingTools(TOOLS);
  if (process.geteuid?.() !== 0) throw new Error('expected root, who may make networks');
  if (lacking.length > 0) throw new Error(`missing: ${lacking.map(describeTool).join(', ')}`);
  const conditions = chosen(LINK_CONDITIONS, quick ? (works ?? QUICK_CONDITIONS) : works);
  const workloads = linkWorkloads(conditions, chosen(LINK_WORKLOADS, works));
  const link = await Link.start(stage);
  note(`frames are delayed by ${link.delayer}`);
  const targets = targetsOn(link).filter(
    ({ name }) => options.names === undefined || options.names.includes(name),
  );
  const plan = {
    ...{ workloads, rounds, seconds, rampSeconds: 0, force, random },
    volumeBytes: 1024 * MIB,
    workingSetBytes: 1024 * MIB,
    load: { distinct: true, flush: true },
    place: link.consumer,
    prepare: async ({ name }: { readonly name: string }): Promise<void> => {
      const workload = workloads.find((candidate) => candidate.name === name);
      if (workload !== undefined) await link.set(workload.condition);
    },
  };
  const { trials, failures, counters } = await runTrials(stage, targets, plan, note);
  const shares = linkShares(workloads, trials, 'memcloud', random);
  const report = new Report(workloads, trials, 'memcloud', metricsOf, random);
  const { summaries, ratios } = report;
  return {
    data: {
      ...{ conditions, delayer: link.delayer, goal: LINK_GOAL, shares, ratios, summaries },
      ...{ counters, trials },
    },
    text: [
      renderLinks(workloads, trials, shares),
      report.renderRatios(),
      `frames delayed by ${link.delayer}`,
    ].join('\n\n'),
    panels: report.panels(metricsOf, 'memcloud'),
    failures,
  };
}

/** See the top of the file. */
export const links: Suite = {
  name: 'links',
  description: 'page-out, sequential and latency over shaped and long links, beside nbdkit (root)',
  run: async (options) => {
    try {
      return await run(options);
    } catch (thrown) {
      return { data: {}, text: '', panels: [], failures: { links: reasonOf(thrown) } };
    }
  },
};

/** Gets what it needs. @throws Error when this is not root */
export function installLinkTools(): void {
  const missing = missingTools(TOOLS);
  if (missing.length > 0) installTools(missing);
}
