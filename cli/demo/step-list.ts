/** The steps of the demo: what runs, how long it took, what was skipped and why. */
import { formatDuration } from '../../common/units.ts';
import { note } from '../output.ts';

/** How a step came out. */
export interface StepResult {
  /** What was shown. */
  readonly step: string;
  /** `ok`, `failed` or `skipped`. */
  readonly outcome: 'ok' | 'failed' | 'skipped';
  /** What was seen, or why not. */
  readonly detail: string;
  /** Milliseconds. */
  readonly ms: number;
}

/** Runs steps one after the other and tells how they go. */
export class StepList {
  /** The steps so far. */
  readonly results: StepResult[] = [];
  readonly #signal: AbortSignal;

  /** @param signal - once it is aborted no step runs any more */
  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  /** True when no step failed. */
  get allRight(): boolean {
    return this.results.every(({ outcome }) => outcome !== 'failed');
  }

  /**
   * Runs one step; `work` returns what was seen.
   *
   * @returns false when it failed: what depends on it should be left
   */
  async run(step: string, work: () => Promise<string>): Promise<boolean> {
    if (this.#signal.aborted) {
      this.skip(step, 'interrupted');
      return false;
    }
    note(`  ${step} ...`);
    const startMs = performance.now();
    try {
      const detail = await work();
      this.#end({ step, outcome: 'ok', detail, ms: performance.now() - startMs });
      return true;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const detail = this.#signal.aborted ? 'interrupted' : why;
      this.#end({ step, outcome: 'failed', detail, ms: performance.now() - startMs });
      return false;
    }
  }

  /** Notes a step that cannot be run here. */
  skip(step: string, why: string): void {
    this.#end({ step, outcome: 'skipped', detail: why, ms: 0 });
  }

  #end(result: StepResult): void {
    this.results.push(result);
    const { outcome, detail, ms, step } = result;
    if (outcome === 'skipped') note(`  skipped: ${step}: ${detail}`);
    else note(`    ${outcome} in ${formatDuration(ms)}: ${detail}`);
  }
}
