/**
 * Same-filled pages. A tenth to a fifth of what Linux swaps out is zeroes (docs/architecture.md,
 * "Elision"), and more is one word repeated; such pages are a mark in the page map and never travel.
 */
import type { NativeBuffer } from '../common/native-memory.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';

const WORD_SIZE_BYTES = 8;

/** True when the page at `offset` is one 64-bit word repeated 512 times. */
export function isSameFilled(from: NativeBuffer, offset: number): boolean {
  const { bytes } = from;
  // A glance at three words settles nearly every page that is not same-filled.
  if (
    bytes.readInt32LE(offset) !== bytes.readInt32LE(offset + 8) ||
    bytes.readInt32LE(offset + 4) !== bytes.readInt32LE(offset + 12) ||
    bytes.readInt32LE(offset) !== bytes.readInt32LE(offset + PAGE_SIZE_BYTES - 8)
  ) {
    return false;
  }
  const end = offset + PAGE_SIZE_BYTES;
  return bytes.compare(bytes, offset + WORD_SIZE_BYTES, end, offset, end - WORD_SIZE_BYTES) === 0;
}

/** Fills the page at `offset` with the word `low | high << 32`, little endian. */
export function fillPage(into: NativeBuffer, offset: number, low: number, high: number): void {
  const { bytes } = into;
  if (low === 0 && high === 0) {
    bytes.fill(0, offset, offset + PAGE_SIZE_BYTES);
    return;
  }
  bytes.writeUInt32LE(low, offset);
  bytes.writeUInt32LE(high, offset + 4);
  for (let filled = WORD_SIZE_BYTES; filled < PAGE_SIZE_BYTES; filled *= 2) {
    bytes.copyWithin(offset + filled, offset, offset + filled);
  }
}
