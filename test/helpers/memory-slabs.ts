/**
 * A SlabProvider in plain memory for tests of everything that only needs one to be honest: slabs are
 * native memory, page calls check their bounds, leases belong to their holder, room is counted. No
 * expiry, no pressure.
 */
import { randomBytes } from 'node:crypto';
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

interface Slab {
  readonly holder: NodeId;
  readonly leaseId: string;
  readonly handle: number;
  readonly pageCount: number;
  readonly memory: NativeMemory;
}

/** Slabs of native memory. */
export class MemorySlabs implements SlabProvider {
  readonly slabs = new Map<number, Slab>();
  readonly events = new Map<NodeId, SlabAccessEvents>();
  accepting = true;
  /** Page calls served. */
  callCount = 0;
  readonly #offeredBytes: number;
  #nextHandle = 1;

  constructor(offeredBytes: number) {
    this.#offeredBytes = offeredBytes;
  }

  openAccess(holder: NodeId, events?: SlabAccessEvents): SlabAccess {
    if (events !== undefined) this.events.set(holder, events);
    return new MemoryAccess(this, holder);
  }

  closeAccess(holder: NodeId): void {
    this.events.delete(holder);
  }

  usage(): ProviderUsage {
    let usedBytes = 0;
    for (const { pageCount } of this.slabs.values())
      usedBytes += pageCount * SEALED_PAGE_SIZE_BYTES;
    const leaseCount = this.slabs.size;
    return { offeredBytes: this.#offeredBytes, usedBytes, residentBytes: usedBytes, leaseCount };
  }

  add(holder: NodeId, pageCount: number): Slab {
    const bytes = pageCount * SEALED_PAGE_SIZE_BYTES;
    if (this.usage().usedBytes + bytes > this.#offeredBytes) {
      throw new MemcloudError('ERR_LEASE_CAPACITY', 'no room');
    }
    const handle = this.#nextHandle++;
    const leaseId = randomBytes(8).toString('hex');
    const slab = { holder, leaseId, handle, pageCount, memory: new NativeMemory(bytes) };
    this.slabs.set(handle, slab);
    return slab;
  }

  remove(slab: Slab): void {
    this.slabs.delete(slab.handle);
    slab.memory.free();
  }

  /** Ends every lease of a holder as expiry would. */
  expireAll(holder: NodeId): void {
    const slabs = [...this.slabs.values()].filter((slab) => slab.holder === holder);
    for (const slab of slabs) this.remove(slab);
    this.events.get(holder)?.onLeasesEnded(slabs.map(({ leaseId }) => leaseId));
  }

  free(): void {
    for (const slab of [...this.slabs.values()]) this.remove(slab);
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
    const slab = this.#owner.add(this.#holder, pageCount);
    return { leaseId: slab.leaseId, slabHandle: slab.handle, ttlMs };
  }

  renew(leaseIds: readonly string[]): string[] {
    return leaseIds.filter((id) => this.#byLease(id) === undefined);
  }

  release(leaseId: string): void {
    const slab = this.#byLease(leaseId);
    if (slab === undefined) throw new MemcloudError('ERR_LEASE_UNKNOWN', 'no such lease');
    this.#owner.remove(slab);
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
    const from = this.#address(handle, first, count);
    if (from > IoStatus.NO_LEASE) copyMemory(to, from, length);
    return from > IoStatus.NO_LEASE ? IoStatus.OK : (from as IoStatusValue);
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
    const to = this.#address(handle, first, count);
    if (to > IoStatus.NO_LEASE) copyMemory(to, source, length);
    return to > IoStatus.NO_LEASE ? IoStatus.OK : (to as IoStatusValue);
  }

  trimPages(handle: number, first: number, count: number): IoStatusValue {
    const at = this.#address(handle, first, count);
    if (at <= IoStatus.NO_LEASE) return at as IoStatusValue;
    const start = first * SEALED_PAGE_SIZE_BYTES;
    const { bytes } = this.#owner.slabs.get(handle)!.memory;
    bytes.fill(0, start, start + count * SEALED_PAGE_SIZE_BYTES);
    return IoStatus.OK;
  }

  usage(): ProviderUsage {
    return this.#owner.usage();
  }

  /** An address, or a status that is none. */
  #address(handle: number, first: number, count: number): number {
    this.#owner.callCount += 1;
    const slab = this.#owner.slabs.get(handle);
    if (slab === undefined || slab.holder !== this.#holder) return IoStatus.NO_LEASE;
    if (count < 1 || first + count > slab.pageCount) return IoStatus.INVALID;
    return slab.memory.address + first * SEALED_PAGE_SIZE_BYTES;
  }

  #byLease(leaseId: string): Slab | undefined {
    for (const slab of this.#owner.slabs.values()) {
      if (slab.leaseId === leaseId && slab.holder === this.#holder) return slab;
    }
    return undefined;
  }
}
