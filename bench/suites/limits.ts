/**
 * How close we are to what the machine allows, measured in one run beside our own figures: copying and
 * sealing a page in C; a server in C that keeps nothing, behind the same sockets and the same fio; the
 * system calls of a page; and where its processor time goes, stage by stage.
 */
import { renderBudgets, type Budget } from '../limits/budget.ts';
import { floorOf, renderFloors, type Floor } from '../limits/floor.ts';
import { countersObstacle } from '../limits/hardware-counters.ts';
import {
  measureCopies,
  measureOpenssl,
  measureOurCipher,
  type LimitRow,
} from '../limits/machine-limits.ts';
import {
  measureBudgets,
  measureCalls,
  measureCosts,
  measureHardware,
  onServer,
  onTarget,
  partsOf,
  type CostPlan,
  type PartCalls,
  type PartCost,
  type PartHardware,
} from '../limits/page-cost.ts';
import { CALL_KINDS, callsPerPage } from '../limits/strace-summary.ts';
import { PAGE_SIZE_BYTES } from '../../common/units.ts';
import type { Metric } from '../goals.ts';
import { Report } from '../report.ts';
import { formatNumber, layOut } from '../table.ts';
import { memcloud, startMemcloud } from '../targets/memcloud.ts';
import { nullTcp, nullUnix } from '../targets/null-nbd.ts';
import type { ToolName } from '../targets/target.ts';
import { describeTool, installTools, missingTools } from '../tools.ts';
import { reasonOf, runTrials } from '../trials.ts';
import { RANDOM_WORKLOADS, planOf } from './block.ts';
import type { Suite, SuiteOptions } from './suite.ts';

const TOOLS: readonly ToolName[] = ['fio', 'gcc', 'openssl', 'strace', 'perf'];
const ROUNDS = { quick: 2, full: 5 };
const COST_SECONDS = { quick: 2, full: 5 };
const VERSION_TIMEOUT_MS = 10_000;
const COST_DEPTHS = [16, 128];
/** The one at which system calls are counted: each is made for a few pages, not for one and not for all. */
const CALLS_DEPTH = 16;

/** What the suite can be asked to do alone, by `--works`. */
export const LIMIT_WORK_NAMES = ['machine', 'ceiling', 'pages'] as const;

/** What was found; each part is missing when a tool is, or when it failed. */
interface Found {
  /** Of libcrypto: the system's, and the one in Node that ours runs on. */
  versions: Record<string, string>;
  limits: LimitRow[];
  costs: PartCost[];
  calls: PartCalls[];
  hardware: PartHardware[];
  budgets: Budget[];
  floors: Floor[];
}

interface Run {
  readonly options: SuiteOptions;
  readonly plan: CostPlan;
  readonly missing: readonly ToolName[];
  readonly skipped: Record<string, string>;
  readonly failures: Record<string, string>;
  readonly found: Found;
}

/** Gets what this suite runs. @throws Error when this is not root */
export function installLimitTools(): void {
  const missing = missingTools(TOOLS);
  if (missing.length > 0) installTools(missing);
}

/** Does `work`, unless a tool is missing; a failure is the end of that part only. */
async function part(
  run: Run,
  name: string,
  tools: readonly ToolName[],
  work: () => Promise<void>,
): Promise<void> {
  const lacks = tools.filter((tool) => run.missing.includes(tool)).map(describeTool);
  if (lacks.length > 0) {
    run.skipped[name] = lacks.join(', ');
    run.options.note(`skipping ${name}: ${lacks.join(', ')}`);
    return;
  }
  run.options.note(`limits: ${name}`);
  try {
    await work();
  } catch (thrown) {
    run.failures[name] = reasonOf(thrown);
    run.options.note(`${name} failed: ${reasonOf(thrown)}`);
  }
}

async function measureMachine(run: Run): Promise<void> {
  const { options, found } = run;
  const { stage, quick } = options;
  await part(run, 'memcpy', ['gcc'], async () => {
    found.limits.push(...(await measureCopies(stage, quick)));
  });
  await part(run, 'openssl', ['openssl'], async () => {
    const version = await stage.run('openssl', ['version'], VERSION_TIMEOUT_MS);
    found.versions['openssl'] = version.split(' ')[1] ?? 'unknown';
    found.limits.push(...(await measureOpenssl(stage, quick)));
  });
  await part(run, 'our cipher', [], async () => {
    found.limits.push(...measureOurCipher());
    return Promise.resolve();
  });
}

/** IOPS of ours beside the ceiling. */
async function measureCeiling(run: Run): Promise<Report | undefined> {
  const { options, missing, failures } = run;
  const targets = missing.includes('gcc') ? [memcloud] : [memcloud, nullUnix, nullTcp];
  const rounds = options.rounds ?? ROUNDS[options.quick ? 'quick' : 'full'];
  const trialPlan = planOf({ ...options, rounds }, RANDOM_WORKLOADS);
  let report: Report | undefined;
  await part(run, 'ceiling', [], async () => {
    const set = await runTrials(options.stage, targets, trialPlan, options.note);
    Object.assign(failures, set.failures);
    const metrics = (): Metric[] => ['iops'];
    report = new Report(RANDOM_WORKLOADS, set.trials, memcloud.name, metrics, options.random);
  });
  return report;
}

/** Everything that is counted for a page, of our two processes and of the null servers. */
async function measurePages(run: Run): Promise<void> {
  const { plan, options, missing, skipped, found } = run;
  const { stage } = options;
  const callsPlan = {
    ...plan,
    workloads: plan.workloads.filter(({ queueDepth }) => queueDepth === CALLS_DEPTH),
  };
  for (const server of [nullUnix, nullTcp]) {
    await part(run, `cost of ${server.name}`, ['gcc'], () =>
      onServer(plan, server, async (target, parts) => {
        found.costs.push(...(await measureCosts(plan, target, parts)));
        if (missing.includes('strace')) return;
        found.calls.push(...(await measureCalls(callsPlan, target, parts)));
      }),
    );
  }
  await part(run, 'cost of memcloud', [], () =>
    onTarget(
      plan,
      () => startMemcloud(stage, plan.workingSetBytes),
      async (target) => {
        const parts = partsOf(target);
        found.costs.push(...(await measureCosts(plan, target, parts)));
        await part(run, 'system calls', ['strace'], async () => {
          found.calls.push(...(await measureCalls(callsPlan, target, parts)));
        });
        await part(run, 'hardware counters', ['perf'], async () => {
          const obstacle = await countersObstacle(stage);
          if (obstacle !== undefined) skipped['hardware counters'] = obstacle;
          else found.hardware.push(...(await measureHardware(callsPlan, target, parts)));
        });
      },
    ),
  );
  await part(run, 'budget', [], async () => {
    found.budgets.push(...(await measureBudgets(plan, found.costs)));
  });
}

function makeFloors({ plan, found }: Run): Floor[] {
  const limit = (name: string): number =>
    found.limits.find((row) => row.name === name)?.pageUs ?? NaN;
  return plan.workloads.map(({ name }) => {
    const cost = (who: string): number => {
      const own = found.costs.find((row) => row.part === who && row.workload === name);
      return own === undefined ? NaN : (own.times.userUs + own.times.systemUs) / own.pages;
    };
    return floorOf(name, cost('consumer') + cost('provider'), {
      nullUnixUs: cost(nullUnix.name),
      nullTcpUs: cost(nullTcp.name),
      sealUs: limit('openssl chacha20-poly1305, bare'),
      copyUs: limit('memcpy of a page anywhere in 128 MiB'),
    });
  });
}

function renderLimits({ limits, versions }: Found): string {
  const rows = limits.map(({ name, pageUs }) => [
    ...[name, formatNumber(pageUs), formatNumber(PAGE_SIZE_BYTES / pageUs / 1000)],
  ]);
  const names = Object.entries(versions).map(([who, version]) => `of ${who} ${version}`);
  const table = layOut(['a page of 4 KiB', 'us', 'GB/s'], rows);
  return `${table}\nlibcrypto ${names.join(', ')}`;
}

function renderCalls(calls: readonly PartCalls[]): string {
  const rows = calls.map(({ part: name, workload, pages, counts }) => {
    const perPage = callsPerPage(counts, pages);
    const kinds = CALL_KINDS.map((kind) => perPage.get(kind) ?? 0);
    const all = kinds.reduce((sum, count) => sum + count, 0);
    return [`${name}, ${workload}`, ...[...kinds, all, pages].map(formatNumber)];
  });
  return layOut(['system calls per page', ...CALL_KINDS, 'all', 'pages'], rows);
}

function renderHardware(hardware: readonly PartHardware[]): string {
  const rows = hardware.map(({ part: name, workload, instructions, cycles }) => [
    ...[`${name}, ${workload}`, formatNumber(instructions), formatNumber(cycles)],
  ]);
  return rows.length === 0 ? '' : layOut(['per page', 'instructions', 'cycles'], rows);
}

/** See the top of the file. */
export const limits: Suite = {
  name: 'limits',
  description: 'what the machine allows: memcpy, ciphers, a null server in C; the budget of a page',
  run: async (options) => {
    const { stage, quick, random, note } = options;
    const workloads = RANDOM_WORKLOADS.filter(({ queueDepth }) => COST_DEPTHS.includes(queueDepth));
    const seconds = options.seconds ?? COST_SECONDS[quick ? 'quick' : 'full'];
    const { workingSetBytes } = planOf(options, workloads);
    const run: Run = {
      options,
      plan: { stage, workloads, seconds, workingSetBytes, random, note },
      missing: missingTools(TOOLS),
      ...{ skipped: {}, failures: {} },
      found: {
        versions: { node: process.versions.openssl },
        limits: [],
        costs: [],
        calls: [],
        hardware: [],
        budgets: [],
        floors: [],
      },
    };
    const { found, skipped, failures } = run;
    const asked = (work: (typeof LIMIT_WORK_NAMES)[number]): boolean =>
      options.works?.includes(work) ?? true;
    if (asked('machine')) await measureMachine(run);
    const report = asked('ceiling') ? await measureCeiling(run) : undefined;
    if (asked('pages')) await measurePages(run);
    if (asked('machine') && asked('pages')) found.floors.push(...makeFloors(run));
    const skips = Object.entries(skipped).map(([name, why]) => `SKIP ${name}: ${why}`);
    const parts = [
      asked('machine') ? renderLimits(found) : '',
      ...(report === undefined ? [] : [report.renderSummaries('iops'), report.renderRatios()]),
      asked('pages') ? renderCalls(found.calls) : '',
      renderHardware(found.hardware),
      renderBudgets(found.budgets),
      found.floors.length > 0 ? renderFloors(found.floors) : '',
      skips.join('\n'),
    ];
    return {
      data: { seconds, ...found, summaries: report?.summaries, ratios: report?.ratios, skipped },
      text: parts.filter((text) => text !== '').join('\n\n'),
      panels: report?.panels(() => ['iops'], memcloud.name) ?? [],
      failures,
    };
  },
};
