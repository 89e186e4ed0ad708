/**
 * What one connection has in flight, and the bounds on it: slots for its requests and pooled buffers
 * for their data. A request that finds no room waits in the socket, not here.
 */
import { NO_BUFFER, pooledSizeBytes, type BufferPool } from './buffer-pool.ts';
import type { RequestHeader } from './message-codec.ts';
import { NO_SLOT, RequestSlots } from './request-slots.ts';

/** Requests of one connection in flight; the kernel client sends at most 128. */
export const REQUEST_COUNT_MAX = 256;

/** Pooled bytes that one connection may hold; a single request may always have its buffer. */
const IN_FLIGHT_MAX_BYTES = 64 * 2 ** 20;

/** The requests of one connection and their buffers. */
export class InFlight {
  /** The requests. */
  readonly slots = new RequestSlots(REQUEST_COUNT_MAX);
  readonly #pool: BufferPool;
  #bytes = 0;

  /** @param pool - shared with other connections */
  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /** True when half of the bounds is free, so that it is worth reading again after a stall. */
  get hasRoom(): boolean {
    return this.slots.usedCount <= REQUEST_COUNT_MAX / 2 && this.#bytes <= IN_FLIGHT_MAX_BYTES / 2;
  }

  /** Takes a slot and copies the header into it, or returns {@link NO_SLOT}. */
  takeSlot(header: RequestHeader): number {
    const { slots } = this;
    const slot = slots.take();
    if (slot === NO_SLOT) return NO_SLOT;
    slots.command[slot] = header.command;
    slots.flags[slot] = header.flags;
    slots.cookieHigh[slot] = header.cookieHigh;
    slots.cookieLow[slot] = header.cookieLow;
    slots.offsetHigh[slot] = header.offsetHigh;
    slots.offsetLow[slot] = header.offsetLow;
    slots.offset[slot] = header.offset;
    slots.length[slot] = header.length;
    return slot;
  }

  /**
   * Takes a buffer for the slot, which has none.
   *
   * @param length - bytes, at most the greatest payload
   * @returns its number in the pool, or {@link NO_BUFFER}: then a release of this connection's
   *   requests will bring room, because a connection that holds no buffer always gets one
   */
  takeBuffer(slot: number, length: number): number {
    const alone = this.#bytes === 0;
    const sizeBytes = pooledSizeBytes(length);
    if (!alone && this.#bytes + sizeBytes > IN_FLIGHT_MAX_BYTES) return NO_BUFFER;
    const buffer = this.#pool.acquire(length, alone);
    if (buffer === NO_BUFFER) return NO_BUFFER;
    this.#bytes += sizeBytes;
    this.slots.buffer[slot] = buffer;
    return buffer;
  }

  /** Gives back the slot and its buffer, if it has one. */
  release(slot: number): void {
    const buffer = this.slots.buffer[slot] ?? NO_BUFFER;
    if (buffer !== NO_BUFFER) {
      this.slots.buffer[slot] = NO_BUFFER;
      this.#bytes -= this.#pool.sizeBytes(buffer);
      this.#pool.release(buffer);
    }
    this.slots.release(slot);
  }
}
