/** Counters as rates: what went on between two looks, a second. */

/** The rate of a counter between two looks; it begins anew when the daemon does. */
export function ratePerS(before: number, now: number, elapsedMs: number): number {
  if (elapsedMs <= 0) return 0;
  return (Math.max(0, now < before ? now : now - before) * 1000) / elapsedMs;
}

/** A rate for people: `0`, `0.4/s`, `12/s`, `25.5k/s`. */
export function formatRate(rate: number): string {
  if (rate < 0.05) return '0';
  if (rate < 10) return `${rate.toFixed(1)}/s`;
  if (rate < 10_000) return `${rate.toFixed(0)}/s`;
  return `${(rate / 1000).toFixed(1)}k/s`;
}
