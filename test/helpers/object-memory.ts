/**
 * The provider's memory as objects see it, for tests: anonymous mappings, a ledger with limits, and
 * checks that only reserved bytes were ever touched. What a store took and did not give back, and what it
 * did not wipe, is seen here.
 */
import assert from 'node:assert/strict';
import { NativeMemory } from '../../common/native-memory.ts';
import type { ObjectArena, ObjectMemory, ObjectRoom } from '../../common/objects.ts';
import type { NodeId } from '../../common/ports.ts';

const PAGE = 4096;

/** Memory with limits that a test sets. */
export class TestObjectMemory implements ObjectMemory {
  accepting = true;
  /** Bytes that all may be charged. */
  offeredBytes = Infinity;
  /** Bytes that one node may be charged. */
  allowedBytes = Infinity;
  /** Pages that the machine has. */
  pageCountMax = Infinity;
  readonly arenas = new Set<TestArena>();
  readonly charged = new Map<NodeId, number>();
  pageCount = 0;
  chargeCount = 0;
  #listener: ((bytes: number) => number) | undefined;

  /** Charged to everybody. */
  get chargedBytes(): number {
    let sum = 0;
    for (const bytes of this.charged.values()) sum += bytes;
    return sum;
  }

  chargedTo(owner: NodeId): number {
    return this.charged.get(owner) ?? 0;
  }

  charge(owner: NodeId, bytes: number): string | undefined {
    assert(bytes > 0, 'a charge is more than nothing');
    this.chargeCount += 1;
    const room = this.room(owner);
    if (!this.accepting) return 'drained';
    if (bytes > room.providerFreeBytes) return 'the offer is used up';
    if (bytes > room.ownerFreeBytes) return 'the allowance is used up';
    this.charged.set(owner, this.chargedTo(owner) + bytes);
    return undefined;
  }

  room(owner: NodeId): ObjectRoom {
    return {
      ownerFreeBytes: this.allowedBytes - this.chargedTo(owner),
      providerFreeBytes: this.offeredBytes - this.chargedBytes,
    };
  }

  refund(owner: NodeId, bytes: number): void {
    const left = this.chargedTo(owner) - bytes;
    assert(bytes > 0 && left >= 0, 'a refund is at most what was charged');
    if (left === 0) this.charged.delete(owner);
    else this.charged.set(owner, left);
  }

  takeArena(sizeBytes: number): ObjectArena {
    const arena = new TestArena(this, sizeBytes);
    this.arenas.add(arena);
    return arena;
  }

  giveArenaBack(arena: ObjectArena): void {
    assert(arena instanceof TestArena && this.arenas.delete(arena), 'an arena of ours, once');
    arena.close();
  }

  onPressure(listener: (bytes: number) => number): void {
    this.#listener = listener;
  }

  /** The machine wants bytes back. */
  press(bytes: number): number {
    return this.#listener?.(bytes) ?? 0;
  }

  /** Bytes of reserved pages that are not zero. */
  dirtyByteCount(): number {
    let count = 0;
    for (const arena of this.arenas) count += arena.dirtyByteCount();
    return count;
  }

  /** Unmaps what was not given back. */
  close(): void {
    for (const arena of this.arenas) arena.close();
    this.arenas.clear();
  }
}

/** One mapping. */
class TestArena implements ObjectArena {
  readonly address: number;
  readonly bytes: Buffer;
  readonly #native: NativeMemory;
  readonly #memory: TestObjectMemory;
  readonly #reserved: Uint8Array;

  constructor(memory: TestObjectMemory, sizeBytes: number) {
    assert(sizeBytes % PAGE === 0 && sizeBytes > 0);
    this.#native = new NativeMemory(sizeBytes);
    this.address = this.#native.address;
    this.bytes = this.#native.bytes;
    this.#memory = memory;
    this.#reserved = new Uint8Array(sizeBytes / PAGE);
  }

  reserve(offsetBytes: number, lengthBytes: number): boolean {
    const [first, end] = this.#pages(offsetBytes, lengthBytes);
    let count = 0;
    for (let page = first; page < end; page += 1) count += 1 - this.#reserved[page]!;
    if (this.#memory.pageCount + count > this.#memory.pageCountMax) return false;
    this.#memory.pageCount += count;
    this.#reserved.fill(1, first, end);
    return true;
  }

  release(offsetBytes: number, lengthBytes: number): void {
    const [first, end] = this.#pages(offsetBytes, lengthBytes);
    for (let page = first; page < end; page += 1) {
      assert.equal(this.#reserved[page], 1, 'only what was reserved goes back');
    }
    assert(isZero(this.bytes.subarray(first * PAGE, end * PAGE)), 'pages go back wiped');
    this.#memory.pageCount -= end - first;
    this.#reserved.fill(0, first, end);
  }

  dirtyByteCount(): number {
    let count = 0;
    for (let page = 0; page < this.#reserved.length; page += 1) {
      if (this.#reserved[page] === 0) continue;
      for (const byte of this.bytes.subarray(page * PAGE, (page + 1) * PAGE)) {
        if (byte !== 0) count += 1;
      }
    }
    return count;
  }

  close(): void {
    for (const reserved of this.#reserved) this.#memory.pageCount -= reserved;
    this.#native.free();
  }

  #pages(offsetBytes: number, lengthBytes: number): [number, number] {
    assert(offsetBytes % PAGE === 0 && lengthBytes % PAGE === 0 && lengthBytes > 0);
    const end = (offsetBytes + lengthBytes) / PAGE;
    assert(end <= this.#reserved.length);
    return [offsetBytes / PAGE, end];
  }
}

const ZEROES = Buffer.alloc(PAGE);

function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += PAGE) {
    if (bytes.compare(ZEROES, 0, PAGE, at, at + PAGE) !== 0) return false;
  }
  return true;
}
