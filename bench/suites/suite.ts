/** The seam between the command line and a benchmark. */
import type { Panel } from '../bar-plot.ts';
import type { Stage } from '../stage.ts';
import type { Random } from '../statistics.ts';
import type { Target } from '../targets/target.ts';

/** How a benchmark is to run. */
export interface SuiteOptions {
  readonly stage: Stage;
  readonly targets: readonly Target[];
  /** Names of targets asked for; undefined leaves them to the suite. */
  readonly names: readonly string[] | undefined;
  /** Names of the works asked for, of a suite that has several; undefined is all. */
  readonly works: readonly string[] | undefined;
  /** Rounds asked for; undefined leaves it to the suite. */
  readonly rounds: number | undefined;
  /** Seconds a trial asked for; undefined leaves it to the suite. */
  readonly seconds: number | undefined;
  readonly quick: boolean;
  readonly force: boolean;
  readonly random: Random;
  /** Tells a person how far it is. */
  readonly note: (text: string) => void;
}

/** What a benchmark found. */
export interface SuiteResult {
  /** Everything, for programs. */
  readonly data: object;
  /** Tables for people. */
  readonly text: string;
  /** For the plot; none, no plot. */
  readonly panels: readonly Panel[];
  /** What could not run, and why. */
  readonly failures: Readonly<Record<string, string>>;
}

/** A benchmark. */
export interface Suite {
  readonly name: string;
  /** One line for people. */
  readonly description: string;
  readonly run: (options: SuiteOptions) => Promise<SuiteResult>;
}
