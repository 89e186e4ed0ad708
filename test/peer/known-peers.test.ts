/** Guests between whole nodes: what they may do, what they may not, and what is left of them. */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { nodeIdOf } from '../../common/fingerprint.ts';
import type { ManagedService } from '../../common/managed.ts';
import type { ObjectService } from '../../common/objects.ts';
import { Identity } from '../../peer/identity.ts';
import { KEEPALIVE_DEFAULTS } from '../../peer/keepalive-machine.ts';
import { KnownPeers } from '../../peer/known-peers.ts';
import { Quarantines } from '../../peer/quarantines.ts';
import { TrustStore } from '../../peer/trust.ts';
import { KeepingSink, portOf, testNode, until, type TestNode } from '../helpers/peer-node.ts';
import { RawPeer } from '../helpers/raw-peer.ts';

const BYE = 0x73;
const OBJECT = 0x30;
const NOTICE = 0x72;
const HOUR_MS = 3_600_000;

const MANAGED: ManagedService = {
  serveManaged: (from) => Promise.resolve(Buffer.from(from)),
};
const OBJECTS: ObjectService = {
  serveObject: () => Buffer.alloc(1),
  onRequesterGone: () => undefined,
  onRequesterRevoked: () => undefined,
};

/** A node that a human or a control plane has to let others in. */
function strict(t: Test, name: string, options: Parameters<typeof testNode>[2] = {}): TestNode {
  return testNode(t, name, { autoTrust: false, managed: MANAGED, ...options });
}

/** A provider and a client that the control plane has told of each other. */
async function introduced(t: Test, options: Parameters<typeof testNode>[2] = {}) {
  const provider = strict(t, 'provider', { objects: OBJECTS, exchangesPeers: true, ...options });
  const client = strict(t, 'client');
  const address = await provider.listen();
  provider.peers.admissions.admit(client.identity.publicKey, HOUR_MS);
  client.peers.admissions.admit(provider.identity.publicKey, HOUR_MS);
  const { nodeId } = provider.identity;
  const pin = { pin: (peer: { nodeId: string }) => peer.nodeId === nodeId, asGuest: true };
  return { provider, client, address, pin };
}

t.test('two nodes that trust nobody meet by the word of a control plane', async (t) => {
  const { provider, client, address, pin } = await introduced(t);
  t.equal(await client.peers.connect(address, pin).outcome(), 'up');
  const store = client.peers.store(provider.identity.nodeId);
  t.ok(store.isGuest && store.up);
  await until(() => provider.peers.guests().length === 1);
  t.ok(provider.peers.admissions.isGuest(client.identity.nodeId));
  t.same(provider.consent.list(), [], 'no human was asked');
  t.same(client.consent.list(), []);
  t.same(provider.trust.list(), [], 'nor is anybody trusted now');
  const link = client.peers.managedLinks.find(provider.identity.nodeId)!;
  t.equal((await link.request(Buffer.from('x'))).toString(), client.identity.nodeId);
  const grant = await store.lease({ pageCount: 1, ttlMs: 60_000, under: 'ab'.repeat(16) });
  const sink = new KeepingSink();
  t.ok(store.openPageQueue(sink).readPages(1, grant.slabHandle, 0, 1));
  await until(() => sink.reads.length === 1);
  t.match(sink.reads, [{ status: 0 }]);
  for (const { peers } of [provider, client]) {
    t.match(peers.peers(), [{ isGuest: true, state: 'up' }]);
    t.same(peers.list(), [], 'nothing unmanaged sees it');
    t.same(peers.objectLinks.list(), []);
    t.same(peers.laneTargets(), []);
  }
  t.match(client.peers.laneTarget(provider.identity.nodeId), { address });
  t.equal(client.peers.laneTarget('nobody'), undefined);
});

t.test('a guest is told of nothing, and may ask for nothing else', async (t) => {
  const { provider } = await introduced(t);
  const other = strict(t, 'friend');
  const { publicKey, nodeId } = other.identity;
  provider.trust.trust({ publicKey, nodeId, name: 'friend' });
  provider.trust.remove('friend');
  provider.peers.recallRoom = () => ({ heldBytes: 1, roomBytes: 2 ** 40, problem: '' });
  const identity = Identity.ephemeral();
  provider.peers.admissions.admit(identity.publicKey, HOUR_MS);
  const raw = await RawPeer.connect(portOf(await provider.listen()), 'raw', identity);
  t.teardown(() => raw.destroy());
  await raw.handshake('initiator');
  const { features } = await raw.accept(['managed', 'peers', 'objects', 'recall']);
  t.same(features, ['recall', 'lanes', 'managed']);
  await until(() => provider.peers.guests().length === 1);
  t.same(provider.peers.exchange.partners(), [], 'it is not asked for peers');
  provider.trust.trust({ publicKey, nodeId, name: 'friend' });
  provider.trust.remove('friend');
  // recall-room and peers, as control requests.
  raw.send((writer) => {
    writer.body(0x20, 1, 1, Buffer.from('81a66d6574686f64ab726563616c6c2d726f6f6d', 'hex'));
    writer.body(0x20, 2, 1, Buffer.from('81a66d6574686f64a57065657273', 'hex'));
  });
  const room = (await raw.readType(0xa0)).body.toString('latin1');
  t.match(room, /control plane/);
  t.ok(room.includes('roomBytes\0'), 'no room of others is told');
  t.match((await raw.readType(0xa0)).body.toString('latin1'), /ERR_UNSUPPORTED/);
  t.notOk(
    raw.messages.some(({ type, body }) => type === NOTICE && body.includes('revoked')),
    'no revocation was told',
  );
  raw.send((writer) => writer.body(OBJECT, 3, 1, Buffer.from([1]), 100));
  t.match(await raw.readType(BYE), { aux: 4 });
  await raw.ended();
});

t.test('lanes of a guest are let in with it, and end with it', async (t) => {
  const { provider, client, address, pin } = await introduced(t);
  t.equal(await client.peers.connect(address, pin).outcome(), 'up');
  const { identity } = client;
  const mount = strict(t, 'client', { identity, lane: 'm', managed: undefined });
  const refused = mount.peers.connect(address, pin);
  await refused.outcome();
  t.match(refused.lastError, { code: 'ERR_PEER_UNTRUSTED' }, 'the mount has to know as well');
  mount.peers.stopDialling(address);
  mount.peers.admissions.admit(provider.identity.publicKey, HOUR_MS);
  t.equal(await mount.peers.connect(address, pin).outcome(), 'up');
  await until(() => provider.peers.laneCount(identity.nodeId) === 1);
  const store = mount.peers.store(provider.identity.nodeId);
  t.ok(store.isGuest);
  const under = 'cd'.repeat(16);
  const grant = await store.lease({ pageCount: 1, ttlMs: 60_000, under });
  t.equal(provider.slabs.book.slabs.get(grant.slabHandle)?.holder, `${identity.nodeId}/m`);
  provider.peers.admissions.dismiss(identity.nodeId);
  await until(() => provider.peers.laneCount(identity.nodeId) === 0);
  await until(() => !client.peers.store(provider.identity.nodeId).up && !store.up);
  t.same(provider.peers.guests(), []);
  t.same(provider.peers.peers(), [], 'nothing is left of it');
  await t.rejects(store.lease({ pageCount: 1, ttlMs: 1000 }), { code: 'ERR_PEER_UNREACHABLE' });
});

t.test(
  'a dial to a guest asks nobody here once its time is over, and can be stopped',
  async (t) => {
    const time = { nowMs: 0 };
    const provider = strict(t, 'provider');
    const client = strict(t, 'client', { clock: { nowMs: () => time.nowMs } });
    const address = await provider.listen();
    const { nodeId, publicKey } = provider.identity;
    client.peers.admissions.admit(publicKey, 1000);
    provider.peers.admissions.admit(client.identity.publicKey, HOUR_MS);
    const pin = { pin: (peer: { nodeId: string }) => peer.nodeId === nodeId, asGuest: true };
    const dialer = client.peers.connect(address, pin);
    t.equal(await dialer.outcome(), 'up');
    time.nowMs = 5000;
    const store = client.peers.store(nodeId);
    t.ok(store.up && store.isGuest, 'its session goes on, as a guest');
    await until(() => provider.peers.guests().length === 1);
    const { session } = store;
    session?.close(3);
    await until(() => dialer.lastError?.code === 'ERR_PEER_UNTRUSTED');
    t.same(client.consent.list(), []);
    t.same(client.peers.list(), []);
    t.ok(store.isGuest, 'who was a guest is nothing else when its time is over');
    t.same(client.peers.dialled, [], 'no other process would know for how long');
    client.peers.stopDialling(address);
    t.equal(dialer.state, 'stopped');
    t.same(client.peers.peers(), []);
  },
);

t.test('another key than the pinned one is turned away, guest or not', async (t) => {
  const { provider, client, address } = await introduced(t);
  const other = nodeIdOf(randomBytes(32));
  const pin = { pin: (peer: { nodeId: string }) => peer.nodeId === other, asGuest: true };
  const dialer = client.peers.connect(address, pin);
  await dialer.outcome();
  t.match(dialer.lastError, { code: 'ERR_PEER_KEY_CHANGED' });
  t.same(provider.peers.guests(), [], 'it learnt nothing');
});

t.test('who waits for a human is let in when the control plane admits it', async (t) => {
  const provider = strict(t, 'provider');
  const client = testNode(t, 'client');
  const dialer = client.peers.connect(await provider.listen());
  await until(() => provider.consent.list().length === 1);
  provider.peers.admissions.admit(client.identity.publicKey, HOUR_MS);
  await until(() => dialer.state === 'up');
  t.same(provider.consent.list(), [], 'the question is gone');
  t.equal(provider.peers.guests().length, 1);
  t.same(provider.peers.list(), []);
});

t.test('a denied key stays out, and one that is denied later leaves', async (t) => {
  const { provider, client, address, pin } = await introduced(t);
  const { publicKey, nodeId } = client.identity;
  t.equal(await client.peers.connect(address, pin).outcome(), 'up');
  await until(() => provider.peers.guests().length === 1);
  provider.trust.deny({ publicKey, nodeId, name: 'client' });
  await until(() => !client.peers.store(provider.identity.nodeId).up);
  provider.peers.admissions.admit(publicKey, HOUR_MS);
  client.peers.stopDialling(address);
  const dialer = client.peers.connect(address, pin);
  await dialer.outcome();
  t.not(dialer.state, 'up');
  t.notOk(provider.peers.admissions.isGuest(nodeId));
});

t.test('a guest takes the name of nobody who is trusted', async (t) => {
  const { provider } = await introduced(t);
  const real = strict(t, 'Alpha');
  const { publicKey, nodeId } = real.identity;
  provider.trust.trust({ publicKey, nodeId, name: 'Alpha' });
  const address = await provider.listen();
  const impostor = testNode(t, 'alpha');
  provider.peers.admissions.admit(impostor.identity.publicKey, HOUR_MS);
  t.equal(await impostor.peers.connect(address).outcome(), 'up');
  await until(() => provider.peers.guests().length === 1);
  const [guest] = provider.peers.guests();
  t.equal(guest?.nodeName, `guest-${impostor.identity.nodeId.slice(0, 12)}`);
  t.throws(() => provider.peers.store('alpha'), { code: 'ERR_PEER_UNKNOWN' });
  t.same(provider.peers.keyAlarms, [], 'it is no alarm: the name is not believed');
  // One that was here before a trusted node of the same name.
  const early = testNode(t, 'beta');
  provider.peers.admissions.admit(early.identity.publicKey, HOUR_MS);
  t.equal(await early.peers.connect(address).outcome(), 'up');
  await until(() => provider.peers.guests().length === 2);
  t.equal(provider.peers.store('beta').nodeId, early.identity.nodeId);
  const beta = testNode(t, 'beta');
  const { identity } = beta;
  provider.trust.trust({ publicKey: identity.publicKey, nodeId: identity.nodeId, name: 'beta' });
  t.equal(await beta.peers.connect(address).outcome(), 'up');
  await until(() => provider.peers.list().length === 1);
  t.equal(provider.peers.store('beta').nodeId, identity.nodeId, 'whoever is trusted is meant');
});

t.test(
  'a guest that becomes trusted is one from then on, and in full with its next session',
  async (t) => {
    const { provider, client, address, pin } = await introduced(t);
    t.equal(await client.peers.connect(address, pin).outcome(), 'up');
    await until(() => provider.peers.guests().length === 1);
    const { publicKey, nodeId } = client.identity;
    provider.trust.trust({ publicKey, nodeId, name: 'client' });
    t.notOk(provider.peers.admissions.isGuest(nodeId));
    t.match(provider.peers.list(), [{ nodeId, isGuest: false }]);
    const before = client.peers.store('provider').session;
    t.notOk(before?.features.includes('objects'));
    before?.close(3);
    await until(() => client.peers.store('provider').session?.ended === false);
    t.ok(client.peers.store('provider').session?.features.includes('objects'));
    provider.peers.admissions.dismiss(nodeId);
    t.ok(client.peers.store('provider').up, 'the end of a guest is not its end');
  },
);

t.test('the address of a control node is not taken over by a guest', async (t) => {
  const { provider, client, address, pin } = await introduced(t);
  t.equal(await client.peers.connect(address, pin).outcome(), 'up');
  t.ok(client.peers.managedLinks.find(provider.identity.nodeId)?.up);
  t.equal(client.peers.managedLinks.at(address), undefined);
});

t.test('guests never take the last places, and make room when they are gone', (t) => {
  const guests = new Set<string>();
  const known = new KnownPeers({
    trust: TrustStore.inMemory(),
    guests: { isGuest: (nodeId) => guests.has(nodeId) },
    quarantines: Quarantines.inMemory(),
    keepalive: KEEPALIVE_DEFAULTS,
    isLane: false,
  });
  const id = (index: number): string => index.toString(16).padStart(32, '0');
  for (let index = 0; index < 192; index += 1) {
    guests.add(id(index));
    known.open(id(index), `g${index}`, true)!.store.openPageQueue(new KeepingSink());
  }
  t.equal(known.open(id(1000), 'one too many', true), undefined);
  for (let index = 300; index < 364; index += 1) t.ok(known.open(id(index), `n${index}`));
  t.equal(known.all.size, 256);
  t.equal(known.open(id(400), 'a trusted one too many'), undefined);
  t.equal(known.guests().length, 192);
  t.equal(known.withoutGuests().length, 64);
  const idle = known.all.get(id(7))!;
  Object.defineProperty(idle.store, 'inUse', { value: false });
  known.forgetGuest(idle);
  t.ok(known.all.has(id(7)), 'it may come back');
  t.ok(known.open(id(400), 'a trusted one'), 'but it makes room');
  t.notOk(known.all.has(id(7)));
  const gone = known.all.get(id(8))!;
  Object.defineProperty(gone.store, 'inUse', { value: false });
  guests.delete(id(8));
  t.notOk(known.shown().has(id(8)));
  known.forgetGuest(gone);
  t.notOk(known.all.has(id(8)));
  t.end();
});
