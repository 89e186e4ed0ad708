/** Whether the pool has room for a volume, said before anything is made. */
import { formatSize } from '../common/units.ts';

/** A provider that is up. */
export interface FreeRoom {
  /** What people call it. */
  readonly name: string;
  /** Bytes that it could still lend, by its last word. */
  readonly freeBytes: number;
}

/** A volume to be. */
export interface CapacityNeed {
  /** Bytes of the volume. */
  readonly sizeBytes: number;
  /** Providers for each page. */
  readonly copies: number;
  /** Take the volume although the pool is smaller; writes fail once it is full. */
  readonly overcommit: boolean;
}

/**
 * What a volume would need and the pool has not.
 *
 * @returns a sentence with the numbers; undefined when there is enough
 */
export function capacityProblem(
  need: CapacityNeed,
  providers: readonly FreeRoom[],
): string | undefined {
  const { sizeBytes, copies, overcommit } = need;
  if (providers.length < copies) {
    const names = providers.map(({ name }) => name).join(', ') || 'none';
    return `${copies} copies need ${copies} providers that are up; up now: ${names}`;
  }
  const total = providers.reduce((sum, { freeBytes }) => sum + Math.max(0, freeBytes), 0);
  if (overcommit || total >= sizeBytes * copies) return undefined;
  return (
    `${copies} copies of ${formatSize(sizeBytes)} need ${formatSize(sizeBytes * copies)}, the ` +
    `providers that are up have ${formatSize(total)} free; take less, or --overcommit`
  );
}
