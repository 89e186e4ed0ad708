/**
 * What a page costs each process, under four loads: undisturbed, counted by strace, and profiled. The
 * undisturbed and the counted run share one pair of memnodes; the profiled one has a pair of its own, started
 * with Node's profiler, whose report is written when a process ends.
 */
import fs from 'node:fs';
import path from 'node:path';
import { PAGE_SIZE_BYTES } from '../../common/units.ts';
import type { Workload } from '../fio.ts';
import { processTimes, settle } from '../proc.ts';
import type { ProcessTimes } from '../proc-parse.ts';
import type { Stage } from '../stage.ts';
import type { Random } from '../statistics.ts';
import { BOTH_HERE, startMemcloud, type RunningMemcloud } from '../targets/memcloud.ts';
import type { RunningTarget, Target } from '../targets/target.ts';
import { fill, runFio, seedOf } from '../trials.ts';
import { budgetOf, type Budget, type Used } from './budget.ts';
import { unbundle } from './bundled-frames.ts';
import { countCalls, type Counted } from './call-counts.ts';
import { parseCpuProfile, sumProfile, type Window } from './cpu-profile.ts';
import { countHardware } from './hardware-counters.ts';
import { stageOf } from './stages.ts';

/** How to measure. */
export interface CostPlan {
  readonly stage: Stage;
  readonly workloads: readonly Workload[];
  readonly seconds: number;
  readonly workingSetBytes: number;
  readonly random: Random;
  readonly note: (text: string) => void;
}

/** A process, by the name of its part. */
export interface Part {
  readonly name: string;
  readonly pid: number;
}

/** What a process used under a load. */
export interface PartCost extends Used {
  readonly part: string;
  readonly workload: string;
}

/** Its system calls. */
export interface PartCalls extends Counted {
  readonly part: string;
  readonly workload: string;
}

/** For a page. */
export interface PartHardware {
  readonly part: string;
  readonly workload: string;
  readonly instructions: number;
  readonly cycles: number;
}

const SIDES = ['consumer', 'provider'] as const;
const WARM_UP_SECONDS = 1;
const SAMPLE_INTERVAL_US = 500;

/** The two processes of ours. */
export function partsOf(target: RunningMemcloud): Part[] {
  return [
    { name: 'consumer', pid: target.consumerPid },
    { name: 'provider', pid: target.providerPid },
  ];
}

/** Runs a load until the processes are calm again, so that what they put off is counted. @returns pages */
async function load(plan: CostPlan, target: RunningTarget, workload: Workload): Promise<number> {
  const { requestCount } = await runFio(plan.stage, workload, {
    ...{ uri: target.uri, sizeBytes: plan.workingSetBytes, seconds: plan.seconds },
    ...{ rampSeconds: 0, seed: seedOf(plan.random) },
  });
  await settle(target.pids);
  return (requestCount * workload.blockSizeBytes) / PAGE_SIZE_BYTES;
}

async function warmUp(plan: CostPlan, target: RunningTarget, workload: Workload): Promise<void> {
  await load({ ...plan, seconds: WARM_UP_SECONDS }, target, workload);
}

function difference(after: ProcessTimes, before: ProcessTimes): ProcessTimes {
  return {
    userUs: after.userUs - before.userUs,
    systemUs: after.systemUs - before.systemUs,
    mainRunUs: after.mainRunUs - before.mainRunUs,
    mainWaitUs: after.mainWaitUs - before.mainWaitUs,
  };
}

/** What each process used while the load ran; `window` is when that was. */
async function measureLoad(
  plan: CostPlan,
  target: RunningTarget,
  parts: readonly Part[],
  workload: Workload,
): Promise<{ costs: PartCost[]; window: Window }> {
  const nowUs = (): number => Number(process.hrtime.bigint() / 1000n);
  await warmUp(plan, target, workload);
  const before = parts.map(({ pid }) => processTimes(pid));
  const startUs = nowUs();
  const pages = await load(plan, target, workload);
  const endUs = nowUs();
  const costs = parts.map(({ name, pid }, at) => ({
    ...{ part: name, workload: workload.name, pages },
    times: difference(processTimes(pid), before[at] as ProcessTimes),
  }));
  return { costs, window: { startUs, endUs } };
}

/** The undisturbed cost of each load. */
export async function measureCosts(
  plan: CostPlan,
  target: RunningTarget,
  parts: readonly Part[],
): Promise<PartCost[]> {
  const costs: PartCost[] = [];
  for (const workload of plan.workloads) {
    plan.note(`limits: processor time of ${parts[0]?.name}, ${workload.name}`);
    costs.push(...(await measureLoad(plan, target, parts, workload)).costs);
  }
  return costs;
}

/** The system calls of each load with one process traced at a time. */
export async function measureCalls(
  plan: CostPlan,
  target: RunningTarget,
  parts: readonly Part[],
): Promise<PartCalls[]> {
  const calls: PartCalls[] = [];
  for (const workload of plan.workloads) {
    for (const { name, pid } of parts) {
      plan.note(`limits: system calls of ${name}, ${workload.name}`);
      const run = (): Promise<number> => load(plan, target, workload);
      calls.push({
        ...{ part: name, workload: workload.name },
        ...(await countCalls(plan.stage, pid, run)),
      });
    }
  }
  return calls;
}

/** Instructions and cycles of each load, one process at a time. */
export async function measureHardware(
  plan: CostPlan,
  target: RunningTarget,
  parts: readonly Part[],
): Promise<PartHardware[]> {
  const found: PartHardware[] = [];
  for (const workload of plan.workloads) {
    for (const { name, pid } of parts) {
      plan.note(`limits: instructions of ${name}, ${workload.name}`);
      const run = (): Promise<number> => load(plan, target, workload);
      const { pages, counts } = await countHardware(plan.stage, pid, run);
      const instructions = counts.instructions / pages;
      const cycles = counts.cycles / pages;
      found.push({ part: name, workload: workload.name, instructions, cycles });
    }
  }
  return found;
}

/** Starts a target, fills it, has `work` done, and stops it. */
export async function onTarget<T extends RunningTarget, R>(
  plan: CostPlan,
  start: () => Promise<T>,
  work: (target: T) => Promise<R>,
): Promise<R> {
  const target = await start();
  try {
    await fill(plan.stage, target.uri, 0, plan.workingSetBytes, seedOf(plan.random));
    await settle(target.pids);
    const result = await work(target);
    await target.verify?.();
    return result;
  } finally {
    await target.stop();
  }
}

/** The same of a server of one process. */
export function onServer<R>(
  plan: CostPlan,
  server: Target,
  work: (target: RunningTarget, parts: readonly Part[]) => Promise<R>,
): Promise<R> {
  const start = (): Promise<RunningTarget> => server.start(plan.stage, plan.workingSetBytes);
  return onTarget(plan, start, (target) =>
    work(target, [{ name: server.name, pid: target.pids[0] ?? 0 }]),
  );
}

/** Profiles both sides under each load, and shares out what the loads cost undisturbed. */
export async function measureBudgets(
  plan: CostPlan,
  plain: readonly PartCost[],
): Promise<Budget[]> {
  const directory = plan.stage.makeDirectory('profiles');
  const nodeOptions = (side: string): string[] => [
    ...['--cpu-prof', `--cpu-prof-interval=${SAMPLE_INTERVAL_US}`],
    ...[`--cpu-prof-dir=${directory}`, `--cpu-prof-name=${side}.cpuprofile`],
  ];
  const start = (): Promise<RunningMemcloud> =>
    startMemcloud(plan.stage, plan.workingSetBytes, BOTH_HERE, nodeOptions);
  const runs = await onTarget(plan, start, async (target) => {
    const found: Awaited<ReturnType<typeof measureLoad>>[] = [];
    for (const workload of plan.workloads) {
      plan.note(`limits: profile of both memnodes, ${workload.name}`);
      found.push(await measureLoad(plan, target, partsOf(target), workload));
    }
    return found;
  });
  return SIDES.flatMap((side) => {
    const file = path.join(directory, `${side}.cpuprofile`);
    const profile = unbundle(parseCpuProfile(fs.readFileSync(file, 'utf8')));
    return runs.flatMap(({ costs, window }) =>
      costs
        .filter(({ part }) => part === side)
        .map((profiled) => {
          const { workload } = profiled;
          const own = plain.find((cost) => cost.part === side && cost.workload === workload);
          if (own === undefined) throw new Error(`${workload}: no undisturbed run of ${side}`);
          const sum = sumProfile(profile, window, stageOf);
          return budgetOf({ side, workload }, own, profiled, sum);
        }),
    );
  });
}
