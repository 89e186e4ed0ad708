/** Times as people write them on a command line. */
import { MemcloudError } from '../common/errors.ts';

const UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  '': 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};

/**
 * Parses a time such as `90`, `90s`, `1.5h`, `250ms`; without a unit it is seconds.
 *
 * @returns whole milliseconds, at least 1
 * @throws MemcloudError `ERR_USAGE`, naming `option`
 */
export function parseDuration(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|w|)$/.exec(text.trim());
  const ms = Math.round(Number(match?.[1]) * (UNITS_MS[match?.[2] ?? ''] ?? NaN));
  if (Number.isSafeInteger(ms) && ms > 0) return ms;
  throw new MemcloudError(
    'ERR_USAGE',
    `${option}: expected a time above 0 with an optional unit, such as 90s, 15m or 2h, got "${text}"`,
  );
}
