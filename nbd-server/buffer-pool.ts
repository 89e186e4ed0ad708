/**
 * Native memory for request data that cannot pass straight through: the answer of a read until it is
 * copied into the output, and the data of a write that did not lie whole in the input or that the
 * device could not take at once. Buffers come in size classes, powers of two from a page to the
 * greatest payload, and are named by small integers, so that taking and giving back makes no object.
 * Classes below 256 KiB are cut from blocks of 1 MiB and stay; greater ones have a mapping each,
 * and beyond a bound of idle bytes they are unmapped.
 *
 * One pool serves all connections of a server. It bounds what they hold together, except that a
 * connection that holds nothing may always take one buffer, so that none can starve another.
 */
import { MemcloudError } from '../common/errors.ts';
import { NativeMemory } from '../common/native-memory.ts';
import { NBD_PAYLOAD_SIZE_MAX_BYTES } from './constants.ts';

const CLASS_SIZE_MIN_LOG2 = 12;
const CLASS_SIZE_MAX_LOG2 = Math.log2(NBD_PAYLOAD_SIZE_MAX_BYTES);
const BLOCK_SIZE_BYTES = 2 ** 20;
const CARVED_SIZE_MAX_BYTES = 128 * 1024;

/** No buffer: the pool is at its bound. */
export const NO_BUFFER = -1;

/** Bounds of a pool, in bytes. */
export interface BufferPoolLimits {
  /** Bytes in use at once, before connections that hold nothing. */
  readonly usedMaxBytes: number;
  /** Bytes of idle buffers of the greater classes that stay mapped. */
  readonly idleMaxBytes: number;
}

function classOf(length: number): number {
  const log2 = 32 - Math.clz32(Math.max(length, 1) - 1);
  return Math.max(log2, CLASS_SIZE_MIN_LOG2) - CLASS_SIZE_MIN_LOG2;
}

function classSizeBytes(index: number): number {
  return 2 ** (index + CLASS_SIZE_MIN_LOG2);
}

/** Bytes that a buffer for `length` bytes counts for. */
export function pooledSizeBytes(length: number): number {
  return classSizeBytes(classOf(length));
}

/** Pooled native buffers, named by number. */
export class BufferPool {
  readonly #limits: BufferPoolLimits;
  readonly #freeIds: number[][] = [];
  /** By buffer: the mapping it lies in; undefined once unmapped, when its number may be used again. */
  readonly #memories: (NativeMemory | undefined)[] = [];
  readonly #views: (Buffer | undefined)[] = [];
  readonly #offsets: number[] = [];
  readonly #sizes: number[] = [];
  readonly #spareIds: number[] = [];
  readonly #blocks: NativeMemory[] = [];
  #usedBytes = 0;
  #idleBytes = 0;
  #closed = false;

  /** @param limits - bounds */
  constructor(limits: BufferPoolLimits) {
    this.#limits = limits;
    for (let index = 0; index <= CLASS_SIZE_MAX_LOG2 - CLASS_SIZE_MIN_LOG2; index += 1) {
      this.#freeIds.push([]);
    }
  }

  /** Bytes of the buffers in use. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /**
   * Takes a buffer.
   *
   * @param length - bytes needed, at most the greatest payload
   * @param force - take it although the pool is at its bound: for a connection that holds none
   * @returns its number, or {@link NO_BUFFER}
   * @throws MemcloudError `ERR_NATIVE` when the system has no memory
   */
  acquire(length: number, force: boolean): number {
    const index = classOf(length);
    const sizeBytes = classSizeBytes(index);
    if (!force && this.#usedBytes + sizeBytes > this.#limits.usedMaxBytes) return NO_BUFFER;
    const free = this.#freeIds[index];
    if (free === undefined) {
      throw new MemcloudError('ERR_INTERNAL', `pooled buffer: no class for ${length} bytes`);
    }
    let id = free.pop();
    if (id === undefined) id = this.#grow(free, sizeBytes);
    else if (sizeBytes > CARVED_SIZE_MAX_BYTES) this.#idleBytes -= sizeBytes;
    this.#usedBytes += sizeBytes;
    return id;
  }

  /** The memory that buffer `id` lies in, from {@link BufferPool.offset} on. */
  memory(id: number): NativeMemory {
    const memory = this.#memories[id];
    if (memory === undefined) throw new MemcloudError('ERR_INTERNAL', `no pooled buffer ${id}`);
    return memory;
  }

  /** Where buffer `id` begins in its memory. */
  offset(id: number): number {
    return this.#offsets[id] ?? 0;
  }

  /** The whole of buffer `id`, its class long; kept, so that the common sizes need no new view. */
  view(id: number): Buffer {
    const view = this.#views[id];
    if (view === undefined) throw new MemcloudError('ERR_INTERNAL', `no pooled buffer ${id}`);
    return view;
  }

  /** Bytes of buffer `id`. */
  sizeBytes(id: number): number {
    return this.#sizes[id] ?? 0;
  }

  /** Gives a buffer back; nothing may use it any more. */
  release(id: number): void {
    const sizeBytes = this.sizeBytes(id);
    this.#usedBytes -= sizeBytes;
    if (sizeBytes <= CARVED_SIZE_MAX_BYTES) {
      this.#freeIds[classOf(sizeBytes)]?.push(id);
    } else if (this.#closed || this.#idleBytes + sizeBytes > this.#limits.idleMaxBytes) {
      this.#unmap(id);
    } else {
      this.#idleBytes += sizeBytes;
      this.#freeIds[classOf(sizeBytes)]?.push(id);
    }
    if (this.#closed && this.#usedBytes === 0) this.#freeBlocks();
  }

  /** Unmaps everything, now or when the last buffer comes back. No buffer may be taken afterwards. */
  close(): void {
    this.#closed = true;
    for (const ids of this.#freeIds) {
      for (const id of ids) if (this.sizeBytes(id) > CARVED_SIZE_MAX_BYTES) this.#unmap(id);
      ids.length = 0;
    }
    if (this.#usedBytes === 0) this.#freeBlocks();
  }

  #grow(free: number[], sizeBytes: number): number {
    if (this.#closed) throw new MemcloudError('ERR_INTERNAL', 'the buffer pool is closed');
    if (sizeBytes > CARVED_SIZE_MAX_BYTES) {
      return this.#name(new NativeMemory(sizeBytes, { lock: true }), 0, sizeBytes);
    }
    const block = new NativeMemory(BLOCK_SIZE_BYTES, { lock: true });
    this.#blocks.push(block);
    for (let at = sizeBytes; at < BLOCK_SIZE_BYTES; at += sizeBytes) {
      free.push(this.#name(block, at, sizeBytes));
    }
    return this.#name(block, 0, sizeBytes);
  }

  #name(memory: NativeMemory, offset: number, sizeBytes: number): number {
    const id = this.#spareIds.pop() ?? this.#memories.length;
    this.#memories[id] = memory;
    this.#views[id] = memory.bytes.subarray(offset, offset + sizeBytes);
    this.#offsets[id] = offset;
    this.#sizes[id] = sizeBytes;
    return id;
  }

  #unmap(id: number): void {
    const memory = this.memory(id);
    this.#memories[id] = undefined;
    this.#views[id] = undefined;
    this.#spareIds.push(id);
    memory.free();
  }

  #freeBlocks(): void {
    this.#memories.fill(undefined);
    this.#views.fill(undefined);
    for (const block of this.#blocks) block.free();
    this.#blocks.length = 0;
  }
}
