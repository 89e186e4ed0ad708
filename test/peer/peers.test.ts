import t, { type Test } from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import type { SlabAccessEvents, SlabRecall } from '../../common/ports.ts';
import { Identity } from '../../peer/identity.ts';
import { Quarantines } from '../../peer/quarantines.ts';
import { MemoryDirect } from '../helpers/memory-direct.ts';
import { KeepingSink, portOf, testNode, until } from '../helpers/peer-node.ts';
import { RawPeer } from '../helpers/raw-peer.ts';

t.test('two nodes find each other, lease, write and read', async (t) => {
  const provider = testNode(t, 'provider');
  const consumer = testNode(t, 'consumer');
  const address = await provider.listen();
  const dialer = consumer.peers.connect(address);
  t.equal(await dialer.outcome(), 'up');
  const [source] = consumer.peers.list();
  t.match(source, { nodeId: provider.identity.nodeId, nodeName: 'provider', up: true });
  t.equal(source!.usage.offeredBytes, 67108864);
  const grant = await source!.lease({ pageCount: 16, ttlMs: 5000 });
  const sink = new KeepingSink();
  const queue = source!.openPageQueue(sink);
  const pages = new NativeMemory(4112);
  pages.bytes.fill(42);
  t.ok(queue.writePages(1, grant.slabHandle, 3, 1, pages, 0));
  t.same(sink.done, [], 'ends never come before the call returns');
  await until(() => sink.done.length === 1);
  t.ok(queue.readPages(2, grant.slabHandle, 3, 1));
  await until(() => sink.reads.length === 1);
  t.same(sink.reads, [{ tag: 2, status: 0, first: 42 }]);
  t.same(await source!.renew([grant.leaseId, 'ffffffffffffffff'], 5000), ['ffffffffffffffff']);
  await source!.release(grant.leaseId);
  await t.rejects(source!.release(grant.leaseId), { code: 'ERR_LEASE_UNKNOWN' });
  await t.rejects(source!.lease({ pageCount: 65536, ttlMs: 5000 }), { code: 'ERR_LEASE_CAPACITY' });
  await t.rejects(source!.lease({ pageCount: 0, ttlMs: 5000 }), { code: 'ERR_LEASE_INVALID' });
  t.match(consumer.peers.peers(), [
    { name: 'provider', address, state: 'up', dialled: true, error: undefined },
  ]);
  t.match(provider.peers.peers(), [{ name: 'consumer', state: 'up', dialled: false }]);
  pages.free();
});

t.test('a session serves both ways, whoever dialled', async (t) => {
  const [a, b] = [testNode(t, 'a'), testNode(t, 'b')];
  await a.peers.connect(await b.listen()).outcome();
  await until(() => b.peers.list().length === 1);
  const grant = await b.peers.store('a').lease({ pageCount: 1, ttlMs: 5000 });
  t.equal(a.slabs.book.slabs.get(grant.slabHandle)?.holder, b.identity.nodeId);
});

t.test('usage is pushed when it changes, lease endings are told', async (t) => {
  const [provider, consumer] = [testNode(t, 'provider'), testNode(t, 'consumer')];
  await consumer.peers.connect(await provider.listen()).outcome();
  const store = consumer.peers.store('provider');
  const lost: string[] = [];
  store.onLeasesLost = (ids) => lost.push(...ids);
  const grant = await store.lease({ pageCount: 2, ttlMs: 5000 });
  await until(() => store.usage.leaseCount === 1);
  t.equal(store.usage.usedBytes, 8224);
  provider.slabs.expireAll(consumer.identity.nodeId);
  await until(() => lost.length === 1);
  t.same(lost, [grant.leaseId]);
  await until(() => store.usage.leaseCount === 0);
});

t.test('a node that dies ends calls with UNREACHABLE; its return is told and found', async (t) => {
  const identity = Identity.ephemeral();
  const first = testNode(t, 'provider', { identity });
  const consumer = testNode(t, 'consumer', { random: () => 0 });
  const address = await first.listen();
  await consumer.peers.connect(address).outcome();
  const store = consumer.peers.store('provider');
  const sink = new KeepingSink();
  const queue = store.openPageQueue(sink);
  t.ok(queue.readPages(1, 1, 0, 1));
  await first.peers.close();
  await until(() => sink.reads.length === 1);
  await until(() => !store.up);
  t.notOk(queue.readPages(2, 1, 0, 1), 'refused while down');
  await t.rejects(store.lease({ pageCount: 1, ttlMs: 5000 }), { code: 'ERR_PEER_UNREACHABLE' });
  t.equal(sink.credits, 0);
  const second = testNode(t, 'provider', { identity });
  await second.peers.listen({ host: '127.0.0.1', port: portOf(address) });
  await until(() => store.up, 'the reconnect');
  t.equal(sink.credits, 1);
  t.ok(queue.readPages(3, 1, 0, 1), 'the same queue goes on');
  await until(() => sink.reads.length === 2);
  t.match(sink.reads[1], { tag: 3, status: 6 });
});

t.test('an unknown node waits for a human on both sides', async (t) => {
  const a = testNode(t, 'a', { autoTrust: false });
  const b = testNode(t, 'b', { autoTrust: false });
  const dialer = a.peers.connect(await b.listen());
  t.equal(await dialer.outcome(), 'pending');
  await until(() => b.consent.list().length === 1);
  t.match(a.consent.list(), [{ name: 'b', nodeId: b.identity.nodeId, dialled: true }]);
  t.match(b.consent.list(), [{ name: 'a', nodeId: a.identity.nodeId, dialled: false }]);
  b.consent.answer(b.consent.list()[0]!.id, 'trust');
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(a.peers.list().length, 0, 'one side is not enough');
  a.consent.answer(a.consent.list()[0]!.id, 'once');
  await until(() => dialer.state === 'up');
  t.equal(a.trust.list().length, 0, 'once is not for good');
  t.match(b.trust.list(), [{ name: 'a', decision: 'trusted' }]);
});

t.test('a denied node is refused there and remembered', async (t) => {
  const a = testNode(t, 'a');
  const b = testNode(t, 'b', { autoTrust: false });
  const dialer = a.peers.connect(await b.listen());
  await until(() => b.consent.list().length === 1);
  b.consent.answer(b.consent.list()[0]!.id, 'deny');
  await until(() => dialer.lastError !== undefined);
  t.equal(dialer.lastError?.code, 'ERR_PEER_UNTRUSTED');
  t.match(b.trust.list(), [{ name: 'a', decision: 'denied' }]);
  dialer.start();
  await until(() => dialer.state === 'waiting');
  t.equal(b.consent.list().length, 0, 'nobody is asked again');
});

t.test('a request for consent ends with its connection', async (t) => {
  const b = testNode(t, 'b', { autoTrust: false });
  const raw = await RawPeer.connect(portOf(await b.listen()), 'raw');
  await raw.handshake('initiator');
  t.same(await raw.readHello(), { verdict: 'pending', lane: '' });
  t.equal(b.consent.list().length, 1);
  await raw.destroy();
  await until(() => b.consent.list().length === 0);
});

t.test('a request for consent expires and the connection with it', async (t) => {
  const b = testNode(t, 'b', { autoTrust: false, consentTtlMs: 30 });
  const raw = await RawPeer.connect(portOf(await b.listen()), 'raw');
  await raw.handshake('initiator');
  t.same(await raw.readHello(), { verdict: 'pending', lane: '' });
  t.same(await raw.readHello(), { verdict: 'refused' });
  await raw.ended();
  await raw.destroy();
});

t.test('a known name with another key is refused, dialled or dialling', async (t) => {
  const a = testNode(t, 'a');
  const b = testNode(t, 'b');
  a.trust.check({ publicKey: new Uint8Array(32).fill(1), nodeId: 'x', name: 'b' });
  const dialer = a.peers.connect(await b.listen());
  await until(() => dialer.lastError !== undefined);
  t.equal(dialer.lastError?.code, 'ERR_PEER_KEY_CHANGED');
  t.equal(a.peers.list().length, 0);
  t.equal(b.trust.list().length, 0, 'the impostor did not learn who asked');
  b.peers.connect(await a.listen());
  await until(() => b.peers.peers().some(({ error }) => error?.code === 'ERR_PEER_UNTRUSTED'));
  t.equal(a.peers.list().length, 0);
});

t.test('revocation ends the live session, and waiting connections', async (t) => {
  const [a, b] = [testNode(t, 'a'), testNode(t, 'b')];
  const dialer = a.peers.connect(await b.listen());
  await dialer.outcome();
  const sink = new KeepingSink();
  const queue = a.peers.store('b').openPageQueue(sink);
  b.trust.deny({ publicKey: a.identity.publicKey, nodeId: a.identity.nodeId, name: 'a' });
  await until(() => !a.peers.store('b').up);
  t.notOk(queue.readPages(1, 1, 0, 1));
  dialer.start();
  await until(() => dialer.lastError?.code === 'ERR_PEER_UNTRUSTED');
  t.notOk(b.peers.store('a').up);
});

t.test('disconnect cuts and keeps out, connect lets in again', async (t) => {
  const [a, b] = [testNode(t, 'a', { random: () => 0 }), testNode(t, 'b')];
  const bAddress = await b.listen();
  const aAddress = await a.listen();
  await a.peers.connect(bAddress).outcome();
  await until(() => b.peers.list().length === 1);
  b.peers.disconnect('a');
  await until(() => !a.peers.store('b').up);
  await new Promise((resolve) => setTimeout(resolve, 400));
  t.notOk(b.peers.store('a').up, 'its dialler came back in vain');
  t.throws(() => b.peers.disconnect('nobody'), { code: 'ERR_PEER_UNKNOWN' });
  t.equal(await b.peers.connect(aAddress).outcome(), 'up');
  t.ok(b.peers.store('a').up);
});

t.test('a node announces what it can do: direct exports only where it serves them', async (t) => {
  const direct = new MemoryDirect();
  for (const [node, features] of [
    [testNode(t, 'serves', { direct }), ['direct', 'recall', 'lanes']],
    [testNode(t, 'lends'), ['recall', 'lanes']],
  ] as const) {
    const raw = await RawPeer.connect(portOf(await node.listen()), `raw-${features.length}`);
    await raw.handshake('initiator');
    t.same((await raw.accept()).features, features);
    await raw.destroy();
  }
});

/** A provider and a holder of one export with its data connection. */
async function withDataConnection(t: Test) {
  const direct = new MemoryDirect();
  const [provider, consumer] = [testNode(t, 'provider', { direct }), testNode(t, 'consumer')];
  const address = await provider.listen();
  await consumer.peers.connect(address).outcome();
  const store = consumer.peers.store('provider');
  const { exportId } = await store.openDirect({ sizeBytes: 4096, ttlMs: 60_000 });
  const unused = await store.directTicket(exportId, '0'.repeat(64));
  const { ticketId } = await store.directTicket(exportId, '0'.repeat(64));
  const data = await RawPeer.connect(portOf(address));
  t.teardown(() => data.destroy());
  data.socket.write(Buffer.from(`4d43444952454354${ticketId}`, 'hex'));
  await until(() => direct.connections.length === 1);
  return { direct, provider, consumer, store, data, unused, address };
}

for (const [how, end] of Object.entries({
  'denied trust': ({ provider, consumer }: Awaited<ReturnType<typeof withDataConnection>>) => {
    const { publicKey, nodeId } = consumer.identity;
    provider.trust.deny({ publicKey, nodeId, name: 'consumer' });
  },
  'trust taken back': ({ provider }) => void provider.trust.remove('consumer'),
  'disconnection by an operator': ({ provider }) => provider.peers.disconnect('consumer'),
} satisfies Record<string, (at: Awaited<ReturnType<typeof withDataConnection>>) => void>)) {
  t.test(`${how} ends the data connections of the node, its exports and tickets`, async (t) => {
    const at = await withDataConnection(t);
    end(at);
    await at.data.ended();
    t.same(at.direct.revoked, [at.consumer.identity.nodeId]);
    t.equal(at.direct.exports.size, 0);
    const late = await RawPeer.connect(portOf(at.address));
    late.socket.write(Buffer.from(`4d43444952454354${at.unused.ticketId}`, 'hex'));
    await late.ended();
    await late.destroy();
    await until(() => !at.store.up);
  });
}

t.test(
  'a data connection outlives its session; the end of a session revokes nothing',
  async (t) => {
    const { direct, consumer, provider, data } = await withDataConnection(t);
    await consumer.peers.close();
    await until(() => !provider.peers.store('consumer').up);
    t.same(direct.revoked, []);
    t.equal(direct.exports.size, 1);
    t.notOk(data.closed);
  },
);

t.test('every node in the list is a source of direct exports too', async (t) => {
  const { consumer, provider } = await withDataConnection(t);
  const [source] = consumer.peers.list();
  t.match(source, { nodeId: provider.identity.nodeId, host: '127.0.0.1', up: true });
  t.match(await source!.listDirect(), [{ connected: true }]);
});

t.test('an address that is given up keeps its session and is not dialled again', async (t) => {
  const identity = Identity.ephemeral();
  const provider = testNode(t, 'provider', { identity });
  const consumer = testNode(t, 'consumer', { random: () => 0 });
  const address = await provider.listen();
  await consumer.peers.connect(address).outcome();
  const store = consumer.peers.store('provider');
  const grant = await store.lease({ pageCount: 1, ttlMs: 5000 });
  const sink = new KeepingSink();
  const queue = store.openPageQueue(sink);
  consumer.peers.stopDialling(address);
  consumer.peers.stopDialling(address);
  t.throws(() => consumer.peers.stopDialling('x'), { code: 'ERR_USAGE_ADDRESS' });
  t.match(consumer.peers.peers(), [{ name: 'provider', address, state: 'up', dialled: false }]);
  t.same(await store.renew([grant.leaseId], 5000), [], 'the session lives');
  const again = consumer.peers.connect(address);
  t.equal(again.state, 'up', 'and is found when the address comes back');
  t.ok(queue.readPages(1, grant.slabHandle, 0, 1));
  await until(() => sink.reads.length === 1);
  t.match(sink.reads, [{ tag: 1, status: 0 }], 'it was not made anew');
  t.equal(sink.credits, 0);
  consumer.peers.stopDialling(address);
  await provider.peers.close();
  await until(() => !store.up);
  const second = testNode(t, 'provider', { identity });
  await second.peers.listen({ host: '127.0.0.1', port: portOf(address) });
  await new Promise((resolve) => setTimeout(resolve, 700));
  t.equal(store.up, false, 'longer than the first waits, and nobody dialled');
  t.match(consumer.peers.peers(), [{ name: 'provider', state: 'down' }]);
  t.equal(await consumer.peers.connect(address).outcome(), 'up');
});

t.test('two nodes that dial each other at once keep one session, the same', async (t) => {
  for (let round = 0; round < 5; round += 1) {
    const [a, b] = [testNode(t, 'a', { random: () => 0 }), testNode(t, 'b', { random: () => 0 })];
    const [aAddress, bAddress] = [await a.listen(), await b.listen()];
    const dialers = [a.peers.connect(bAddress), b.peers.connect(aAddress)];
    await until(
      () =>
        dialers.every(({ state }) => state === 'up') &&
        a.peers.connectionCount === 1 &&
        b.peers.connectionCount === 1,
      'one session',
    );
    await new Promise((resolve) => setTimeout(resolve, 150));
    t.equal(a.peers.connectionCount, 1);
    t.equal(b.peers.connectionCount, 1);
    const grant = await a.peers.store('b').lease({ pageCount: 1, ttlMs: 5000 });
    t.ok(b.slabs.book.slabs.has(grant.slabHandle), 'and it works');
  }
});

t.test('a node does not talk to itself', async (t) => {
  const a = testNode(t, 'a');
  const dialer = a.peers.connect(await a.listen());
  await until(() => dialer.lastError !== undefined);
  t.match(dialer.lastError, { code: 'ERR_PEER_HANDSHAKE', message: /itself/ });
  t.equal(a.peers.list().length, 0);
  t.equal(a.trust.list().length, 0);
});

t.test('an address where nobody listens is tried again, and shown', async (t) => {
  const a = testNode(t, 'a');
  const dialer = a.peers.connect('127.0.0.1:1');
  t.equal(await dialer.outcome(), 'waiting');
  t.match(a.peers.peers(), [
    {
      nodeId: undefined,
      address: '127.0.0.1:1',
      state: 'waiting',
      error: { code: 'ERR_PEER_UNREACHABLE' },
    },
  ]);
  t.equal(a.peers.connect('127.0.0.1:1'), dialer, 'an address has one dialler');
});

t.test('wrong names and addresses are refused', async (t) => {
  t.throws(() => testNode(t, 'a\u001b[2J'), { code: 'ERR_USAGE' });
  const a = testNode(t, 'a');
  t.throws(() => a.peers.connect('nowhere'), { code: 'ERR_USAGE_ADDRESS' });
  t.throws(() => a.peers.store('x'), { code: 'ERR_PEER_UNKNOWN' });
  const address = await a.listen();
  const b = testNode(t, 'b');
  await t.rejects(b.peers.listen({ host: '127.0.0.1', port: portOf(address) }), {
    code: 'ERR_USAGE_ADDRESS',
  });
});

t.test('where a node is, and whether it takes slabs, is told at the greeting', async (t) => {
  const place = { hostId: 'machine-1', zone: 'rack-7' };
  const [provider, plain] = [testNode(t, 'provider', place), testNode(t, 'plain')];
  provider.slabs.accepting = false;
  const consumer = testNode(t, 'consumer');
  for (const node of [provider, plain]) {
    t.equal(await consumer.peers.connect(await node.listen()).outcome(), 'up');
  }
  t.match(consumer.peers.store('provider'), { ...place, accepting: false });
  t.match(consumer.peers.store('plain'), { hostId: '', zone: '', accepting: true });
  const rows = consumer.peers.peers();
  t.match(
    rows.find(({ name }) => name === 'provider'),
    { ...place, accepting: false, quarantineReason: undefined },
  );
});

t.test(
  'a recall reaches every listener, in parts that fit, and only while it listens',
  async (t) => {
    const [provider, consumer] = [testNode(t, 'provider'), testNode(t, 'consumer')];
    await consumer.peers.connect(await provider.listen()).outcome();
    const store = consumer.peers.store('provider');
    const events = (): SlabAccessEvents => provider.slabs.events.get(consumer.identity.nodeId)!;
    await until(() => provider.slabs.events.has(consumer.identity.nodeId));
    const [first, second]: [SlabRecall[], SlabRecall[]] = [[], []];
    store.onRecall((recall) => first.push(recall));
    const stop = store.onRecall((recall) => second.push(recall));
    const leaseIds = Array.from({ length: 1500 }, (_, index) => `${index}`.padStart(16, '0'));
    events().onRecall({ leaseIds, endsInMs: Infinity });
    await until(() => first.length === 2);
    t.same(
      first.flatMap((recall) => recall.leaseIds),
      leaseIds,
      'the order is kept',
    );
    t.equal(first[0]?.endsInMs, Infinity);
    stop();
    events().onRecall({ leaseIds: leaseIds.slice(0, 1), endsInMs: 1234.6 });
    await until(() => first.length === 3);
    t.equal(first[2]?.endsInMs, 1235);
    t.equal(second.length, 2);
    events().onAccepting(false);
    await until(() => !store.accepting);
    events().onAccepting(true);
    await until(() => store.accepting);
    store.setAvoided(true);
    t.equal(store.accepting, false, 'an operator here has the last word');
  },
);

t.test(
  'a hundred control requests at once go sixteen at a time and all are answered',
  async (t) => {
    const [provider, consumer] = [testNode(t, 'provider'), testNode(t, 'consumer')];
    await consumer.peers.connect(await provider.listen()).outcome();
    const store = consumer.peers.store('provider');
    const ask = { pageCount: 1, ttlMs: 5000 };
    const grants = await Promise.all(Array.from({ length: 100 }, () => store.lease(ask)));
    t.equal(provider.slabs.usage().leaseCount, 100);
    await Promise.all(grants.map(({ leaseId }) => store.release(leaseId)));
    t.equal(provider.slabs.usage().leaseCount, 0);
    t.ok(store.up, 'the session lives');
    const rest = Array.from({ length: 50 }, () => store.lease(ask));
    const refused = Promise.all(
      rest.map((each) => t.rejects(each, { code: 'ERR_PEER_UNREACHABLE' })),
    );
    consumer.peers.disconnect('provider');
    await refused;
  },
);

t.test('a recall does not wait for the next tick of 100 ms', async (t) => {
  const [provider, consumer] = [testNode(t, 'provider'), testNode(t, 'consumer')];
  await consumer.peers.connect(await provider.listen()).outcome();
  const { nodeId } = consumer.identity;
  await until(() => provider.slabs.events.has(nodeId));
  let toldMs = Infinity;
  consumer.peers.store('provider').onRecall(() => (toldMs = performance.now()));
  // The best of several: the machine that runs this may be busy with other things.
  let bestMs = Infinity;
  for (let round = 0; round < 10; round += 1) {
    toldMs = Infinity;
    const beganMs = performance.now();
    provider.slabs.events.get(nodeId)!.onRecall({ leaseIds: ['0'.repeat(16)], endsInMs: 0 });
    await until(() => toldMs < Infinity);
    bestMs = Math.min(bestMs, toldMs - beganMs);
  }
  t.ok(bestMs < 30, `told after ${bestMs} ms`);
});

t.test('a provider asks its holder what it could take back', async (t) => {
  const [provider, consumer] = [testNode(t, 'provider'), testNode(t, 'consumer')];
  await consumer.peers.connect(await provider.listen()).outcome();
  const holder = consumer.identity.nodeId;
  await until(() => provider.peers.list().length === 1);
  t.same(await provider.peers.askRecallRoom(holder), { heldBytes: 0, roomBytes: 0, problem: '' });
  consumer.peers.recallRoom = (nodeId) => ({
    ...{ heldBytes: 5, roomBytes: 2 ** 40 },
    problem: `no place for ${nodeId}\n${'x'.repeat(300)}`,
  });
  const { problem, ...room } = await provider.peers.askRecallRoom(holder);
  t.same(room, { heldBytes: 5, roomBytes: 2 ** 40 });
  t.match(problem, `no place for ${provider.identity.nodeId}?xxx`);
  t.equal(problem.length, 256);
  await t.rejects(provider.peers.askRecallRoom('f'.repeat(32)), { code: 'ERR_PEER_UNREACHABLE' });
});

t.test('an older holder is not asked what it does not know', async (t) => {
  const node = testNode(t, 'provider');
  const raw = await RawPeer.connect(portOf(await node.listen()), 'old');
  await raw.handshake('initiator');
  await raw.accept();
  await until(() => node.peers.list().length === 1);
  const [old] = node.peers.list();
  await t.rejects(node.peers.askRecallRoom(old!.nodeId), { code: 'ERR_UNSUPPORTED' });
  await raw.destroy();
});

t.test(
  'a quarantine is of the key: it outlives sessions, and only a pardon lifts it',
  async (t) => {
    const quarantines = Quarantines.inMemory();
    const provider = testNode(t, 'provider');
    const consumer = testNode(t, 'consumer', { quarantines });
    const address = await provider.listen();
    await consumer.peers.connect(address).outcome();
    const store = consumer.peers.store('provider');
    t.equal(store.quarantineReason, undefined);
    store.quarantine('a page failed its tag');
    store.quarantine('another reason');
    t.equal(store.quarantineReason, 'a page failed its tag', 'the first reason stays');
    consumer.peers.disconnect('provider');
    await consumer.peers.connect(address).outcome();
    t.equal(consumer.peers.store('provider').quarantineReason, 'a page failed its tag');
    quarantines.pardon('PROVIDER');
    t.equal(store.quarantineReason, undefined);
  },
);
