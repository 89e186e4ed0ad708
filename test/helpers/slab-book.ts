/**
 * The leases of a provider made for tests: who holds which slab, by lease and by handle, and how much
 * room is left. What a slab is made of is its owner's. No expiry, no pressure.
 */
import { randomBytes } from 'node:crypto';
import { MemcloudError } from '../../common/errors.ts';
import {
  IoStatus,
  type IoStatusValue,
  type NodeId,
  type ProviderUsage,
} from '../../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../../common/units.ts';

/** What the book knows of a slab. */
export interface BookedSlab {
  readonly holder: NodeId;
  readonly leaseId: string;
  readonly handle: number;
  readonly pageCount: number;
  free(): void;
}

/** Slabs of one kind. */
export class SlabBook<Slab extends BookedSlab> {
  readonly slabs = new Map<number, Slab>();
  readonly #offeredBytes: number;
  readonly #make: (booked: Omit<BookedSlab, 'free'>) => Slab;
  #nextHandle = 1;

  constructor(offeredBytes: number, make: (booked: Omit<BookedSlab, 'free'>) => Slab) {
    this.#offeredBytes = offeredBytes;
    this.#make = make;
  }

  usage(): ProviderUsage {
    let usedBytes = 0;
    for (const { pageCount } of this.slabs.values()) {
      usedBytes += pageCount * SEALED_PAGE_SIZE_BYTES;
    }
    const leaseCount = this.slabs.size;
    return { offeredBytes: this.#offeredBytes, usedBytes, residentBytes: usedBytes, leaseCount };
  }

  /** @throws MemcloudError `ERR_LEASE_CAPACITY` */
  add(holder: NodeId, pageCount: number): Slab {
    const bytes = pageCount * SEALED_PAGE_SIZE_BYTES;
    if (this.usage().usedBytes + bytes > this.#offeredBytes) {
      throw new MemcloudError('ERR_LEASE_CAPACITY', 'no room');
    }
    const handle = this.#nextHandle++;
    const leaseId = randomBytes(8).toString('hex');
    const slab = this.#make({ holder, leaseId, handle, pageCount });
    this.slabs.set(handle, slab);
    return slab;
  }

  remove(slab: Slab): void {
    this.slabs.delete(slab.handle);
    slab.free();
  }

  free(): void {
    for (const slab of [...this.slabs.values()]) this.remove(slab);
  }

  /** The slab of a page call, or why there is none. */
  find(holder: NodeId, handle: number, first: number, count: number): Slab | IoStatusValue {
    const slab = this.slabs.get(handle);
    if (slab === undefined || slab.holder !== holder) return IoStatus.NO_LEASE;
    return count < 1 || first + count > slab.pageCount ? IoStatus.INVALID : slab;
  }

  /** Those of the ids that the holder does not have. */
  unknown(holder: NodeId, leaseIds: readonly string[]): string[] {
    return leaseIds.filter((id) => this.#byLease(holder, id) === undefined);
  }

  /** @throws MemcloudError `ERR_LEASE_UNKNOWN` */
  release(holder: NodeId, leaseId: string): void {
    const slab = this.#byLease(holder, leaseId);
    if (slab === undefined) throw new MemcloudError('ERR_LEASE_UNKNOWN', 'no such lease');
    this.remove(slab);
  }

  #byLease(holder: NodeId, leaseId: string): Slab | undefined {
    return [...this.slabs.values()].find(
      (slab) => slab.leaseId === leaseId && slab.holder === holder,
    );
  }
}
