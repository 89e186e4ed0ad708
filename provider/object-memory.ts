/**
 * RAM that objects lie in (the port `ObjectMemory` of common/objects.ts). It comes from the same tmpfs as
 * slabs, under the same rules: a range is reserved before it is touched, wiping is zeroing and then punching
 * (arena.ts), and what is charged counts with the leases of the same node, in one ledger (quota.ts).
 *
 * The charge and the RAM are two things. Whoever keeps objects charges what they cost, records and names
 * included, before anything is taken; then it reserves pages of an arena. So bytes that are charged and not
 * resident are promised, as with slabs, and the host's room is asked for beyond them.
 *
 * Objects come and go thousands of times a second and the kernel's files are read in tens of microseconds,
 * so the host is asked again only every {@link HOST_READ_INTERVAL_MS}, or when what it had is used up.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { zeroMemory, viewMemory } from '../common/libc.ts';
import { MemcloudError } from '../common/errors.ts';
import type { ObjectArena, ObjectMemory, ObjectRoom } from '../common/objects.ts';
import { PageBits } from '../common/page-bits.ts';
import type { NodeId } from '../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import { Arena } from './arena.ts';
import { hostFreeBytes, hostRefusal, type HostRoom } from './pressure.ts';
import type { Quota } from './quota.ts';

/** The most bytes of one arena of objects. */
export const OBJECT_ARENA_SIZE_MAX_BYTES = 2 ** 30;
/** How long the host's word on its room is believed, milliseconds. */
export const HOST_READ_INTERVAL_MS = 20;

/** What {@link ProviderObjects} needs of its provider. */
export interface ObjectMemoryHost {
  /** Where files go, on tmpfs. */
  readonly directory: string;
  /** The ledger, shared with leases. */
  readonly quota: Quota;
  /** The most that a node may have, Infinity for no limit. */
  allowedBytes(node: NodeId): number;
  /** Why nothing new is taken; undefined while it is. */
  refusal(): string | undefined;
  /** The room of the machine now, promises to objects included. */
  room(): HostRoom;
  /** Milliseconds of a monotonic clock. */
  nowMs(): number;
}

/** The memory of the objects of one provider. */
export class ProviderObjects implements ObjectMemory {
  readonly #host: ObjectMemoryHost;
  readonly #arenas = new Set<ObjectFile>();
  readonly #pressureListeners: ((bytes: number) => number)[] = [];
  #nextFile = 0;
  #chargedBytes = 0;
  /** What the host could give when it was asked last, less what was charged since. */
  #hostFreeBytes = 0;
  #hostAskedAtMs = -Infinity;

  constructor(host: ObjectMemoryHost) {
    this.#host = host;
  }

  /** @inheritDoc */
  get accepting(): boolean {
    return this.#host.refusal() === undefined;
  }

  /** Bytes charged for objects, of every node. */
  get chargedBytes(): number {
    return this.#chargedBytes;
  }

  /** RAM that arenas hold, exact. */
  get residentBytes(): number {
    let bytes = 0;
    for (const arena of this.#arenas) bytes += arena.residentBytes;
    return bytes;
  }

  /** Bytes charged that may yet become resident. */
  get promisedBytes(): number {
    return Math.max(0, this.#chargedBytes - this.residentBytes);
  }

  /** Paths of the backing files. */
  get files(): string[] {
    return Array.from(this.#arenas, (arena) => arena.path);
  }

  /** @inheritDoc */
  charge(owner: NodeId, bytes: number): string | undefined {
    const { quota } = this.#host;
    const refusal =
      this.#host.refusal() ??
      quota.refusal(owner, bytes, this.#host.allowedBytes(owner)) ??
      this.#hostRefusal(bytes);
    if (refusal !== undefined) return refusal;
    quota.charge(owner, bytes);
    this.#chargedBytes += bytes;
    this.#hostFreeBytes -= bytes;
    return undefined;
  }

  /** @inheritDoc */
  room(owner: NodeId): ObjectRoom {
    const { quota } = this.#host;
    this.#askHost();
    return {
      ownerFreeBytes: this.#host.allowedBytes(owner) - quota.usedBy(owner),
      providerFreeBytes: Math.min(quota.offeredBytes - quota.usedBytes, this.#hostFreeBytes),
    };
  }

  /** @inheritDoc */
  refund(owner: NodeId, bytes: number): void {
    this.#host.quota.refund(owner, bytes);
    this.#chargedBytes -= bytes;
  }

  /** @inheritDoc */
  takeArena(sizeBytes: number): ObjectArena {
    if (!isPages(sizeBytes) || sizeBytes < 1 || sizeBytes > OBJECT_ARENA_SIZE_MAX_BYTES) {
      throw new MemcloudError(
        'ERR_NATIVE',
        `objects: expected an arena of 1 to ${OBJECT_ARENA_SIZE_MAX_BYTES} bytes in whole pages, got ${sizeBytes}`,
      );
    }
    const file = path.join(this.#host.directory, `objects-${this.#nextFile}`);
    const arena = new ObjectFile(makeArena(file, sizeBytes));
    this.#nextFile += 1;
    this.#arenas.add(arena);
    return arena;
  }

  /** @inheritDoc */
  giveArenaBack(arena: ObjectArena): void {
    assert(arena instanceof ObjectFile, 'an arena goes back where it came from');
    if (this.#arenas.delete(arena)) arena.close();
  }

  /** @inheritDoc */
  onPressure(listener: (bytes: number) => number): void {
    this.#pressureListeners.push(listener);
  }

  /** Has cache objects go. @returns bytes that came back, at most about `bytes` */
  evict(bytes: number): number {
    let givenBytes = 0;
    for (const listener of this.#pressureListeners) {
      if (givenBytes < bytes) givenBytes += listener(bytes - givenBytes);
    }
    return givenBytes;
  }

  /** Wipes and unmaps what was not given back; nobody may touch it any more. */
  close(): void {
    for (const arena of this.#arenas) arena.close();
    this.#arenas.clear();
  }

  #hostRefusal(bytes: number): string | undefined {
    const isFresh = this.#host.nowMs() - this.#hostAskedAtMs < HOST_READ_INTERVAL_MS;
    if (isFresh && bytes <= this.#hostFreeBytes) return undefined;
    return hostRefusal(bytes, this.#askHost());
  }

  #askHost(): HostRoom {
    const room = this.#host.room();
    this.#hostFreeBytes = hostFreeBytes(room);
    this.#hostAskedAtMs = this.#host.nowMs();
    return room;
  }
}

/** One arena, and which of its pages are resident. */
class ObjectFile implements ObjectArena {
  readonly address: number;
  readonly bytes: Buffer;
  readonly #arena: Arena;
  readonly #pageCount: number;
  readonly #held: PageBits;

  constructor(arena: Arena) {
    this.#arena = arena;
    this.address = arena.address;
    this.bytes = viewMemory(arena.address, arena.sizeBytes);
    this.#pageCount = arena.sizeBytes / PAGE_SIZE_BYTES;
    this.#held = new PageBits(this.#pageCount);
  }

  get path(): string {
    return this.#arena.path;
  }

  get residentBytes(): number {
    return this.#held.setCount * PAGE_SIZE_BYTES;
  }

  reserve(offsetBytes: number, lengthBytes: number): boolean {
    const [first, end] = this.#pagesOf(offsetBytes, lengthBytes);
    const from = this.#firstFree(first, end);
    if (from === end) return true;
    const length = (end - from) * PAGE_SIZE_BYTES;
    if (!this.#arena.reserve(from * PAGE_SIZE_BYTES, length)) {
      // A part may have been allocated, which would be RAM that nobody counts.
      for (let at = from; at < end; at = this.#held.runEnd(at, end)) {
        if (!this.#held.isSet(at)) this.#punch(at, this.#held.runEnd(at, end));
      }
      return false;
    }
    this.#held.set(from, end);
    return true;
  }

  release(offsetBytes: number, lengthBytes: number): void {
    const [first, end] = this.#pagesOf(offsetBytes, lengthBytes);
    for (let at = this.#held.nextSet(first, end); at < end; at = this.#held.nextSet(at, end)) {
      const runEnd = this.#held.runEnd(at, end);
      zeroMemory(this.address + at * PAGE_SIZE_BYTES, (runEnd - at) * PAGE_SIZE_BYTES);
      this.#punch(at, runEnd);
      this.#held.clear(at, runEnd);
    }
  }

  close(): void {
    this.release(0, this.#arena.sizeBytes);
    this.#arena.close();
  }

  #firstFree(first: number, end: number): number {
    return this.#held.isSet(first) ? this.#held.runEnd(first, end) : first;
  }

  #punch(first: number, end: number): void {
    this.#arena.punch(first * PAGE_SIZE_BYTES, (end - first) * PAGE_SIZE_BYTES);
  }

  #pagesOf(offsetBytes: number, lengthBytes: number): [number, number] {
    const first = offsetBytes / PAGE_SIZE_BYTES;
    const end = first + lengthBytes / PAGE_SIZE_BYTES;
    const isRange = isPages(offsetBytes) && isPages(lengthBytes) && first >= 0 && end > first;
    assert(isRange && end <= this.#pageCount, 'a range of whole pages inside the arena');
    return [first, end];
  }
}

function isPages(bytes: number): boolean {
  return Number.isSafeInteger(bytes / PAGE_SIZE_BYTES);
}

/** The kernel's and node's refusals in one shape. */
function makeArena(file: string, sizeBytes: number): Arena {
  try {
    return new Arena(file, sizeBytes);
  } catch (error) {
    if (error instanceof MemcloudError) throw error;
    throw new MemcloudError('ERR_NATIVE', `objects: the file of an arena cannot be made`, {
      cause: error,
    });
  }
}
