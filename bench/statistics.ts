/**
 * The arithmetic of a comparison. A trial is one run of one workload on one target; a round runs
 * every target once, in shuffled order, close together in time. What is reported is the median over
 * rounds and, of two targets, the ratio of their medians. Both come with a percentile bootstrap
 * interval (Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13). For a ratio the
 * rounds are drawn, not the trials of each target by themselves: a round in which the machine was
 * slow was slow for both. Everything random takes its generator as an argument.
 */

/** A source of numbers in [0, 1). */
export type Random = () => number;

/** An estimate and the bounds of its 95 % interval. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** Draws of a bootstrap. */
const RESAMPLE_COUNT = 4000;

/** A small seeded generator (mulberry32, by Tommy Ettinger, public domain). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A shuffled copy (Fisher and Yates). */
export function shuffled<T>(items: readonly T[], random: Random): T[] {
  const out = [...items];
  for (let last = out.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [out[last], out[other]] = [out[other] as T, out[last] as T];
  }
  return out;
}

/** The value below which `share` (0 to 1) of the sample lies, linear between neighbours; NaN of none. */
export function quantile(sample: readonly number[], share: number): number {
  const sorted = [...sample].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const below = sorted[Math.floor(at)] ?? NaN;
  const above = sorted[Math.ceil(at)] ?? NaN;
  return below + (above - below) * (at - Math.floor(at));
}

/** The middle of the sample; NaN of none. */
export function median(sample: readonly number[]): number {
  return quantile(sample, 0.5);
}

function interval(value: number, draws: readonly number[]): Estimate {
  return { value, low: quantile(draws, 0.025), high: quantile(draws, 0.975) };
}

/** The median of the sample with its interval. */
export function medianEstimate(sample: readonly number[], random: Random): Estimate {
  const draw = (): number => sample[Math.floor(random() * sample.length)] ?? NaN;
  const draws = Array.from({ length: RESAMPLE_COUNT }, () => median(sample.map(draw)));
  return interval(median(sample), draws);
}

/**
 * Median of `ours` over median of `theirs`, with its interval.
 *
 * @param ours - one number a round
 * @param theirs - the numbers of the same rounds, in the same order
 * @throws RangeError when the lengths differ
 */
export function ratioEstimate(
  ours: readonly number[],
  theirs: readonly number[],
  random: Random,
): Estimate {
  if (ours.length !== theirs.length) {
    throw new RangeError(`rounds: expected ${ours.length} on both sides, got ${theirs.length}`);
  }
  const draws = Array.from({ length: RESAMPLE_COUNT }, () => {
    const rounds = ours.map(() => Math.floor(random() * ours.length));
    const pick = (sample: readonly number[]): number => median(rounds.map((r) => sample[r] ?? NaN));
    return pick(ours) / pick(theirs);
  });
  return interval(median(ours) / median(theirs), draws);
}

/**
 * How much `y` grows per unit of `x`: the median of the slopes between all pairs of points (Theil
 * and Sen), which one point that lies off, say after a garbage collection, does not bend.
 */
export function slope(points: readonly { readonly x: number; readonly y: number }[]): number {
  const slopes = points.flatMap((a, at) =>
    points
      .slice(at + 1)
      .filter((b) => b.x !== a.x)
      .map((b) => (b.y - a.y) / (b.x - a.x)),
  );
  return median(slopes);
}

/**
 * The exponent of the power law that `y` follows as `x` grows: the slope of log y over log x. 1 is in
 * proportion, 0 is not at all, -1 is in inverse proportion.
 *
 * @param points - both above 0
 * @throws RangeError where one is not
 */
export function growthExponent(
  points: readonly { readonly x: number; readonly y: number }[],
): number {
  const logs = points.map(({ x, y }) => {
    if (!(x > 0 && y > 0)) throw new RangeError(`growth: expected more than 0, got ${x} and ${y}`);
    return { x: Math.log(x), y: Math.log(y) };
  });
  return slope(logs);
}
