/** Permits that come back with time: how a stranger is held to a rate. Pure; time is an argument. */

/** A bucket of permits. */
export class Permits {
  readonly #countMax: number;
  readonly #refillMs: number;
  #count: number;
  #filledAtMs: number;

  /**
   * @param countMax - as many may be taken at once
   * @param refillMs - and then one in so many milliseconds
   */
  constructor(countMax: number, refillMs: number, nowMs: number) {
    this.#countMax = countMax;
    this.#refillMs = refillMs;
    this.#count = countMax;
    this.#filledAtMs = nowMs;
  }

  /** True when there is one. */
  has(nowMs: number): boolean {
    const gained = Math.max(0, nowMs - this.#filledAtMs) / this.#refillMs;
    this.#count = Math.min(this.#countMax, this.#count + gained);
    this.#filledAtMs = nowMs;
    return this.#count >= 1;
  }

  /** Takes one, if there is one. */
  take(nowMs: number): boolean {
    if (!this.has(nowMs)) return false;
    this.#count -= 1;
    return true;
  }
}
