/** Events are the differences between two looks; slow readers lose some and are told how many. */
import t from 'tap';
import type { RpcClient } from '../../../daemon/rpc/call.ts';
import { EVENT_TOPICS, Events, type EventLooks } from '../../../daemon/rpc/events.ts';

/** A client that keeps what it is sent, while it reads. */
class Reader implements RpcClient {
  readonly id = 1;
  readonly got: unknown[] = [];
  isReading = true;
  close: () => void = () => undefined;
  room: () => void = () => undefined;
  onClose(listener: () => void): () => void {
    this.close = listener;
    return () => undefined;
  }
  onRoom(listener: () => void): void {
    this.room = listener;
  }
  push(message: object): boolean {
    if (this.isReading) this.got.push(message);
    return this.isReading;
  }
}

/** Looks at what `world` has, and counts them. */
function looking(): { world: Map<string, object>; looks: EventLooks; counts: { peer: number } } {
  const world = new Map<string, object>();
  const counts = { peer: 0 };
  const nothing = (): Map<string, object> => new Map();
  const looks = {
    ...(Object.fromEntries(EVENT_TOPICS.map((topic) => [topic, nothing])) as unknown as EventLooks),
    peer: () => {
      counts.peer += 1;
      return new Map(world);
    },
  };
  return { world, looks, counts };
}

t.test('what is new, differs or is gone is an event; what is the same is none', async (t) => {
  const { world, looks, counts } = looking();
  world.set('a', { state: 'up' });
  const events = new Events(looks);
  t.teardown(() => events.close());
  await events.lookNow();
  t.equal(counts.peer, 0, 'nobody listens, nobody looks');
  const reader = new Reader();
  await events.subscribe(reader, new Set(['peer', 'volume']));
  await events.lookNow();
  t.same(reader.got, [], 'what was there before is no event');
  world.set('b', { state: 'pending' });
  await events.lookNow();
  world.set('a', { state: 'down' });
  await events.lookNow();
  await events.lookNow();
  world.delete('b');
  await events.lookNow();
  t.same(reader.got, [
    { event: 'peer', data: { name: 'b', now: { state: 'pending' } } },
    { event: 'peer', data: { name: 'a', now: { state: 'down' } } },
    { event: 'peer', data: { name: 'b', now: null } },
  ]);
  reader.close();
  const before = counts.peer;
  await events.lookNow();
  t.equal(counts.peer, before, 'the last listener went: nobody looks');
});

t.test('topics that were not asked for are not sent', async (t) => {
  const { world, looks } = looking();
  const events = new Events(looks);
  t.teardown(() => events.close());
  const [some, all] = [new Reader(), new Reader()];
  await events.subscribe(some, new Set(['volume']));
  await events.subscribe(all, new Set(EVENT_TOPICS));
  world.set('a', {});
  await events.lookNow();
  t.same([some.got.length, all.got.length], [0, 1]);
  await events.subscribe(all, new Set(['volume']));
  world.set('b', {});
  await events.lookNow();
  t.equal(all.got.length, 1, 'a second subscription replaces the first');
});

t.test('a client that does not read loses events, and is told how many', async (t) => {
  const { world, looks } = looking();
  const events = new Events(looks);
  t.teardown(() => events.close());
  const reader = new Reader();
  await events.subscribe(reader, new Set(['peer']));
  reader.isReading = false;
  for (let index = 0; index < 7; index += 1) {
    world.set('a', { index });
    await events.lookNow();
  }
  reader.isReading = true;
  reader.room();
  t.same(reader.got, [{ event: 'lost', data: { lost: 7 } }]);
  world.set('a', { index: 8 });
  await events.lookNow();
  t.equal(reader.got.length, 2);
});
