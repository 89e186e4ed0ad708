/** Calls of the leader to providers and clients, each with a deadline. */
import { MemcloudError } from '../common/errors.ts';
import type { ManagedLinks } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { decodeManagedReply, encodeManagedCall } from './messages.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from './schema.ts';

/** How long an answer is waited for, milliseconds. */
export const ANSWER_LIMIT_MS = 1_750;

/** Calls `task` after `delayMs`. @returns a function that calls it off */
export type After = (delayMs: number, task: () => void) => () => void;

/** The machine's timer. */
export const afterTimer: After = (delayMs, task) => {
  const timer = setTimeout(task, delayMs);
  return () => clearTimeout(timer);
};

/** See the top of the file. */
export class Outbox {
  readonly #links: Pick<ManagedLinks, 'find'>;
  readonly #after: After;

  constructor(links: Pick<ManagedLinks, 'find'>, after: After) {
    this.#links = links;
    this.#after = after;
  }

  /**
   * Asks a node.
   *
   * @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, or the node's refusal
   */
  async ask<C extends ManagedCall>(
    nodeId: NodeId,
    call: C,
    params: ManagedParams<C>,
  ): Promise<ManagedResult<C>> {
    const link = this.#links.find(nodeId);
    if (link?.up !== true) {
      const name = link?.name ?? nodeId.slice(0, 8);
      throw new MemcloudError(
        'ERR_PEER_UNREACHABLE',
        `${name} has no session here; wait until it has`,
      );
    }
    const abort = new AbortController();
    let callOff = (): void => undefined;
    const late = new Promise<never>((_, reject) => {
      callOff = this.#after(ANSWER_LIMIT_MS, () => {
        const why = `${link.name} did not answer in ${ANSWER_LIMIT_MS} ms`;
        reject(new MemcloudError('ERR_TIMEOUT', why));
        abort.abort();
      });
    });
    try {
      const answer = link.request(encodeManagedCall(call, params), abort.signal);
      answer.catch(() => undefined);
      return decodeManagedReply(call, await Promise.race([answer, late]));
    } finally {
      callOff();
    }
  }
}
