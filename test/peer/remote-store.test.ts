import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { encodeControlOk } from '../../peer/control.ts';
import { RemoteStore } from '../../peer/remote-store.ts';
import { MemoryDirect } from '../helpers/memory-direct.ts';
import { KeepingSink, portOf, testNode, until } from '../helpers/peer-node.ts';
import { rawServer } from '../helpers/raw-peer.ts';
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
  await t.rejects(store.listDirect(), { code: 'ERR_PEER_UNREACHABLE' });
  t.equal(store.host, '');
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

const NONCE = '5a'.repeat(32);

t.test('direct exports are opened, listed, ticketed, renewed and closed far away', async (t) => {
  const direct = new MemoryDirect();
  const [provider, consumer] = [testNode(t, 'provider', { direct }), testNode(t, 'consumer')];
  const address = await provider.listen();
  await consumer.peers.connect(address).outcome();
  direct.port = portOf(address);
  const store = consumer.peers.store('provider');
  t.equal(store.host, '127.0.0.1');
  const opened = await store.openDirect({ sizeBytes: 2 ** 35, ttlMs: 60_000 });
  t.match(opened, { exportId: /^[0-9a-f]{16}$/, sizeBytes: 34359738368, connected: false });
  t.same(await store.listDirect(), [opened]);
  const ticket = await store.directTicket(opened.exportId, NONCE);
  t.match(ticket, { ticketId: /^[0-9a-f]{32}$/, secret: /^[0-9a-f]{64}$/, port: portOf(address) });
  t.equal(direct.exports.get(opened.exportId)?.holder, consumer.identity.nodeId);
  // More than one message holds.
  const ids = Array.from({ length: 150 }, (_, index) => index.toString(16).padStart(16, '0'));
  t.same(await store.renewDirect([opened.exportId, ...ids]), ids);
  t.same(await store.renewDirect([]), []);
  await store.closeDirect(opened.exportId);
  t.same(await store.listDirect(), []);
  const unknown = { code: 'ERR_LEASE_UNKNOWN' };
  await t.rejects(store.closeDirect(opened.exportId), unknown);
  await t.rejects(store.directTicket(opened.exportId, NONCE), unknown);
  await t.rejects(store.openDirect({ sizeBytes: 4095, ttlMs: 60_000 }), {
    code: 'ERR_LEASE_INVALID',
  });
  await t.rejects(store.openDirect({ sizeBytes: 2 ** 41, ttlMs: 60_000 }), {
    code: 'ERR_LEASE_CAPACITY',
  });
  t.ok(store.up, 'a refusal is no breach');
  await consumer.peers.close();
  t.equal(store.host, '');
});

t.test(
  'a node that serves none gets no such request: the caller hears ERR_UNSUPPORTED',
  async (t) => {
    const { store } = await connected(t);
    const { session } = store;
    const unsupported = { code: 'ERR_UNSUPPORTED' };
    await t.rejects(store.openDirect({ sizeBytes: 4096, ttlMs: 60_000 }), unsupported);
    await t.rejects(store.directTicket('0123456789abcdef', NONCE), unsupported);
    await t.rejects(store.renewDirect(['0123456789abcdef']), unsupported);
    await t.rejects(store.closeDirect('0123456789abcdef'), unsupported);
    await t.rejects(store.listDirect(), unsupported);
    t.equal(store.session, session);
    t.match(await store.lease({ pageCount: 1, ttlMs: 1000 }), { ttlMs: 1000 }, 'the session lives');
  },
);

t.test(
  'a provider of the first version is never sent a method that would end its session',
  async (t) => {
    const seen: number[] = [];
    const server = await rawServer((raw) => {
      t.teardown(() => raw.destroy());
      const listen = async (): Promise<void> => {
        await raw.handshake('responder');
        await raw.accept(['directory']);
        for (;;) seen.push((await raw.read()).type);
      };
      listen().catch(() => undefined);
    });
    const keepalive = { busyPingMs: 50, idlePingMs: 50, deadMs: 5000, idleDeadMs: 5000 };
    const node = testNode(t, 'node', { keepalive });
    await node.peers.connect(`127.0.0.1:${server.port}`).outcome();
    const store = node.peers.store('raw');
    await t.rejects(store.listDirect(), { code: 'ERR_UNSUPPORTED' });
    await t.rejects(store.openDirect({ sizeBytes: 4096, ttlMs: 1000 }), {
      code: 'ERR_UNSUPPORTED',
    });
    // A PING comes behind whatever was sent before it.
    await until(() => seen.includes(0x10));
    t.notOk(seen.includes(0x20), 'no CONTROL');
    t.ok(store.up);
    server.close();
  },
);

/** A consumer whose provider answers the first control request with `body`. */
async function answeredWith(t: Test, body: Buffer) {
  const server = await rawServer((raw) => {
    t.teardown(() => raw.destroy());
    const answer = async (): Promise<void> => {
      await raw.handshake('responder');
      await raw.accept(['something', 'direct']);
      const { idLow, idHigh } = await raw.readType(0x20);
      raw.send((writer) => writer.body(0xa0, idLow, idHigh, body));
    };
    answer().catch(() => undefined);
  });
  t.teardown(() => server.close());
  const node = testNode(t, 'node');
  await node.peers.connect(`127.0.0.1:${server.port}`).outcome();
  return node.peers.store('raw');
}

const ID = '0123456789abcdef';
const EXPORT = {
  exportId: ID,
  sizeBytes: 8192,
  residentBytes: 0,
  connected: false,
  ttlMs: 60_000,
};
const BAD_REPLIES: Record<string, [object, (store: RemoteStore) => Promise<unknown>]> = {
  'an export of another size': [
    { export: EXPORT },
    (store) => store.openDirect({ sizeBytes: 4096, ttlMs: 60_000 }),
  ],
  'no ticket': [{}, (store) => store.directTicket(ID, NONCE)],
  'a short secret': [
    { ticketId: '0'.repeat(32), secret: '0'.repeat(62), port: 1 },
    (store) => store.directTicket(ID, NONCE),
  ],
  'an id nobody asked about': [{ unknown: [ID] }, (store) => store.renewDirect(['f'.repeat(16)])],
  'a list of one that is none': [{ exports: [{}] }, (store) => store.listDirect()],
};
for (const [name, [fields, ask]] of Object.entries(BAD_REPLIES)) {
  t.test(`a reply with ${name} rejects its request and ends the session`, async (t) => {
    const store = await answeredWith(t, encodeControlOk(fields));
    await t.rejects(ask(store), { code: 'ERR_PEER_PROTOCOL' });
    await until(() => !store.up);
  });
}

t.test('a good reply from another implementation is taken', async (t) => {
  const body = Buffer.from(
    '82a26f6bc3a66578706f727485a86578706f72744964b030313233343536373839616263646566' +
      'a973697a654279746573cd2000ad7265736964656e744279746573cd1000a9636f6e6e6563746564c2' +
      'a574746c4d73cdea60',
    'hex',
  );
  const store = await answeredWith(t, body);
  t.same(await store.openDirect({ sizeBytes: 8192, ttlMs: 60_000 }), {
    ...EXPORT,
    residentBytes: 4096,
  });
});
