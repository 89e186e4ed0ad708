/**
 * Byte strings of any length outside the V8 heap: names, targets of symbolic links, extended attributes.
 * A string lies in a chain of cells of 32 bytes, 28 of them its own, so that there is one size to
 * allocate and nothing to compact: whatever comes and goes, a freed cell serves any string. Most
 * names take one cell. The owner keeps the number of the first cell and the length.
 *
 * Strings have one character for each byte (latin1).
 */
import { RecordTable } from './record-table.ts';

/** Bytes of a cell. */
export const CELL_BYTES = 32;

const CELL_TEXT_BYTES = CELL_BYTES - 4;

/** Bytes that a string of this length takes. */
export function cellBytesFor(length: number): number {
  return Math.ceil(length / CELL_TEXT_BYTES) * CELL_BYTES;
}

/** See the top of the file. */
export class ByteCells {
  /** Word 0 is the next cell plus one. */
  readonly #table = new RecordTable(CELL_BYTES / 4, 0);

  /** Bytes of cells in use. */
  get usedBytes(): number {
    return this.#table.count * CELL_BYTES;
  }

  /** Bytes taken from the system. */
  get bytes(): number {
    return this.#table.bytes;
  }

  /** Keeps a string. @returns its first cell plus one, 0 for the empty string */
  put(text: string): number {
    let first = 0;
    let previous = -1;
    for (let at = 0; at < text.length; at += CELL_TEXT_BYTES) {
      const cell = this.#table.allocate();
      const bytes = this.#table.chunkBytes(cell);
      const start = this.#table.byteOffset(cell) + 4 - at;
      const end = Math.min(text.length, at + CELL_TEXT_BYTES);
      for (let index = at; index < end; index += 1) bytes[start + index] = text.charCodeAt(index);
      if (previous === -1) first = cell + 1;
      else this.#table.setWord(previous, 0, cell + 1);
      previous = cell;
    }
    return first;
  }

  /** Reads a string. */
  get(first: number, length: number): string {
    if (length === 0) return '';
    if (length <= CELL_TEXT_BYTES) {
      const start = this.#table.byteOffset(first - 1) + 4;
      return this.#table.chunkBytes(first - 1).toString('latin1', start, start + length);
    }
    const gathered = Buffer.allocUnsafe(length);
    let cell = first - 1;
    for (let at = 0; at < length; at += CELL_TEXT_BYTES) {
      const start = this.#table.byteOffset(cell) + 4;
      const end = start + Math.min(CELL_TEXT_BYTES, length - at);
      this.#table.chunkBytes(cell).copy(gathered, at, start, end);
      cell = this.#table.word(cell, 0) - 1;
    }
    return gathered.toString('latin1');
  }

  /** True when the string kept at `first`, of the same length as `text`, is `text`. */
  equals(first: number, text: string): boolean {
    let cell = first - 1;
    for (let at = 0; at < text.length; at += CELL_TEXT_BYTES) {
      const bytes = this.#table.chunkBytes(cell);
      const start = this.#table.byteOffset(cell) + 4 - at;
      const end = Math.min(text.length, at + CELL_TEXT_BYTES);
      for (let index = at; index < end; index += 1) {
        if (bytes[start + index] !== text.charCodeAt(index)) return false;
      }
      cell = this.#table.word(cell, 0) - 1;
    }
    return true;
  }

  /** Gives a string back; 0 is none. */
  free(first: number): void {
    let next = first;
    while (next !== 0) {
      const cell = next - 1;
      next = this.#table.word(cell, 0);
      this.#table.free(cell);
    }
  }
}
