/**
 * Paired, interleaved trials on mounts: all targets are mounted once; in every round each workload runs
 * once on each of its targets, in a fresh shuffled order. A target that fails at a workload is out of that
 * workload, and said so; the others go on.
 */
import { BUSY_SHARE_MAX, settle, waitUntilQuiet } from '../proc.ts';
import type { Stage } from '../stage.ts';
import { shuffled, type Random } from '../statistics.ts';
import { formatNumber } from '../table.ts';
import { reasonOf } from '../trials.ts';
import type { FileRun, FileWorkload } from './file-workloads.ts';
import type { MountTarget, RunningMount } from './mount-target.ts';

const QUIET_TIMEOUT_MS = 60_000;

/** What to run. */
export interface FilePlan {
  readonly workloads: readonly FileWorkload[];
  readonly rounds: number;
  readonly seconds: number;
  readonly force: boolean;
  readonly random: Random;
}

/** One run of one workload on one target. */
export interface FileTrial {
  readonly round: number;
  readonly workload: string;
  readonly target: string;
  /** In the workload's unit. */
  readonly value: number;
  /** Share of the machine that was used just before the round. */
  readonly busyShare: number;
}

/** What came of a plan. */
export interface FileTrialSet {
  readonly trials: readonly FileTrial[];
  /** Each target, or target and workload, that failed, and why. */
  readonly failures: Readonly<Record<string, string>>;
}

/** See the top of the file. */
export class FileTrials {
  readonly #trials: FileTrial[] = [];
  readonly #failures: Record<string, string> = {};
  readonly #running = new Map<string, RunningMount>();
  /** Pairs that have run before, and pairs that failed. */
  readonly #prepared = new Set<string>();
  readonly #out = new Set<string>();
  readonly #stage: Stage;
  readonly #plan: FilePlan;
  readonly #note: (text: string) => void;

  constructor(stage: Stage, plan: FilePlan, note: (text: string) => void) {
    this.#stage = stage;
    this.#plan = plan;
    this.#note = note;
  }

  /** Runs the whole plan. @throws Error when others use the machine and the plan does not force */
  async run(targets: readonly MountTarget[]): Promise<FileTrialSet> {
    for (const target of targets) {
      await this.#guard(target.name, async () => {
        this.#note(`mounting ${target.name}: ${target.description}`);
        this.#running.set(target.name, await target.start(this.#stage));
      });
    }
    for (let round = 1; round <= this.#plan.rounds; round += 1) await this.#round(round);
    for (const [name, running] of this.#running) await this.#guard(name, () => running.stop());
    return { trials: this.#trials, failures: this.#failures };
  }

  async #round(round: number): Promise<void> {
    const { workloads, rounds, force, random } = this.#plan;
    const busyShare = await waitUntilQuiet(force ? 0 : QUIET_TIMEOUT_MS);
    if (busyShare > BUSY_SHARE_MAX && !force) {
      const percent = formatNumber(busyShare * 100);
      throw new Error(`round ${round}: the machine is ${percent} % busy and stays so; --force`);
    }
    for (const workload of workloads) {
      this.#note(`round ${round} of ${rounds}: ${workload.name}`);
      for (const [target, running] of shuffled([...this.#running], random)) {
        const pair = `${target} ${workload.name}`;
        if (!workload.targets.includes(target) || this.#out.has(pair)) continue;
        await this.#guard(pair, async () => {
          const value = await this.#measure(pair, workload, running);
          const names = { workload: workload.name, target };
          this.#trials.push({ round, ...names, value, busyShare });
        });
      }
    }
  }

  async #measure(pair: string, workload: FileWorkload, running: RunningMount): Promise<number> {
    const { seconds, random } = this.#plan;
    const run: FileRun = {
      stage: this.#stage,
      directory: running.directory,
      seconds,
      seed: 1 + Math.floor(random() * 2 ** 31),
    };
    if (!this.#prepared.has(pair)) {
      this.#prepared.add(pair);
      await workload.prepare?.(run);
    }
    // What the kernel still holds of the mount's last work is not this one's.
    await this.#stage.run('sync', ['--file-system', running.directory], QUIET_TIMEOUT_MS);
    await settle(running.pids);
    return workload.measure(run);
  }

  async #guard(who: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      this.#out.add(who);
      this.#failures[who] = reasonOf(thrown);
      this.#note(`${who} failed: ${reasonOf(thrown)}`);
      const kept = this.#trials.filter(({ target, workload }) => `${target} ${workload}` !== who);
      this.#trials.splice(0, this.#trials.length, ...kept);
    }
  }
}
