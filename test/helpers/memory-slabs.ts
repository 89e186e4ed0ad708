/**
 * A SlabProvider in plain memory for tests of everything that only needs one to be honest: slabs are
 * native memory, page calls check their bounds, leases belong to their holder, room is counted. No
 * expiry, no pressure.
 */
import { addressIn } from '../../common/aead.ts';
import { MemcloudError } from '../../common/errors.ts';
import { copyMemory } from '../../common/libc.ts';
import { NativeMemory, type NativeBuffer } from '../../common/native-memory.ts';
import {
  IoStatus,
  type IoStatusValue,
  type NodeId,
  type ProviderUsage,
  type SlabAccess,
  type SlabAccessEvents,
  type SlabGrant,
  type SlabProvider,
  type SlabRequest,
} from '../../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../../common/units.ts';
import { SlabBook, type BookedSlab } from './slab-book.ts';

interface Slab extends BookedSlab {
  readonly memory: NativeMemory;
}

/** Slabs of native memory. */
export class MemorySlabs implements SlabProvider {
  readonly events = new Map<NodeId, SlabAccessEvents>();
  accepting = true;
  /** Page calls served. */
  callCount = 0;
  readonly book: SlabBook<Slab>;

  constructor(offeredBytes: number) {
    this.book = new SlabBook(offeredBytes, (booked) => {
      const memory = new NativeMemory(booked.pageCount * SEALED_PAGE_SIZE_BYTES);
      return { ...booked, memory, free: () => memory.free() };
    });
  }

  openAccess(holder: NodeId, events?: SlabAccessEvents): SlabAccess {
    if (events !== undefined) this.events.set(holder, events);
    return new MemoryAccess(this, holder);
  }

  closeAccess(holder: NodeId): void {
    this.events.delete(holder);
  }

  usage(): ProviderUsage {
    return this.book.usage();
  }

  /** Ends every lease of a holder as expiry would. */
  expireAll(holder: NodeId): void {
    const slabs = [...this.book.slabs.values()].filter((slab) => slab.holder === holder);
    for (const slab of slabs) this.book.remove(slab);
    this.events.get(holder)?.onLeasesEnded(slabs.map(({ leaseId }) => leaseId));
  }

  free(): void {
    this.book.free();
  }
}

class MemoryAccess implements SlabAccess {
  readonly #owner: MemorySlabs;
  readonly #holder: NodeId;

  constructor(owner: MemorySlabs, holder: NodeId) {
    this.#owner = owner;
    this.#holder = holder;
  }

  lease({ pageCount, ttlMs }: SlabRequest): SlabGrant {
    if (pageCount < 1 || pageCount > 65536 || ttlMs < 1000) {
      throw new MemcloudError('ERR_LEASE_INVALID', 'pages 1 to 65536, ttl at least 1000 ms');
    }
    const slab = this.#owner.book.add(this.#holder, pageCount);
    return { leaseId: slab.leaseId, slabHandle: slab.handle, ttlMs };
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
    const length = count * SEALED_PAGE_SIZE_BYTES;
    const to = addressIn(into, intoOffset, length);
    const slab = this.#find(handle, first, count);
    if (typeof slab === 'number') return slab;
    copyMemory(to, slab.memory.address + first * SEALED_PAGE_SIZE_BYTES, length);
    return IoStatus.OK;
  }

  writePages(
    handle: number,
    first: number,
    count: number,
    from: NativeBuffer,
    fromOffset: number,
  ): IoStatusValue {
    const length = count * SEALED_PAGE_SIZE_BYTES;
    const source = addressIn(from, fromOffset, length);
    const slab = this.#find(handle, first, count);
    if (typeof slab === 'number') return slab;
    copyMemory(slab.memory.address + first * SEALED_PAGE_SIZE_BYTES, source, length);
    return IoStatus.OK;
  }

  trimPages(handle: number, first: number, count: number): IoStatusValue {
    const slab = this.#find(handle, first, count);
    if (typeof slab === 'number') return slab;
    const start = first * SEALED_PAGE_SIZE_BYTES;
    slab.memory.bytes.fill(0, start, start + count * SEALED_PAGE_SIZE_BYTES);
    return IoStatus.OK;
  }

  usage(): ProviderUsage {
    return this.#owner.usage();
  }

  #find(handle: number, first: number, count: number): Slab | IoStatusValue {
    this.#owner.callCount += 1;
    return this.#owner.book.find(this.#holder, handle, first, count);
  }
}
