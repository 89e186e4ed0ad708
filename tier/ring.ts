/**
 * The ring (DESIGN D4): page-outs that were acknowledged to the client but are not yet on all
 * replicas. Swap dies with its machine, so a page-out in the consumer's locked memory is as safe as
 * the program it came from; the ring takes the network off the page-out path. It is bounded, its
 * pages are already sealed (so a resend to another provider is a copy, and no nonce is used twice),
 * and reads of pending pages are answered from it.
 *
 * A slot is FREE, QUEUED (not sent yet; a rewrite of the page replaces it in place), SENT (some
 * replica still owes an acknowledgement), STALE (sent, but the page was rewritten or trimmed since;
 * it only waits for its acknowledgements) or CANCELLED (the same before it was sent; it is still on
 * the send queue and goes free when its turn comes). Slots are given out in the order in which they came
 * free, so that neighbours in a burst are neighbours in memory and travel as one run.
 */
import type { NativeBuffer } from '../common/native-memory.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';

/** The state of a slot; see the head of the file. */
export const SlotState = { FREE: 0, QUEUED: 1, SENT: 2, STALE: 3, CANCELLED: 4 } as const;

/** One of the values of {@link SlotState}. */
export type SlotStateValue = (typeof SlotState)[keyof typeof SlotState];

const RING_SLOT_COUNT_MIN = 64;

/** Slots of a ring that is to hold so many bytes of pages. */
export function ringSlotCount(ringSizeBytes: number): number {
  return Math.max(RING_SLOT_COUNT_MIN, Math.floor(ringSizeBytes / PAGE_SIZE_BYTES));
}

/** The slots of one volume. Slot numbers are 0 to `slotCount - 1`; -1 means none. */
export class Ring {
  /** Slots in all. */
  readonly slotCount: number;
  /** The memory of the slots: slot `s` lies at `s * SEALED_PAGE_SIZE_BYTES`. */
  readonly memory: NativeBuffer;
  /** The page whose bytes a slot holds. */
  readonly page: Uint32Array;
  /** Links of the list that a slot is on (send queue or page call), -1 at the end. */
  readonly next: Int32Array;
  /** Acknowledgements that a sent slot still waits for. */
  readonly acksLeft: Uint8Array;
  /** The slab generation (slab-table.ts) under which the slot was sent. */
  readonly generation: Uint32Array;
  /** The flush epoch in which the slot was filled (flush-epochs.ts). */
  readonly epoch: Float64Array;
  readonly #state: Uint8Array;
  /** Free slots, first in first out. */
  readonly #free: Uint32Array;
  #freeHead = 0;
  #freeCount: number;

  /** @param memory - `slotCount` times SEALED_PAGE_SIZE_BYTES bytes, locked if it can be */
  constructor(slotCount: number, memory: NativeBuffer) {
    this.slotCount = slotCount;
    this.memory = memory;
    this.page = new Uint32Array(slotCount);
    this.next = new Int32Array(slotCount).fill(-1);
    this.acksLeft = new Uint8Array(slotCount);
    this.generation = new Uint32Array(slotCount);
    this.epoch = new Float64Array(slotCount);
    this.#state = new Uint8Array(slotCount);
    this.#free = Uint32Array.from({ length: slotCount }, (_, slot) => slot);
    this.#freeCount = slotCount;
  }

  /** Slots that can be taken now. */
  get freeCount(): number {
    return this.#freeCount;
  }

  /** The state of a slot. */
  state(slot: number): SlotStateValue {
    return this.#state[slot] as SlotStateValue;
  }

  /** Changes the state of a slot that is in use. */
  setState(slot: number, state: SlotStateValue): void {
    this.#state[slot] = state;
  }

  /** The address of a slot's sealed page. */
  address(slot: number): number {
    return this.memory.address + slot * SEALED_PAGE_SIZE_BYTES;
  }

  /** Takes a slot for `page` and makes it QUEUED; -1 when the ring is full. */
  take(page: number, epoch: number): number {
    if (this.#freeCount === 0) return -1;
    const slot = this.#free[this.#freeHead] as number;
    this.#freeHead = (this.#freeHead + 1) % this.slotCount;
    this.#freeCount -= 1;
    this.page[slot] = page;
    this.next[slot] = -1;
    this.acksLeft[slot] = 0;
    this.epoch[slot] = epoch;
    this.#state[slot] = SlotState.QUEUED;
    return slot;
  }

  /** Gives a slot back. */
  release(slot: number): void {
    this.#state[slot] = SlotState.FREE;
    this.#free[(this.#freeHead + this.#freeCount) % this.slotCount] = slot;
    this.#freeCount += 1;
  }
}
