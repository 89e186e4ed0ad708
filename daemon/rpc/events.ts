/**
 * Events: what has changed, for clients that subscribed. The parts of the daemon are not asked to tell;
 * a few times a second, and only while somebody listens, they are looked at, and what differs from the last
 * look is an event. So an event means "look again": two changes between looks are one.
 *
 * A client that reads too slowly loses events and is told how many, as soon as it reads again.
 */
import type { RpcClient } from './call.ts';

/** What can be subscribed to. */
export const EVENT_TOPICS = [
  'peer',
  'consent',
  'trust',
  'volume',
  'mount',
  'lease',
  'object',
  'config',
] as const;

/** One of {@link EVENT_TOPICS}. */
export type EventTopic = (typeof EVENT_TOPICS)[number];

/** True when `text` is a topic. */
export function isEventTopic(text: string): text is EventTopic {
  return (EVENT_TOPICS as readonly string[]).includes(text);
}

/** What is to be seen of a topic: a row for each thing, by its name. */
export type EventLook = ReadonlyMap<string, object>;

/** How each topic is looked at. */
export type EventLooks = {
  readonly [T in EventTopic]: () => EventLook | Promise<EventLook>;
};

/** How often is looked. */
const LOOK_INTERVAL_MS = 250;

interface Subscription {
  readonly client: RpcClient;
  readonly topics: ReadonlySet<EventTopic>;
  lostCount: number;
}

/** See the top of the file. */
export class Events {
  readonly #looks: EventLooks;
  readonly #subscriptions = new Map<RpcClient, Subscription>();
  /** Of each topic that somebody listens to: each thing as it was sent last, as text. */
  readonly #seen = new Map<EventTopic, Map<string, string>>();
  #timer: NodeJS.Timeout | undefined;
  #looking = false;

  /** @param looks - called a few times a second while somebody listens */
  constructor(looks: EventLooks) {
    this.#looks = looks;
  }

  /** Sends events of these topics from now on; a second time replaces the first. */
  async subscribe(client: RpcClient, topics: ReadonlySet<EventTopic>): Promise<void> {
    // What is there already is no event.
    for (const topic of topics) {
      if (!this.#seen.has(topic)) this.#seen.set(topic, await this.#look(topic));
    }
    const isNew = !this.#subscriptions.has(client);
    const subscription = { client, topics, lostCount: 0 };
    this.#subscriptions.set(client, subscription);
    if (isNew) {
      client.onClose(() => this.#forget(client));
      client.onRoom(() => {
        const current = this.#subscriptions.get(client);
        if (current !== undefined) this.#tellLost(current);
      });
    }
    this.#timer ??= setInterval(() => void this.lookNow(), LOOK_INTERVAL_MS).unref();
  }

  /** Looks at everything that somebody listens to, and sends what has changed. */
  async lookNow(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      for (const topic of [...this.#seen.keys()]) {
        const seen = this.#seen.get(topic) ?? new Map<string, string>();
        const now = await this.#look(topic);
        this.#seen.set(topic, now);
        for (const [name, text] of now) {
          if (seen.get(name) !== text) this.#publish(topic, name, JSON.parse(text) as object);
        }
        for (const name of seen.keys()) if (!now.has(name)) this.#publish(topic, name, null);
      }
    } finally {
      this.#looking = false;
    }
  }

  /** Ends the looking. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#subscriptions.clear();
    this.#seen.clear();
  }

  async #look(topic: EventTopic): Promise<Map<string, string>> {
    const rows = await this.#looks[topic]();
    return new Map([...rows].map(([name, row]) => [name, JSON.stringify(row)]));
  }

  #publish(topic: EventTopic, name: string, row: object | null): void {
    const message = { event: topic, data: { name, now: row } };
    for (const subscription of this.#subscriptions.values()) {
      if (!subscription.topics.has(topic)) continue;
      if (!this.#tellLost(subscription) || !subscription.client.push(message)) {
        subscription.lostCount += 1;
      }
    }
  }

  /** @returns false when the client still reads too slowly to be told */
  #tellLost(subscription: Subscription): boolean {
    if (subscription.lostCount === 0) return true;
    const message = { event: 'lost', data: { lost: subscription.lostCount } };
    if (!subscription.client.push(message)) return false;
    subscription.lostCount = 0;
    return true;
  }

  #forget(client: RpcClient): void {
    this.#subscriptions.delete(client);
    const wanted = new Set([...this.#subscriptions.values()].flatMap(({ topics }) => [...topics]));
    for (const topic of this.#seen.keys()) if (!wanted.has(topic)) this.#seen.delete(topic);
    if (this.#subscriptions.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
