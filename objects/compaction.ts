/**
 * What keeps RAM near what is charged. Objects are charged their slots, RAM comes in pages; whoever fills
 * pages with small objects and deletes all but one on each would hold RAM that nobody is charged for. When
 * that is more than a quarter of all and than {@link LOOSE_SIZE_MAX_BYTES}, each tick looks at some objects
 * in turn and moves those down that find a lower free slot of their size, until it is less.
 */
import type { ObjectTable } from './object-table.ts';
import type { ValueMemory } from './value-memory.ts';

/** Bytes on pages in use that no slot covers, which are left alone. */
const LOOSE_SIZE_MAX_BYTES = 2 * 2 ** 20;
/** Rows that one step looks at, and objects that it moves, at most: a few milliseconds. */
const ROW_COUNT_MAX = 20_000;
const MOVE_COUNT_MAX = 2000;

/** The mover of one store. */
export class Compaction {
  readonly #table: ObjectTable;
  readonly #values: ValueMemory;
  #row = 0;

  constructor(table: ObjectTable, values: ValueMemory) {
    this.#table = table;
    this.#values = values;
  }

  /** Moves some objects, if there is a reason to. */
  step(): void {
    const { looseBytes, reservedBytes } = this.#values;
    if (looseBytes <= Math.max(LOOSE_SIZE_MAX_BYTES, reservedBytes / 4)) return;
    let moveCount = 0;
    for (let count = 0; count < ROW_COUNT_MAX && moveCount < MOVE_COUNT_MAX; count += 1) {
      this.#row = this.#row + 1 < this.#table.rowCount ? this.#row + 1 : 0;
      if (this.#table.hasRow(this.#row) && this.#lower(this.#row)) moveCount += 1;
    }
  }

  /** Long values lie on whole pages but for their ends, and stay. */
  #lower(row: number): boolean {
    const slot = this.#table.valueOf(row);
    const storedBytes = this.#table.storedBytesOf(row);
    if (typeof slot !== 'number' || storedBytes === 0) return false;
    const lower = this.#values.lower(slot, storedBytes);
    if (lower === slot) return false;
    this.#table.setSlot(row, lower);
    return true;
  }
}
