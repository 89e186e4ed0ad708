/**
 * What is due when: ids in buckets of a quarter of a second, so that setting, changing and taking out a
 * time are one step each, however many there are, and a look at what is due goes over buckets, not ids.
 */

/** Milliseconds of a bucket. */
const BUCKET_MS = 250;

/** See the top of the file. Times are of one monotonic clock, milliseconds. */
export class Deadlines {
  readonly #buckets = new Map<number, Set<string>>();
  readonly #dueMs = new Map<string, number>();

  /** Ids that have a time. */
  get size(): number {
    return this.#dueMs.size;
  }

  /** Sets when `id` is due; Infinity: never. */
  set(id: string, dueMs: number): void {
    this.remove(id);
    if (dueMs === Infinity) return;
    const bucket = Math.floor(dueMs / BUCKET_MS);
    const ids = this.#buckets.get(bucket) ?? new Set();
    this.#buckets.set(bucket, ids.add(id));
    this.#dueMs.set(id, dueMs);
  }

  /** Takes an id out; without effect when it has no time. */
  remove(id: string): void {
    const dueMs = this.#dueMs.get(id);
    if (dueMs === undefined) return;
    const bucket = Math.floor(dueMs / BUCKET_MS);
    const ids = this.#buckets.get(bucket);
    ids?.delete(id);
    if (ids?.size === 0) this.#buckets.delete(bucket);
    this.#dueMs.delete(id);
  }

  /** Takes out what is due, the oldest bucket first, at most `countMax` ids. */
  take(nowMs: number, countMax: number): string[] {
    const due: string[] = [];
    const reached = [...this.#buckets.keys()].filter((bucket) => bucket * BUCKET_MS <= nowMs);
    for (const bucket of reached.sort((a, b) => a - b)) {
      for (const id of this.#buckets.get(bucket) ?? []) {
        if (due.length === countMax) return due;
        if ((this.#dueMs.get(id) ?? Infinity) > nowMs) continue;
        this.remove(id);
        due.push(id);
      }
    }
    return due;
  }
}
