/**
 * What a client uses: bytes and leases now, the most at once, and the integral of bytes over time. The
 * integral grows on the monotonic clock of the leader between two changes; what is stored is its value at
 * the last write, so a leader that is killed loses at most the time since then.
 */

/** A meter as it is stored. */
export interface UsageRecord {
  readonly client: string;
  readonly byteSeconds: number;
  readonly leasesGranted: number;
  readonly leasesDenied: number;
  readonly peakBytes: number;
}

/** See the top of the file. */
export class UsageMeter {
  readonly client: string;
  usedBytes = 0;
  usedLeases = 0;
  leasesGranted = 0;
  leasesDenied = 0;
  peakBytes = 0;
  #byteSeconds = 0;
  #sinceMs: number;

  constructor(client: string, nowMs: number, stored?: UsageRecord) {
    this.client = client;
    this.#sinceMs = nowMs;
    if (stored === undefined) return;
    this.#byteSeconds = stored.byteSeconds;
    this.leasesGranted = stored.leasesGranted;
    this.leasesDenied = stored.leasesDenied;
    this.peakBytes = stored.peakBytes;
  }

  /** The integral up to now. */
  byteSeconds(nowMs: number): number {
    return this.#byteSeconds + (this.usedBytes * Math.max(0, nowMs - this.#sinceMs)) / 1000;
  }

  /** Counts a lease in (1) or out (-1). */
  change(nowMs: number, sizeBytes: number, sign: 1 | -1): void {
    this.#byteSeconds = this.byteSeconds(nowMs);
    this.#sinceMs = nowMs;
    this.usedBytes += sign * sizeBytes;
    this.usedLeases += sign;
    this.peakBytes = Math.max(this.peakBytes, this.usedBytes);
  }

  /** As it is to be stored. */
  record(nowMs: number): UsageRecord {
    const { client, leasesGranted, leasesDenied, peakBytes } = this;
    return { client, byteSeconds: this.byteSeconds(nowMs), leasesGranted, leasesDenied, peakBytes };
  }
}

/** Counts of the last minute, in buckets of a second. */
export class MinuteCount {
  readonly #buckets = new Array<number>(60).fill(0);
  #second = 0;

  /** Counts `count` more. */
  add(nowMs: number, count: number): void {
    this.#advance(nowMs);
    this.#buckets[this.#second % 60] = (this.#buckets[this.#second % 60] ?? 0) + count;
  }

  /** The sum. */
  sum(nowMs: number): number {
    this.#advance(nowMs);
    return this.#buckets.reduce((sum, count) => sum + count, 0);
  }

  #advance(nowMs: number): void {
    const now = Math.floor(nowMs / 1000);
    if (now - this.#second >= 60) this.#buckets.fill(0);
    else for (let s = this.#second + 1; s <= now; s += 1) this.#buckets[s % 60] = 0;
    this.#second = Math.max(now, this.#second);
  }
}
