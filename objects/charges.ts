/**
 * What an object is charged, to the byte: its value as it lies, its name, and what the store keeps about
 * it. The same numbers hold for a value that is still coming, so making it an object takes nothing more.
 * A test measures that the heap grows by less. Pure.
 */
import type { ObjectReaders } from '../common/objects.ts';
import { valueChargeBytes } from './pieces.ts';

/** Bytes charged for the record of an object: its rows, its places in the indexes. */
export const OBJECT_RECORD_SIZE_BYTES = 256;
/** Bytes charged for an access list, and for each node on it. */
const READER_LIST_SIZE_BYTES = 128;
/** An entry of the list, and of what that node may see. */
const READER_SIZE_BYTES = 384;

const WIDE = /[^\0-\u00ff]/;

/**
 * The charge of an object.
 *
 * @param name - its key, or a block's number
 * @param storedBytes - its value and its writer's notes
 */
export function objectChargeBytes(
  name: string | number,
  readers: ObjectReaders,
  storedBytes: number,
): number {
  return (
    OBJECT_RECORD_SIZE_BYTES +
    (typeof name === 'string' ? textBytes(name) : 0) +
    (typeof readers === 'string'
      ? 0
      : READER_LIST_SIZE_BYTES + readers.length * READER_SIZE_BYTES) +
    valueChargeBytes(storedBytes)
  );
}

/** Bytes of a text in V8's heap: one a character when all are of Latin-1, else two. */
function textBytes(text: string): number {
  return WIDE.test(text) ? text.length * 2 : text.length;
}
