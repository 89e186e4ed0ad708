/**
 * Calls of the file store that have not ended, a row each in typed arrays. Rows that change a file are
 * also on a list in order of arrival: of two that touch the same pages of a file, the later one waits for
 * the end of the earlier one, since a page is read, changed and written back.
 */
import type { NativeBuffer } from '../common/native-memory.ts';

/** What a call is. */
export const CallKind = {
  /** Not in use. */
  NONE: 0,
  READ: 1,
  WRITE: 2,
  TRUNCATE: 3,
  PUNCH: 4,
  COPY: 5,
  SYNC: 6,
  PROBE: 7,
} as const;

/** One of the values of {@link CallKind}. */
export type CallKindValue = (typeof CallKind)[keyof typeof CallKind];

/** A page that a call touches in part only. A call has at most two: at its start and at its end. */
export const PartPhase = {
  /** There is none, or it has ended. */
  NONE: 0,
  /** The page is being read into the bounce page. */
  READ: 1,
  /** The bounce page is being written. */
  WRITE: 2,
} as const;

const CAPACITY_FIRST = 256;

/** Calls that have not ended at most, those that wait included; more end with `-ENOMEM`. */
export const CALL_COUNT_MAX = 65_536;

/** The file of a row whose file was removed. */
export const NO_FILE = -1;

/** Rows of calls. */
export class StoreRequests {
  /** {@link CallKind}. */
  kind = new Uint8Array(0);
  /** The caller's tag. */
  tag = new Float64Array(0);
  /** The file that is read or changed; {@link NO_FILE} once it was removed. */
  file = new Int32Array(0);
  /** COPY: the file that is read. */
  sourceFile = new Int32Array(0);
  /** COPY: where it is read from, bytes. */
  sourceOffset = new Float64Array(0);
  /** Bytes. */
  offset = new Float64Array(0);
  /** Bytes. */
  length = new Float64Array(0);
  /** COPY, PROBE: bytes done. */
  cursor = new Float64Array(0);
  /** Bytes of the file behind this are zeroes; Infinity when that is not known. */
  size = new Float64Array(0);
  /** Pages touched: first, and one past the last. */
  firstPage = new Float64Array(0);
  endPage = new Float64Array(0);
  /** Offset in the caller's buffer. */
  bufferOffset = new Float64Array(0);
  /** Device requests under way, and one for the call that starts them. */
  pendingCount = new Uint32Array(0);
  /** The worst status of device requests. */
  status = new Uint8Array(0);
  /** Generation of the reclaimer. */
  generation = new Uint8Array(0);
  /** 1 while under way, 0 while it waits. */
  active = new Uint8Array(0);
  /** The row of the call that this is a step of, or -1. */
  parent = new Int32Array(0);
  /** COPY: number of the copy buffer. */
  copyBuffer = new Uint8Array(0);
  /** COPY: what comes next; see page-copy.ts. */
  copyPhase = new Uint8Array(0);
  /** COPY: what comes after the step that is under way. */
  nextPhase = new Uint8Array(0);
  /** COPY: bytes in this step, or its negative errno. */
  stepLength = new Float64Array(0);
  /** Two for each row, by `row * 2 + part`: {@link PartPhase}, bounce page, range of bytes in the page. */
  partPhase = new Uint8Array(0);
  partBounce = new Int32Array(0);
  partPage = new Float64Array(0);
  partStart = new Uint16Array(0);
  partEnd = new Uint16Array(0);
  /** Where a small file's fragment starts in its page, bytes. */
  partShift = new Uint16Array(0);
  /** WRITE: the place of the fragment that is being written, or 0. */
  smallPlace = new Uint32Array(0);
  /** The caller's buffer, borrowed until the end. */
  readonly buffer: (NativeBuffer | undefined)[] = [];
  /** Rows in use. */
  usedCount = 0;
  /** Links of the list of rows that change files. */
  #next = new Int32Array(0);
  #previous = new Int32Array(0);
  #head = -1;
  #tail = -1;
  /** Link of the rows that are free. */
  #nextFree = new Int32Array(0);
  #freeHead = -1;
  #capacity = 0;

  /** Rows that exist. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Takes a row; it is not active, has no parent, no buffer, no parts. @returns the row, or -1 at the bound */
  take(kind: CallKindValue, tag: number, file: number, offset: number, length: number): number {
    if (this.#freeHead === -1 && !this.#grow()) return -1;
    const row = this.#freeHead;
    this.#freeHead = this.#nextFree[row] as number;
    this.usedCount += 1;
    this.kind[row] = kind;
    this.tag[row] = tag;
    this.file[row] = file;
    this.sourceFile[row] = NO_FILE;
    this.offset[row] = offset;
    this.length[row] = length;
    this.cursor[row] = 0;
    this.size[row] = Infinity;
    this.pendingCount[row] = 0;
    this.status[row] = 0;
    this.active[row] = 0;
    this.parent[row] = -1;
    this.smallPlace[row] = 0;
    this.partShift.fill(0, row * 2, row * 2 + 2);
    this.partPhase.fill(PartPhase.NONE, row * 2, row * 2 + 2);
    this.partBounce.fill(-1, row * 2, row * 2 + 2);
    return row;
  }

  /** Gives a row back; it is on no list. */
  give(row: number): void {
    this.kind[row] = CallKind.NONE;
    this.buffer[row] = undefined;
    this.usedCount -= 1;
    this.#nextFree[row] = this.#freeHead;
    this.#freeHead = row;
  }

  /** Puts a row at the end of the list of those that change files. */
  link(row: number): void {
    this.#previous[row] = this.#tail;
    this.#next[row] = -1;
    if (this.#tail === -1) this.#head = row;
    else this.#next[this.#tail] = row;
    this.#tail = row;
  }

  /** Takes a row off that list. */
  unlink(row: number): void {
    const next = this.#next[row] as number;
    const previous = this.#previous[row] as number;
    if (previous === -1) this.#head = next;
    else this.#next[previous] = next;
    if (next === -1) this.#tail = previous;
    else this.#previous[next] = previous;
  }

  /** True when an earlier row on the list touches the same pages of the same file. */
  isBlocked(row: number): boolean {
    const file = this.file[row] as number;
    const first = this.firstPage[row] as number;
    const end = this.endPage[row] as number;
    for (let at = this.#head; at !== row && at !== -1; at = this.#next[at] as number) {
      if (this.file[at] !== file) continue;
      if ((this.firstPage[at] as number) < end && (this.endPage[at] as number) > first) return true;
    }
    return false;
  }

  /** The file is gone; its number may come again. */
  forgetFile(file: number): void {
    if (this.usedCount === 0) return;
    for (let row = 0; row < this.#capacity; row += 1) {
      if (this.kind[row] === CallKind.NONE) continue;
      if (this.file[row] === file) this.file[row] = NO_FILE;
      // A copy without its source cannot go on.
      if (this.kind[row] === CallKind.COPY && this.sourceFile[row] === file) {
        this.sourceFile[row] = NO_FILE;
      }
    }
  }

  #grow(): boolean {
    const old = this.#capacity;
    const capacity = Math.max(CAPACITY_FIRST, old * 2);
    if (capacity > CALL_COUNT_MAX) return false;
    this.kind = extended(this.kind, capacity);
    this.tag = extended(this.tag, capacity);
    this.file = extended(this.file, capacity);
    this.sourceFile = extended(this.sourceFile, capacity);
    this.sourceOffset = extended(this.sourceOffset, capacity);
    this.offset = extended(this.offset, capacity);
    this.length = extended(this.length, capacity);
    this.cursor = extended(this.cursor, capacity);
    this.size = extended(this.size, capacity);
    this.firstPage = extended(this.firstPage, capacity);
    this.endPage = extended(this.endPage, capacity);
    this.bufferOffset = extended(this.bufferOffset, capacity);
    this.pendingCount = extended(this.pendingCount, capacity);
    this.status = extended(this.status, capacity);
    this.generation = extended(this.generation, capacity);
    this.active = extended(this.active, capacity);
    this.parent = extended(this.parent, capacity);
    this.copyBuffer = extended(this.copyBuffer, capacity);
    this.copyPhase = extended(this.copyPhase, capacity);
    this.nextPhase = extended(this.nextPhase, capacity);
    this.stepLength = extended(this.stepLength, capacity);
    this.partPhase = extended(this.partPhase, capacity * 2);
    this.partBounce = extended(this.partBounce, capacity * 2);
    this.partPage = extended(this.partPage, capacity * 2);
    this.partStart = extended(this.partStart, capacity * 2);
    this.partEnd = extended(this.partEnd, capacity * 2);
    this.partShift = extended(this.partShift, capacity * 2);
    this.smallPlace = extended(this.smallPlace, capacity);
    this.#next = extended(this.#next, capacity);
    this.#previous = extended(this.#previous, capacity);
    this.#nextFree = extended(this.#nextFree, capacity);
    for (let row = capacity - 1; row >= old; row -= 1) {
      this.#nextFree[row] = this.#freeHead;
      this.#freeHead = row;
    }
    while (this.buffer.length < capacity) this.buffer.push(undefined);
    this.#capacity = capacity;
    return true;
  }
}

/** Rows that wait, first in first out, in a ring that grows to what is needed. */
export class RowQueue {
  #ring = new Int32Array(64);
  #first = 0;
  #length = 0;

  /** Rows that wait. */
  get length(): number {
    return this.#length;
  }

  /** Appends a row. */
  push(row: number): void {
    if (this.#length === this.#ring.length) {
      const ring = new Int32Array(this.#length * 2);
      for (let index = 0; index < this.#length; index += 1) {
        ring[index] = this.#ring[(this.#first + index) % this.#length] as number;
      }
      this.#ring = ring;
      this.#first = 0;
    }
    this.#ring[(this.#first + this.#length) % this.#ring.length] = row;
    this.#length += 1;
  }

  /** Takes the first row; there must be one. */
  shift(): number {
    const row = this.#ring[this.#first] as number;
    this.#first = (this.#first + 1) % this.#ring.length;
    this.#length -= 1;
    return row;
  }
}

type Column = Uint8Array | Uint16Array | Int32Array | Uint32Array | Float64Array;

/** A copy of a column, `length` long. */
function extended<T extends Column>(column: T, length: number): T {
  const longer = new (column.constructor as new (length: number) => T)(length);
  longer.set(column);
  return longer;
}
