/**
 * Tells a live session from a dead one. TCP alone does not: a stopped process or a silent link looks
 * like a slow one for many minutes. So a quiet side is asked (PING) and must say something: any byte
 * proves life.
 *
 * How long it may stay silent depends on who is harmed. While requests wait for a reply, half a second
 * is long: the pages are on other providers too, or the ring has them, and a session that ended in
 * error is made anew within milliseconds, with every lease and page in place. While none wait, nobody
 * is harmed by patience, and a consumer that stands still under memory pressure must not lose its
 * providers by it. Three things keep a slow peer from being taken for a dead one:
 *
 * - the limit grows with the measured round trip, so a link that queues for a second is only slow;
 * - nothing counts before the first PONG came, except against the patient limit;
 * - silence is counted in the time that we were awake: a tick that comes late adds no more than one
 *   in time, for what came meanwhile is not read yet.
 *
 * A machine: pure; time comes as an argument.
 */

/** When to ask and when to give up, milliseconds. */
export interface KeepaliveLimits {
  /** Quiet time before a PING while requests wait. */
  readonly busyPingMs: number;
  /** Time between PINGs otherwise; they also measure the round trip. */
  readonly idlePingMs: number;
  /** Quiet time with a PING unanswered after which the session is dead, while requests wait. */
  readonly deadMs: number;
  /** The same while none wait, before the first PONG, and for however long a round trip. */
  readonly idleDeadMs: number;
}

/** DESIGN D5: 500 ms of silence with pings outstanding. */
export const KEEPALIVE_DEFAULTS: KeepaliveLimits = {
  busyPingMs: 100,
  idlePingMs: 1_000,
  deadMs: 500,
  idleDeadMs: 5_000,
};

/** The limits of a node whose operator chose another `deadMs`; the patient limit is ten times it. */
export function keepaliveLimits(deadMs: number): KeepaliveLimits {
  const { busyPingMs, idlePingMs } = KEEPALIVE_DEFAULTS;
  return {
    busyPingMs: Math.min(busyPingMs, deadMs / 2),
    idlePingMs,
    deadMs,
    idleDeadMs: 10 * deadMs,
  };
}

/** How often {@link KeepaliveMachine.tick} should be called, milliseconds. */
export const KEEPALIVE_TICK_MS = 50;
/** The most silence that one tick counts: a longer gap was our own standstill. */
const TICK_GAP_MAX_MS = 3 * KEEPALIVE_TICK_MS;
/** A peer may be silent for so many of its round trips. */
const DEAD_ROUND_TRIP_COUNT = 8;

/** What the shell should do. */
export type KeepaliveAction = 'nothing' | 'ping' | 'dead';

/** The state of one session. */
export class KeepaliveMachine {
  /** Smoothed round trip, milliseconds; 0 until the first PONG. */
  roundTripMs = 0;
  /** The id of the PING in flight, 0 when there is none. */
  pingId = 0;
  readonly #limits: KeepaliveLimits;
  /** Awake time since the last byte. */
  #quietMs = 0;
  /** Awake time since the PING in flight left. */
  #askedMs = 0;
  #lastPingMs: number;
  #lastTickMs: number;
  #nextPingId = 1;

  constructor(limits: KeepaliveLimits, nowMs: number) {
    this.#limits = limits;
    this.#lastTickMs = nowMs;
    // The first PING leaves at the first tick: without a round trip the peer is not judged.
    this.#lastPingMs = -Infinity;
  }

  /** Bytes came. */
  onBytes(): void {
    this.#quietMs = 0;
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
   * To be called every {@link KEEPALIVE_TICK_MS}. On `ping` the caller sends PING with {@link pingId}.
   *
   * @param busy - true while requests wait for a reply
   */
  tick(nowMs: number, busy: boolean): KeepaliveAction {
    const { busyPingMs, idlePingMs } = this.#limits;
    const awakeMs = Math.min(nowMs - this.#lastTickMs, TICK_GAP_MAX_MS);
    this.#lastTickMs = nowMs;
    this.#quietMs += awakeMs;
    if (this.pingId !== 0) {
      this.#askedMs += awakeMs;
      const limitMs = this.#limitMs(busy);
      // Silence from before the question counts as far as the question was due in it.
      const dead = this.#quietMs >= limitMs && this.#askedMs >= limitMs - busyPingMs;
      return dead ? 'dead' : 'nothing';
    }
    const due = (busy && this.#quietMs >= busyPingMs) || nowMs - this.#lastPingMs >= idlePingMs;
    if (!due) return 'nothing';
    this.pingId = this.#nextPingId;
    this.#nextPingId = (this.#nextPingId % 0xffffffff) + 1;
    this.#lastPingMs = nowMs;
    this.#askedMs = 0;
    return 'ping';
  }

  #limitMs(busy: boolean): number {
    const { deadMs, idleDeadMs } = this.#limits;
    if (!busy || this.roundTripMs === 0) return idleDeadMs;
    return Math.min(idleDeadMs, Math.max(deadMs, DEAD_ROUND_TRIP_COUNT * this.roundTripMs));
  }
}
