/** Managed calls between whole nodes: links, changes, and services that fail. */
import t from 'tap';
import type { ManagedService } from '../../common/managed.ts';
import { decodeControlRequest } from '../../peer/control.ts';
import { TrustStore } from '../../peer/trust.ts';
import { KeepingSink, portOf, testNode, until } from '../helpers/peer-node.ts';
import { RawPeer, rawServer } from '../helpers/raw-peer.ts';

const MANAGE = 0x40;
const MANAGE_REPLY = 0xc0;
const BYE = 0x73;
const CONTROL = 0x20;

/** Answers with who asked and what. */
const ECHO: ManagedService = {
  serveManaged: (from, body) => Promise.resolve(Buffer.from(`${from} ${body.toString()}`)),
};

t.test('both sides ask each other on one session, and know who asks', async (t) => {
  const a = testNode(t, 'a', { managed: ECHO });
  const b = testNode(t, 'b', { managed: ECHO });
  const address = await b.listen();
  t.equal(a.peers.managedLinks.find(b.identity.nodeId), undefined);
  t.equal(a.peers.managedLinks.at(address), undefined);
  await a.peers.connect(address).outcome();
  const there = a.peers.managedLinks.at(address)!;
  t.match({ name: there.name, nodeId: there.nodeId, up: there.up }, { name: 'b', up: true });
  t.equal(a.peers.managedLinks.find(b.identity.nodeId), there);
  await until(() => b.peers.managedLinks.find(a.identity.nodeId)?.up === true);
  const back = b.peers.managedLinks.find(a.identity.nodeId)!;
  const [one, two] = await Promise.all([
    there.request(Buffer.from('x')),
    back.request(Buffer.alloc(50_000, 'y')),
  ]);
  t.equal(one.toString(), `${a.identity.nodeId} x`);
  t.equal(two.length, 33 + 50_000);
  t.throws(() => a.peers.managedLinks.at('no address'), { code: 'ERR_USAGE_ADDRESS' });
});

t.test('sessions that answer are told when they begin and end; a link outlives them', async (t) => {
  const a = testNode(t, 'a');
  const b = testNode(t, 'b', { managed: ECHO });
  const address = await b.listen();
  const seen: string[] = [];
  const stop = a.peers.managedLinks.onChange(({ name, up }) => seen.push(`${name} ${up}`));
  b.peers.managedLinks.onChange(({ name }) => t.fail(`${name} answers nothing`));
  await a.peers.connect(address).outcome();
  await until(() => seen.length === 1);
  const link = a.peers.managedLinks.at(address)!;
  b.peers.disconnect(a.identity.nodeId);
  await until(() => seen.length === 2);
  t.same(seen, ['b true', 'b false']);
  await t.rejects(link.request(Buffer.from('x')), { code: 'ERR_PEER_UNREACHABLE' });
  b.peers.connect(await a.listen());
  await until(() => link.up);
  t.equal((await link.request(Buffer.from('x'))).toString(), `${a.identity.nodeId} x`);
  await until(() => seen.length === 3);
  stop();
  const back = b.peers.managedLinks.find(a.identity.nodeId)!;
  t.notOk(back.up);
  await t.rejects(back.request(Buffer.from('x')), { code: 'ERR_UNSUPPORTED' });
  await a.peers.close();
  t.equal(seen.length, 3, 'nobody listens any more');
});

t.test('calls may be given up, and end with their session', async (t) => {
  const never = new Promise<Uint8Array>(() => undefined);
  const b = testNode(t, 'b', { managed: { serveManaged: () => never } });
  const a = testNode(t, 'a');
  const address = await b.listen();
  await a.peers.connect(address).outcome();
  const link = a.peers.managedLinks.at(address)!;
  const abort = new AbortController();
  const given = link.request(Buffer.from('x'), abort.signal);
  abort.abort();
  await t.rejects(given, { code: 'ERR_CANCELLED' });
  await t.rejects(link.request(Buffer.from('x'), abort.signal), { code: 'ERR_CANCELLED' });
  const lost = link.request(Buffer.from('x'));
  b.peers.disconnect(a.identity.nodeId);
  await t.rejects(lost, { code: 'ERR_PEER_UNREACHABLE' });
});

t.test('a service that fails costs that session, and says why; the node lives on', async (t) => {
  let answer: () => Promise<Uint8Array> = () => Promise.reject(new Error('a defect'));
  const b = testNode(t, 'b', { managed: { serveManaged: () => answer() } });
  const a = testNode(t, 'a');
  const address = await b.listen();
  await a.peers.connect(address).outcome();
  const failures: [string, () => Promise<Uint8Array>][] = [
    ['a managed call of node "a" failed here: a defect', answer],
    ['60001 bytes', () => Promise.resolve(Buffer.alloc(60_001))],
    [
      'at once',
      () => {
        throw new Error('at once');
      },
    ],
  ];
  for (const [message, fails] of failures) {
    answer = fails;
    const link = a.peers.managedLinks.at(address)!;
    await until(() => link.up);
    await t.rejects(link.request(Buffer.from('x')), { code: 'ERR_PEER_UNREACHABLE' }, message);
    await until(() => b.peers.peers().some(({ error }) => error?.message.includes(message)));
    t.equal(b.peers.peers()[0]?.quarantineReason, undefined, 'the peer did nothing wrong');
  }
  answer = () => Promise.resolve(Buffer.from('well again'));
  const link = a.peers.managedLinks.at(address)!;
  await until(() => link.up);
  t.equal((await link.request(Buffer.from('x'))).toString(), 'well again');
});

t.test('pages and calls go on beside each other', async (t) => {
  const provider = testNode(t, 'provider', { managed: ECHO });
  const a = testNode(t, 'a');
  const address = await provider.listen();
  await a.peers.connect(address).outcome();
  const store = a.peers.store('provider');
  const grant = await store.lease({ pageCount: 64, ttlMs: 60_000 });
  const sink = new KeepingSink();
  const queue = store.openPageQueue(sink);
  const link = a.peers.managedLinks.at(address)!;
  let asked = 0;
  let answered = 0;
  const calls: Promise<void>[] = [];
  for (let round = 0; round < 20; round += 1) {
    while (queue.readPages(asked, grant.slabHandle, 0, 64)) asked += 1;
    for (let index = 0; index < 50; index += 1) {
      calls.push(
        link.request(Buffer.alloc(5000)).then(({ length }) => {
          if (length === 5033) answered += 1;
        }),
      );
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(calls);
  await until(() => sink.reads.length === asked);
  t.equal(answered, 1000);
  t.ok(asked > 64);
  t.ok(sink.reads.every(({ status }) => status === 0));
});

t.test('a lane neither asks nor is asked', async (t) => {
  const provider = testNode(t, 'provider', { managed: ECHO });
  const node = testNode(t, 'node');
  const address = await provider.listen();
  await node.peers.connect(address).outcome();
  const { publicKey, nodeId } = provider.identity;
  const trust = TrustStore.inMemory();
  trust.trust({ publicKey, nodeId, name: 'provider' });
  const lane = { trust, lane: 'm', provider: undefined, managed: ECHO };
  const mount = testNode(t, 'node', { identity: node.identity, ...lane });
  mount.peers.managedLinks.onChange(() => t.fail('a lane has no links'));
  t.equal(await mount.peers.connect(address).outcome(), 'up');
  const link = mount.peers.managedLinks.find(nodeId)!;
  t.notOk(link.up);
  await t.rejects(link.request(Buffer.from('x')), { code: 'ERR_UNSUPPORTED' });
  // And one that asks all the same loses its session.
  const raw = await RawPeer.connect(portOf(address), 'node', node.identity);
  t.teardown(() => raw.destroy());
  await raw.handshake('initiator');
  raw.hello({ verdict: 'pending', lane: 'raw' });
  await raw.accept(['managed'], undefined, { lane: 'raw' });
  raw.send((writer) => writer.body(MANAGE, 0, 1, Buffer.from('x')));
  t.match(await raw.readType(BYE), { aux: 4 });
  await raw.ended();
});

t.test('a lease under a managed one is asked only of who knows what that is', async (t) => {
  const under = 'ab'.repeat(16);
  for (const [features, asks] of [
    [['direct'], []],
    [
      ['direct', 'managed'],
      ['lease', 'direct-open'],
    ],
  ] as const) {
    const asked: string[] = [];
    const server = await rawServer(async (raw) => {
      await raw.handshake('responder');
      await raw.accept([...features]);
      try {
        for (;;) {
          const { type, body } = await raw.read();
          if (type !== CONTROL) continue;
          const request = decodeControlRequest(body) as { method: string; under?: string };
          t.equal(request.under, under);
          asked.push(request.method);
        }
      } catch {
        await raw.destroy();
      }
    }, 'provider');
    t.teardown(() => server.close());
    const a = testNode(t, 'a');
    t.equal(await a.peers.connect(`127.0.0.1:${server.port}`).outcome(), 'up');
    const store = a.peers.store('provider');
    const ends = [
      store.lease({ pageCount: 1, ttlMs: 1000, under }),
      store.openDirect({ sizeBytes: 4096, ttlMs: 1000, under }),
    ].map((end) => end.catch((error: unknown) => error as Error));
    if (asks.length > 0) await until(() => asked.length === 2);
    await a.peers.close();
    const code = asks.length > 0 ? 'ERR_PEER_UNREACHABLE' : 'ERR_UNSUPPORTED';
    for (const end of ends) t.match(await end, { code });
    t.same(asked, asks);
  }
});

t.test('a peer that floods is cut off, and nobody else notices', async (t) => {
  let open = 0;
  const never = new Promise<Uint8Array>(() => undefined);
  const node = testNode(t, 'node', {
    managed: {
      serveManaged: (from, body) => {
        if (body.toString() === 'flood') open += 1;
        return body.toString() === 'flood' ? never : ECHO.serveManaged(from, body);
      },
    },
  });
  const address = await node.listen();
  const friend = testNode(t, 'friend');
  await friend.peers.connect(address).outcome();
  const raw = await RawPeer.open(portOf(address), 'raw');
  t.teardown(() => raw.destroy());
  raw.send((writer) => {
    for (let index = 0; index < 1000; index += 1) {
      writer.body(MANAGE, index, 1, Buffer.from('flood'));
    }
  });
  t.match(await raw.readType(BYE), { aux: 4 });
  await raw.ended();
  t.equal(open, 64, 'so many, and not one more');
  const link = friend.peers.managedLinks.at(address)!;
  t.equal((await link.request(Buffer.from('x'))).toString(), `${friend.identity.nodeId} x`);
});

t.test(
  'a holder that answers what it was not asked is cut off, and the caller hears it',
  async (t) => {
    const server = await rawServer(async (raw) => {
      await raw.handshake('responder');
      await raw.accept(['managed']);
      const { idLow, idHigh } = await raw.readType(MANAGE);
      raw.send((writer) => writer.body(MANAGE_REPLY, idLow + 1, idHigh, Buffer.from('x')));
      await raw.ended();
      await raw.destroy();
    }, 'liar');
    t.teardown(() => server.close());
    const a = testNode(t, 'a');
    const address = `127.0.0.1:${server.port}`;
    t.equal(await a.peers.connect(address).outcome(), 'up');
    const link = a.peers.managedLinks.at(address)!;
    await t.rejects(link.request(Buffer.from('x')), { code: 'ERR_PEER_UNREACHABLE' });
    a.peers.stopDialling(address);
    t.match(a.peers.peers(), [
      { error: { code: 'ERR_PEER_PROTOCOL' }, quarantineReason: /managed/ },
    ]);
  },
);
