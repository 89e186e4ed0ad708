/**
 * The store leases of the embedded store: in memory only, since only the process that has the store open
 * can hold one. Time is monotonic; a timer only wakes, the clock decides.
 */
import type { Clock } from '../common/clock.ts';
import { storeError } from './meta-checks.ts';

/** Leases at a time. */
const LEASE_COUNT_MAX = 10_000;
/** The shortest and the longest, milliseconds; a timer takes no more than 2^31. */
const TTL_MIN_MS = 1000;
const TTL_MAX_MS = 24 * 60 * 60 * 1000;

interface Lease {
  readonly ttlMs: number;
  endsAtMs: number;
  timer: NodeJS.Timeout;
}

/** See the top of the file. */
export class LmdbLeases {
  readonly #clock: Clock;
  readonly #onExpired: (id: number) => void;
  readonly #leases = new Map<number, Lease>();
  #last = 0;

  /** @param onExpired - a lease is over: its entries are to go */
  constructor(clock: Clock, onExpired: (id: number) => void) {
    this.#clock = clock;
    this.#onExpired = onExpired;
  }

  /** @returns its number, above 0, and its length. @throws MemcloudError `ERR_CONTROL_STORE` when there are too many */
  grant(ttlMs: number): { id: number; ttlMs: number } {
    if (this.#leases.size >= LEASE_COUNT_MAX) {
      throw storeError(`the embedded store has its most leases, ${LEASE_COUNT_MAX}`);
    }
    const lengthMs = Math.ceil(Math.min(Math.max(ttlMs, TTL_MIN_MS), TTL_MAX_MS));
    this.#last += 1;
    const id = this.#last;
    const timer = this.#wake(id, lengthMs);
    this.#leases.set(id, { ttlMs: lengthMs, endsAtMs: this.#clock.nowMs() + lengthMs, timer });
    return { id, ttlMs: lengthMs };
  }

  /** Whether it is not over. */
  holds(id: number): boolean {
    const lease = this.#leases.get(id);
    return lease !== undefined && this.#clock.nowMs() < lease.endsAtMs;
  }

  /** Begins its time again. @returns false when it is over */
  keepalive(id: number): boolean {
    const lease = this.#leases.get(id);
    if (lease === undefined || !this.holds(id)) return false;
    lease.endsAtMs = this.#clock.nowMs() + lease.ttlMs;
    return true;
  }

  /** Ends it without a call of `onExpired`. @returns false when it is over */
  drop(id: number): boolean {
    clearTimeout(this.#leases.get(id)?.timer);
    return this.#leases.delete(id);
  }

  /** Ends all of them, silently. */
  close(): void {
    for (const { timer } of this.#leases.values()) clearTimeout(timer);
    this.#leases.clear();
  }

  #wake(id: number, inMs: number): NodeJS.Timeout {
    return setTimeout(() => {
      const lease = this.#leases.get(id);
      if (lease === undefined) return;
      const leftMs = lease.endsAtMs - this.#clock.nowMs();
      if (leftMs > 0) {
        lease.timer = this.#wake(id, Math.ceil(leftMs));
        return;
      }
      this.#leases.delete(id);
      this.#onExpired(id);
    }, inMs);
  }
}
