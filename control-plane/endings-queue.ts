/**
 * Endings of managed leases that the control plane has not acknowledged. They wait in order for a leader
 * that takes them, however long there is none; each is told until its receipt was taken. Pure.
 */
import type { ManagedEnding } from '../common/managed.ts';

/** Endings that wait at most; beyond, the oldest is dropped: the leader learns of it by what is no more there. */
export const ENDING_COUNT_MAX = 16_384;
/** Endings in one message: with their receipts they fill most of it. */
export const ENDING_BATCH_MAX = 48;

/** An ending with the provider's word on it. */
export interface SignedEnding extends ManagedEnding {
  /** A JWS by the provider's identity key. */
  readonly receipt: string;
}

/** See the top of the file. */
export class EndingsQueue {
  readonly #endings: SignedEnding[] = [];
  #droppedCount = 0;

  /** Those that wait. */
  get length(): number {
    return this.#endings.length;
  }

  /** Those that were dropped at the bound. */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  /** Adds one at the end. */
  push(ending: SignedEnding): void {
    this.#endings.push(ending);
    if (this.#endings.length <= ENDING_COUNT_MAX) return;
    this.#endings.shift();
    this.#droppedCount += 1;
  }

  /** The oldest, as many as one message takes. They stay until {@link EndingsQueue.acknowledge}. */
  batch(): SignedEnding[] {
    return this.#endings.slice(0, ENDING_BATCH_MAX);
  }

  /** These were taken, or never will be. */
  acknowledge(endings: readonly SignedEnding[]): void {
    const taken = new Set(endings);
    let at = 0;
    while (at < this.#endings.length && taken.size > 0) {
      const ending = this.#endings[at];
      if (ending !== undefined && taken.delete(ending)) this.#endings.splice(at, 1);
      else at += 1;
    }
  }
}
