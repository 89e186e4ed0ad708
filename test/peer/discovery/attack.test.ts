/**
 * What somebody on the network may try with adverts. W1 of MemCloud in Rust: there whoever announces
 * itself becomes an authorised peer of every node, with no question asked. Here it is a question to a
 * human at most.
 */
import t, { type Test } from 'tap';
import { monotonicClock } from '../../../common/clock.ts';
import { silentLogger } from '../../../common/log.ts';
import { Identity } from '../../../peer/identity.ts';
import { Discovery } from '../../../peer/discovery/discovery.ts';
import { portOf, testNode, until, type TestNode } from '../../helpers/peer-node.ts';
import { rawServer, type RawPeer } from '../../helpers/raw-peer.ts';

/** Discovery of a node; its adverts are given by the test. */
function discoveryOf(t: Test, node: TestNode, exchangesPeers = false): Discovery {
  const { identity, peers } = node;
  const discovery = new Discovery({
    peers,
    own: { nodeId: identity.nodeId, name: 'node', port: 7070, freeBytes: () => 0 },
    mdns: undefined,
    dnsNames: [],
    exchangesPeers,
    clock: monotonicClock,
    random: () => 0,
    logger: silentLogger,
  });
  t.teardown(() => discovery.close());
  return discovery;
}

function advertise(discovery: Discovery, nodeId: string | undefined, port: number): void {
  discovery.onSighting({
    ...{ nodeId, name: 'rogue', address: `127.0.0.1:${port}`, origin: '127.0.0.1' },
    ...{
      source: 'mdns',
      networkInterface: 'eth0',
      freeBytes: 2 ** 40,
      protocol: 1,
      lifeMs: 60_000,
    },
  });
}

t.test('a rogue that announces itself leads to a pending question at most (W1)', async (t) => {
  const node = testNode(t, 'node', { autoTrust: false });
  const rogue = Identity.ephemeral();
  const arrived: RawPeer[] = [];
  const server = await rawServer((peer) => void arrived.push(peer), 'rogue', rogue);
  t.teardown(async () => {
    server.close();
    await Promise.all(arrived.map((peer) => peer.destroy()));
  });
  const discovery = discoveryOf(t, node);
  advertise(discovery, rogue.nodeId, server.port);
  await until(() => arrived.length === 1, 'the dial');
  const [peer] = arrived;
  await peer!.handshake('responder');
  // It accepts at once, and then asks for memory.
  peer!.hello({
    verdict: 'accepted',
    limits: { requestCountMax: 1024, pageBytesMax: 4096 * 4112 },
    usage: { offeredBytes: 2 ** 40, usedBytes: 0, residentBytes: 0, leaseCount: 0 },
    ...{ features: ['peers'], hostId: '', zone: '', accepting: true, lane: '', port: 7070 },
  });
  await until(() => node.consent.list().length === 1, 'the question');
  t.match(await peer!.readHello(), { verdict: 'pending' });
  t.match(node.consent.list(), [{ nodeId: rogue.nodeId, name: 'rogue', dialled: true }]);
  t.equal(node.peers.list().length, 0, 'it is no peer');
  t.equal(node.trust.list().length, 0);
  t.equal(node.slabs.usage().leaseCount, 0);
  t.same(node.peers.exchange.partners(), []);
  t.match(discovery.list(), [{ nodeId: rogue.nodeId, state: 'pending' }]);
  node.consent.answer(node.consent.list()[0]!.id, 'deny');
  await peer!.ended();
  await until(() => discovery.list()[0]?.state === 'refused');
  t.equal(node.peers.list().length, 0);
});

t.test('who announces itself as another node is turned away unasked and unnamed', async (t) => {
  const node = testNode(t, 'node', { autoTrust: true });
  const victim = Identity.ephemeral();
  const arrived: RawPeer[] = [];
  const server = await rawServer((peer) => void arrived.push(peer), 'victim', Identity.ephemeral());
  t.teardown(async () => {
    server.close();
    await Promise.all(arrived.map((peer) => peer.destroy()));
  });
  node.trust.trust({ publicKey: victim.publicKey, nodeId: victim.nodeId, name: 'friend' });
  const discovery = discoveryOf(t, node);
  advertise(discovery, victim.nodeId, server.port);
  await until(() => arrived.length === 1, 'the dial');
  await t.rejects(
    arrived[0]!.handshake('responder'),
    'no third message: it does not learn who we are',
  );
  await until(() => discovery.list()[0]?.state === 'impostor');
  t.equal(node.consent.list().length, 0, 'nobody is asked');
  t.equal(node.trust.list().length, 1, 'nor is it trusted, though whoever comes is');
  t.equal(node.peers.list().length, 0);
});

t.test('the real node is reached although a rogue claims its id first', async (t) => {
  const node = testNode(t, 'node');
  const friend = testNode(t, 'friend');
  const port = portOf(await friend.listen());
  const server = await rawServer((peer) => void peer.handshake('responder').catch(() => undefined));
  t.teardown(() => server.close());
  const discovery = discoveryOf(t, node);
  advertise(discovery, friend.identity.nodeId, server.port);
  advertise(discovery, friend.identity.nodeId, port);
  await until(() => node.peers.list().some(({ up }) => up), 'the session');
  t.equal(node.peers.list()[0]?.nodeId, friend.identity.nodeId);
});

t.test('an operator’s disconnect holds, whatever is announced', async (t) => {
  const [node, other] = [testNode(t, 'node'), testNode(t, 'other')];
  const address = await other.listen();
  await node.peers.connect(address).outcome();
  node.peers.disconnect('other');
  const discovery = discoveryOf(t, node);
  advertise(discovery, other.identity.nodeId, portOf(address));
  advertise(discovery, undefined, portOf(address));
  for (let looks = 0; looks < 40; looks += 1) {
    await new Promise((resolve) => setTimeout(resolve, 25));
    if (node.peers.list().some(({ up }) => up)) t.fail('it came back');
  }
  t.equal(
    discovery.list().find(({ nodeId }) => nodeId === other.identity.nodeId)?.state,
    'refused',
  );
  await node.peers.connect(address).outcome();
  t.ok(node.peers.list()[0]?.up, 'only an operator lifts it');
});

t.test('an advert of ourselves is no node, also where nobody says who it is', async (t) => {
  const node = testNode(t, 'node');
  const port = portOf(await node.listen());
  const discovery = discoveryOf(t, node);
  advertise(discovery, node.identity.nodeId, port);
  t.same(discovery.list(), []);
  advertise(discovery, undefined, port);
  await until(() => discovery.list()[0]?.state === 'impostor', 'our own key is refused');
  t.equal(node.peers.list().length, 0);
});

t.test('peers of a trusted peer are found by its word, and connected', async (t) => {
  const tells = { exchangesPeers: true };
  const [hub, one, two] = [
    testNode(t, 'hub', tells),
    testNode(t, 'one', tells),
    testNode(t, 'two', tells),
  ];
  const hubAddress = await hub.listen();
  for (const node of [one, two]) {
    await node.listen();
    await node.peers.connect(hubAddress).outcome();
  }
  await until(() => hub.peers.list().length === 2);
  const discovery = discoveryOf(t, one, true);
  await until(() => one.peers.list().filter(({ up }) => up).length === 2, 'the third node');
  t.match(discovery.list(), [{ nodeId: two.identity.nodeId, source: 'exchange', state: 'up' }]);
});
