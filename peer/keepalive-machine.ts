/**
 * Tells a live session from a dead one. TCP alone does not: a stopped process or a silent link looks
 * like a slow one for many minutes. So a quiet side is asked (PING) and must say something: any byte
 * proves life. A machine: pure; time comes as an argument.
 */

/** When to ask and when to give up, milliseconds. */
export interface KeepaliveLimits {
  /** Quiet time before a PING while requests wait. */
  readonly busyPingMs: number;
  /** Time between PINGs otherwise; they also measure the round trip. */
  readonly idlePingMs: number;
  /** Quiet time with a PING unanswered after which the session is dead. */
  readonly deadMs: number;
}

/** Safe defaults; DESIGN D5's 500 ms comes with replicas. */
export const KEEPALIVE_DEFAULTS: KeepaliveLimits = {
  busyPingMs: 250,
  idlePingMs: 1_000,
  deadMs: 5_000,
};

/** What the shell should do. */
export type KeepaliveAction = 'nothing' | 'ping' | 'dead';

/** The state of one session. */
export class KeepaliveMachine {
  /** Smoothed round trip, milliseconds; 0 until the first PONG. */
  roundTripMs = 0;
  /** The id of the PING in flight, 0 when there is none. */
  pingId = 0;
  readonly #limits: KeepaliveLimits;
  #lastByteMs: number;
  #lastPingMs: number;
  #lastTickMs: number;
  #nextPingId = 1;

  constructor(limits: KeepaliveLimits, nowMs: number) {
    this.#limits = limits;
    this.#lastByteMs = this.#lastPingMs = this.#lastTickMs = nowMs;
  }

  /** Bytes came. */
  onBytes(nowMs: number): void {
    this.#lastByteMs = nowMs;
  }

  /** A PONG came. @returns false when no PING of that id was in flight */
  onPong(id: number, nowMs: number): boolean {
    if (this.pingId === 0 || id !== this.pingId) return false;
    this.pingId = 0;
    const sample = nowMs - this.#lastPingMs;
    this.roundTripMs =
      this.roundTripMs === 0 ? sample : this.roundTripMs + (sample - this.roundTripMs) / 8;
    return true;
  }

  /**
   * To be called a few times in `busyPingMs`. On `ping` the caller sends PING with {@link pingId}.
   *
   * @param busy - true while requests wait for a reply
   */
  tick(nowMs: number, busy: boolean): KeepaliveAction {
    const { busyPingMs, idlePingMs, deadMs } = this.#limits;
    // It was we who stood still (stopped, suspended): what came meanwhile is not read yet.
    if (nowMs - this.#lastTickMs > deadMs / 2) this.#lastByteMs = nowMs;
    this.#lastTickMs = nowMs;
    const quietMs = nowMs - this.#lastByteMs;
    if (this.pingId !== 0) return quietMs >= deadMs ? 'dead' : 'nothing';
    const due = (busy && quietMs >= busyPingMs) || nowMs - this.#lastPingMs >= idlePingMs;
    if (!due) return 'nothing';
    this.pingId = this.#nextPingId;
    this.#nextPingId = (this.#nextPingId % 0xffffffff) + 1;
    this.#lastPingMs = nowMs;
    return 'ping';
  }
}
