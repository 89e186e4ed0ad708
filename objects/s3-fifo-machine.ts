/**
 * Which object goes when room is wanted: S3-FIFO (Yang et al., "FIFO Queues are All You Need for Cache
 * Eviction", SOSP 2023). What is new enters a small queue. Most of it is never asked for again and leaves
 * there, soon, without having driven out anything of worth; what was used moves on into the main queue. Of
 * that the oldest goes, but for one more round for each of its last uses. A name that left the small queue
 * is remembered for a while (ghost-machine.ts): when it comes again, it enters the main queue.
 *
 * A use counts a number up and moves nothing. The small queue has a fifth of the objects, and one use is
 * enough to leave it for the main queue; the paper has a tenth and two uses. With those numbers a set of
 * objects that was new as a whole fared worse than under LRU; docs/adr/0013-eviction.md has the figures.
 *
 * Objects are named by small numbers, the rows of {@link FifoLinks} that many caches share: an object is in
 * one at most. Pure.
 */

const NONE = 0xffff_ffff;
/** The small queue has one in so many objects. */
const SMALL_SHARE = 5;
/** Uses that are counted at most: rounds that an object of the main queue is given. */
const USE_COUNT_MAX = 3;
const USES = 3;
const IS_MAIN = 4;

/** The links of all queues, by object; they may be replaced by longer ones. */
export interface FifoLinks {
  /** The next newer one. */
  newer: Uint32Array;
  /** The next older one. */
  older: Uint32Array;
  /** Two bits of uses, one that says in which queue. */
  state: Uint8Array;
}

/** Counts a use of an object. */
export function countUse(links: FifoLinks, object: number): void {
  const state = links.state[object] as number;
  if ((state & USES) < USE_COUNT_MAX) links.state[object] = state + 1;
}

/** The objects of one node that may be evicted. */
export class S3Fifo {
  readonly #links: FifoLinks;
  readonly #small: Queue;
  readonly #main: Queue;

  /** @param links - rows for every number that is passed */
  constructor(links: FifoLinks) {
    this.#links = links;
    this.#small = new Queue(links);
    this.#main = new Queue(links);
  }

  /** Objects. */
  get count(): number {
    return this.#small.count + this.#main.count;
  }

  /** Objects in the main queue: so many names that left the small one are worth remembering. */
  get mainCount(): number {
    return this.#main.count;
  }

  /** A new object, in no queue. @param isKnown - its name left the small queue a short time ago */
  add(object: number, isKnown: boolean): void {
    this.#links.state[object] = isKnown ? IS_MAIN : 0;
    (isKnown ? this.#main : this.#small).push(object);
  }

  /** An object leaves. */
  remove(object: number): void {
    (this.isMain(object) ? this.#main : this.#small).remove(object);
  }

  /** Whether an object is in the main queue. */
  isMain(object: number): boolean {
    return ((this.#links.state[object] as number) & IS_MAIN) !== 0;
  }

  /**
   * The object that is to go; it stays until it is removed. What it steps over on the way was used since it
   * was stepped over last, so the steps are paid for by the uses.
   *
   * @param kept - one that may not be chosen, if any
   * @returns undefined when there is none
   */
  victim(kept?: number): number | undefined {
    const isIn = (object: number): boolean => object === kept;
    if (this.count === 0) return undefined;
    if (this.count === 1 && (isIn(this.#small.oldest) || isIn(this.#main.oldest))) return undefined;
    const { state } = this.#links;
    for (;;) {
      const isSmallDue = this.#small.count * SMALL_SHARE >= this.count || this.#main.count === 0;
      const queue = isSmallDue ? this.#small : this.#main;
      const object = queue.oldest;
      const uses = (state[object] as number) & USES;
      if (uses === 0 && object !== kept) return object;
      queue.remove(object);
      state[object] = IS_MAIN | (isSmallDue ? 0 : Math.max(0, uses - 1));
      this.#main.push(object);
    }
  }
}

/** Objects in the order of arrival. */
class Queue {
  count = 0;
  /** The next to go. */
  oldest = NONE;
  readonly #links: FifoLinks;
  #newest = NONE;

  constructor(links: FifoLinks) {
    this.#links = links;
  }

  push(object: number): void {
    const { newer, older } = this.#links;
    newer[object] = NONE;
    older[object] = this.#newest;
    if (this.#newest === NONE) this.oldest = object;
    else newer[this.#newest] = object;
    this.#newest = object;
    this.count += 1;
  }

  remove(object: number): void {
    const { newer, older } = this.#links;
    const above = newer[object] as number;
    const below = older[object] as number;
    if (above === NONE) this.#newest = below;
    else older[above] = below;
    if (below === NONE) this.oldest = above;
    else newer[below] = above;
    this.count -= 1;
  }
}
