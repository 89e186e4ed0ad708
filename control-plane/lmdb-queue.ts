/**
 * Changes of the embedded store on their way to disk: while one batch is written, the next one gathers.
 * Each waits a bounded time, and of those that wait there is a bounded number.
 */
import { storeError } from './meta-checks.ts';

/** Changes that may wait. */
const WAITING_COUNT_MAX = 10_000;
/** Changes in one batch; lmdb keeps the pages of a transaction in memory. */
const BATCH_COUNT_MAX = 500;
/** The longest that a disk may take for one batch before those who wait are told, milliseconds. */
const COMMIT_TIMEOUT_MS = 10_000;

interface Waiting<In, Out> {
  readonly change: In;
  readonly resolve: (outcome: Out) => void;
  readonly reject: (error: unknown) => void;
}

/** See the top of the file. */
export class LmdbQueue<In, Out> {
  readonly #commit: (batch: readonly In[]) => Promise<Out[]>;
  readonly #onCommitted: (outcomes: readonly Out[]) => void;
  #waiting: Waiting<In, Out>[] = [];
  #running: Promise<void> | undefined;
  #closed = false;

  /**
   * @param commit - makes all changes of a batch durable, or none, and gives their outcomes in order
   * @param onCommitted - is told of each batch that is durable, before those who wait for it
   */
  constructor(
    commit: (batch: readonly In[]) => Promise<Out[]>,
    onCommitted: (outcomes: readonly Out[]) => void,
  ) {
    this.#commit = commit;
    this.#onCommitted = onCommitted;
  }

  /** Resolves when the change is durable. @throws MemcloudError `ERR_CONTROL_STORE` */
  add(change: In): Promise<Out> {
    if (this.#closed) return Promise.reject(storeError('the embedded store is closed'));
    if (this.#waiting.length >= WAITING_COUNT_MAX) {
      const problem = `the embedded store is behind: ${WAITING_COUNT_MAX} changes wait for the disk`;
      return Promise.reject(storeError(problem));
    }
    return new Promise<Out>((resolve, reject) => {
      this.#waiting.push({ change, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** Waits for the batch that is being written; those behind it fail. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#fail(this.#take(), storeError('the embedded store was closed'));
    await this.#running;
  }

  #take(countMax = Infinity): Waiting<In, Out>[] {
    const taken = this.#waiting.slice(0, countMax);
    this.#waiting = this.#waiting.slice(taken.length);
    return taken;
  }

  async #run(): Promise<void> {
    // All that is asked for in this turn goes together.
    await Promise.resolve();
    while (this.#waiting.length > 0) await this.#write(this.#take(BATCH_COUNT_MAX));
    this.#running = undefined;
  }

  async #write(batch: readonly Waiting<In, Out>[]): Promise<void> {
    const slow = setTimeout(() => {
      const error = storeError(
        `the disk of the embedded store did not take a change within ${COMMIT_TIMEOUT_MS} ms`,
      );
      this.#fail([...batch, ...this.#take()], error);
    }, COMMIT_TIMEOUT_MS);
    try {
      const outcomes = await this.#commit(batch.map(({ change }) => change));
      this.#onCommitted(outcomes);
      for (const [index, outcome] of outcomes.entries()) batch[index]?.resolve(outcome);
    } catch (error) {
      this.#fail(batch, error);
    } finally {
      clearTimeout(slow);
    }
  }

  #fail(waiting: readonly Waiting<In, Out>[], error: unknown): void {
    for (const { reject } of waiting) reject(error);
  }
}
