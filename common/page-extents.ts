/** What a device whose pages have bytes or not answers to `BlockDevice.extents`. */
import type { PageBits } from './page-bits.ts';
import { ExtentFlag } from './ports.ts';
import { PAGE_SIZE_BYTES } from './units.ts';

/** As `BlockDevice.extents`. @param written - the pages that have bytes; the others are holes that read as zeroes */
export function pageExtents(
  written: PageBits,
  offset: number,
  length: number,
  emit: (lengthBytes: number, flags: number) => boolean,
): void {
  const end = offset + length;
  const endPage = Math.ceil(end / PAGE_SIZE_BYTES);
  for (let at = offset; at < end;) {
    const page = Math.floor(at / PAGE_SIZE_BYTES);
    const runEnd = Math.min(end, written.runEnd(page, endPage) * PAGE_SIZE_BYTES);
    const flags = written.isSet(page) ? 0 : ExtentFlag.HOLE | ExtentFlag.ZERO;
    if (!emit(runEnd - at, flags)) return;
    at = runEnd;
  }
}
