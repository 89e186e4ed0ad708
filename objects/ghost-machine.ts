/**
 * Names that were evicted unused a short time ago: a table of places, each with the last such name that fell
 * on it, as a hash, and when it went, counted in evictions. A name that was overwritten or hashes like
 * another costs one object a better or worse place in its queue, nothing else. Pure.
 */

/** Places: 2 MiB for both arrays, made at the first eviction. */
const PLACE_COUNT = 2 ** 18;

/** Names that went. */
export class Ghosts {
  #hashes: Uint32Array | undefined;
  #times: Uint32Array | undefined;

  /** A name went. @param time - evictions so far in its queue, modulo 2^32 */
  add(hash: number, time: number): void {
    this.#hashes ??= new Uint32Array(PLACE_COUNT);
    this.#times ??= new Uint32Array(PLACE_COUNT);
    this.#hashes[hash % PLACE_COUNT] = hash;
    this.#times[hash % PLACE_COUNT] = time;
  }

  /** Whether a name is among the last `span` that went. */
  has(hash: number, time: number, span: number): boolean {
    if (this.#hashes?.[hash % PLACE_COUNT] !== hash || hash === 0) return false;
    return (time - (this.#times?.[hash % PLACE_COUNT] ?? 0)) >>> 0 <= span;
  }
}
