/** Peers that tell each other of their peers, and those that are told nothing. */
import t from 'tap';
import { portOf, testNode, until } from '../helpers/peer-node.ts';
import { RawPeer } from '../helpers/raw-peer.ts';

const CONTROL = 0x20;
const CONTROL_REPLY = 0xa0;

t.test('a trusted peer tells whom it has sessions with, and where they take peers', async (t) => {
  const tells = { exchangesPeers: true };
  const [hub, one, two] = [
    testNode(t, 'hub', tells),
    testNode(t, 'one', tells),
    testNode(t, 'two'),
  ];
  const hubAddress = await hub.listen();
  const twoAddress = await two.listen();
  await one.peers.connect(hubAddress).outcome();
  await two.peers.connect(hubAddress).outcome();
  await until(() => hub.peers.list().length === 2);
  t.same(one.peers.exchange.partners(), [hub.identity.nodeId]);
  t.same(await one.peers.exchange.ask(hub.identity.nodeId), [
    { nodeId: two.identity.nodeId, address: twoAddress },
  ]);
  t.same(two.peers.exchange.partners(), [hub.identity.nodeId], 'whoever asks is answered');
  t.same(hub.peers.exchange.partners(), [one.identity.nodeId], 'two tells nobody');
  await t.rejects(hub.peers.exchange.ask(two.identity.nodeId), { code: 'ERR_PEER_UNREACHABLE' });
});

t.test('who was let in once is told nothing, and nobody is told of it', async (t) => {
  const tells = { exchangesPeers: true };
  const hub = testNode(t, 'hub', { ...tells, autoTrust: false });
  const [friend, guest] = [testNode(t, 'friend', tells), testNode(t, 'guest', tells)];
  const { publicKey, nodeId } = friend.identity;
  hub.trust.trust({ publicKey, nodeId, name: 'friend' });
  const address = await hub.listen();
  await friend.listen();
  await guest.listen();
  await friend.peers.connect(address).outcome();
  guest.peers.connect(address);
  await until(() => hub.consent.list().length === 1);
  hub.consent.answer(hub.consent.list()[0]!.id, 'once');
  await until(() => guest.peers.list().some(({ up }) => up));
  t.same(await guest.peers.exchange.ask(hub.identity.nodeId), []);
  t.same(await friend.peers.exchange.ask(hub.identity.nodeId), []);
  t.same(hub.peers.exchange.partners(), [nodeId], 'nor is it believed');
});

t.test('a node that tells nothing says so', async (t) => {
  const node = testNode(t, 'node');
  const raw = await RawPeer.connect(portOf(await node.listen()), 'raw');
  await raw.handshake('initiator');
  const { features } = await raw.accept();
  t.notOk(features.includes('peers'));
  const { Packr } = await import('msgpackr');
  const body = new Packr({ useRecords: false }).pack({ method: 'peers' });
  raw.send((writer) => writer.body(CONTROL, 1, 0, body));
  const reply = await raw.readType(CONTROL_REPLY);
  t.match(reply.body.toString('latin1'), /ERR_UNSUPPORTED/);
  await raw.destroy();
});
