/**
 * What happens at the control plane, for whoever follows it (`admin.watch`): a ring of the last events. A
 * cursor names a place in the stream of one leader; one that is too old, or of another leader, is answered
 * from now on with `missed`, and the follower reads the lists anew.
 */
import type { ManagedResult } from './schema.ts';

/** An event before it has its place. */
export interface EventDraft {
  readonly event: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

type Watched = ManagedResult<'admin.watch'>;

/** Events that are kept. */
export const EVENT_COUNT_MAX = 4096;
/** Bytes of JSON in one answer at most; the rest follows with the next. */
const ANSWER_SIZE_MAX_BYTES = 48_000;

/** See the top of the file. */
export class EventRing {
  readonly #stream: string;
  readonly #countMax: number;
  /** Sequence of the last event. */
  #last = 0;
  #events: { readonly sequence: number; readonly draft: EventDraft; readonly size: number }[] = [];

  /** @param stream - names the leader and its term; without a colon */
  constructor(stream: string, countMax = EVENT_COUNT_MAX) {
    this.#stream = stream;
    this.#countMax = countMax;
  }

  /** Adds an event. */
  add(draft: EventDraft): void {
    this.#last += 1;
    const size = Buffer.byteLength(JSON.stringify(draft)) + 100;
    this.#events.push({ sequence: this.#last, draft, size });
    if (this.#events.length >= 2 * this.#countMax)
      this.#events = this.#events.slice(-this.#countMax);
  }

  /** Where the stream stands. */
  get cursor(): string {
    return this.#cursorOf(this.#last);
  }

  /** The events behind a cursor; undefined: there is none yet, so that it is worth to wait. */
  after(cursor: string): Watched | undefined {
    const [stream, place = ''] = cursor.split(':');
    const sequence = /^\d{1,15}$/.test(place) ? Number(place) : NaN;
    const oldest = this.#last - Math.min(this.#countMax, this.#events.length);
    if (stream !== this.#stream || !(sequence <= this.#last) || sequence < oldest) {
      return { events: [], cursor: this.cursor, missed: true };
    }
    if (sequence === this.#last) return undefined;
    const events: Watched['events'] = [];
    let size = 0;
    for (const { sequence: at, draft, size: bytes } of this.#events.slice(sequence - this.#last)) {
      size += bytes;
      if (size > ANSWER_SIZE_MAX_BYTES && events.length > 0) break;
      events.push({ cursor: this.#cursorOf(at), event: draft.event, detail: { ...draft.detail } });
    }
    return { events, cursor: events.at(-1)?.cursor ?? this.cursor, missed: false };
  }

  #cursorOf(sequence: number): string {
    return `${this.#stream}:${sequence}`;
  }
}
