/**
 * Requests of clients that could not end at once: reads that wait for a provider, writes that wait
 * for room in the ring or for a lease, flushes. One row each, in typed arrays; the buffer of the
 * client is the only reference kept.
 */
import type { NativeBuffer } from '../common/native-memory.ts';
import { IndexPool, extended } from './index-pool.ts';

/** What a row is. */
export const RequestKind = {
  /** Not in use. */
  NONE: 0,
  /** Waits for page calls. */
  READ: 1,
  /** Waits for ring slots or a lease, at page `cursor`. */
  WRITE: 2,
  /** A write that must then be flushed (FUA). */
  WRITE_FUA: 3,
  /** Waits until the flush epoch `target` is the oldest. */
  FLUSH: 4,
} as const;

/** One of the values of {@link RequestKind}. */
export type RequestKindValue = (typeof RequestKind)[keyof typeof RequestKind];

const CAPACITY = 1024;
const CAPACITY_MAX = 2 ** 20;

/** Rows of requests. */
export class RequestTable {
  /** {@link RequestKind}. */
  kind = new Uint8Array(0);
  /** The worst status so far. */
  status = new Uint8Array(0);
  /** Number of the client's queue in the volume. */
  queue = new Uint32Array(0);
  /** The client's tag. */
  tag = new Uint32Array(0);
  /** First page of the volume. */
  firstPage = new Uint32Array(0);
  /** Pages in all. */
  pageCount = new Uint32Array(0);
  /** WRITE: pages done. */
  cursor = new Uint32Array(0);
  /** READ: page calls that have not ended. */
  callsLeft = new Uint32Array(0);
  /** Offset in the client's buffer. */
  bufferOffset = new Float64Array(0);
  /** FLUSH: the epoch to wait for. */
  target = new Float64Array(0);
  /** Milliseconds on the monotonic clock. */
  deadlineMs = new Float64Array(0);
  /** Link of the list that the row is on. */
  next = new Int32Array(0);
  /** The client's buffer, borrowed until the end. */
  readonly buffer: (NativeBuffer | undefined)[] = [];
  readonly #pool: IndexPool;

  constructor() {
    this.#pool = new IndexPool({ capacity: CAPACITY, capacityMax: CAPACITY_MAX }, (capacity) =>
      this.#grow(capacity),
    );
  }

  /** Rows that exist; rows not in use are of kind NONE. */
  get capacity(): number {
    return this.#pool.capacity;
  }

  /** Rows in use. */
  get usedCount(): number {
    return this.#pool.usedCount;
  }

  /** Takes a row; `status` is OK, counters are 0, there is no buffer. */
  take(kind: RequestKindValue, queue: number, tag: number, deadlineMs: number): number {
    const row = this.#pool.take();
    this.kind[row] = kind;
    this.status[row] = 0;
    this.queue[row] = queue;
    this.tag[row] = tag;
    this.cursor[row] = 0;
    this.callsLeft[row] = 0;
    this.deadlineMs[row] = deadlineMs;
    this.next[row] = -1;
    return row;
  }

  /** Says which pages and which bytes a read or write is about. */
  setRange(
    row: number,
    firstPage: number,
    pageCount: number,
    buffer: NativeBuffer,
    bufferOffset: number,
  ): void {
    this.firstPage[row] = firstPage;
    this.pageCount[row] = pageCount;
    this.buffer[row] = buffer;
    this.bufferOffset[row] = bufferOffset;
  }

  /** True when a write that is not stored yet covers the page; walks all rows. */
  writeCovers(page: number): boolean {
    for (let row = 0; row < this.capacity; row += 1) {
      const kind = this.kind[row];
      if (kind !== RequestKind.WRITE && kind !== RequestKind.WRITE_FUA) continue;
      const first = this.firstPage[row] as number;
      if (page >= first && page < first + (this.pageCount[row] as number)) return true;
    }
    return false;
  }

  /** Gives a row back. */
  give(row: number): void {
    this.kind[row] = RequestKind.NONE;
    this.buffer[row] = undefined;
    this.#pool.give(row);
  }

  #grow(capacity: number): void {
    this.kind = extended(this.kind, capacity);
    this.status = extended(this.status, capacity);
    this.queue = extended(this.queue, capacity);
    this.tag = extended(this.tag, capacity);
    this.firstPage = extended(this.firstPage, capacity);
    this.pageCount = extended(this.pageCount, capacity);
    this.cursor = extended(this.cursor, capacity);
    this.callsLeft = extended(this.callsLeft, capacity);
    this.bufferOffset = extended(this.bufferOffset, capacity);
    this.target = extended(this.target, capacity);
    this.deadlineMs = extended(this.deadlineMs, capacity);
    this.next = extended(this.next, capacity);
    while (this.buffer.length < capacity) this.buffer.push(undefined);
  }
}
