/**
 * Names in their order, for listings that go on where they stopped: a row of short sorted rows, so that a
 * name comes and goes by two binary searches and the move of at most some hundred neighbours, and a page of
 * a listing begins by one. Nothing is ever sorted. Keys are ordered by their UTF-16 code units, as
 * JavaScript compares strings; block ids by their number. Pure.
 */

/** Names in one row at most; then it becomes two. */
const ROW_COUNT_MAX = 512;
/** A row with fewer joins its neighbour, if both together are short. */
const ROW_COUNT_MIN = 96;

const NO_ROWS: never[] = [];

/** Sorted names, each once. */
export class SortedNames<Name extends string | number> {
  /** None is empty. */
  #rows: Name[][] = NO_ROWS;
  #count = 0;

  /** Names. */
  get count(): number {
    return this.#count;
  }

  /** Adds a name that is not in it. */
  add(name: Name): void {
    this.#count += 1;
    const index = Math.max(0, Math.min(this.#rowOf(name), this.#rows.length - 1));
    const row = this.#rows[index];
    if (row === undefined) {
      // Made whole, it has room for nothing else: there may be one for every node.
      this.#rows = [[name]];
      return;
    }
    row.splice(firstNotBelow(row, name), 0, name);
    if (row.length <= ROW_COUNT_MAX) return;
    // Names that come in order fill rows whole; others fill them half.
    const isLast = index === this.#rows.length - 1;
    const cut = isLast ? ROW_COUNT_MAX - 32 : ROW_COUNT_MAX / 2;
    this.#rows.splice(index, 1, row.slice(0, cut), row.slice(cut));
  }

  /** Removes a name, if it is in it. */
  remove(name: Name): void {
    const index = this.#rowOf(name);
    const row = this.#rows[index];
    if (row === undefined) return;
    const place = firstNotBelow(row, name);
    if (row[place] !== name) return;
    row.splice(place, 1);
    this.#count -= 1;
    if (this.#count === 0) this.#rows = NO_ROWS;
    else if (row.length === 0) this.#rows.splice(index, 1);
    else if (row.length < ROW_COUNT_MIN) this.#join(index);
  }

  /**
   * Walks upwards; the names may not change meanwhile.
   *
   * @param from - where to begin; undefined: at the first
   * @param behind - begin behind `from` rather than at it
   */
  walk(from: Name | undefined, behind: boolean): NameWalk<Name> {
    return new NameWalk(this.#rows, (name) => this.#rowOf(name), from, behind);
  }

  /** The first row whose last name is not below `name`. */
  #rowOf(name: Name): number {
    let low = 0;
    let high = this.#rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const row = this.#rows[middle] as Name[];
      if ((row[row.length - 1] as Name) < name) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #join(index: number): void {
    const left = index > 0 ? index - 1 : index;
    const first = this.#rows[left];
    const second = this.#rows[left + 1];
    if (first === undefined || second === undefined) return;
    if (first.length + second.length > ROW_COUNT_MAX / 2) return;
    this.#rows.splice(left, 2, first.concat(second));
  }
}

/** A place in sorted names. */
export class NameWalk<Name extends string | number> {
  readonly #rows: readonly (readonly Name[])[];
  readonly #rowOf: (name: Name) => number;
  #row = 0;
  #place = 0;

  /** Use {@link SortedNames.walk}. */
  constructor(
    rows: readonly (readonly Name[])[],
    rowOf: (name: Name) => number,
    from: Name | undefined,
    behind: boolean,
  ) {
    this.#rows = rows;
    this.#rowOf = rowOf;
    if (from !== undefined) this.seek(from, behind);
  }

  /** The name here; undefined: the end. */
  get current(): Name | undefined {
    return this.#rows[this.#row]?.[this.#place];
  }

  /** Steps to the next name. */
  advance(): void {
    this.#place += 1;
    if (this.#place < (this.#rows[this.#row]?.length ?? 0)) return;
    this.#row += 1;
    this.#place = 0;
  }

  /** Goes to the first name that is not below `name`, or is above it. */
  seek(name: Name, behind: boolean): void {
    this.#row = this.#rowOf(name);
    this.#place = firstNotBelow(this.#rows[this.#row] ?? [], name);
    if (behind && this.current === name) this.advance();
  }
}

function firstNotBelow<Name extends string | number>(row: readonly Name[], name: Name): number {
  let low = 0;
  let high = row.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((row[middle] as Name) < name) low = middle + 1;
    else high = middle;
  }
  return low;
}
