/**
 * A block device in memory that ends requests in any order, for tests: a request takes effect when it
 * ends, and one that fails may have taken effect in part. It throws when the order of requests matters and
 * the client did not wait: when a write or trim overlaps another request under way, but for reads of
 * pages that are being written.
 */
import { NativeMemory, type NativeBuffer } from '../../common/native-memory.ts';
import {
  IoStatus,
  type BlockCompletionSink,
  type BlockDevice,
  type BlockQueue,
  type IoStatusValue,
} from '../../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../../common/units.ts';

interface Pending {
  readonly operation: 'read' | 'write' | 'trim' | 'flush';
  readonly tag: number;
  readonly first: number;
  readonly end: number;
  readonly run: (status: IoStatusValue) => void;
}

/** What may happen; probabilities from 0 to 1. */
export interface UnrulyOptions {
  readonly random: () => number;
  /** A request ends before it returns. */
  readonly atOnce?: number;
  /** tryWrite takes the bytes. */
  readonly tryWrite?: number;
  /** The end of a request; OK unless told. */
  readonly failure?: (operation: Pending['operation'], firstPage: number) => IoStatusValue;
}

/** The device, its own only queue. */
export class UnrulyDevice implements BlockDevice, BlockQueue {
  readonly name = 'unruly';
  readonly description = 'ends requests in any order';
  readonly sizeBytes: number;
  readonly options: UnrulyOptions;
  readonly memory: NativeMemory;
  /** 1 for a page that was written and not trimmed. */
  readonly present: Uint8Array;
  trimCount = 0;
  /** Requests by operation, and the pages that they moved. */
  readonly requestCounts = { read: 0, write: 0, trim: 0, flush: 0 };
  #sink: BlockCompletionSink | undefined;
  #pending: Pending[] = [];
  #closed = false;

  constructor(pageCount: number, options: UnrulyOptions) {
    this.sizeBytes = pageCount * PAGE_SIZE_BYTES;
    this.options = options;
    this.memory = new NativeMemory(this.sizeBytes);
    this.present = new Uint8Array(pageCount);
  }

  /** Requests under way. */
  get pendingCount(): number {
    return this.#pending.length;
  }

  /** Pages that hold bytes. */
  get presentCount(): number {
    return this.present.reduce((sum, bit) => sum + bit, 0);
  }

  /** Ends one request, any; false when there is none. */
  step(): boolean {
    const index = Math.floor(this.options.random() * this.#pending.length);
    const [request] = this.#pending.splice(index, 1);
    if (request === undefined) return false;
    this.#end(request);
    return true;
  }

  openQueue(sink: BlockCompletionSink): BlockQueue {
    if (this.#sink !== undefined) throw new Error('one queue only');
    this.#sink = sink;
    return this;
  }

  extents(): void {
    throw new Error('not asked of this device');
  }

  read(tag: number, offset: number, length: number, into: NativeBuffer, intoOffset: number): void {
    this.#start('read', tag, offset, length, (status) => {
      const bytes = into.bytes.subarray(intoOffset, intoOffset + length);
      if (bytes.length !== length) throw new Error('a read outside its buffer');
      if (status === IoStatus.OK) this.memory.bytes.copy(bytes, 0, offset, offset + length);
      else bytes.fill(0xee);
    });
  }

  tryWrite(
    tag: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
  ): boolean {
    const { random, tryWrite = 0.5 } = this.options;
    if (random() >= tryWrite) return false;
    const copy = Buffer.from(from.bytes.subarray(fromOffset, fromOffset + length));
    this.#start('write', tag, offset, length, (status) => this.#store(offset, copy, status));
    return true;
  }

  write(tag: number, offset: number, length: number, from: NativeBuffer, fromOffset: number): void {
    this.#start('write', tag, offset, length, (status) => {
      const bytes = from.bytes.subarray(fromOffset, fromOffset + length);
      if (bytes.length !== length) throw new Error('a write outside its buffer');
      this.#store(offset, bytes, status);
    });
  }

  flush(tag: number): void {
    this.#start('flush', tag, 0, 0, () => undefined);
  }

  trim(tag: number, offset: number, length: number): void {
    this.trimCount += 1;
    this.#start('trim', tag, offset, length, (status) => {
      if (status !== IoStatus.OK) return;
      this.memory.bytes.fill(0, offset, offset + length);
      this.present.fill(0, offset / PAGE_SIZE_BYTES, (offset + length) / PAGE_SIZE_BYTES);
    });
  }

  writeZeroes(): void {
    throw new Error('not asked of this device');
  }

  close(): void {
    this.#closed = true;
  }

  #store(offset: number, bytes: Buffer, status: IoStatusValue): void {
    // A failed write has stored some pages from the front, perhaps.
    const pages = bytes.length / PAGE_SIZE_BYTES;
    const stored = status === IoStatus.OK ? pages : Math.floor(this.options.random() * (pages + 1));
    bytes.copy(this.memory.bytes, offset, 0, stored * PAGE_SIZE_BYTES);
    this.present.fill(1, offset / PAGE_SIZE_BYTES, offset / PAGE_SIZE_BYTES + stored);
  }

  #start(
    operation: Pending['operation'],
    tag: number,
    offset: number,
    length: number,
    run: (status: IoStatusValue) => void,
  ): void {
    if (offset % PAGE_SIZE_BYTES !== 0 || length % PAGE_SIZE_BYTES !== 0) {
      throw new Error(`${operation} ${offset}+${length}: expected whole pages`);
    }
    if (offset + length > this.sizeBytes || (length === 0 && operation !== 'flush')) {
      throw new Error(`${operation} ${offset}+${length}: out of range`);
    }
    const first = offset / PAGE_SIZE_BYTES;
    const end = first + length / PAGE_SIZE_BYTES;
    for (const other of this.#pending) {
      if (other.end <= first || other.first >= end) continue;
      const kinds = new Set([operation, other.operation]);
      if (kinds.has('trim') || (operation === 'write' && other.operation === 'write')) {
        throw new Error(`${operation} of page ${first} overlaps a ${other.operation} under way`);
      }
    }
    this.requestCounts[operation] += 1;
    const request = { operation, tag, first, end, run };
    if (this.options.random() < (this.options.atOnce ?? 0.3)) this.#end(request);
    else this.#pending.push(request);
  }

  #end(request: Pending): void {
    const failure = this.options.failure?.(request.operation, request.first) ?? IoStatus.OK;
    const status = this.#closed ? IoStatus.SHUTDOWN : failure;
    request.run(status);
    this.#sink?.onBlockDone(request.tag, status);
  }
}
