/**
 * Requests for cached objects as caches meet them, from one seed: names drawn by popularity (Zipf), with
 * long scans between them that nobody asks for again, with a set of popular names that wanders, and a loop
 * that is a little longer than the cache.
 */
import { Random } from './fuzz.ts';

/** A trace: numbers of objects, in the order in which they are asked for. */
export interface CacheTrace {
  readonly name: string;
  readonly requests: Uint32Array;
}

const OBJECT_COUNT = 10_000;
const REQUEST_COUNT = 150_000;
/** Numbers above are those of scans. */
const SCAN_FIRST = 1_000_000;

/** Draws object numbers; the weight of the n-th is 1 / n^skew. */
function zipf(random: Random, count: number, skew: number): () => number {
  const sums = new Float64Array(count);
  let sum = 0;
  for (let rank = 0; rank < count; rank += 1) {
    sum += 1 / (rank + 1) ** skew;
    sums[rank] = sum;
  }
  return () => {
    const wanted = (random.below(2 ** 30) / 2 ** 30) * sum;
    let low = 0;
    let high = count - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

function trace(name: string, draw: (index: number) => number): CacheTrace {
  return { name, requests: Uint32Array.from({ length: REQUEST_COUNT }, (_, index) => draw(index)) };
}

/** Every trace. @param seed - one seed, one set */
export function cacheTraces(seed: number): CacheTrace[] {
  const traces: CacheTrace[] = [];
  for (const skew of [0.8, 1, 1.2]) {
    traces.push(trace(`zipf ${skew}`, zipf(new Random(seed), OBJECT_COUNT, skew)));
    const draw = zipf(new Random(seed + 1), OBJECT_COUNT, skew);
    let scanned = SCAN_FIRST;
    const withScans = (index: number): number => (index % 10_000 < 2000 ? (scanned += 1) : draw());
    traces.push(trace(`zipf ${skew}, a fifth of it scans`, withScans));
    const moving = zipf(new Random(seed + 2), OBJECT_COUNT, skew);
    const shifted = (index: number): number =>
      (moving() + Math.floor(index / 15_000) * 1000) % OBJECT_COUNT;
    traces.push(trace(`zipf ${skew}, popularity shifts`, shifted));
  }
  const random = new Random(seed + 3);
  traces.push(
    trace('a working set of 500 that is replaced', (index) => {
      return Math.floor(index / 10_000) * 1000 + random.below(500);
    }),
  );
  const once = zipf(new Random(seed + 4), OBJECT_COUNT, 1);
  let fresh = SCAN_FIRST;
  const coin = new Random(seed + 5);
  traces.push(
    trace('half of it asked for once', () => (coin.below(2) === 0 ? (fresh += 1) : once())),
  );
  return traces;
}

/** A cache of objects of one size. */
export interface CachePolicy {
  /** An object was asked for. @returns whether it was there; it is now */
  request(object: number): boolean;
}

/** Share of the requests that find their object, percent. */
export function hitPercent(policy: CachePolicy, { requests }: CacheTrace): number {
  let hits = 0;
  for (const object of requests) if (policy.request(object)) hits += 1;
  return (hits / requests.length) * 100;
}

/** The least recently used object goes: the yardstick. */
export class LruPolicy implements CachePolicy {
  readonly #countMax: number;
  readonly #objects = new Set<number>();

  constructor(countMax: number) {
    this.#countMax = countMax;
  }

  request(object: number): boolean {
    const isHit = this.#objects.delete(object);
    if (!isHit && this.#objects.size === this.#countMax) {
      this.#objects.delete(this.#objects.values().next().value!);
    }
    this.#objects.add(object);
    return isHit;
  }
}
