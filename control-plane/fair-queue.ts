/**
 * Whose turn it is: work of many nodes, some at a time, one node after the other, so that a thousand
 * requests of one do not keep those of others waiting. What a node asks beyond its share of the queue is
 * refused at once.
 */
import { MemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';

/** Requests at work at a time. */
const RUNNING_COUNT_MAX = 128;
/** Requests of one node that wait at most. */
export const WAITING_PER_NODE_MAX = 1024;

/** See the top of the file. */
export class FairQueue {
  readonly #waiting = new Map<NodeId, (() => void)[]>();
  readonly #runningMax: number;
  readonly #waitingPerNodeMax: number;
  #running = 0;

  constructor(runningMax = RUNNING_COUNT_MAX, waitingPerNodeMax = WAITING_PER_NODE_MAX) {
    this.#runningMax = runningMax;
    this.#waitingPerNodeMax = waitingPerNodeMax;
  }

  /**
   * Does `work` when it is the node's turn.
   *
   * @throws MemcloudError `ERR_CONTROL_QUOTA` when too much of the node waits already
   */
  async run<T>(nodeId: NodeId, work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#runningMax) await this.#turn(nodeId);
    else this.#running += 1;
    try {
      return await work();
    } finally {
      this.#next();
    }
  }

  #turn(nodeId: NodeId): Promise<void> {
    const queue = this.#waiting.get(nodeId) ?? [];
    if (queue.length >= this.#waitingPerNodeMax) {
      throw new MemcloudError(
        'ERR_CONTROL_QUOTA',
        `${queue.length} requests of this node wait already, and no more may; ask again later`,
      );
    }
    this.#waiting.set(nodeId, queue);
    return new Promise((resolve) => {
      queue.push(resolve);
    });
  }

  /** Gives the place of work that ended to the node that has waited longest for a turn. */
  #next(): void {
    const [first] = this.#waiting;
    if (first === undefined) {
      this.#running -= 1;
      return;
    }
    const [nodeId, queue] = first;
    this.#waiting.delete(nodeId);
    const start = queue.shift();
    // Behind all others, if there is more of it.
    if (queue.length > 0) this.#waiting.set(nodeId, queue);
    start?.();
  }
}
