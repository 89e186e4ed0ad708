/**
 * A provider that lies. It keeps of each page what it promised to keep (the bytes of the last write
 * that it acknowledged) and the version before, and serves one, the other, or something else, each
 * lie at a rate that may be changed at any time.
 *
 * It counts exactly: a page that left in an answered read and differs from what was promised is one
 * fault, of the kind that made it; a lie that happens to serve the right bytes is none, and a write
 * that was acknowledged and forgotten becomes a fault each time its page is served. So the counters say
 * how often a consumer was given other bytes than it stored, and it must have noticed as often.
 */
import { addressIn } from '../../../common/aead.ts';
import { copyMemory } from '../../../common/libc.ts';
import { NativeMemory, type NativeBuffer } from '../../../common/native-memory.ts';
import {
  IoStatus,
  type IoStatusValue,
  type NodeId,
  type ProviderUsage,
  type SlabAccess,
  type SlabGrant,
  type SlabProvider,
  type SlabRequest,
} from '../../../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../../../common/units.ts';
import { seededRandom } from '../sim-world.ts';
import { SlabBook, type BookedSlab } from '../slab-book.ts';

/** What it does to a page that is read. */
export const READ_LIES = ['flip', 'swap', 'truncate', 'replay', 'foreign'] as const;
/** What it does at all: `forget` acknowledges a write and drops it. */
export const LIES = [...READ_LIES, 'forget'] as const;
/** One of them. */
export type Lie = (typeof LIES)[number];
/** Of each, the chance that it is tried on a page, 0 to 1; the sum of {@link READ_LIES} at most 1. */
export type LieRates = Partial<Record<Lie, number>>;
/** Of each, pages served that were not what was stored. */
export type LieCounts = Record<Lie, number>;

const SIZE = SEALED_PAGE_SIZE_BYTES;

/** What is known of a page. */
const PageFlag = { WRITTEN: 1, HAS_PREVIOUS: 2, FORGOTTEN: 4 } as const;

class HostileSlab implements BookedSlab {
  readonly leaseId: string;
  readonly promised: NativeMemory;
  readonly previous: NativeMemory;
  readonly flags: Uint8Array;
  readonly holder: NodeId;
  readonly handle: number;
  readonly pageCount: number;

  constructor({ holder, leaseId, handle, pageCount }: Omit<BookedSlab, 'free'>) {
    this.holder = holder;
    this.leaseId = leaseId;
    this.handle = handle;
    this.pageCount = pageCount;
    this.promised = new NativeMemory(pageCount * SIZE);
    this.previous = new NativeMemory(pageCount * SIZE);
    this.flags = new Uint8Array(pageCount);
  }

  has(page: number, flag: number): boolean {
    return ((this.flags[page] ?? 0) & flag) !== 0;
  }

  /** Keeps a page, or only says so. */
  store(page: number, from: NativeBuffer, fromOffset: number, forget: boolean): void {
    const kept = this.promised.address + page * SIZE;
    // The older of two forgotten writes was never here: what is served stays what it was.
    if (!(forget && this.has(page, PageFlag.FORGOTTEN))) {
      copyMemory(this.previous.address + page * SIZE, kept, SIZE);
      if (this.has(page, PageFlag.WRITTEN)) this.flags[page] = PageFlag.HAS_PREVIOUS;
    }
    copyMemory(kept, addressIn(from, fromOffset, SIZE), SIZE);
    const old = (this.flags[page] ?? 0) & PageFlag.HAS_PREVIOUS;
    this.flags[page] = old | PageFlag.WRITTEN | (forget ? PageFlag.FORGOTTEN : 0);
  }

  /** Wipes pages. */
  trim(first: number, count: number): void {
    this.promised.bytes.fill(0, first * SIZE, (first + count) * SIZE);
    this.previous.bytes.fill(0, first * SIZE, (first + count) * SIZE);
    this.flags.fill(0, first, first + count);
  }

  free(): void {
    this.promised.free();
    this.previous.free();
  }
}

/** The provider. */
export class HostileSlabs implements SlabProvider {
  readonly accepting = true;
  /** What it tries from now on. */
  rates: LieRates = {};
  readonly counts: LieCounts = {
    flip: 0,
    swap: 0,
    truncate: 0,
    replay: 0,
    foreign: 0,
    forget: 0,
  };
  /** Pages in answered reads, true ones included. */
  pagesServed = 0;
  /** Writes that were acknowledged and dropped, in pages; a fault only when one is read. */
  pagesForgotten = 0;
  readonly book: SlabBook<HostileSlab>;
  readonly #random: () => number;

  constructor(offeredBytes: number, seed: number) {
    this.book = new SlabBook(offeredBytes, (booked) => new HostileSlab(booked));
    this.#random = seededRandom(seed);
  }

  /** Pages served that were not what was stored, of all kinds. */
  get faultCount(): number {
    return LIES.reduce((sum, lie) => sum + this.counts[lie], 0);
  }

  openAccess(holder: NodeId): SlabAccess {
    return new HostileAccess(this, holder);
  }

  closeAccess(): void {
    return;
  }

  usage(): ProviderUsage {
    return this.book.usage();
  }

  free(): void {
    this.book.free();
  }

  store(slab: HostileSlab, page: number, from: NativeBuffer, fromOffset: number): void {
    const forget = this.#random() < (this.rates.forget ?? 0);
    if (forget) this.pagesForgotten += 1;
    slab.store(page, from, fromOffset, forget);
  }

  /** Puts a page, or what it serves for it, at `into`. */
  serve(slab: HostileSlab, page: number, into: NativeBuffer, offset: number): void {
    const lie = this.#serveSome(slab, page, into, offset);
    this.pagesServed += 1;
    if (!slab.has(page, PageFlag.WRITTEN)) return;
    const { bytes } = slab.promised;
    const start = page * SIZE;
    const same = bytes.compare(into.bytes, offset, offset + SIZE, start, start + SIZE) === 0;
    if (!same) this.counts[lie] += 1;
  }

  #serveSome(slab: HostileSlab, page: number, into: NativeBuffer, offset: number): Lie {
    const to = addressIn(into, offset, SIZE);
    const forgotten = slab.has(page, PageFlag.FORGOTTEN);
    const kept = forgotten ? slab.previous : slab.promised;
    copyMemory(to, kept.address + page * SIZE, SIZE);
    switch (this.#chooseLie()) {
      case 'flip': {
        const at = offset + Math.floor(this.#random() * SIZE);
        into.bytes[at] = (into.bytes[at] ?? 0) ^ (1 << Math.floor(this.#random() * 8));
        return 'flip';
      }
      case 'swap': {
        const other = (page ^ 1) < slab.pageCount ? page ^ 1 : page;
        copyMemory(to, slab.promised.address + other * SIZE, SIZE);
        return 'swap';
      }
      case 'truncate':
        into.bytes.fill(0, offset + Math.floor(this.#random() * SIZE), offset + SIZE);
        return 'truncate';
      case 'replay':
        if (!slab.has(page, PageFlag.HAS_PREVIOUS)) break;
        copyMemory(to, slab.previous.address + page * SIZE, SIZE);
        return 'replay';
      case 'foreign': {
        const other = this.#otherSlab(slab, page);
        if (other === undefined) break;
        copyMemory(to, other.promised.address + page * SIZE, SIZE);
        return 'foreign';
      }
      case undefined:
        break;
    }
    return 'forget';
  }

  #chooseLie(): (typeof READ_LIES)[number] | undefined {
    let dice = this.#random();
    for (const lie of READ_LIES) {
      dice -= this.rates[lie] ?? 0;
      if (dice < 0) return lie;
    }
    return undefined;
  }

  /** A slab of any holder that has the page: of another volume wherever there is one. */
  #otherSlab(slab: HostileSlab, page: number): HostileSlab | undefined {
    for (const other of this.book.slabs.values()) {
      if (other !== slab && other.has(page, PageFlag.WRITTEN)) return other;
    }
    return undefined;
  }
}

class HostileAccess implements SlabAccess {
  readonly #owner: HostileSlabs;
  readonly #holder: NodeId;

  constructor(owner: HostileSlabs, holder: NodeId) {
    this.#owner = owner;
    this.#holder = holder;
  }

  lease({ pageCount, ttlMs }: SlabRequest): SlabGrant {
    const { leaseId, handle } = this.#owner.book.add(this.#holder, pageCount);
    return { leaseId, slabHandle: handle, ttlMs };
  }

  renew(leaseIds: readonly string[]): string[] {
    return this.#owner.book.unknown(this.#holder, leaseIds);
  }

  release(leaseId: string): void {
    this.#owner.book.release(this.#holder, leaseId);
  }

  readPages(
    handle: number,
    first: number,
    count: number,
    into: NativeBuffer,
    intoOffset: number,
  ): IoStatusValue {
    const slab = this.#owner.book.find(this.#holder, handle, first, count);
    if (typeof slab === 'number') return slab;
    for (let index = 0; index < count; index += 1) {
      this.#owner.serve(slab, first + index, into, intoOffset + index * SIZE);
    }
    return IoStatus.OK;
  }

  writePages(
    handle: number,
    first: number,
    count: number,
    from: NativeBuffer,
    fromOffset: number,
  ): IoStatusValue {
    const slab = this.#owner.book.find(this.#holder, handle, first, count);
    if (typeof slab === 'number') return slab;
    for (let index = 0; index < count; index += 1) {
      this.#owner.store(slab, first + index, from, fromOffset + index * SIZE);
    }
    return IoStatus.OK;
  }

  trimPages(handle: number, first: number, count: number): IoStatusValue {
    const slab = this.#owner.book.find(this.#holder, handle, first, count);
    if (typeof slab === 'number') return slab;
    slab.trim(first, count);
    return IoStatus.OK;
  }

  usage(): ProviderUsage {
    return this.#owner.usage();
  }
}
