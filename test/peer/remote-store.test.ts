import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { RemoteStore } from '../../peer/remote-store.ts';
import { KeepingSink, testNode, until } from '../helpers/peer-node.ts';
import type { Test } from 'tap';

async function connected(t: Test) {
  const [provider, consumer] = [testNode(t, 'provider'), testNode(t, 'consumer')];
  await consumer.peers.connect(await provider.listen()).outcome();
  const store = consumer.peers.store('provider');
  const grant = await store.lease({ pageCount: 256, ttlMs: 60_000 });
  return { provider, consumer, store, handle: grant.slabHandle };
}

t.test('a store without a session refuses everything, and throws nothing', async (t) => {
  const store = new RemoteStore('id', 'name');
  const sink = new KeepingSink();
  const queue = store.openPageQueue(sink);
  const memory = new NativeMemory(4112);
  t.equal(store.up, false);
  t.notOk(queue.readPages(1, 1, 0, 1));
  t.notOk(queue.writePages(1, 1, 0, 1, memory, 0));
  t.notOk(queue.trimPages(1, 1, 0, 1));
  await t.rejects(store.renew(['0123456789abcdef'], 1), { code: 'ERR_PEER_UNREACHABLE' });
  await t.rejects(store.release('0123456789abcdef'), { code: 'ERR_PEER_UNREACHABLE' });
  queue.close();
  t.same([sink.reads, sink.done, sink.credits], [[], [], 0]);
  memory.free();
});

t.test('closing a queue ends its calls with SHUTDOWN, others go on', async (t) => {
  const { store, handle } = await connected(t);
  const [first, second] = [new KeepingSink(), new KeepingSink()];
  const [a, b] = [store.openPageQueue(first), store.openPageQueue(second)];
  t.ok(a.readPages(1, handle, 0, 1));
  t.ok(a.trimPages(2, handle, 0, 1));
  t.ok(b.readPages(3, handle, 0, 1));
  a.close();
  a.close();
  t.match(first, { reads: [{ tag: 1, status: 5 }], done: [{ tag: 2, status: 5 }] });
  t.notOk(a.readPages(4, handle, 0, 1));
  await until(() => second.reads.length === 1);
  t.match(second.reads, [{ tag: 3, status: 0 }]);
  await until(() => store.session?.requests.count === 0, 'the late replies');
  t.equal(first.reads.length + first.done.length, 2, 'late replies reach nobody');
  const third = new KeepingSink();
  t.ok(
    store.openPageQueue(third).readPages(9, handle, 0, 1),
    'the number of the queue is used again',
  );
  await until(() => third.reads.length === 1);
});

t.test('a queue that asks without end is refused and told, and every call ends once', async (t) => {
  const { store, handle } = await connected(t);
  const ended = new Uint8Array(20_000);
  let issued = 0;
  let refusals = 0;
  let done = 0;
  const memory = new NativeMemory(4112);
  const issue = (): void => {
    while (issued < ended.length) {
      const taken =
        issued % 3 === 0
          ? queue.writePages(issued, handle, issued % 256, 1, memory, 0)
          : queue.readPages(issued, handle, issued % 256, 1);
      if (!taken) {
        refusals += 1;
        return;
      }
      issued += 1;
    }
  };
  const end = (tag: number, status: number): void => {
    ended[tag] = (ended[tag] ?? 0) + 1;
    if (status !== 0) t.fail(`status ${status}`);
    done += 1;
  };
  const queue = store.openPageQueue({ onPagesRead: end, onPagesDone: end, onCredit: issue });
  issue();
  t.ok(refusals > 0);
  t.ok(issued <= 1008, 'as many as the credits of requests, less those kept for control');
  await until(() => done === ended.length, 'the end of all');
  t.ok(ended.every((count) => count === 1));
  memory.free();
});

t.test('4096 queues and no more', async (t) => {
  const store = new RemoteStore('id', 'name');
  const queues = Array.from({ length: 4096 }, () => store.openPageQueue(new KeepingSink()));
  t.throws(() => store.openPageQueue(new KeepingSink()), { code: 'ERR_INTERNAL' });
  queues[17]?.close();
  t.doesNotThrow(() => store.openPageQueue(new KeepingSink()));
});

t.test('more lease ids than one message holds are renewed', async (t) => {
  const { store } = await connected(t);
  const ids = Array.from({ length: 2500 }, (_, index) => index.toString(16).padStart(16, '0'));
  t.same(await store.renew(ids, 1000), ids);
  t.same(await store.renew([], 1000), []);
});
