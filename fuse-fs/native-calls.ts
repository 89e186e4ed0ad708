/**
 * Calls of the native transport that may wait for the pool. Each gets a number, which is its tag, and ends by
 * a function; those that move bytes get a buffer of ours, because libfuse's has no address that we
 * know. A call that finds no buffer waits for one, in order; each has a thread of libfuse behind it
 * that waits too, so there are never many.
 */
import { NativeMemory, type NativeBuffer } from '../common/native-memory.ts';
import { Errno } from './errno.ts';
import type { FileCompletionSink } from './operations.ts';

/** The longest read or write of libfuse 2 (32 pages). */
export const NATIVE_REQUEST_SIZE_MAX = 128 * 1024;
const BUFFER_COUNT_MAX = 32;
const WAITING_COUNT_MAX = 4096;

/** See the top of the file. */
export class NativeCalls implements FileCompletionSink {
  readonly #ends = new Map<number, (result: number) => void>();
  readonly #free: NativeMemory[] = [];
  readonly #all: NativeMemory[] = [];
  readonly #waiting: ((buffer: NativeBuffer) => void)[] = [];
  #lastTag = 0;

  /** Calls that have not ended. */
  get waitingCount(): number {
    return this.#ends.size + this.#waiting.length;
  }

  /** Begins a call: `begin` is to make it with the tag; `end` gets its result, once. */
  call(begin: (tag: number) => void, end: (result: number) => void): void {
    this.#lastTag = (this.#lastTag + 1) % Number.MAX_SAFE_INTEGER;
    this.#ends.set(this.#lastTag, end);
    begin(this.#lastTag);
  }

  /** As {@link NativeCalls.call}, with a buffer that is the call's until it has ended. */
  callWithBuffer(
    begin: (tag: number, buffer: NativeBuffer) => void,
    end: (result: number, buffer: NativeBuffer) => void,
  ): void {
    const start = (buffer: NativeBuffer): void =>
      this.call(
        (tag) => begin(tag, buffer),
        (result) => {
          end(result, buffer);
          this.#passOn(buffer);
        },
      );
    const buffer = this.#free.pop() ?? this.#make();
    if (buffer !== undefined) start(buffer);
    else if (this.#waiting.length < WAITING_COUNT_MAX) this.#waiting.push(start);
    else end(-Errno.ENOMEM, EMPTY);
  }

  onFileDone(tag: number, result: number): void {
    const end = this.#ends.get(tag);
    this.#ends.delete(tag);
    end?.(result);
  }

  /** Frees the buffers; no call may be under way. */
  close(): void {
    for (const memory of this.#all.splice(0)) memory.free();
    this.#free.length = 0;
  }

  #make(): NativeMemory | undefined {
    if (this.#all.length === BUFFER_COUNT_MAX) return undefined;
    const memory = new NativeMemory(NATIVE_REQUEST_SIZE_MAX);
    this.#all.push(memory);
    return memory;
  }

  #passOn(buffer: NativeBuffer): void {
    const next = this.#waiting.shift();
    if (next !== undefined) next(buffer);
    else this.#free.push(buffer as NativeMemory);
  }
}

const EMPTY: NativeBuffer = { bytes: Buffer.alloc(0), address: 0 };
