/**
 * Keeps the event loop awake for a moment after page traffic. A process that sleeps in epoll_wait
 * takes 20 to 50 us to wake on an idle core, on each side of each hop; a request of queue depth 1
 * spends most of its time so. Polling for the next bytes instead took the round trip between two
 * processes on one machine from 115 us to 21 us (docs/adr/0005-spin-before-sleep.md).
 *
 * It costs processor time, so it is short and has to earn its keep: a moment in which bytes came
 * raises a score, one that passed in vain lowers it, and at zero only a few moments are tried again.
 * A pending `setImmediate` is what makes libuv poll without waiting.
 */
import type { Clock } from './clock.ts';

/** How long one moment is unless told, microseconds. */
export const SPIN_WINDOW_DEFAULT_US = 100;

const SCORE_MAX = 8;
const SCORE_PER_HIT = 1;
const SCORE_PER_MISS = 2;
/** At score zero, one moment is tried for this many activities. */
const TRY_INTERVAL = 64;

/** One for the process: shells of all protocols call it. */
export class EventLoopSpin {
  readonly #clock: Clock;
  readonly #windowMs: number;
  readonly #onImmediate = (): void => this.#turn();
  #poll: (() => void) | undefined;
  #untilMs = 0;
  #spinning = false;
  #score = SCORE_MAX;
  #activities = 0;

  /** @param windowUs - longest wait for the next bytes, 0 to 1000; 0 never spins */
  constructor(clock: Clock, windowUs: number) {
    this.#clock = clock;
    this.#windowMs = windowUs / 1000;
  }

  /** True while the loop is kept awake. */
  get spinning(): boolean {
    return this.#spinning;
  }

  /**
   * Names something to look at in each turn while the loop is kept awake, cheaper than the loop's own
   * look; it calls {@link EventLoopSpin.onActivity} when it finds something. Undefined ends that.
   */
  pollWith(poll: (() => void) | undefined): void {
    this.#poll = poll;
  }

  /** Page traffic came in, or a reply is awaited: stay awake for a moment. */
  onActivity(): void {
    if (this.#windowMs === 0) return;
    if (this.#spinning) {
      if (this.#score < SCORE_MAX) this.#score += SCORE_PER_HIT;
    } else {
      this.#activities += 1;
      if (this.#score <= 0 && this.#activities % TRY_INTERVAL !== 0) return;
      this.#spinning = true;
      setImmediate(this.#onImmediate);
    }
    this.#untilMs = this.#clock.nowMs() + this.#windowMs;
  }

  #turn(): void {
    this.#poll?.();
    if (this.#clock.nowMs() < this.#untilMs) {
      setImmediate(this.#onImmediate);
      return;
    }
    this.#spinning = false;
    if (this.#score > 0) this.#score -= SCORE_PER_MISS;
  }
}
