/**
 * Page calls: what the volume has asked one provider for one run of pages. The row number is the
 * tag of the call on its page queue.
 */
import { IndexPool, extended } from './index-pool.ts';

/** What a row is. */
export const CallKind = {
  /** Not in use. */
  NONE: 0,
  /** Pages for a client. */
  READ: 1,
  /** Pages of the ring. */
  WRITE: 2,
  /** Pages that a provider may drop. */
  TRIM: 3,
  /** Pages that repair fetches. */
  COPY_READ: 4,
  /** Pages that repair brings to a new copy. */
  COPY_WRITE: 5,
} as const;

/** The owner of a call whose end nobody waits for any more. */
export const NOBODY = -1;
/** READ: no other call fetches the same pages. */
export const NO_TWIN = -1;

/** One of the values of {@link CallKind}. */
export type CallKindValue = (typeof CallKind)[keyof typeof CallKind];

const CAPACITY = 2048;
const CAPACITY_MAX = 2 ** 21;

/** Rows of page calls. */
export class CallTable {
  /** {@link CallKind}. */
  kind = new Uint8Array(0);
  /** Number of the source link that carries the call. */
  link = new Uint32Array(0);
  /** The slab, by its number in the volume. */
  slab = new Uint32Array(0);
  /** The provider's handle of the slab. */
  slabHandle = new Uint32Array(0);
  /** First page, by its number in the volume. */
  page = new Uint32Array(0);
  /** Pages in the run. */
  pageCount = new Uint32Array(0);
  /**
   * READ: row of the request. WRITE: first ring slot; the others follow it in memory. COPY_READ,
   * COPY_WRITE: first page of the copy buffer. Or {@link NOBODY}.
   */
  owner = new Int32Array(0);
  /** READ: the call that fetches the same pages from another provider (a hedge), or {@link NO_TWIN}. */
  twin = new Int32Array(0);
  /** Grows each time that the row is taken, so that a note about a row is known to be about another life. */
  serial = new Uint32Array(0);
  /** When it was handed to its link, on the volume's clock. */
  sentAtMs = new Float64Array(0);
  /** READ: how many calls for these pages failed before; chooses the replica. */
  attempt = new Uint8Array(0);
  /** READ: who gave forged pages for them: bit n for replica n of the slab's set `membership`. */
  forged = new Uint32Array(0);
  /** READ: the number of the replica set that `forged` is about. COPY_READ, COPY_WRITE: the one that it was made for. */
  membership = new Uint32Array(0);
  /** READ: the volume's version counter when the call was made. */
  issuedAt = new Float64Array(0);
  /** Link of the list that the row is on. */
  next = new Int32Array(0);
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

  /** Takes a row for a run of pages. */
  take(kind: CallKindValue, slab: number, page: number, pageCount: number, owner: number): number {
    const row = this.#pool.take();
    this.kind[row] = kind;
    this.slab[row] = slab;
    this.page[row] = page;
    this.pageCount[row] = pageCount;
    this.owner[row] = owner;
    this.twin[row] = NO_TWIN;
    this.serial[row] = ((this.serial[row] as number) + 1) >>> 0;
    this.attempt[row] = 0;
    this.forged[row] = 0;
    this.membership[row] = 0;
    this.next[row] = -1;
    return row;
  }

  /** Gives a row back. */
  give(row: number): void {
    this.kind[row] = CallKind.NONE;
    this.#pool.give(row);
  }

  #grow(capacity: number): void {
    this.kind = extended(this.kind, capacity);
    this.link = extended(this.link, capacity);
    this.slab = extended(this.slab, capacity);
    this.slabHandle = extended(this.slabHandle, capacity);
    this.page = extended(this.page, capacity);
    this.pageCount = extended(this.pageCount, capacity);
    this.owner = extended(this.owner, capacity);
    this.twin = extended(this.twin, capacity);
    this.serial = extended(this.serial, capacity);
    this.sentAtMs = extended(this.sentAtMs, capacity);
    this.attempt = extended(this.attempt, capacity);
    this.forged = extended(this.forged, capacity);
    this.membership = extended(this.membership, capacity);
    this.issuedAt = extended(this.issuedAt, capacity);
    this.next = extended(this.next, capacity);
  }
}
