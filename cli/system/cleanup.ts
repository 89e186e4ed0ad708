/** What a command has to undo at its end, however it ends. */
import { note } from '../output.ts';

/** Steps that are undone last first. */
export class Cleanup {
  readonly #steps: { what: string; undo: () => unknown }[] = [];

  /** Adds a step. `what` completes "cannot ...". */
  add(what: string, undo: () => unknown): void {
    this.#steps.push({ what, undo });
  }

  /** Forgets every step: what was set up is to stay. */
  abandon(): void {
    this.#steps.length = 0;
  }

  /** Undoes everything; a step that fails is reported and does not stop the others. */
  async run(): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.undo();
      } catch (error) {
        note(`memcloud: cannot ${step.what}: ${error instanceof Error ? error.message : 'failed'}`);
      }
    }
  }
}
