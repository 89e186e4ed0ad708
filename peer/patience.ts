/**
 * How long one node may be silent, learned over its sessions. A node that was given up as dead and is
 * back at once was only slow: it stood still for a moment, or the link queues for longer than the
 * round trip told. To give it up again and again would cost more than waiting, so each time doubles
 * what it may be silent, up to the patient limit; a session that lasts forgets it. A machine: pure.
 */
import type { KeepaliveLimits } from './keepalive-machine.ts';

/** A node that is back so soon after it was given up had not been dead, milliseconds. */
const BACK_AT_ONCE_MS = 3_000;
/** A session of this length forgets what was learned, milliseconds. */
const FORGET_AFTER_MS = 60_000;

/** What was learned of one node. */
export class Patience {
  readonly #limits: KeepaliveLimits;
  #deadMs: number;
  #upSinceMs = 0;
  #silentAtMs = -Infinity;

  /** @param limits - for a node of which nothing is known */
  constructor(limits: KeepaliveLimits) {
    this.#limits = limits;
    this.#deadMs = limits.deadMs;
  }

  /** A session begins. @returns its limits */
  onUp(nowMs: number): KeepaliveLimits {
    if (nowMs - this.#silentAtMs < BACK_AT_ONCE_MS) {
      this.#deadMs = Math.min(2 * this.#deadMs, this.#limits.idleDeadMs);
    }
    this.#upSinceMs = nowMs;
    this.#silentAtMs = -Infinity;
    return { ...this.#limits, deadMs: this.#deadMs };
  }

  /** The session ended. @param silent - true when it was given up for silence */
  onDown(nowMs: number, silent: boolean): void {
    if (nowMs - this.#upSinceMs >= FORGET_AFTER_MS) this.#deadMs = this.#limits.deadMs;
    this.#silentAtMs = silent ? nowMs : -Infinity;
  }
}
