/** Percentiles of measured times. Pure. */
import type { Percentiles } from './rpc-nodes.ts';

const SHARES = { p50: 0.5, p90: 0.9, p99: 0.99 } as const;

/** The least sample that `share` of all are not above: the "nearest rank". */
function rank(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}

/** Sums samples up. @returns null when there are none */
export function percentilesOf(samples: readonly number[]): Percentiles | null {
  if (samples.length === 0) return null;
  const sorted = [...samples].sort((a, b) => a - b);
  return {
    count: sorted.length,
    min: sorted[0] ?? 0,
    p50: rank(sorted, SHARES.p50),
    p90: rank(sorted, SHARES.p90),
    p99: rank(sorted, SHARES.p99),
    max: sorted.at(-1) ?? 0,
  };
}
