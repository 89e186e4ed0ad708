/** A fixed number of page buffers in one native memory, named by number: for pages of which a call wants a part. */
import { NativeMemory } from '../common/native-memory.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';

/** The buffers. */
export class BouncePages {
  /** All of them; buffer `n` is at `n * PAGE_SIZE_BYTES`. */
  readonly memory: NativeMemory;
  readonly #free: Uint16Array;
  #freeCount: number;

  /** @param count - at most 65536; pages that were never used take no RAM */
  constructor(count: number) {
    this.memory = new NativeMemory(count * PAGE_SIZE_BYTES, { secret: true });
    this.#free = Uint16Array.from({ length: count }, (_, index) => count - 1 - index);
    this.#freeCount = count;
  }

  /** Buffers that can be taken. */
  get freeCount(): number {
    return this.#freeCount;
  }

  /** Takes a buffer; there must be one. */
  take(): number {
    this.#freeCount -= 1;
    return this.#free[this.#freeCount] as number;
  }

  /** Gives a buffer back. */
  give(buffer: number): void {
    this.#free[this.#freeCount] = buffer;
    this.#freeCount += 1;
  }
}
