/**
 * The timers of silence between two whole nodes, over a link that can be slow or silent. Times are held
 * from below exactly and from above with room for a busy machine.
 */
import t, { type Test } from 'tap';
import type { PageQueue } from '../../common/ports.ts';
import { KeepingSink, testNode, until, type TestNode } from '../helpers/peer-node.ts';
import { TcpProxy } from '../helpers/tcp-proxy.ts';

interface Scene {
  consumer: TestNode;
  provider: TestNode;
  link: TcpProxy;
  sink: KeepingSink;
  queue: PageQueue;
  handle: number;
}

async function scene(t: Test, delayMs = 0): Promise<Scene> {
  const [consumer, provider] = [testNode(t, 'consumer'), testNode(t, 'provider')];
  const link = await TcpProxy.before(t, await provider.listen());
  link.delayMs = delayMs;
  await consumer.peers.connect(link.address).outcome();
  const store = consumer.peers.store('provider');
  const { slabHandle } = await store.lease({ pageCount: 16, ttlMs: 60_000 });
  const sink = new KeepingSink();
  const queue = store.openPageQueue(sink);
  await until(() => store.roundTripMs > 0, 'the first PONG');
  return { consumer, provider, link, sink, queue, handle: slabHandle };
}

t.test('a link that falls silent under a request is given up in half a second', async (t) => {
  const { consumer, link, sink, queue, handle } = await scene(t);
  const store = consumer.peers.store('provider');
  let upAtEnd: boolean | undefined;
  const { onPagesRead } = sink;
  sink.onPagesRead = (...end) => {
    upAtEnd = store.up;
    onPagesRead(...end);
  };
  link.stalled = true;
  const startMs = performance.now();
  t.ok(queue.readPages(1, handle, 0, 1));
  await until(() => sink.reads.length === 1, 'the end of the call');
  const tookMs = performance.now() - startMs;
  t.comment(`the call ended after ${tookMs.toFixed(0)} ms`);
  t.match(sink.reads, [{ tag: 1, status: 4 }], 'UNREACHABLE');
  t.ok(tookMs >= 390 && tookMs < 1500, 'in time');
  t.equal(upAtEnd, false, 'the provider is down already when its calls end');
  await until(() => link.connectionCount === 2, 'a new connection');
  link.stalled = false;
  await until(() => store.up, 'the provider');
  t.equal(sink.credits, 0, 'no call was refused');
  t.ok(queue.readPages(2, handle, 0, 1));
  await until(() => sink.reads.length === 2);
  t.match(sink.reads[1], { tag: 2, status: 0 }, 'the lease outlived the session');
});

t.test('a link that is silent while nobody waits is left alone', async (t) => {
  const { consumer, link, sink, queue, handle } = await scene(t);
  link.stalled = true;
  await new Promise((resolve) => setTimeout(resolve, 2500));
  t.ok(consumer.peers.store('provider').up);
  link.stalled = false;
  t.ok(queue.readPages(1, handle, 0, 1));
  await until(() => sink.reads.length === 1);
  t.match(sink.reads, [{ status: 0 }]);
  t.equal(link.connectionCount, 1);
});

t.test('a slow link is slow, not dead', async (t) => {
  const { consumer, link, sink, queue, handle } = await scene(t, 150);
  // Longer than 500 ms, shorter than eight round trips.
  for (let round = 1; round <= 3; round += 1) {
    t.ok(queue.readPages(round, handle, 0, 1));
    link.stalled = true;
    await new Promise((resolve) => setTimeout(resolve, 900));
    link.stalled = false;
    await until(() => sink.reads.length === round);
  }
  t.equal(link.connectionCount, 1);
  t.ok(sink.reads.every(({ status }) => status === 0));
  t.ok(consumer.peers.store('provider').roundTripMs >= 300);
});

t.test('a node that keeps coming back at once is given more time', async (t) => {
  const { consumer, link, sink, queue, handle } = await scene(t);
  const store = consumer.peers.store('provider');
  const stalls: number[] = [];
  for (let round = 1; round <= 2; round += 1) {
    await until(() => store.up && store.roundTripMs > 0, 'the provider');
    t.ok(queue.readPages(round, handle, 0, 1));
    link.stalled = true;
    const startMs = performance.now();
    await until(() => sink.reads.length === round, 'the end of the call');
    stalls.push(performance.now() - startMs);
    link.stalled = false;
  }
  t.comment(`given up after ${stalls.map((ms) => ms.toFixed(0)).join(' and ')} ms`);
  t.ok((stalls[0] ?? 0) >= 390 && (stalls[1] ?? 0) >= 890, 'half a second, then one');
});
