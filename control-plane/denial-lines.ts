/**
 * How many audit lines a node may cause by being refused: a bucket of lines that fills again. Without it
 * whoever is refused fast enough pushes everything else out of the log. Refusals without a line of their
 * own are counted in the next one.
 */

/** Lines at once. */
const LINE_COUNT_MAX = 100;
/** Lines in a second, in the long run. */
const LINES_PER_SECOND = 5;
/** Nodes that are told apart. */
const NODE_COUNT_MAX = 10_000;

interface Bucket {
  lines: number;
  sinceMs: number;
  suppressed: number;
}

/** See the top of the file. */
export class DenialLines {
  readonly #buckets = new Map<string, Bucket>();

  /**
   * Asks for a line about a refusal.
   *
   * @returns how many refusals before this one went without a line; undefined: this one does too
   */
  take(nodeId: string, nowMs: number): number | undefined {
    const bucket = this.#buckets.get(nodeId) ?? this.#add(nodeId, nowMs);
    const passedMs = Math.max(0, nowMs - bucket.sinceMs);
    const filled = bucket.lines + (passedMs * LINES_PER_SECOND) / 1000;
    bucket.lines = Math.min(LINE_COUNT_MAX, filled);
    bucket.sinceMs = nowMs;
    if (bucket.lines < 1) {
      bucket.suppressed += 1;
      return undefined;
    }
    bucket.lines -= 1;
    const { suppressed } = bucket;
    bucket.suppressed = 0;
    return suppressed;
  }

  #add(nodeId: string, nowMs: number): Bucket {
    const [oldest] = this.#buckets.keys();
    if (this.#buckets.size >= NODE_COUNT_MAX && oldest !== undefined) this.#buckets.delete(oldest);
    const bucket = { lines: LINE_COUNT_MAX, sinceMs: nowMs, suppressed: 0 };
    this.#buckets.set(nodeId, bucket);
    return bucket;
  }
}
