/**
 * When to ask a second provider ("The Tail at Scale", Dean and Barroso 2013): a read that takes longer
 * than nearly all others do is asked of another copy as well, and the first answer counts. The time is
 * the 95th percentile of late, followed by a step up or down at each sample (frugal streaming, Ma,
 * Muthukrishnan and Sandler 2013), and at most one read in twenty is asked twice, so a healthy pool
 * pays little. Who has stopped answering at all is another matter: source-link.ts. A machine.
 */

const QUANTILE = 0.95;
const STEP_SHARE = 0.02;
const START_MS = 10;
/** No hedge earlier: on a healthy network hardly a read takes longer. */
const DELAY_MIN_MS = 2;
/** No hedge later. */
const DELAY_MAX_MS = 250;
/** Second asks that one read earns, and that may be saved up. */
const EARNED = 0.05;
const SAVED_MAX = 16;
/** Reads watched at once; more are not hedged. */
const WATCHED_COUNT_MAX = 8192;

/** Watches reads in the order in which they were sent. */
export class HedgeWatch {
  readonly #calls = new Uint32Array(WATCHED_COUNT_MAX);
  readonly #serials = new Uint32Array(WATCHED_COUNT_MAX);
  readonly #sinceMs = new Float64Array(WATCHED_COUNT_MAX);
  #head = 0;
  #count = 0;
  #quantileMs = START_MS;
  #saved = 0;

  /** How long a read may take before another provider is asked, milliseconds. */
  get delayMs(): number {
    return Math.min(Math.max(this.#quantileMs, DELAY_MIN_MS), DELAY_MAX_MS);
  }

  /** A read was answered. */
  sample(tookMs: number): void {
    const step = Math.max(this.#quantileMs * STEP_SHARE, 0.001);
    if (tookMs > this.#quantileMs) this.#quantileMs += step * QUANTILE;
    else this.#quantileMs = Math.max(0, this.#quantileMs - step * (1 - QUANTILE));
  }

  /** A read was sent. @param serial - of the call's row: tells whether it is still the same call */
  add(call: number, serial: number, nowMs: number): void {
    this.#saved = Math.min(this.#saved + EARNED, SAVED_MAX);
    if (this.#count === WATCHED_COUNT_MAX) return;
    const at = (this.#head + this.#count) % WATCHED_COUNT_MAX;
    this.#calls[at] = call;
    this.#serials[at] = serial;
    this.#sinceMs[at] = nowMs;
    this.#count += 1;
  }

  /** Milliseconds until the first read watched is late; undefined when none is watched. */
  dueInMs(nowMs: number): number | undefined {
    if (this.#count === 0) return undefined;
    return Math.max(0, (this.#sinceMs[this.#head] as number) + this.delayMs - nowMs);
  }

  /** Takes off the first read if it is late: its call, or -1. {@link HedgeWatch.serial} is its serial. */
  takeLate(nowMs: number): number {
    if (this.#count === 0) return -1;
    if ((this.#sinceMs[this.#head] as number) + this.delayMs > nowMs) return -1;
    const call = this.#calls[this.#head] as number;
    this.serial = this.#serials[this.#head] as number;
    this.#head = (this.#head + 1) % WATCHED_COUNT_MAX;
    this.#count -= 1;
    return call;
  }

  /** The serial of the call taken last. */
  serial = 0;

  /** Spends one second ask; false when none is left. */
  spend(): boolean {
    if (this.#saved < 1) return false;
    this.#saved -= 1;
    return true;
  }
}
