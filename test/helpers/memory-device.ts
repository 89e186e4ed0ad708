/**
 * A block device in the memory of this process, for tests: honest about contents, extents and
 * alignment, with optional delays, reordering, refusals and failures.
 */
import koffi from 'koffi';
import { NativeMemory, type NativeBuffer } from '../../common/native-memory.ts';
import {
  ExtentFlag,
  IoStatus,
  type BlockCompletionSink,
  type BlockDevice,
  type BlockQueue,
  type IoStatusValue,
} from '../../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../../common/units.ts';

const libc = koffi.load(null);
const memcpy = libc.func('uintptr_t memcpy(uintptr_t to, uintptr_t from, size_t length)');
const memset = libc.func('uintptr_t memset(uintptr_t at, int byte, size_t length)');

/** The calls of a queue, as a failure hook sees them. */
export type MemoryOperation = 'read' | 'write' | 'flush' | 'trim' | 'writeZeroes';

/** How a memory device may misbehave. */
export interface MemoryDeviceOptions {
  name?: string;
  description?: string;
  /** Milliseconds until a call ends; undefined or a negative number ends it before it returns. */
  delayMs?: (operation: MemoryOperation) => number;
  /** The end of a call that is not OK; nothing is done then. */
  failure?: (operation: MemoryOperation, offset: number, length: number) => IoStatusValue;
  /** True: tryWrite takes nothing, so that every write is borrowed. */
  refuseTryWrite?: boolean;
}

/** See the top of the file. */
export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly description: string;
  readonly sizeBytes: number;
  /** Flushes that ended. */
  flushCount = 0;
  /** Writes and zeroings that asked for force unit access. */
  fuaCount = 0;
  /** Queues opened and not closed. */
  openQueueCount = 0;
  /** Operations that were begun and, delayed, have not ended. */
  runningCount = 0;
  readonly memory: NativeMemory;
  readonly options: MemoryDeviceOptions;
  /** 1 for a page that was written. */
  readonly present: Uint8Array;

  constructor(sizeBytes: number, options: MemoryDeviceOptions = {}) {
    this.name = options.name ?? 'memory';
    this.description = options.description ?? 'a memory device for tests';
    this.sizeBytes = sizeBytes;
    this.options = options;
    this.memory = new NativeMemory(sizeBytes);
    this.present = new Uint8Array(Math.ceil(sizeBytes / PAGE_SIZE_BYTES));
  }

  openQueue(sink: BlockCompletionSink): BlockQueue {
    this.openQueueCount += 1;
    return new MemoryQueue(this, sink);
  }

  extents(
    offset: number,
    length: number,
    emit: (lengthBytes: number, flags: number) => boolean,
  ): void {
    const end = offset + length;
    let at = offset;
    while (at < end) {
      const present = this.present[Math.floor(at / PAGE_SIZE_BYTES)];
      let next = at;
      do next = (Math.floor(next / PAGE_SIZE_BYTES) + 1) * PAGE_SIZE_BYTES;
      while (next < end && this.present[next / PAGE_SIZE_BYTES] === present);
      next = Math.min(next, end);
      if (!emit(next - at, present === 1 ? 0 : ExtentFlag.HOLE | ExtentFlag.ZERO)) return;
      at = next;
    }
  }

  /** Unmaps the memory; no queue may be open. */
  free(): void {
    this.memory.free();
  }
}

class MemoryQueue implements BlockQueue {
  readonly #device: MemoryDevice;
  readonly #sink: BlockCompletionSink;

  constructor(device: MemoryDevice, sink: BlockCompletionSink) {
    this.#device = device;
    this.#sink = sink;
  }

  read(tag: number, offset: number, length: number, into: NativeBuffer, intoOffset: number): void {
    const { delayMs, failure } = this.#device.options;
    if (delayMs === undefined && failure === undefined) {
      this.#copyOut(offset, length, into, intoOffset);
      this.#sink.onBlockDone(tag, IoStatus.OK);
      return;
    }
    this.#run('read', tag, offset, length, () => this.#copyOut(offset, length, into, intoOffset));
  }

  tryWrite(
    tag: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    forceUnitAccess: boolean,
  ): boolean {
    if (this.#device.options.refuseTryWrite === true) return false;
    if (this.#device.options.delayMs !== undefined) {
      const copy = new NativeMemory(length);
      copy.bytes.set(from.bytes.subarray(fromOffset, fromOffset + length));
      this.#write(tag, offset, length, copy, 0, forceUnitAccess, () => copy.free());
    } else {
      this.#write(tag, offset, length, from, fromOffset, forceUnitAccess);
    }
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
    this.#write(tag, offset, length, from, fromOffset, forceUnitAccess);
  }

  flush(tag: number): void {
    this.#run('flush', tag, 0, 0, () => (this.#device.flushCount += 1));
  }

  trim(tag: number, offset: number, length: number): void {
    this.#run('trim', tag, offset, length, () => {
      const first = Math.ceil(offset / PAGE_SIZE_BYTES);
      const end = Math.floor((offset + length) / PAGE_SIZE_BYTES);
      if (end > first) this.#drop(first, end);
    });
  }

  writeZeroes(tag: number, offset: number, length: number, forceUnitAccess: boolean): void {
    if (forceUnitAccess) this.#device.fuaCount += 1;
    this.#run('writeZeroes', tag, offset, length, () => {
      const first = Math.ceil(offset / PAGE_SIZE_BYTES);
      const end = Math.floor((offset + length) / PAGE_SIZE_BYTES);
      memset(this.#device.memory.address + offset, 0, length);
      if (end > first) this.#drop(first, end);
    });
  }

  close(): void {
    this.#device.openQueueCount -= 1;
  }

  #write(
    tag: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    forceUnitAccess: boolean,
    after?: () => void,
  ): void {
    if (forceUnitAccess) this.#device.fuaCount += 1;
    if (this.#device.options.delayMs === undefined && !this.#device.options.failure) {
      this.#copyIn(offset, length, from, fromOffset);
      this.#sink.onBlockDone(tag, IoStatus.OK);
      return;
    }
    this.#run(
      'write',
      tag,
      offset,
      length,
      () => this.#copyIn(offset, length, from, fromOffset),
      after,
    );
  }

  #copyIn(offset: number, length: number, from: NativeBuffer, fromOffset: number): void {
    const { memory, present } = this.#device;
    if (fromOffset + length > from.bytes.length || offset + length > memory.bytes.length) {
      throw new RangeError('memory device: a write outside its buffers');
    }
    memcpy(memory.address + offset, from.address + fromOffset, length);
    const last = Math.floor((offset + length - 1) / PAGE_SIZE_BYTES);
    for (let page = Math.floor(offset / PAGE_SIZE_BYTES); page <= last; page += 1)
      present[page] = 1;
  }

  #copyOut(offset: number, length: number, into: NativeBuffer, intoOffset: number): void {
    const { memory } = this.#device;
    if (intoOffset + length > into.bytes.length || offset + length > memory.bytes.length) {
      throw new RangeError('memory device: a read outside its buffers');
    }
    memcpy(into.address + intoOffset, memory.address + offset, length);
  }

  #drop(firstPage: number, endPage: number): void {
    const { memory, present } = this.#device;
    for (let page = firstPage; page < endPage; page += 1) {
      if (present[page] === 0) continue;
      memset(memory.address + page * PAGE_SIZE_BYTES, 0, PAGE_SIZE_BYTES);
      present[page] = 0;
    }
  }

  #run(
    operation: MemoryOperation,
    tag: number,
    offset: number,
    length: number,
    work: () => void,
    after?: () => void,
  ): void {
    const { failure, delayMs } = this.#device.options;
    const status = failure?.(operation, offset, length) ?? IoStatus.OK;
    this.#device.runningCount += 1;
    const finish = (): void => {
      this.#device.runningCount -= 1;
      if (status === IoStatus.OK) work();
      after?.();
      this.#sink.onBlockDone(tag, status);
    };
    const delay = delayMs?.(operation) ?? -1;
    if (delay < 0) finish();
    else setTimeout(finish, delay);
  }
}
