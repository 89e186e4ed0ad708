/** The largest volume that providers can take: what `memcloud mount` makes without `--size`. Pure. */
import { SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT, PAGE_SIZE_BYTES } from '../../common/units.ts';
import type { FreeRoom } from '../capacity.ts';

const SLAB_LEASE_BYTES = SLAB_PAGE_COUNT * SEALED_PAGE_SIZE_BYTES;
const SLAB_DATA_BYTES = SLAB_PAGE_COUNT * PAGE_SIZE_BYTES;

/**
 * Bytes of the largest volume of which each slab has `copies` copies on as many machines, a whole number of
 * slabs; 0 when there are fewer machines. A volume of S slabs can be placed when the machines, each
 * counted with S at most, have room for S times the copies: no machine can take two copies of one slab.
 *
 * @param rooms - providers that are up
 * @param copies - at least 1
 */
export function largestVolumeBytes(rooms: readonly FreeRoom[], copies: number): number {
  const slabs = new Map<string, number>();
  for (const { host, freeBytes } of rooms) {
    const count = Math.floor(Math.max(0, freeBytes) / SLAB_LEASE_BYTES);
    slabs.set(host, (slabs.get(host) ?? 0) + count);
  }
  const counts = [...slabs.values()];
  const fits = (size: number): boolean =>
    counts.reduce((sum, count) => sum + Math.min(count, size), 0) >= size * copies;
  let low = 0;
  let high = counts.reduce((sum, count) => sum + count, 0);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low * SLAB_DATA_BYTES;
}
