/** Time as the program needs it: monotonic, so that a wrong or jumping wall clock changes nothing. */

/** A clock that never goes back. */
export interface Clock {
  /** Milliseconds since an arbitrary start, fractions allowed. */
  nowMs(): number;
}

/** The machine's monotonic clock (CLOCK_MONOTONIC). */
export const monotonicClock: Clock = { nowMs: () => performance.now() };
