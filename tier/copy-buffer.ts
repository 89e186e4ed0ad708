/**
 * The memory of repair: sealed pages that were fetched from one provider and are on their way to
 * another, in batches of one page call each. It is taken at the first need, and bounds how much repair
 * has under way. A batch is free again when every call that carries pages of it has ended.
 */
import { NativeMemory } from '../common/native-memory.ts';
import { PAGE_CALL_PAGE_COUNT_MAX } from '../common/ports.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';

/** Batches at once. */
export const COPY_BATCH_COUNT = 8;
const PAGE_COUNT = COPY_BATCH_COUNT * PAGE_CALL_PAGE_COUNT_MAX;

/** The memory. Page `n` of it lies at `n * SEALED_PAGE_SIZE_BYTES`. */
export class CopyBuffer {
  readonly #callsLeft = new Uint16Array(COPY_BATCH_COUNT);
  #memory: NativeMemory | undefined;

  /** The sealed pages, and after them room for one page in clear. */
  get memory(): NativeMemory {
    const size = PAGE_COUNT * SEALED_PAGE_SIZE_BYTES + PAGE_SIZE_BYTES;
    this.#memory ??= new NativeMemory(size, { lock: true });
    return this.#memory;
  }

  /** The address of the room for one page in clear: where a copy is opened to prove it. */
  get clearAddress(): number {
    return this.memory.address + PAGE_COUNT * SEALED_PAGE_SIZE_BYTES;
  }

  /** Batches in use. */
  get usedCount(): number {
    let used = 0;
    for (const left of this.#callsLeft) if (left > 0) used += 1;
    return used;
  }

  /** Takes a batch for one call; its first page, or -1 when none is free. */
  take(): number {
    const batch = this.#callsLeft.indexOf(0);
    if (batch === -1) return -1;
    this.#callsLeft[batch] = 1;
    return batch * PAGE_CALL_PAGE_COUNT_MAX;
  }

  /** One more call carries pages of the batch that `page` lies in. */
  hold(page: number): void {
    const batch = Math.floor(page / PAGE_CALL_PAGE_COUNT_MAX);
    this.#callsLeft[batch] = (this.#callsLeft[batch] as number) + 1;
  }

  /** A call that carries pages of the batch has ended. */
  give(page: number): void {
    const batch = Math.floor(page / PAGE_CALL_PAGE_COUNT_MAX);
    this.#callsLeft[batch] = (this.#callsLeft[batch] as number) - 1;
  }

  /** Gives the memory back; no call may be in flight. */
  free(): void {
    const memory = this.#memory;
    if (memory === undefined) return;
    memory.bytes.fill(0, PAGE_COUNT * SEALED_PAGE_SIZE_BYTES);
    memory.free();
    this.#memory = undefined;
  }
}
