/**
 * Keeps the event loop awake for a moment after page traffic. A process that sleeps in epoll_wait
 * takes 20 to 50 us to wake on an idle core, on each side of each hop; a request of queue depth 1
 * spends most of its time so. Polling for the next bytes instead took the round trip between two
 * processes on one machine from 115 us to 21 us (docs/adr/0005-spin-before-sleep.md).
 *
 * While nothing comes, the sockets that were last active are read directly, some rounds in each turn: the loop's
 * own look takes several times as long. A turn in which something came makes no such rounds: what is on its
 * way gathers meanwhile, and more of it is answered at once (docs/adr/0017-direct-socket-calls.md).
 *
 * After a look in vain the processor is offered to others: where processors are few, the one whose bytes are
 * awaited may wait for the very core that looks for them.
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

/** Sockets that are read directly: those of the last activities. */
const SOURCE_COUNT_MAX = 4;
/** Rounds over them in one turn: 10 to 20 us in which nothing else of this process is done. */
const ROUND_COUNT = 8;

/** What may have bytes for us. */
export interface SpinSource {
  /** Takes the bytes that are there, whose handler calls {@link EventLoopSpin.onActivity}. @returns false for none */
  poll?(): boolean;
}

/** One for the process: shells of all protocols call it. */
export class EventLoopSpin {
  readonly #clock: Clock;
  readonly #windowMs: number;
  readonly #yieldProcessor: () => void;
  readonly #onImmediate = (): void => this.#turn();
  readonly #sources: SpinSource[] = [];
  #poll: (() => void) | undefined;
  /** Something came since the last turn. */
  #heard = false;
  #untilMs = 0;
  #spinning = false;
  #score = SCORE_MAX;
  #activities = 0;

  /**
   * @param windowUs - longest wait for the next bytes, 0 to 1000; 0 never spins
   * @param yieldProcessor - offers the processor to others, as sched_yield(2); nothing where there is no way to
   */
  constructor(clock: Clock, windowUs: number, yieldProcessor: () => void = () => undefined) {
    this.#clock = clock;
    this.#windowMs = windowUs / 1000;
    this.#yieldProcessor = yieldProcessor;
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

  /**
   * Page traffic came in, or a reply is awaited: stay awake for a moment.
   *
   * @param source - where the next bytes may come from
   */
  onActivity(source?: SpinSource): void {
    if (this.#windowMs === 0) return;
    this.#heard = true;
    if (source !== undefined && source !== this.#sources[0]) this.#remember(source);
    if (this.#spinning) {
      if (this.#score < SCORE_MAX) this.#score += SCORE_PER_HIT;
    } else {
      this.#activities += 1;
      if (this.#score <= 0 && this.#activities % TRY_INTERVAL !== 0) return;
      this.#spinning = true;
      setImmediate(this.#onImmediate);
    }
  }

  /** Lets go of a source that has ended. */
  forget(source: SpinSource): void {
    const at = this.#sources.indexOf(source);
    if (at >= 0) this.#sources.splice(at, 1);
  }

  /** Puts it first; the one that was active longest ago makes room. */
  #remember(source: SpinSource): void {
    const sources = this.#sources;
    let at = sources.indexOf(source);
    if (at < 0) at = Math.min(sources.length, SOURCE_COUNT_MAX - 1);
    for (; at > 0; at -= 1) sources[at] = sources[at - 1] as SpinSource;
    sources[0] = source;
  }

  /** @returns false when nothing came */
  #readSources(): boolean {
    const sources = this.#sources;
    for (let round = 0; round < ROUND_COUNT; round += 1) {
      for (let at = 0; at < sources.length; at += 1) {
        if (sources[at]?.poll?.() === true) return true;
      }
    }
    return false;
  }

  #turn(): void {
    this.#poll?.();
    const heard = this.#heard;
    this.#heard = false;
    if (!heard && !this.#readSources()) this.#yieldProcessor();
    const nowMs = this.#clock.nowMs();
    // From the end of the work that came: a MiB takes longer than a moment.
    if (heard) this.#untilMs = nowMs + this.#windowMs;
    if (nowMs < this.#untilMs) {
      setImmediate(this.#onImmediate);
      return;
    }
    this.#spinning = false;
    if (this.#score > 0) this.#score -= SCORE_PER_MISS;
  }
}
