/**
 * Flush without a list of pages. Time is cut into epochs; a flush closes the current one and ends
 * when nothing that entered the ring up to then is still on its way. Each epoch only counts its
 * pending slots, so a flush costs the same however much is pending. A page that is rewritten while
 * pending leaves its old epoch and joins the current one: the older bytes are no longer anybody's.
 */

/** Counts what is pending in each epoch. Epoch numbers grow from 0. */
export class FlushEpochs {
  #current = 0;
  #oldest = 0;
  /** Pending counts of the epochs from `#oldest` to `#current`. */
  readonly #pending: number[] = [0];

  /** The epoch that new slots join. */
  get current(): number {
    return this.#current;
  }

  /** Every epoch before this one has nothing pending. */
  get oldest(): number {
    return this.#oldest;
  }

  /** A slot joined the current epoch. */
  add(): void {
    this.#pending[this.#pending.length - 1] = (this.#pending.at(-1) ?? 0) + 1;
  }

  /**
   * A slot of `epoch` is on all its replicas, or dropped.
   *
   * @returns true when {@link FlushEpochs.oldest} moved, so that flushes may have ended
   */
  remove(epoch: number): boolean {
    const index = epoch - this.#oldest;
    this.#pending[index] = (this.#pending[index] ?? 0) - 1;
    return this.#advance();
  }

  /**
   * Closes the current epoch if anything is pending in it.
   *
   * @returns the number that {@link FlushEpochs.oldest} must reach before the flush has ended
   */
  close(): number {
    this.#advance();
    if (this.#pending.at(-1) !== 0) {
      this.#current += 1;
      this.#pending.push(0);
    }
    return this.#current;
  }

  #advance(): boolean {
    let moved = false;
    while (this.#oldest < this.#current && this.#pending[0] === 0) {
      this.#pending.shift();
      this.#oldest += 1;
      moved = true;
    }
    return moved;
  }
}
