/**
 * The calls of one connection that wait for their answers, by id. Ids are handed out in order, so a call
 * lies in the slot of its id modulo the number of slots; an id whose slot is taken, by a call that takes
 * long, is passed over. A Map would be simpler and cost more than the rest of a call: with calls coming and
 * going it makes a new table every hundred of them, each old table points to the next, and as soon as one of
 * them is old for the garbage collector it keeps all that followed, with every answer.
 */
import type { MemcloudError } from '../common/errors.ts';

/** A power of two. */
const SLOT_COUNT_START = 256;

/** Makes of an answer what the caller wants; what it throws, the caller gets. */
export type Use = (result: unknown) => unknown;

/** A call under way. */
export class WaitingCall {
  /** By {@link WaitingCalls.add}. */
  id = 0;
  readonly method: string;
  readonly timeoutMs: number;
  readonly deadlineMs: number;
  readonly use: Use | undefined;
  /** Fulfils what the caller waits for. */
  readonly resolve: (result: unknown) => void;
  /** Rejects it. */
  readonly reject: (error: unknown) => void;
  /** Takes the listener off the caller's signal. */
  forgetSignal: (() => void) | undefined = undefined;

  constructor(
    method: string,
    timeoutMs: number,
    use: Use | undefined,
    resolve: (result: unknown) => void,
    reject: (error: unknown) => void,
  ) {
    this.method = method;
    this.timeoutMs = timeoutMs;
    this.deadlineMs = performance.now() + timeoutMs;
    this.use = use;
    this.resolve = resolve;
    this.reject = reject;
  }

  /** An answer came. */
  succeed(result: unknown): void {
    if (this.use === undefined) {
      this.resolve(result);
      return;
    }
    try {
      this.resolve(this.use(result));
    } catch (thrown) {
      this.reject(thrown);
    }
  }

  /** None will. */
  fail(error: MemcloudError): void {
    this.reject(error);
  }
}

/** See the top of the file. */
export class WaitingCalls {
  #slots = emptySlots(SLOT_COUNT_START);
  #count = 0;
  #lastId = 0;

  /** Calls that wait. */
  get count(): number {
    return this.#count;
  }

  /** The id that was given last; 0: none was. */
  get lastId(): number {
    return this.#lastId;
  }

  /** Adds a call and gives it an id: larger than all before, from 1. */
  add(call: WaitingCall): number {
    if (this.#count * 2 >= this.#slots.length) this.#resize(this.#slots.length * 2);
    const mask = this.#slots.length - 1;
    let id = this.#lastId + 1;
    while (this.#slots[id & mask] !== undefined) id += 1;
    this.#slots[id & mask] = call;
    this.#lastId = call.id = id;
    this.#count += 1;
    return id;
  }

  /** Takes a call out. @returns undefined when none with that id waits */
  take(id: unknown): WaitingCall | undefined {
    if (typeof id !== 'number') return undefined;
    const at = id & (this.#slots.length - 1);
    const call = this.#slots[at];
    if (call?.id !== id) return undefined;
    this.#slots[at] = undefined;
    this.#count -= 1;
    if (this.#count === 0 && this.#slots.length > SLOT_COUNT_START) {
      this.#slots = emptySlots(SLOT_COUNT_START);
    }
    return call;
  }

  /** The calls that wait, in no order. */
  list(): WaitingCall[] {
    return this.#slots.filter((call) => call !== undefined);
  }

  #resize(slotCount: number): void {
    const slots = emptySlots(slotCount);
    // Those that lay in different slots do so in twice as many.
    for (const call of this.list()) slots[call.id & (slotCount - 1)] = call;
    this.#slots = slots;
  }
}

function emptySlots(count: number): (WaitingCall | undefined)[] {
  return new Array<WaitingCall | undefined>(count).fill(undefined);
}
