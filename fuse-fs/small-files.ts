/**
 * Small files share pages of the volume: the first bytes of a file that was written whole, from 1 byte to
 * 2 KiB, lie in a fragment of 512 to 2048 bytes. Fragments are handed out from the front of one open page
 * at a time and never twice, so what a reader was promised stays where it is; a page is given up when all
 * its fragments are. The file keeps its fragment until a write that needs more has ended elsewhere.
 *
 * A write of a fragment writes the page at once, as any write does, and ends with it: nothing is promised
 * that the device does not have, and sync stays what it is. Fragments that come while the page is being
 * written go with the next write of it. Open pages are kept in memory, and read from there.
 */
import { copyMemory, zeroMemory } from '../common/libc.ts';
import { NativeMemory } from '../common/native-memory.ts';
import { IoStatus, type BlockQueue, type IoStatusValue } from '../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import type { PageAllocator } from './page-allocator.ts';
import type { PageReclaim } from './page-reclaim.ts';

/** Bytes of a file that is kept in a fragment, at most. */
export const SMALL_FILE_SIZE_MAX = 2048;

/** Volumes beyond 2 TiB have no fragments: a place is a page and a unit in 32 bits. */
export const SMALL_VOLUME_PAGE_COUNT_MAX = 2 ** 29 - 1;

/** Fragments are whole numbers of these. */
const UNIT_SIZE_BYTES = 512;

const PAGE_UNITS = PAGE_SIZE_BYTES / UNIT_SIZE_BYTES;

/** Pages kept in memory: one is open, the others are being written. */
const BUFFER_COUNT = 8;

/** What small files share with their store. */
export interface SmallFilesHost {
  readonly allocator: PageAllocator;
  readonly reclaim: PageReclaim;
  readonly queue: BlockQueue;
  /** Device tags of this are `tagFirst` and the next few. */
  readonly tagFirst: number;
  /** A write of a fragment ended. */
  readonly onWritten: (row: number, status: IoStatusValue) => void;
}

function unitCount(length: number): number {
  return Math.ceil(length / UNIT_SIZE_BYTES);
}

/** The fragments. */
export class SmallFiles {
  readonly #host: SmallFilesHost;
  /** By file: `volume page * 8 + first unit + 1`, 0 for none. */
  #places = new Uint32Array(1024);
  /** By file: bytes that count; what lies behind reads as zeroes. */
  #lengths = new Uint16Array(1024);
  /** By file: units of the fragment. */
  #units = new Uint8Array(1024);
  /** By volume page: a bit for each unit that is in use. */
  readonly #masks: Uint8Array;
  #pageCount = 0;
  readonly #memory = new NativeMemory(BUFFER_COUNT * PAGE_SIZE_BYTES, { secret: true });
  /** By buffer: the volume page, or -1. */
  readonly #pages = new Int32Array(BUFFER_COUNT).fill(-1);
  /** By buffer: units handed out. */
  readonly #fills = new Uint8Array(BUFFER_COUNT);
  /** By buffer: rows of the write under way, and of the next one. */
  readonly #writing: number[][] = Array.from({ length: BUFFER_COUNT }, () => []);
  readonly #joining: number[][] = Array.from({ length: BUFFER_COUNT }, () => []);
  readonly #busy = new Uint8Array(BUFFER_COUNT);
  /** The buffer that fragments are handed out from, or -1. */
  #open = -1;

  /** @param host - its `onWritten` may be called before a write returns */
  constructor(host: SmallFilesHost) {
    this.#host = host;
    this.#masks = new Uint8Array(host.allocator.pageCount);
  }

  /** Pages that hold fragments. */
  get pageCount(): number {
    return this.#pageCount;
  }

  /** Bytes of memory: 7 for each file, 1 for each page of the volume. */
  get sizeBytes(): number {
    return this.#places.length * 7 + this.#masks.length;
  }

  /** True when the start of the file lies in a fragment; its page 0 in the page table counts for nothing. */
  has(file: number): boolean {
    return (this.#places[file] ?? 0) !== 0;
  }

  /** Bytes of the file that its fragment holds. */
  length(file: number): number {
    return this.#lengths[file] ?? 0;
  }

  /** Bytes of the volume that the file takes here. */
  takenBytes(file: number): number {
    return this.has(file) ? (this.#units[file] as number) * UNIT_SIZE_BYTES : 0;
  }

  /** The volume page of a file that has a fragment. */
  volumePage(file: number): number {
    return Math.floor(((this.#places[file] as number) - 1) / PAGE_UNITS);
  }

  /** Where its fragment starts in the page, bytes. */
  pageOffset(file: number): number {
    return (((this.#places[file] as number) - 1) % PAGE_UNITS) * UNIT_SIZE_BYTES;
  }

  /** The address of its bytes, while the page is in memory, or -1. */
  address(file: number): number {
    const buffer = this.#pages.indexOf(this.volumePage(file));
    if (buffer === -1) return -1;
    return this.#memory.address + buffer * PAGE_SIZE_BYTES + this.pageOffset(file);
  }

  /** True when a fragment can be written now, room in the volume apart. */
  canTake(length: number): boolean {
    return this.#fits(length) || this.#pages.includes(-1);
  }

  /** Pages that a new fragment takes. */
  neededPageCount(length: number): number {
    return this.#fits(length) ? 0 : 1;
  }

  /**
   * Writes a fragment, whose bytes are taken before the return.
   *
   * @param row - told at the end
   * @returns its place, for {@link SmallFiles.assign} or {@link SmallFiles.giveBack}
   */
  write(row: number, address: number, length: number): number {
    if (!this.#fits(length)) this.#openPage();
    const buffer = this.#open;
    const page = this.#pages[buffer] as number;
    const first = this.#fills[buffer] as number;
    const units = unitCount(length);
    this.#fills[buffer] = first + units;
    this.#masks[page] = (this.#masks[page] as number) | (((1 << units) - 1) << first);
    const at = buffer * PAGE_SIZE_BYTES + first * UNIT_SIZE_BYTES;
    copyMemory(this.#memory.address + at, address, length);
    (this.#joining[buffer] as number[]).push(row);
    return page * PAGE_UNITS + first + 1;
  }

  /** Lets the writes begin that {@link SmallFiles.write} took. */
  flush(): void {
    for (let buffer = 0; buffer < BUFFER_COUNT; buffer += 1) this.#startRound(buffer);
  }

  /** A device request ended. */
  onDeviceDone(buffer: number, status: IoStatusValue): void {
    const rows = (this.#writing[buffer] as number[]).splice(0);
    this.#busy[buffer] = 0;
    if (status === IoStatus.OK) {
      this.#host.allocator.setWritten(this.#pages[buffer] as number, 1);
    }
    // Before the rows end: they may give back the page's last fragment.
    this.#startRound(buffer);
    for (const row of rows) this.#host.onWritten(row, status);
    this.#closeIfDone(buffer);
  }

  /** The file's start is now in this fragment, and in none that it had. */
  assign(file: number, place: number, length: number): void {
    this.release(file);
    if (file >= this.#places.length) this.#grow(file);
    this.#places[file] = place;
    this.#lengths[file] = length;
    this.#units[file] = unitCount(length);
  }

  /** What lies behind `length` bytes of the fragment reads as zeroes; with 0 the fragment goes. */
  shorten(file: number, length: number): void {
    if (length === 0) this.release(file);
    else if (length < this.length(file)) this.#lengths[file] = length;
  }

  /** The file has no fragment any more. */
  release(file: number): void {
    if (!this.has(file)) return;
    const place = this.#places[file] as number;
    this.#places[file] = 0;
    this.#giveUnits(place, this.#units[file] as number);
  }

  /** A fragment that was written is not wanted. */
  giveBack(place: number, length: number): void {
    this.#giveUnits(place, unitCount(length));
  }

  /** Frees the buffers; nothing is under way. */
  free(): void {
    this.#memory.free();
  }

  #fits(length: number): boolean {
    return (
      this.#open !== -1 && (this.#fills[this.#open] as number) + unitCount(length) <= PAGE_UNITS
    );
  }

  #openPage(): void {
    const before = this.#open;
    this.#open = this.#pages.indexOf(-1);
    const { allocator } = this.#host;
    const page = allocator.find(-1);
    allocator.take(page, 1);
    this.#pageCount += 1;
    this.#pages[this.#open] = page;
    this.#fills[this.#open] = 0;
    zeroMemory(this.#memory.address + this.#open * PAGE_SIZE_BYTES, PAGE_SIZE_BYTES);
    if (before !== -1) this.#closeIfDone(before);
  }

  #startRound(buffer: number): void {
    const joining = this.#joining[buffer] as number[];
    if (this.#busy[buffer] === 1 || joining.length === 0) return;
    // The two lists change places: neither is made anew.
    this.#joining[buffer] = this.#writing[buffer] as number[];
    this.#writing[buffer] = joining;
    this.#busy[buffer] = 1;
    const { queue, tagFirst } = this.#host;
    const offset = (this.#pages[buffer] as number) * PAGE_SIZE_BYTES;
    const from = buffer * PAGE_SIZE_BYTES;
    const tag = tagFirst + buffer;
    if (queue.tryWrite(tag, offset, PAGE_SIZE_BYTES, this.#memory, from, false)) return;
    queue.write(tag, offset, PAGE_SIZE_BYTES, this.#memory, from, false);
  }

  /** A page leaves memory when nothing more will be written to it. */
  #closeIfDone(buffer: number): void {
    const page = this.#pages[buffer] as number;
    if (page === -1 || this.#busy[buffer] === 1 || (this.#joining[buffer] as number[]).length > 0) {
      return;
    }
    const isEmpty = this.#masks[page] === 0;
    if (buffer === this.#open && !isEmpty) return;
    if (buffer === this.#open) this.#open = -1;
    this.#pages[buffer] = -1;
    if (isEmpty) this.#giveUpPage(page);
  }

  #giveUnits(place: number, units: number): void {
    const page = Math.floor((place - 1) / PAGE_UNITS);
    const bits = ((1 << units) - 1) << ((place - 1) % PAGE_UNITS);
    this.#masks[page] = (this.#masks[page] as number) & ~bits;
    if (this.#masks[page] !== 0) return;
    const buffer = this.#pages.indexOf(page);
    if (buffer === -1) this.#giveUpPage(page);
    else this.#closeIfDone(buffer);
  }

  #giveUpPage(page: number): void {
    this.#pageCount -= 1;
    this.#host.reclaim.giveUp(page, 1);
  }

  #grow(file: number): void {
    const length = 2 ** Math.ceil(Math.log2(file + 1));
    const places = new Uint32Array(length);
    places.set(this.#places);
    this.#places = places;
    const lengths = new Uint16Array(length);
    lengths.set(this.#lengths);
    this.#lengths = lengths;
    const units = new Uint8Array(length);
    units.set(this.#units);
    this.#units = units;
  }
}
