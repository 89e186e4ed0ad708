/**
 * Asks several nodes at once for the same thing. The first that has it ends the search; a miss takes as
 * long as the slowest answer, so one round trip, and at most {@link SEARCH_DEADLINE_MS}: a node that is
 * silent for longer does not count.
 */
import { asMemcloudError, MemcloudError, type ErrorCode } from '../common/errors.ts';

/** The longest that a node which does not answer holds a miss up, milliseconds. */
export const SEARCH_DEADLINE_MS = 1000;

/** That a node could not be asked says nothing about what it has. */
const NO_ANSWER: ReadonlySet<ErrorCode> = new Set([
  'ERR_PEER_UNREACHABLE',
  'ERR_TIMEOUT',
  'ERR_CANCELLED',
  'ERR_UNSUPPORTED',
  'ERR_PEER_PROTOCOL',
]);

/** Whether an error says only that the node gave no answer that could be used. */
export function isNoAnswer({ code }: MemcloudError): boolean {
  return NO_ANSWER.has(code);
}

/**
 * Asks all of `nodes`.
 *
 * @param ask - its promise settles soon after the signal
 * @returns the first answer that is not undefined; undefined when no node that answered in time has it
 * @throws MemcloudError what a node refused with, when none has it
 */
export function searchAll<Node, Found>(
  nodes: readonly Node[],
  ask: (node: Node, signal: AbortSignal) => Promise<Found | undefined>,
  deadlineMs = SEARCH_DEADLINE_MS,
): Promise<Found | undefined> {
  if (nodes.length === 0) return Promise.resolve(undefined);
  const controller = new AbortController();
  let left = nodes.length;
  let refusal: MemcloudError | undefined;
  return new Promise((resolve, reject) => {
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      settle();
      controller.abort();
    };
    const giveUp = (): void =>
      end(() => (refusal === undefined ? resolve(undefined) : reject(refusal)));
    const timer = setTimeout(giveUp, deadlineMs);
    const onAnswer = (found: Found | undefined): void => {
      left -= 1;
      if (found !== undefined) end(() => resolve(found));
      else if (left === 0) giveUp();
    };
    const onError = (error: unknown): void => {
      const failure = asMemcloudError(error);
      if (!isNoAnswer(failure)) refusal ??= failure;
      onAnswer(undefined);
    };
    for (const node of nodes) ask(node, controller.signal).then(onAnswer, onError);
  });
}

/** Runs `work` with a signal that is aborted after `deadlineMs`. */
export async function withDeadline<T>(
  deadlineMs: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), deadlineMs);
  try {
    return await work(controller.signal);
  } catch (error) {
    const failure = asMemcloudError(error);
    if (!controller.signal.aborted || failure.code !== 'ERR_CANCELLED') throw failure;
    throw new MemcloudError('ERR_TIMEOUT', `no answer within ${deadlineMs} ms`, { cause: failure });
  } finally {
    clearTimeout(timer);
  }
}
