/**
 * RAM of this process as a block device: what lies under files whose only provider is the process that serves
 * them (`memcloud mount --provider local`). There is nobody to hide pages from and nothing to copy them to, so
 * they lie as they are, one behind the other, in arenas of the provider's tmpfs; requests end before they
 * return, and who wants to read may ask where a page lies instead ({@link BlockQueue.addressOf}).
 *
 * Memory comes and goes page by page. It is charged to the provider's ledger (`ObjectMemory`) a MiB at a time,
 * before the first page of that MiB is taken, and refunded with the last one; a refusal is a write's NO_SPACE,
 * with nothing changed. Pages that are trimmed are zeroed and go back to the system at once.
 */
import { MemcloudError } from '../common/errors.ts';
import { copyMemory, zeroMemory } from '../common/libc.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import type { ObjectArena, ObjectMemory } from '../common/objects.ts';
import { PageBits } from '../common/page-bits.ts';
import { pageExtents } from '../common/page-extents.ts';
import {
  IoStatus,
  type BlockCompletionSink,
  type BlockDevice,
  type BlockQueue,
  type IoStatusValue,
  type NodeId,
} from '../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';

/** Pages of an arena: as many as the provider gives at once. */
const ARENA_PAGE_COUNT = 2 ** 18;
/** Pages that are charged together. */
const CHARGE_PAGE_COUNT = 256;
const CHARGE_SIZE_BYTES = CHARGE_PAGE_COUNT * PAGE_SIZE_BYTES;

/** What a {@link MemoryBlockDevice} is. */
export interface MemoryDeviceOptions {
  /** The name under which it is known. */
  readonly name: string;
  /** Bytes, a whole number of pages. */
  readonly sizeBytes: number;
  /** Where the RAM comes from. */
  readonly memory: ObjectMemory;
  /** Who is charged for it. */
  readonly owner: NodeId;
}

/** See the top of the file. */
export class MemoryBlockDevice implements BlockDevice {
  readonly name: string;
  readonly description = 'RAM of this process';
  readonly sizeBytes: number;
  readonly #memory: ObjectMemory;
  readonly #owner: NodeId;
  /** Pages that have bytes: those that are reserved in an arena. */
  readonly #held: PageBits;
  /** By run of {@link CHARGE_PAGE_COUNT} pages: those of them that are held; a run with one is charged. */
  readonly #heldCounts: Uint16Array;
  readonly #arenas: (ObjectArena | undefined)[] = [];
  #chargedBytes = 0;
  #runAddress = 0;
  #closed = false;

  constructor(options: MemoryDeviceOptions) {
    this.name = options.name;
    this.sizeBytes = options.sizeBytes;
    this.#memory = options.memory;
    this.#owner = options.owner;
    const pageCount = this.sizeBytes / PAGE_SIZE_BYTES;
    this.#held = new PageBits(pageCount);
    this.#heldCounts = new Uint16Array(Math.ceil(pageCount / CHARGE_PAGE_COUNT));
  }

  /** Bytes charged for what is held. */
  get chargedBytes(): number {
    return this.#chargedBytes;
  }

  /** Bytes that could still be charged. */
  get freeBytes(): number {
    if (!this.#memory.accepting) return 0;
    const { ownerFreeBytes, providerFreeBytes } = this.#memory.room(this.#owner);
    return Math.max(0, Math.min(ownerFreeBytes, providerFreeBytes));
  }

  /** @inheritDoc */
  openQueue(sink: BlockCompletionSink): BlockQueue {
    return new MemoryQueue(this, sink);
  }

  /** @inheritDoc */
  extents(
    offset: number,
    length: number,
    emit: (lengthBytes: number, flags: number) => boolean,
  ): void {
    pageExtents(this.#held, offset, length, emit);
  }

  /** As {@link BlockQueue.addressOf}. */
  addressOf(page: number): number {
    return this.#held.isSet(page) ? this.#address(page) : 0;
  }

  /** As {@link BlockQueue.runLength}. */
  runLength(page: number, pageCount: number): number {
    return this.#held.runEnd(page, Math.min(page + pageCount, arenaEndOf(page))) - page;
  }

  /** Copies bytes out; pages without bytes are zeroes. */
  read(offset: number, length: number, to: number): IoStatusValue {
    if (this.#closed) return IoStatus.SHUTDOWN;
    const end = offset + length;
    for (let at = offset; at < end;) {
      const count = this.#runFrom(at, end);
      if (this.#runAddress === 0) zeroMemory(to + at - offset, count);
      else copyMemory(to + at - offset, this.#runAddress, count);
      at += count;
    }
    return IoStatus.OK;
  }

  /** Copies bytes in. */
  write(offset: number, length: number, from: number): IoStatusValue {
    if (this.#closed) return IoStatus.SHUTDOWN;
    const end = offset + length;
    if (!this.#hold(Math.floor(offset / PAGE_SIZE_BYTES), Math.ceil(end / PAGE_SIZE_BYTES))) {
      return IoStatus.NO_SPACE;
    }
    for (let at = offset; at < end;) {
      const count = this.#runFrom(at, end);
      copyMemory(this.#runAddress, from + at - offset, count);
      at += count;
    }
    return IoStatus.OK;
  }

  /** Gives back the whole pages in the range; the rest of it becomes zeroes if `edgesToo`. */
  clear(offset: number, length: number, edgesToo: boolean): IoStatusValue {
    if (this.#closed) return IoStatus.SHUTDOWN;
    const end = offset + length;
    const firstWhole = Math.ceil(offset / PAGE_SIZE_BYTES);
    const endWhole = Math.max(firstWhole, Math.floor(end / PAGE_SIZE_BYTES));
    this.#release(firstWhole, endWhole);
    if (!edgesToo) return IoStatus.OK;
    this.#zero(offset, Math.min(end, firstWhole * PAGE_SIZE_BYTES));
    this.#zero(Math.max(offset, endWhole * PAGE_SIZE_BYTES), end);
    return IoStatus.OK;
  }

  /** Wipes everything and gives it back. Requests that still come end with SHUTDOWN. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const arena of this.#arenas) if (arena !== undefined) this.#memory.giveArenaBack(arena);
    this.#arenas.length = 0;
    this.#held.clear(0, this.sizeBytes / PAGE_SIZE_BYTES);
    this.#memory.refund(this.#owner, this.#chargedBytes);
    this.#chargedBytes = 0;
  }

  #address(page: number): number {
    const arena = this.#arenas[Math.floor(page / ARENA_PAGE_COUNT)] as ObjectArena;
    return arena.address + (page % ARENA_PAGE_COUNT) * PAGE_SIZE_BYTES;
  }

  /** Finds the bytes at `at`, up to `end`, that lie in one piece. @returns how many; `#runAddress` is where, or 0 */
  #runFrom(at: number, end: number): number {
    const page = Math.floor(at / PAGE_SIZE_BYTES);
    const count = this.runLength(page, Math.ceil(end / PAGE_SIZE_BYTES) - page);
    const stop = Math.min(end, (page + count) * PAGE_SIZE_BYTES);
    const address = this.addressOf(page);
    this.#runAddress = address === 0 ? 0 : address + (at % PAGE_SIZE_BYTES);
    return stop - at;
  }

  #zero(from: number, end: number): void {
    for (let at = from; at < end;) {
      const count = this.#runFrom(at, end);
      if (this.#runAddress !== 0) zeroMemory(this.#runAddress, count);
      at += count;
    }
  }

  /** Makes the pages writable. @returns false, with nothing changed, when there is no room */
  #hold(first: number, end: number): boolean {
    if (this.#held.isSet(first) && this.#held.runEnd(first, end) === end) return true;
    if (!this.#charge(first, end)) return false;
    for (let page = first; page < end;) {
      const stop = Math.min(end, arenaEndOf(page));
      if (!this.#reserve(page, stop)) {
        this.#refundEmpty(first, end);
        return false;
      }
      page = stop;
    }
    return true;
  }

  /** Reserves pages of one arena, and counts them. */
  #reserve(first: number, end: number): boolean {
    const index = Math.floor(first / ARENA_PAGE_COUNT);
    const arena = (this.#arenas[index] ??= this.#takeArena(index));
    if (arena === undefined) return false;
    const offset = (first % ARENA_PAGE_COUNT) * PAGE_SIZE_BYTES;
    if (!arena.reserve(offset, (end - first) * PAGE_SIZE_BYTES)) return false;
    for (let page = first; page < end; page += 1) {
      if (!this.#held.isSet(page)) this.#count(page, 1);
    }
    this.#held.set(first, end);
    return true;
  }

  /** @returns undefined when the system has no file or mapping more for us */
  #takeArena(index: number): ObjectArena | undefined {
    const pageCount = this.sizeBytes / PAGE_SIZE_BYTES - index * ARENA_PAGE_COUNT;
    try {
      return this.#memory.takeArena(Math.min(pageCount, ARENA_PAGE_COUNT) * PAGE_SIZE_BYTES);
    } catch (error) {
      if (error instanceof MemcloudError && error.code === 'ERR_NATIVE') return undefined;
      throw error;
    }
  }

  #release(first: number, end: number): void {
    for (let page = this.#held.nextSet(first, end); page < end;) {
      const runEnd = page + this.runLength(page, end - page);
      const arena = this.#arenas[Math.floor(page / ARENA_PAGE_COUNT)] as ObjectArena;
      const offset = (page % ARENA_PAGE_COUNT) * PAGE_SIZE_BYTES;
      arena.release(offset, (runEnd - page) * PAGE_SIZE_BYTES);
      this.#held.clear(page, runEnd);
      for (let gone = page; gone < runEnd; gone += 1) this.#count(gone, -1);
      this.#refundEmpty(page, runEnd);
      page = this.#held.nextSet(runEnd, end);
    }
  }

  #count(page: number, change: number): void {
    const run = Math.floor(page / CHARGE_PAGE_COUNT);
    this.#heldCounts[run] = (this.#heldCounts[run] as number) + change;
  }

  /** Charges what the pages need beyond what is charged. @returns false, with nothing charged, when refused */
  #charge(first: number, end: number): boolean {
    const bytes = this.#emptyBytes(first, end);
    if (bytes === 0) return true;
    if (this.#memory.charge(this.#owner, bytes) !== undefined) return false;
    this.#chargedBytes += bytes;
    return true;
  }

  /** Takes back the charge for the pages where none is held any more. */
  #refundEmpty(first: number, end: number): void {
    const bytes = this.#emptyBytes(first, end);
    if (bytes === 0) return;
    this.#memory.refund(this.#owner, bytes);
    this.#chargedBytes -= bytes;
  }

  /** Bytes of the runs of these pages that hold no page. */
  #emptyBytes(first: number, end: number): number {
    let bytes = 0;
    const endRun = Math.ceil(end / CHARGE_PAGE_COUNT);
    for (let run = Math.floor(first / CHARGE_PAGE_COUNT); run < endRun; run += 1) {
      if (this.#heldCounts[run] === 0) bytes += CHARGE_SIZE_BYTES;
    }
    return bytes;
  }
}

/** One past the last page of the arena that `page` lies in. */
function arenaEndOf(page: number): number {
  return (Math.floor(page / ARENA_PAGE_COUNT) + 1) * ARENA_PAGE_COUNT;
}

/** A way in; every request ends before it returns. */
class MemoryQueue implements BlockQueue {
  readonly #device: MemoryBlockDevice;
  readonly #sink: BlockCompletionSink;

  constructor(device: MemoryBlockDevice, sink: BlockCompletionSink) {
    this.#device = device;
    this.#sink = sink;
  }

  addressOf(page: number): number {
    return this.#device.addressOf(page);
  }

  runLength(page: number, pageCount: number): number {
    return this.#device.runLength(page, pageCount);
  }

  read(tag: number, offset: number, length: number, into: NativeBuffer, intoOffset: number): void {
    this.#sink.onBlockDone(tag, this.#device.read(offset, length, into.address + intoOffset));
  }

  tryWrite(
    tag: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
  ): boolean {
    this.write(tag, offset, length, from, fromOffset);
    return true;
  }

  write(tag: number, offset: number, length: number, from: NativeBuffer, fromOffset: number): void {
    this.#sink.onBlockDone(tag, this.#device.write(offset, length, from.address + fromOffset));
  }

  flush(tag: number): void {
    this.#sink.onBlockDone(tag, IoStatus.OK);
  }

  trim(tag: number, offset: number, length: number): void {
    this.#sink.onBlockDone(tag, this.#device.clear(offset, length, false));
  }

  writeZeroes(tag: number, offset: number, length: number): void {
    this.#sink.onBlockDone(tag, this.#device.clear(offset, length, true));
  }

  close(): void {
    // Nothing is ever under way.
  }
}
