/**
 * A first-in first-out list of row numbers, threaded through an array of links that the table of the
 * rows owns: being on a list costs nothing but the link that is there anyway. A row is on at most
 * one list at a time.
 */

/** A table whose rows can be on a list; the array may be replaced when the table grows. */
export interface LinkedRows {
  /** The row after each row, -1 at the end. */
  readonly next: Int32Array;
}

/** The list. */
export class IndexQueue {
  readonly #rows: LinkedRows;
  #head = -1;
  #tail = -1;
  #length = 0;

  /** @param rows - the table of the rows */
  constructor(rows: LinkedRows) {
    this.#rows = rows;
  }

  /** The first row, or -1. */
  get head(): number {
    return this.#head;
  }

  /** Rows on the list. */
  get length(): number {
    return this.#length;
  }

  /** Appends a row that is on no list. */
  push(row: number): void {
    const { next } = this.#rows;
    next[row] = -1;
    if (this.#tail === -1) this.#head = row;
    else next[this.#tail] = row;
    this.#tail = row;
    this.#length += 1;
  }

  /** Takes the first row off, or returns -1. */
  shift(): number {
    const row = this.#head;
    if (row === -1) return -1;
    const { next } = this.#rows;
    this.#head = next[row] as number;
    if (this.#head === -1) this.#tail = -1;
    next[row] = -1;
    this.#length -= 1;
    return row;
  }
}
