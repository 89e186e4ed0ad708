/**
 * A volume as a block device of bytes. Requests in whole pages, which is what kernels and file
 * systems send, go straight to the volume under the client's own tag. Others are served too, so that
 * no NBD client is refused: a read goes through a bounce buffer, a write reads the pages at its edges,
 * changes them and writes them back, one writer of a page at a time.
 */
import {
  ExtentFlag,
  IoStatus,
  type BlockCompletionSink,
  type BlockDevice,
  type BlockQueue,
  type IoStatusValue,
} from '../common/ports.ts';
import { MemcloudError } from '../common/errors.ts';
import { NativeMemory, type NativeBuffer } from '../common/native-memory.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import type { PageLocks } from './page-locks.ts';
import type { VolumeSink } from './volume-state.ts';
import type { Volume } from './volume.ts';

/** True when the range is whole pages. */
function isAligned(offset: number, length: number): boolean {
  return offset % PAGE_SIZE_BYTES === 0 && length % PAGE_SIZE_BYTES === 0;
}

/** A volume that a server can export. */
export class VolumeBlockDevice implements BlockDevice {
  readonly name: string;
  readonly description: string;
  readonly sizeBytes: number;
  readonly #volume: Volume;

  /** @param volume - stays the caller's to tick and to close */
  constructor(volume: Volume) {
    this.#volume = volume;
    this.name = volume.options.name;
    this.sizeBytes = volume.options.sizeBytes;
    this.description = `MemCloud volume, ${volume.options.copies} sealed copies in remote RAM`;
  }

  /** @inheritDoc */
  openQueue(sink: BlockCompletionSink): BlockQueue {
    return new VolumeBlockQueue(this.#volume, sink);
  }

  /** @inheritDoc */
  extents(
    offset: number,
    length: number,
    emit: (lengthBytes: number, flags: number) => boolean,
  ): void {
    const end = offset + length;
    const endPage = Math.ceil(end / PAGE_SIZE_BYTES);
    let page = Math.floor(offset / PAGE_SIZE_BYTES);
    let at = offset;
    while (at < end) {
      const run = this.#volume.extent(page, endPage);
      const flags = (run.hole ? ExtentFlag.HOLE : 0) | (run.zero ? ExtentFlag.ZERO : 0);
      const runEnd = Math.min(end, run.end * PAGE_SIZE_BYTES);
      if (!emit(runEnd - at, flags)) return;
      at = runEnd;
      page = run.end;
    }
  }
}

/** One client's way in. */
class VolumeBlockQueue implements BlockQueue, VolumeSink {
  readonly #volume: Volume;
  readonly #locks: PageLocks;
  readonly #sink: BlockCompletionSink;
  readonly #queue: number;
  readonly #parts: PartialRequests;
  /** Requests that are made of parts and have not ended. */
  #compositeCount = 0;
  #closing = false;

  constructor(volume: Volume, sink: BlockCompletionSink) {
    this.#volume = volume;
    this.#locks = volume.pageLocks;
    this.#sink = sink;
    this.#queue = volume.openQueue(this);
    this.#parts = new PartialRequests(volume);
  }

  onVolumeDone(tag: number, status: IoStatusValue): void {
    this.#sink.onBlockDone(tag, status);
  }

  read(tag: number, offset: number, length: number, into: NativeBuffer, intoOffset: number): void {
    if (length === 0) {
      this.#sink.onBlockDone(tag, IoStatus.OK);
    } else if (isAligned(offset, length)) {
      const firstPage = offset / PAGE_SIZE_BYTES;
      this.#volume.read(this.#queue, tag, firstPage, length / PAGE_SIZE_BYTES, into, intoOffset);
    } else {
      this.#end(tag, this.#readPart(offset, length, into, intoOffset));
    }
  }

  tryWrite(
    tag: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    forceUnitAccess: boolean,
  ): boolean {
    const firstPage = offset / PAGE_SIZE_BYTES;
    const pageCount = length / PAGE_SIZE_BYTES;
    if (length === 0 || forceUnitAccess || !isAligned(offset, length)) return false;
    if (!this.#locks.idle && this.#locks.overlaps(firstPage, pageCount)) return false;
    if (!this.#volume.tryWrite(firstPage, pageCount, from, fromOffset)) return false;
    this.#sink.onBlockDone(tag, IoStatus.OK);
    return true;
  }

  write(
    tag: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    forceUnitAccess: boolean,
  ): void {
    const firstPage = offset / PAGE_SIZE_BYTES;
    const pageCount = length / PAGE_SIZE_BYTES;
    const free = this.#locks.idle || !this.#locks.overlaps(firstPage, pageCount);
    if (length > 0 && isAligned(offset, length) && free) {
      this.#volume.write(this.#queue, tag, firstPage, pageCount, from, fromOffset, forceUnitAccess);
      return;
    }
    this.#end(tag, this.#writePart(offset, length, { from, fromOffset }, forceUnitAccess));
  }

  flush(tag: number): void {
    this.#volume.flush(this.#queue, tag);
  }

  trim(tag: number, offset: number, length: number): void {
    const firstPage = Math.ceil(offset / PAGE_SIZE_BYTES);
    const pageCount = Math.floor((offset + length) / PAGE_SIZE_BYTES) - firstPage;
    if (pageCount <= 0) this.#sink.onBlockDone(tag, IoStatus.OK);
    else
      this.#end(
        tag,
        this.#whenFree(firstPage, pageCount, () => this.#volume.trim(firstPage, pageCount)),
      );
  }

  writeZeroes(tag: number, offset: number, length: number, forceUnitAccess: boolean): void {
    this.#end(tag, this.#writePart(offset, length, undefined, forceUnitAccess));
  }

  close(): void {
    this.#closing = true;
    this.#volume.closeQueue(this.#queue);
    if (this.#compositeCount === 0) this.#parts.close();
  }

  #end(tag: number, work: Promise<IoStatusValue> | IoStatusValue): void {
    if (typeof work === 'number') {
      this.#sink.onBlockDone(tag, work);
      return;
    }
    this.#compositeCount += 1;
    const end = (status: IoStatusValue): void => {
      this.#compositeCount -= 1;
      // Not before: the parts still to come need the queue, and others wait for the page locks.
      if (this.#closing && this.#compositeCount === 0) this.#parts.close();
      this.#sink.onBlockDone(tag, status);
    };
    void work.then(end, (error: unknown) => {
      // No memory for a bounce buffer.
      if (!(error instanceof MemcloudError)) throw error;
      end(IoStatus.UNREACHABLE);
    });
  }

  /** Runs `task` once no writer holds a page of the run; at once in almost every case. */
  #whenFree(
    firstPage: number,
    pageCount: number,
    task: () => Promise<IoStatusValue> | IoStatusValue,
  ): Promise<IoStatusValue> | IoStatusValue {
    if (this.#locks.idle || !this.#locks.overlaps(firstPage, pageCount)) return task();
    // Another writer may have come meanwhile: asked again until the answer is still true when it is used.
    return this.#locks
      .settled(firstPage, pageCount)
      .then(() => this.#whenFree(firstPage, pageCount, task));
  }

  async #readPart(
    offset: number,
    length: number,
    into: NativeBuffer,
    intoOffset: number,
  ): Promise<IoStatusValue> {
    const firstPage = Math.floor(offset / PAGE_SIZE_BYTES);
    const pageCount = Math.ceil((offset + length) / PAGE_SIZE_BYTES) - firstPage;
    const bounce = new NativeMemory(pageCount * PAGE_SIZE_BYTES);
    const status = await this.#parts.read(firstPage, pageCount, bounce);
    const start = offset - firstPage * PAGE_SIZE_BYTES;
    if (status === IoStatus.OK) bounce.bytes.copy(into.bytes, intoOffset, start, start + length);
    bounce.free();
    return status;
  }

  /** Writes any range; without `data`, zeroes. */
  async #writePart(
    offset: number,
    length: number,
    data: { from: NativeBuffer; fromOffset: number } | undefined,
    forceUnitAccess: boolean,
  ): Promise<IoStatusValue> {
    const end = offset + length;
    let worst: IoStatusValue = IoStatus.OK;
    let at = offset;
    while (at < end && worst === IoStatus.OK) {
      const page = Math.floor(at / PAGE_SIZE_BYTES);
      const pageStart = page * PAGE_SIZE_BYTES;
      const wholePages = at === pageStart ? Math.floor((end - at) / PAGE_SIZE_BYTES) : 0;
      const dataOffset = data === undefined ? 0 : data.fromOffset + (at - offset);
      if (wholePages > 0) {
        worst = await this.#writeWhole(page, wholePages, data?.from, dataOffset);
        at += wholePages * PAGE_SIZE_BYTES;
      } else {
        const partEnd = Math.min(end, pageStart + PAGE_SIZE_BYTES);
        const change = { start: at - pageStart, end: partEnd - pageStart, dataOffset };
        worst = await this.#locks.run(page, () => this.#changePage(page, change, data?.from));
        at = partEnd;
      }
    }
    return forceUnitAccess && worst === IoStatus.OK ? this.#parts.flush() : worst;
  }

  #writeWhole(
    page: number,
    pageCount: number,
    from: NativeBuffer | undefined,
    fromOffset: number,
  ): Promise<IoStatusValue> | IoStatusValue {
    return this.#whenFree(page, pageCount, () =>
      from === undefined
        ? this.#volume.zero(page, pageCount)
        : this.#parts.write(page, pageCount, from, fromOffset),
    );
  }

  /** Runs under the lock of the page, which keeps new writes of it away. */
  async #changePage(
    page: number,
    change: { start: number; end: number; dataOffset: number },
    from: NativeBuffer | undefined,
  ): Promise<IoStatusValue> {
    // A whole page that was written before and waits for room would be undone by older bytes.
    while (this.#volume.writeWaits(page)) await this.#volume.nextEnd();
    const bounce = new NativeMemory(PAGE_SIZE_BYTES);
    let status = await this.#parts.read(page, 1, bounce);
    if (status === IoStatus.OK) {
      const { start, end, dataOffset } = change;
      if (from === undefined) bounce.bytes.fill(0, start, end);
      else from.bytes.copy(bounce.bytes, start, dataOffset, dataOffset + end - start);
      status = await this.#parts.write(page, 1, bounce, 0);
    }
    bounce.free();
    return status;
  }
}

/** Requests of whole pages that parts of other requests are made of, as promises. */
class PartialRequests implements VolumeSink {
  readonly #volume: Volume;
  readonly #queue: number;
  readonly #waiting = new Map<number, (status: IoStatusValue) => void>();
  #tag = 0;

  constructor(volume: Volume) {
    this.#volume = volume;
    this.#queue = volume.openQueue(this);
  }

  onVolumeDone(tag: number, status: IoStatusValue): void {
    const resolve = this.#waiting.get(tag);
    this.#waiting.delete(tag);
    resolve?.(status);
  }

  read(page: number, pageCount: number, into: NativeBuffer): Promise<IoStatusValue> {
    return this.#request((tag) => {
      this.#volume.read(this.#queue, tag, page, pageCount, into, 0);
    });
  }

  write(
    page: number,
    pageCount: number,
    from: NativeBuffer,
    fromOffset: number,
  ): Promise<IoStatusValue> {
    return this.#request((tag) => {
      this.#volume.write(this.#queue, tag, page, pageCount, from, fromOffset, false);
    });
  }

  flush(): Promise<IoStatusValue> {
    return this.#request((tag) => {
      this.#volume.flush(this.#queue, tag);
    });
  }

  close(): void {
    this.#volume.closeQueue(this.#queue);
  }

  #request(start: (tag: number) => void): Promise<IoStatusValue> {
    return new Promise((resolve) => {
      this.#tag = (this.#tag + 1) >>> 0;
      this.#waiting.set(this.#tag, resolve);
      start(this.#tag);
    });
  }
}
