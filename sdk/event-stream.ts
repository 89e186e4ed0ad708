/** Events of a daemon as something to loop over. */
import { MemcloudError } from '../common/errors.ts';
import type { CallOptions, MemcloudClient, RpcEvent } from './client.ts';

/** An event. */
export interface MemCloudEvent {
  /** `peer`, `consent`, `trust`, `volume`, `mount`, `object` or `config`; `lost` for events that were dropped. */
  readonly topic: string;
  /** Which peer, request, key, volume, mount or option. */
  readonly name: string;
  /** As it is now; null when it is gone. */
  readonly now: unknown;
  /** Of `lost`: how many. */
  readonly lost: number;
}

/** Events that wait for a loop that is slow; more are counted, not kept. */
const QUEUE_LENGTH_MAX = 1024;

function toEvent({ event, data }: RpcEvent): MemCloudEvent {
  const fields = (typeof data === 'object' && data !== null ? data : {}) as Record<string, unknown>;
  const { name, now, lost } = fields;
  return {
    topic: event,
    name: typeof name === 'string' ? name : '',
    now: now ?? null,
    lost: typeof lost === 'number' ? lost : 0,
  };
}

/**
 * Subscribes, and yields events until the loop is left or the signal aborts.
 *
 * @throws MemcloudError `ERR_DAEMON_UNREACHABLE` when the connection ends: what happened since is unknown
 */
export async function* eventStream(
  client: MemcloudClient,
  topics: readonly string[] | undefined,
  calls: CallOptions,
): AsyncGenerator<MemCloudEvent> {
  const { signal } = calls;
  const queue: MemCloudEvent[] = [];
  let lost = 0;
  let failure: MemcloudError | undefined;
  let wake: () => void = () => undefined;
  const forget = client.onEvent(
    (raw) => {
      const event = toEvent(raw);
      if (topics !== undefined && event.topic !== 'lost' && !topics.includes(event.topic)) return;
      if (queue.length < QUEUE_LENGTH_MAX) queue.push(event);
      else lost += 1;
      wake();
    },
    (error) => {
      failure = error;
      wake();
    },
  );
  const onAbort = (): void => wake();
  signal?.addEventListener('abort', onAbort);
  try {
    // One subscription for all loops over this connection: each picks what it wants.
    await client.call('events.subscribe', {}, calls);
    while (signal?.aborted !== true) {
      const event = queue.shift();
      if (event !== undefined) yield event;
      else if (lost > 0) {
        const count = lost;
        lost = 0;
        yield { topic: 'lost', name: '', now: null, lost: count };
      } else if (failure !== undefined) {
        throw failure;
      } else {
        await new Promise<void>((resolve) => (wake = resolve));
      }
    }
  } catch (error) {
    // An abort is how a loop is told to end.
    if (!(error instanceof MemcloudError && error.code === 'ERR_CANCELLED')) throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
    forget();
  }
}
