/**
 * The page path of a provider: look the lease up, check the range and the buffer, move the bytes.
 * Everything ends before it returns and nothing is made on the way: one map look-up by number, one
 * bit test per page, one memcpy for a run.
 *
 * Requests come from other machines, so any numbers are expected: a handle that is unknown, expired
 * or somebody else's answers `NO_LEASE` (the three are not told apart, so handles cannot be probed),
 * a range outside the slab `INVALID`. The buffer is our own side's: a wrong one throws.
 */
import { addressIn } from '../common/aead.ts';
import type { Clock } from '../common/clock.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { IoStatus, type IoStatusValue, type NodeId } from '../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';
import type { LeaseTable } from './leases.ts';
import type { Slab } from './slab.ts';

/** Page calls of any holder on the slabs of one lease table. */
export class RamStore {
  /** What slabs are stamped with when they are used; its owner counts it up as time passes. */
  epoch = 0;
  readonly #leases: LeaseTable<Slab>;
  readonly #clock: Clock;

  constructor(leases: LeaseTable<Slab>, clock: Clock) {
    this.#leases = leases;
    this.#clock = clock;
  }

  /**
   * Copies sealed pages out; a page never written or trimmed is zero bytes.
   *
   * @throws RangeError when `into` has no room for the pages
   */
  readPages(
    holder: NodeId,
    slabHandle: number,
    firstPage: number,
    pageCount: number,
    into: NativeBuffer,
    intoOffset: number,
  ): IoStatusValue {
    const slab = this.#leases.find(slabHandle, holder, this.#clock.nowMs())?.slab;
    if (slab === undefined) return IoStatus.NO_LEASE;
    slab.lastUse = this.epoch;
    if (!inRange(slab, firstPage, pageCount)) return IoStatus.INVALID;
    const to = addressIn(into, intoOffset, pageCount * SEALED_PAGE_SIZE_BYTES);
    slab.read(firstPage, pageCount, to);
    return IoStatus.OK;
  }

  /**
   * Copies sealed pages in. `NO_SPACE`, with nothing changed, when the machine has no RAM for pages
   * written the first time.
   *
   * @throws RangeError when the pages are not all inside `from`
   */
  writePages(
    holder: NodeId,
    slabHandle: number,
    firstPage: number,
    pageCount: number,
    from: NativeBuffer,
    fromOffset: number,
  ): IoStatusValue {
    const slab = this.#leases.find(slabHandle, holder, this.#clock.nowMs())?.slab;
    if (slab === undefined) return IoStatus.NO_LEASE;
    slab.lastUse = this.epoch;
    if (!inRange(slab, firstPage, pageCount)) return IoStatus.INVALID;
    const source = addressIn(from, fromOffset, pageCount * SEALED_PAGE_SIZE_BYTES);
    return slab.write(firstPage, pageCount, source) ? IoStatus.OK : IoStatus.NO_SPACE;
  }

  /** Zeroes pages and gives their RAM back; any number of pages of the slab in one call. */
  trimPages(
    holder: NodeId,
    slabHandle: number,
    firstPage: number,
    pageCount: number,
  ): IoStatusValue {
    const slab = this.#leases.find(slabHandle, holder, this.#clock.nowMs())?.slab;
    if (slab === undefined) return IoStatus.NO_LEASE;
    slab.lastUse = this.epoch;
    if (!inRange(slab, firstPage, pageCount)) return IoStatus.INVALID;
    slab.trim(firstPage, pageCount);
    return IoStatus.OK;
  }
}

/** True for at least one page inside the slab; false for any other numbers, NaN and fractions included. */
function inRange(slab: Slab, firstPage: number, pageCount: number): boolean {
  return (
    Number.isInteger(firstPage) &&
    Number.isInteger(pageCount) &&
    firstPage >= 0 &&
    pageCount >= 1 &&
    firstPage + pageCount <= slab.pageCount
  );
}
