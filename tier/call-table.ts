/**
 * Page calls: what the volume has asked one provider for one run of pages. The row number is the
 * tag of the call on its page queue.
 */
import { IndexPool, extended } from './index-pool.ts';

/** What a row is. */
export const CallKind = { READ: 1, WRITE: 2, TRIM: 3 } as const;

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
  /** READ: row of the request. WRITE: first ring slot; the others follow it in memory. */
  owner = new Int32Array(0);
  /** READ: how many calls for these pages failed before; chooses the replica. */
  attempt = new Uint8Array(0);
  /** READ: who gave forged pages for them: bit n for replica n of the slab's set `membership`. */
  forged = new Uint32Array(0);
  /** READ: the number of the replica set that `forged` is about. */
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
    this.attempt[row] = 0;
    this.forged[row] = 0;
    this.membership[row] = 0;
    this.next[row] = -1;
    return row;
  }

  /** Gives a row back. */
  give(row: number): void {
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
    this.attempt = extended(this.attempt, capacity);
    this.forged = extended(this.forged, capacity);
    this.membership = extended(this.membership, capacity);
    this.issuedAt = extended(this.issuedAt, capacity);
    this.next = extended(this.next, capacity);
  }
}
