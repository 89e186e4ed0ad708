/** The slabs of one export: leased all or none, renewed together, given back together. */
import { MemcloudError } from '../common/errors.ts';
import type { SlabAccess } from '../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import { DIRECT_SLAB_PAGE_COUNT } from './constants.ts';

/** What the leases of slabs are asked for, milliseconds; the provider may grant less. */
export const SLAB_TTL_MS = 24 * 60 * 60 * 1000;

/** One slab. */
export interface Lease {
  /** For renewal and release. */
  readonly leaseId: string;
  /** For page calls. */
  readonly slabHandle: number;
}

/**
 * Leases slabs for all of `sizeBytes`, or none.
 *
 * @param under - the managed lease that they are taken from, and end with
 * @throws MemcloudError as `SlabAccess.lease`
 */
export function takeLeases(
  access: SlabAccess,
  sizeBytes: number,
  under?: string,
): { leases: Lease[]; leaseTtlMs: number } {
  const leases: Lease[] = [];
  let leaseTtlMs = SLAB_TTL_MS;
  try {
    for (let left = sizeBytes / PAGE_SIZE_BYTES; left > 0; left -= DIRECT_SLAB_PAGE_COUNT) {
      const pageCount = Math.min(left, DIRECT_SLAB_PAGE_COUNT);
      const { leaseId, slabHandle, ttlMs } = access.lease({
        ...{ pageCount, ttlMs: SLAB_TTL_MS },
        ...(under === undefined ? {} : { under }),
      });
      leases.push({ leaseId, slabHandle });
      leaseTtlMs = Math.min(leaseTtlMs, ttlMs);
    }
  } catch (error) {
    releaseLeases(access, leases);
    throw error;
  }
  return { leases, leaseTtlMs };
}

/** Gives slabs back. */
export function releaseLeases(access: SlabAccess, leases: readonly Lease[]): void {
  for (const { leaseId } of leases) {
    try {
      access.release(leaseId);
    } catch (error) {
      // Gone already: the provider ended it, and wiped.
      if (!(error instanceof MemcloudError && error.code === 'ERR_LEASE_UNKNOWN')) throw error;
    }
  }
}
