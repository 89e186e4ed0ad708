/**
 * The requests that one session has in flight, in typed arrays: a request is a slot, and its id on
 * the wire is the slot (low half) with the slot's generation (high half), which rises with each use.
 * So a reply finds its request without a map, and a reply to anything else is told at once.
 *
 * A slot goes FREE -> IN_FLIGHT -> FREE with its reply, which completes it. When its owner stops
 * waiting (deadline, owner closed) it is completed and becomes ABANDONED: the request is still on the
 * provider's books, so the credit stays taken until the reply comes, late, and is dropped. That
 * makes completion exactly once, credits exact, and every reply to a slot that is neither (a second
 * reply, an id never issued) a breach of protocol. A machine: pure, time comes as an argument.
 */
import { SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';
import { CONTROL_SLOT_COUNT, MessageType, WRITE_CREDIT_SHARE } from './constants.ts';
import type { CreditLimits } from './control.ts';

/** States of a slot. */
export const SlotState = {
  /** No request. */
  FREE: 0,
  /** Sent; its owner waits. */
  IN_FLIGHT: 1,
  /** Sent; nobody waits any more. */
  ABANDONED: 2,
} as const;

/** The owner of requests that belong to no page queue. */
export const CONTROL_OWNER = 0xffff;

/** Slots, generations, credits. */
export class RequestTable {
  /** Slots that are not free. */
  count = 0;
  /** Of those, the ones that nobody waits for. */
  abandonedCount = 0;
  /** Late replies that were dropped, in all. */
  lateReplyCount = 0;
  readonly #limits: CreditLimits;
  readonly #pageSlotMax: number;
  readonly #writeSlotMax: number;
  readonly #writeBytesMax: number;
  readonly #state: Uint8Array;
  readonly #type: Uint8Array;
  readonly #pageCount: Uint8Array;
  readonly #owner: Uint16Array;
  readonly #generation: Uint32Array;
  readonly #tag: Float64Array;
  readonly #deadlineMs: Float64Array;
  readonly #free: Uint16Array;
  #freeCount: number;
  #pageBytes = 0;
  #writeBytes = 0;
  #writeSlots = 0;
  /** Control requests in flight, abandoned ones included: the peer ends a session that has more than 16. */
  #controlCount = 0;

  /**
   * @param limits - what the provider grants; it grants at most as many requests as 65536
   * @param slotCountMax - most requests in flight, 32 to 32768
   */
  constructor(limits: CreditLimits, slotCountMax: number) {
    this.#limits = limits;
    const slots = Math.min(limits.requestCountMax, slotCountMax);
    // A provider that grants next to nothing gets control requests before pages.
    this.#pageSlotMax = Math.max(1, slots - CONTROL_SLOT_COUNT);
    this.#writeSlotMax = Math.max(1, Math.floor(this.#pageSlotMax * WRITE_CREDIT_SHARE));
    this.#writeBytesMax = limits.pageBytesMax * WRITE_CREDIT_SHARE;
    this.#state = new Uint8Array(slots);
    this.#type = new Uint8Array(slots);
    this.#pageCount = new Uint8Array(slots);
    this.#owner = new Uint16Array(slots);
    this.#generation = new Uint32Array(slots);
    this.#tag = new Float64Array(slots);
    this.#deadlineMs = new Float64Array(slots);
    this.#free = new Uint16Array(slots);
    for (let index = 0; index < slots; index += 1) this.#free[index] = slots - 1 - index;
    this.#freeCount = slots;
  }

  /** Slots in all. */
  get slotCount(): number {
    return this.#state.length;
  }

  /** Pages of the writes in flight, abandoned ones included. */
  get writePageCount(): number {
    return this.#writeBytes / SEALED_PAGE_SIZE_BYTES;
  }

  /**
   * Takes a slot if credits allow.
   *
   * @param type - READ, WRITE, TRIM or CONTROL of `MessageType`
   * @param pageCount - pages that the request carries or asks for, 0 for TRIM and CONTROL
   * @returns the slot, or -1
   */
  acquire(type: number, pageCount: number, owner: number, tag: number, deadlineMs: number): number {
    if (this.#freeCount === 0) return -1;
    const bytes = pageCount * SEALED_PAGE_SIZE_BYTES;
    if (type === MessageType.CONTROL) {
      if (this.#controlCount >= CONTROL_SLOT_COUNT) return -1;
      this.#controlCount += 1;
    } else {
      if (this.count >= this.#pageSlotMax) return -1;
      if (this.#pageBytes + bytes > this.#limits.pageBytesMax) return -1;
      if (type !== MessageType.READ) {
        if (this.#writeSlots >= this.#writeSlotMax) return -1;
        // One write may always be in flight, however little the provider grants.
        if (this.#writeBytes > 0 && this.#writeBytes + bytes > this.#writeBytesMax) return -1;
        this.#writeSlots += 1;
        this.#writeBytes += bytes;
      }
      this.#pageBytes += bytes;
    }
    this.#freeCount -= 1;
    const slot = this.#free[this.#freeCount] ?? 0;
    this.#state[slot] = SlotState.IN_FLIGHT;
    this.#type[slot] = type;
    this.#pageCount[slot] = pageCount;
    this.#owner[slot] = owner;
    this.#tag[slot] = tag;
    this.#deadlineMs[slot] = deadlineMs;
    this.#generation[slot] = (this.#generation[slot] ?? 0) + 1;
    this.count += 1;
    return slot;
  }

  /** The high half of the id of the slot's request. The low half is the slot. */
  generation(slot: number): number {
    return this.#generation[slot] ?? 0;
  }

  /** The slot that waits for a reply to this id, or -1. */
  find(idLow: number, idHigh: number): number {
    if (idLow >= this.#state.length) return -1;
    if (this.#state[idLow] === SlotState.FREE || this.#generation[idLow] !== idHigh) return -1;
    return idLow;
  }

  /** True when nobody waits for the slot's reply. */
  isAbandoned(slot: number): boolean {
    return this.#state[slot] === SlotState.ABANDONED;
  }

  /** The type of the slot's request. */
  type(slot: number): number {
    return this.#type[slot] ?? 0;
  }

  /** Pages of the slot's request. */
  pageCount(slot: number): number {
    return this.#pageCount[slot] ?? 0;
  }

  /** Whose request it is. */
  owner(slot: number): number {
    return this.#owner[slot] ?? 0;
  }

  /** The owner's number for it. */
  tag(slot: number): number {
    return this.#tag[slot] ?? 0;
  }

  /** Frees a slot whose reply came. */
  release(slot: number): void {
    if (this.#state[slot] === SlotState.ABANDONED) {
      this.abandonedCount -= 1;
      this.lateReplyCount += 1;
    }
    this.#state[slot] = SlotState.FREE;
    const type = this.#type[slot];
    if (type === MessageType.CONTROL) this.#controlCount -= 1;
    else {
      const bytes = (this.#pageCount[slot] ?? 0) * SEALED_PAGE_SIZE_BYTES;
      this.#pageBytes -= bytes;
      if (type !== MessageType.READ) {
        this.#writeSlots -= 1;
        this.#writeBytes -= bytes;
      }
    }
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
    this.count -= 1;
  }

  /** Keeps a slot on the books for nobody; its owner is told by the caller. */
  abandon(slot: number): void {
    this.#state[slot] = SlotState.ABANDONED;
    this.abandonedCount += 1;
  }

  /**
   * The next slot from `from` on whose owner waits and, if given, is `owner`, and whose deadline is
   * `beforeMs` or earlier; -1 when there is none. A sweep of a thousand slots costs microseconds and
   * runs a few times a second, so no timer is kept per request.
   */
  nextWaiting(from: number, beforeMs: number, owner = -1): number {
    for (let slot = from; slot < this.#state.length; slot += 1) {
      if (
        this.#state[slot] === SlotState.IN_FLIGHT &&
        (this.#deadlineMs[slot] ?? 0) <= beforeMs &&
        (owner < 0 || this.#owner[slot] === owner)
      ) {
        return slot;
      }
    }
    return -1;
  }

  /** True when some abandoned request's deadline is `beforeMs` or earlier. */
  hasAbandonedSince(beforeMs: number): boolean {
    if (this.abandonedCount === 0) return false;
    for (let slot = 0; slot < this.#state.length; slot += 1) {
      if (this.#state[slot] === SlotState.ABANDONED && (this.#deadlineMs[slot] ?? 0) <= beforeMs) {
        return true;
      }
    }
    return false;
  }
}
