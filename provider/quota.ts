/**
 * What a provider has lent, exactly. A lease is charged its whole slab when it is granted, written
 * or not, and everything that it costs besides pages: tags (they are in the slab), its bit map and
 * its record. So `used` never has to be corrected later, and is checked before anything is taken.
 *
 * Charges are by holder, not by session, so they survive reconnects. Pure.
 */
import type { NodeId } from '../common/ports.ts';
import { formatSize } from '../common/units.ts';
import { LivePages } from './live-pages.ts';
import { slabFileBytes } from './slab.ts';

/**
 * Bytes charged for the record of a lease: its objects, its entries in two maps, its arena run. A
 * test measures that the heap grows by less.
 */
export const LEASE_RECORD_SIZE_BYTES = 1024;

/** Bytes that a lease of `pageCount` pages is charged: 16 MiB + 65 KiB + 512 B for 4096. */
export function leaseChargeBytes(pageCount: number): number {
  return slabFileBytes(pageCount) + LivePages.sizeBytes(pageCount) + LEASE_RECORD_SIZE_BYTES;
}

/** The ledger of one provider. */
export class Quota {
  #limitBytes: number;
  readonly #usedByHolder = new Map<NodeId, number>();
  #usedBytes = 0;

  /** @param offeredBytes - 0 or more; 0 lends nothing */
  constructor(offeredBytes: number) {
    this.#limitBytes = offeredBytes;
  }

  /** The most that may be lent, bytes; never below what is lent already. */
  get offeredBytes(): number {
    return Math.max(this.#limitBytes, this.#usedBytes);
  }

  /**
   * Changes the offer. What is lent stays lent: below it the offer shrinks as leases end, and nothing
   * is granted meanwhile.
   */
  setOffer(offeredBytes: number): void {
    this.#limitBytes = offeredBytes;
  }

  /** Bytes lent. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Bytes lent to `holder`. */
  usedBy(holder: NodeId): number {
    return this.#usedByHolder.get(holder) ?? 0;
  }

  /**
   * Says why `bytes` more for `holder` are too many.
   *
   * @param holderQuotaBytes - the most that this holder may have, Infinity for no limit
   * @returns a sentence with the numbers, or undefined when there is room
   */
  refusal(holder: NodeId, bytes: number, holderQuotaBytes: number): string | undefined {
    const freeBytes = this.offeredBytes - this.#usedBytes;
    if (bytes > freeBytes) {
      return `asked ${formatSize(bytes)}, free ${formatSize(freeBytes)} of ${formatSize(this.offeredBytes)} offered`;
    }
    const holderFreeBytes = holderQuotaBytes - this.usedBy(holder);
    if (bytes > holderFreeBytes) {
      return `asked ${formatSize(bytes)}, free ${formatSize(Math.max(0, holderFreeBytes))} of this holder's quota of ${formatSize(holderQuotaBytes)}`;
    }
    return undefined;
  }

  /** Adds a charge that {@link Quota.refusal} found room for. */
  charge(holder: NodeId, bytes: number): void {
    this.#usedBytes += bytes;
    this.#usedByHolder.set(holder, this.usedBy(holder) + bytes);
  }

  /** Takes a charge back, exactly as it was made. */
  refund(holder: NodeId, bytes: number): void {
    this.#usedBytes -= bytes;
    const left = this.usedBy(holder) - bytes;
    if (left === 0) this.#usedByHolder.delete(holder);
    else this.#usedByHolder.set(holder, left);
  }
}
