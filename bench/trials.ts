/**
 * Paired, interleaved trials. All targets are started and filled once; then, in every round and for
 * every workload, each target runs once, in a fresh shuffled order. After a trial its target may
 * finish what it put off before the next one runs. A target that fails is dropped, and said so; the
 * others go on.
 */
import { parseFioReport, fioArguments, type FioResult, type FioRun, type Workload } from './fio.ts';
import { BUSY_SHARE_MAX, availableBytes, cpuTimeUs, settle, waitUntilQuiet } from './proc.ts';
import type { Stage } from './stage.ts';
import { shuffled, type Random } from './statistics.ts';
import { formatNumber } from './table.ts';
import { HERE, commandAt, type Place } from './targets/place.ts';
import type { RunningTarget, Target } from './targets/target.ts';

/** What to run. */
export interface Plan {
  readonly workloads: readonly Workload[];
  readonly rounds: number;
  readonly seconds: number;
  readonly rampSeconds: number;
  /** Bytes that the targets serve. */
  readonly volumeBytes: number;
  /** Bytes at the start of it that are filled and then worked on. */
  readonly workingSetBytes: number;
  /** Run although others use the machine. */
  readonly force: boolean;
  readonly random: Random;
  /** How requests are made, beyond the workload. */
  readonly load?: Pick<FioRun, 'distinct' | 'flush'>;
  /** Where the load comes from; here unless it says otherwise. */
  readonly place?: Place;
  /** Makes everything as a workload needs it, before its turn. */
  readonly prepare?: (workload: Workload) => Promise<void>;
}

/** One run of one workload on one target. */
export interface Trial {
  readonly round: number;
  readonly workload: string;
  readonly target: string;
  readonly fio: FioResult;
  /** Processor time of the target's processes, until they were calm again; the ramp included. */
  readonly cpuUs: number;
  /** Share of the machine that was used just before the round. */
  readonly busyShare: number;
}

/** What came of a plan. */
export interface TrialSet {
  readonly trials: readonly Trial[];
  /** Each target that failed, and why. */
  readonly failures: Readonly<Record<string, string>>;
  /** What targets counted themselves. */
  readonly counters: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** Between two rounds, how long to wait for others to be done. */
const QUIET_TIMEOUT_MS = 60_000;
const FIO_SLACK_MS = 30_000;
const FILL_TIMEOUT_MS = 300_000;
/** Share of the available memory that all working sets together may take. */
const MEMORY_SHARE_MAX = 0.7;

const FILL: Workload = { name: 'fill', pattern: 'write', blockSizeBytes: 131072, queueDepth: 8 };

/** Runs fio once. @throws Error, RangeError when it failed */
export async function runFio(
  stage: Stage,
  workload: Workload,
  run: FioRun,
  place: Place = HERE,
): Promise<FioResult> {
  const limitMs =
    run.seconds === 0 ? FILL_TIMEOUT_MS : (run.seconds + run.rampSeconds) * 1000 + FIO_SLACK_MS;
  const { command, args } = commandAt(place, 'fio', fioArguments(workload, run));
  const report = await stage.run(command, args, limitMs);
  return parseFioReport(report, workload);
}

/** Writes random bytes over a range once. */
export async function fill(
  stage: Stage,
  uri: string,
  offsetBytes: number,
  sizeBytes: number,
  seed: number,
  place: Place = HERE,
): Promise<void> {
  const run = { uri, offsetBytes, sizeBytes, seconds: 0, rampSeconds: 0, seed };
  await runFio(stage, FILL, run, place);
}

/** A seed for fio. */
export function seedOf(random: Random): number {
  return 1 + Math.floor(random() * 2 ** 31);
}

/** Says in one line why something thrown was thrown. */
export function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

class TrialRun {
  readonly trials: Trial[] = [];
  readonly failures: Record<string, string> = {};
  readonly counters: Record<string, Readonly<Record<string, number>>> = {};
  readonly #running = new Map<Target, RunningTarget>();
  /** Exports that hold something; targets may share them. */
  readonly #filled = new Set<string>();
  readonly #stage: Stage;
  readonly #plan: Plan;
  readonly #note: (text: string) => void;

  constructor(stage: Stage, plan: Plan, note: (text: string) => void) {
    this.#stage = stage;
    this.#plan = plan;
    this.#note = note;
  }

  async start(targets: readonly Target[]): Promise<void> {
    const { volumeBytes, workingSetBytes, random } = this.#plan;
    for (const target of targets) {
      await this.#guard(target, async () => {
        this.#note(`starting ${target.name}: ${target.description}`);
        const running = await target.start(this.#stage, volumeBytes);
        this.#running.set(target, running);
        for (const uri of [running.uri, ...(running.moreUris ?? [])]) {
          if (this.#filled.has(uri)) continue;
          this.#filled.add(uri);
          await fill(this.#stage, uri, 0, workingSetBytes, seedOf(random), this.#plan.place);
        }
        await settle(running.pids);
      });
    }
  }

  async round(round: number): Promise<void> {
    const { workloads, force, random } = this.#plan;
    const busyShare = await waitUntilQuiet(force ? 0 : QUIET_TIMEOUT_MS);
    if (busyShare > BUSY_SHARE_MAX && !force) {
      const percent = formatNumber(busyShare * 100);
      throw new Error(`round ${round}: the machine is ${percent} % busy and stays so; --force`);
    }
    for (const workload of workloads) {
      this.#note(`round ${round} of ${this.#plan.rounds}: ${workload.name}`);
      await this.#plan.prepare?.(workload);
      for (const [target, running] of shuffled([...this.#running], random)) {
        await this.#guard(target, async () => {
          this.trials.push(await this.#trial(round, workload, target, running, busyShare));
        });
      }
    }
  }

  async stop(): Promise<void> {
    for (const [target, running] of this.#running) {
      await this.#guard(target, async () => {
        const counters = await running.verify?.();
        if (counters !== undefined) this.counters[target.name] = counters;
        await running.stop();
      });
    }
  }

  async #trial(
    round: number,
    workload: Workload,
    target: Target,
    running: RunningTarget,
    busyShare: number,
  ): Promise<Trial> {
    const { seconds, rampSeconds, workingSetBytes, random, load, place } = this.#plan;
    const { uri, moreUris = [], connectionCount = 1 } = running;
    const before = cpuTimeUs(running.pids);
    const run: FioRun = {
      ...{ uri, moreUris, connectionCount, sizeBytes: workingSetBytes, seconds, rampSeconds },
      ...{ seed: seedOf(random), ...load },
    };
    const fio = await runFio(this.#stage, workload, run, place);
    await settle(running.pids);
    const cpuUs = cpuTimeUs(running.pids) - before;
    return { round, workload: workload.name, target: target.name, fio, cpuUs, busyShare };
  }

  /** Does `work`; when it fails, the target is out, with all its trials. */
  async #guard(target: Target, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      this.failures[target.name] = reasonOf(thrown);
      this.#note(`${target.name} failed: ${reasonOf(thrown)}`);
      const kept = this.trials.filter((trial) => trial.target !== target.name);
      this.trials.splice(0, this.trials.length, ...kept);
      const running = this.#running.get(target);
      this.#running.delete(target);
      await running?.stop();
    }
  }
}

/**
 * Runs the plan on the targets.
 *
 * @throws Error when there is too little memory, or others use the machine and `force` is not set
 */
export async function runTrials(
  stage: Stage,
  targets: readonly Target[],
  plan: Plan,
  note: (text: string) => void,
): Promise<TrialSet> {
  const needed = plan.workingSetBytes * targets.length;
  if (needed > availableBytes() * MEMORY_SHARE_MAX) {
    throw new Error(`memory: ${targets.length} targets need ${needed} B, which is not available`);
  }
  const run = new TrialRun(stage, plan, note);
  await run.start(targets);
  for (let round = 1; round <= plan.rounds; round += 1) await run.round(round);
  await run.stop();
  const { trials, failures, counters } = run;
  return { trials, failures, counters };
}
