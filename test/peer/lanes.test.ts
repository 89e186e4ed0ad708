/**
 * Lanes: further sessions of one node, each a holder of its own. First what they are for, then what
 * somebody may try with them.
 */
import t, { type Test } from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import type { SlabRecall } from '../../common/ports.ts';
import { Identity } from '../../peer/identity.ts';
import type { PeersOptions } from '../../peer/peers-options.ts';
import { TrustStore } from '../../peer/trust.ts';
import { KeepingSink, portOf, testNode, until, type TestNode } from '../helpers/peer-node.ts';
import { RawPeer, rawServer } from '../helpers/raw-peer.ts';

const WRITE = 0x02;
const BYE = 0x73;
const WRITE_REPLY = 0x82;
const CONTROL = 0x20;
const CONTROL_REPLY = 0xa0;

interface Scene {
  provider: TestNode;
  address: string;
  /** The node whose lanes there are. */
  node: TestNode;
  /** Another process of it. */
  lane: (name: string, options?: Partial<PeersOptions>) => TestNode;
}

async function scene(t: Test, options: Parameters<typeof testNode>[2] = {}): Promise<Scene> {
  const provider = testNode(t, 'provider', options);
  const node = testNode(t, 'node');
  const { identity } = node;
  if (options.autoTrust === false) {
    const { publicKey, nodeId } = identity;
    provider.trust.trust({ publicKey, nodeId, name: 'node' });
  }
  const address = await provider.listen();
  t.equal(await node.peers.connect(address).outcome(), 'up');
  const { publicKey, nodeId } = provider.identity;
  const lane: Scene['lane'] = (name, more) => {
    const trust = TrustStore.inMemory();
    trust.trust({ publicKey, nodeId, name: 'provider' });
    return testNode(t, 'node', { identity, trust, lane: name, provider: undefined, ...more });
  };
  return { provider, address, node, lane };
}

/** A RawPeer that has named a lane in both its HELLOs. */
async function rawLane(address: string, identity: Identity, lane: string): Promise<RawPeer> {
  const raw = await RawPeer.connect(portOf(address), 'node', identity);
  await raw.handshake('initiator');
  raw.hello({ verdict: 'pending', lane });
  await raw.accept([], undefined, { lane });
  return raw;
}

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));

t.test('a lane leases, writes and reads beside the session of its node', async (t) => {
  const { provider, address, node, lane } = await scene(t);
  const session = node.peers.store('provider').session;
  const mount = lane('mount-1');
  t.equal(await mount.peers.connect(address).outcome(), 'up');
  await until(() => provider.peers.laneCount(node.identity.nodeId) === 1);
  const store = mount.peers.store('provider');
  const grant = await store.lease({ pageCount: 4, ttlMs: 5000 });
  const holder = `${node.identity.nodeId}/mount-1`;
  t.equal(provider.slabs.book.slabs.get(grant.slabHandle)?.holder, holder);
  const sink = new KeepingSink();
  const queue = store.openPageQueue(sink);
  const pages = new NativeMemory(4112);
  pages.bytes.fill(7);
  t.ok(queue.writePages(1, grant.slabHandle, 2, 1, pages, 0));
  await until(() => sink.done.length === 1);
  t.ok(queue.readPages(2, grant.slabHandle, 2, 1));
  await until(() => sink.reads.length === 1);
  t.same(sink.reads, [{ tag: 2, status: 0, first: 7 }]);
  t.equal(node.peers.store('provider').session, session, 'the node keeps its session');
  t.equal(provider.peers.list().length, 1, 'a lane is no peer');
  t.match(provider.peers.peers(), [{ name: 'node', state: 'up' }]);
  t.equal(store.up && node.peers.store('provider').up, true);
  pages.free();
});

t.test('each lane has its own leases, and the node its own', async (t) => {
  const { address, node, lane } = await scene(t);
  const [one, two] = [lane('one'), lane('two')];
  for (const { peers } of [one, two]) t.equal(await peers.connect(address).outcome(), 'up');
  const [a, b, c] = [one, two, node].map(({ peers }) => peers.store('provider'));
  const grant = await a!.lease({ pageCount: 1, ttlMs: 5000 });
  for (const other of [b!, c!]) {
    t.same(await other.renew([grant.leaseId], 5000), [grant.leaseId]);
    await t.rejects(other.release(grant.leaseId), { code: 'ERR_LEASE_UNKNOWN' });
    const sink = new KeepingSink();
    t.ok(other.openPageQueue(sink).readPages(1, grant.slabHandle, 0, 1));
    await until(() => sink.reads.length === 1);
    t.match(sink.reads, [{ status: 6 }]);
  }
  await a!.release(grant.leaseId);
});

t.test('a lane that comes again replaces the older one, which is told', async (t) => {
  const { provider, address, node, lane } = await scene(t);
  const identity = node.identity;
  const first = await rawLane(address, identity, 'm');
  t.teardown(() => first.destroy());
  await until(() => provider.peers.laneCount(identity.nodeId) === 1);
  const second = lane('m');
  t.equal(await second.peers.connect(address).outcome(), 'up');
  t.match(await first.readType(BYE), { aux: 1 });
  await first.ended();
  t.equal(provider.peers.laneCount(identity.nodeId), 1);
  const grant = await second.peers.store('provider').lease({ pageCount: 1, ttlMs: 5000 });
  t.ok(provider.slabs.events.has(`${identity.nodeId}/m`), 'the newer one hears of its leases');
  await second.peers.close();
  await until(() => provider.peers.laneCount(identity.nodeId) === 0);
  t.notOk(provider.slabs.events.has(`${identity.nodeId}/m`), 'nobody is left to be told');
  t.ok(provider.slabs.book.slabs.has(grant.slabHandle), 'leases outlive the session');
  t.ok(node.peers.store('provider').up, 'the node itself is not touched');
});

t.test('a recall goes to the lane that holds, and it is asked what it could move', async (t) => {
  const { provider, address, node, lane } = await scene(t);
  const mount = lane('m');
  mount.peers.recallRoom = () => ({ heldBytes: 8, roomBytes: 9, problem: 'p' });
  node.peers.recallRoom = () => ({ heldBytes: 1, roomBytes: 2, problem: '' });
  await mount.peers.connect(address).outcome();
  const { nodeId } = node.identity;
  await until(() => provider.peers.laneCount(nodeId) === 1);
  const heard: [string, SlabRecall][] = [];
  node.peers.store('provider').onRecall((recall) => heard.push(['node', recall]));
  mount.peers.store('provider').onRecall((recall) => heard.push(['lane', recall]));
  const recall = { leaseIds: ['0123456789abcdef'], endsInMs: Infinity };
  provider.slabs.events.get(`${nodeId}/m`)?.onRecall(recall);
  await until(() => heard.length === 1);
  t.same(heard, [['lane', recall]]);
  t.match(await provider.peers.askRecallRoom(`${nodeId}/m`), { heldBytes: 8, problem: 'p' });
  t.match(await provider.peers.askRecallRoom(nodeId), { heldBytes: 1, problem: '' });
  await t.rejects(provider.peers.askRecallRoom(`${nodeId}/other`), {
    code: 'ERR_PEER_UNREACHABLE',
  });
});

t.test(
  'a node knows where its lanes can dial: what it dials, and what dialled it and listens',
  async (t) => {
    const { provider, address, node } = await scene(t);
    const { publicKey, nodeId } = provider.identity;
    t.same(node.peers.laneTargets(), [
      { nodeId, name: 'provider', avoided: false, address, publicKey },
    ]);
    node.peers.store('provider').setAvoided(true);
    t.match(node.peers.laneTargets(), [{ avoided: true }]);
    t.same(provider.peers.laneTargets(), [], 'a node that does not listen cannot be dialled');
    const listening = testNode(t, 'listening');
    const own = await listening.listen();
    await listening.peers.connect(address).outcome();
    await until(() => provider.peers.laneTargets().length === 1);
    t.match(provider.peers.laneTargets(), [{ name: 'listening', address: own }]);
    await listening.peers.close();
    await until(() => !provider.peers.store('listening').up);
    t.equal(provider.peers.laneTargets().length, 1, 'one that was up may come back');
    provider.peers.store('listening').quarantine('it lied');
    t.same(provider.peers.laneTargets(), [], 'one that is not believed is not named');
    provider.trust.remove('node');
    node.peers.disconnect('provider');
    t.same(node.peers.laneTargets(), [], 'nor one that was cut off');
  },
);

t.test(
  'a node that takes no lanes is not named, and a lane leaves it before it is a session',
  async (t) => {
    const identity = Identity.ephemeral();
    const hellos: unknown[] = [];
    const server = await rawServer(
      (raw) => {
        t.teardown(() => raw.destroy());
        raw
          .handshake('responder')
          .then(async () => {
            const first = raw.readHello();
            raw.hello({
              verdict: 'accepted',
              limits: { requestCountMax: 1024, pageBytesMax: 4096 * 4112 },
              usage: { offeredBytes: 0, usedBytes: 0, residentBytes: 0, leaseCount: 0 },
              features: ['recall'],
              ...{ hostId: '', zone: '', accepting: true, lane: '', port: 7070 },
            });
            hellos.push(await first);
            hellos.push(await raw.readHello());
          })
          .catch(() => undefined);
      },
      'older',
      identity,
    );
    t.teardown(server.close);
    const trust = TrustStore.inMemory();
    trust.trust({ publicKey: identity.publicKey, nodeId: identity.nodeId, name: 'older' });
    const mount = testNode(t, 'node', { trust, lane: 'm', provider: undefined });
    const dialer = mount.peers.connect(`127.0.0.1:${server.port}`);
    await until(() => dialer.lastError !== undefined);
    t.equal(dialer.lastError?.code, 'ERR_UNSUPPORTED');
    t.same(hellos, [{ verdict: 'pending', lane: 'm' }], 'it never said accepted');
    const node = testNode(t, 'node');
    await node.peers.connect(`127.0.0.1:${server.port}`).outcome();
    t.equal(node.peers.list().length, 1);
    t.same(node.peers.laneTargets(), []);
  },
);

t.test('a lane dials nobody whose key it was not told', async (t) => {
  const { provider, address, node, lane } = await scene(t);
  const mount = lane('m', { trust: TrustStore.inMemory() });
  const dialer = mount.peers.connect(address);
  await until(() => dialer.lastError !== undefined);
  t.equal(dialer.lastError?.code, 'ERR_PEER_UNTRUSTED');
  t.equal(mount.consent.list().length, 0, 'and asks no human');
  t.equal(provider.peers.laneCount(node.identity.nodeId), 0);
});

t.test('revoked trust and a disconnect end the lanes of a node and keep them out', async (t) => {
  for (const how of ['trust', 'disconnect'] as const) {
    const { provider, address, node, lane } = await scene(t, { autoTrust: false });
    const { nodeId } = node.identity;
    const mount = lane('m', { random: () => 0 });
    const dialer = mount.peers.connect(address);
    t.equal(await dialer.outcome(), 'up');
    await until(() => provider.peers.laneCount(nodeId) === 1);
    if (how === 'trust') provider.trust.remove('node');
    else provider.peers.disconnect('node');
    t.equal(provider.peers.laneCount(nodeId), 0, how);
    await until(() => !mount.peers.store('provider').up);
    dialer.start();
    await settled();
    dialer.start();
    await settled();
    t.equal(provider.peers.laneCount(nodeId), 0, `${how} keeps it out`);
    await until(() => !mount.peers.store('provider').up);
  }
});

t.test('the lane of an unknown key is refused, and no human hears of it', async (t) => {
  const provider = testNode(t, 'provider', { autoTrust: false });
  let asked = 0;
  provider.consent.onChange(() => (asked += 1));
  const raw = await RawPeer.connect(portOf(await provider.listen()), 'stranger');
  t.teardown(() => raw.destroy());
  await raw.handshake('initiator');
  raw.hello({ verdict: 'pending', lane: 'm' });
  t.same(await raw.readHello(), { verdict: 'refused' });
  await raw.ended();
  t.equal(asked, 0);
  t.equal(provider.peers.connectionCount, 0);
});

t.test('a stranger that names its lane late, or was let in for once, gets no lane', async (t) => {
  const provider = testNode(t, 'provider', { autoTrust: false });
  const port = portOf(await provider.listen());
  const late = await RawPeer.connect(port, 'stranger');
  t.teardown(() => late.destroy());
  await late.handshake('initiator');
  t.match(await late.readHello(), { verdict: 'pending' }, 'asked about as any stranger');
  late.hello({ verdict: 'pending', lane: 'm' });
  t.same(await late.readHello(), { verdict: 'refused' });
  await late.ended();
  t.same(provider.consent.list(), [], 'the question is withdrawn');
  const once = await RawPeer.connect(port, 'stranger');
  t.teardown(() => once.destroy());
  await once.handshake('initiator');
  t.match(await once.readHello(), { verdict: 'pending' });
  provider.consent.answer(provider.consent.list()[0]!.id, 'once');
  t.match(await once.readHello(), { verdict: 'accepted' });
  once.hello({ verdict: 'pending', lane: 'm' });
  await once.ended();
  t.equal(provider.peers.connectionCount, 0);
});

t.test('bad names of lanes end the connection, and nothing else', async (t) => {
  const { provider, address, node } = await scene(t);
  for (const lane of ['A', 'a/b', 'direct/0123456789abcdef', 'x'.repeat(33), ' ', '..']) {
    const raw = await RawPeer.connect(portOf(address), 'node', node.identity);
    await raw.handshake('initiator');
    raw.hello({ verdict: 'pending', lane });
    await raw.ended();
    await raw.destroy();
  }
  t.equal(provider.peers.laneCount(node.identity.nodeId), 0);
  t.ok(node.peers.store('provider').up);
});

t.test('a lane is the same in both HELLOs, or there is none', async (t) => {
  const { provider, address, node } = await scene(t);
  for (const [first, second] of [
    ['a', 'b'],
    ['a', ''],
    ['', 'a'],
  ] as const) {
    const raw = await RawPeer.connect(portOf(address), 'node', node.identity);
    await raw.handshake('initiator');
    raw.hello({ verdict: 'pending', lane: first });
    await raw.accept([], undefined, { lane: second });
    await raw.ended();
    await raw.destroy();
  }
  const hasty = await RawPeer.connect(portOf(address), 'node', node.identity);
  await hasty.handshake('initiator');
  await hasty.accept([], undefined, { lane: 'a' });
  await hasty.ended();
  await hasty.destroy();
  t.equal(provider.peers.laneCount(node.identity.nodeId), 0);
  t.ok(node.peers.store('provider').up, 'none of them passed for the node itself');
});

t.test('who is dialled names no lane', async (t) => {
  const identity = Identity.ephemeral();
  const server = await rawServer(
    (raw) => {
      t.teardown(() => raw.destroy());
      raw
        .handshake('responder')
        .then(() => raw.hello({ verdict: 'pending', lane: 'm' }))
        .catch(() => undefined);
    },
    'odd',
    identity,
  );
  t.teardown(server.close);
  const node = testNode(t, 'node');
  const dialer = node.peers.connect(`127.0.0.1:${server.port}`);
  await until(() => dialer.lastError !== undefined);
  t.equal(dialer.lastError?.code, 'ERR_PEER_PROTOCOL');
});

t.test('a node has 16 lanes at once; one too many is turned away, the others go on', async (t) => {
  const { provider, address, node } = await scene(t);
  const { nodeId } = node.identity;
  const raws: RawPeer[] = [];
  t.teardown(() => Promise.all(raws.map((raw) => raw.destroy())));
  for (let index = 0; index < 16; index += 1) {
    raws.push(await rawLane(address, node.identity, `m-${index}`));
    await until(() => provider.peers.laneCount(nodeId) === index + 1);
  }
  const extra = await rawLane(address, node.identity, 'm-16');
  t.match(await extra.readType(BYE), { aux: 1 });
  await extra.ended();
  await extra.destroy();
  t.equal(provider.peers.laneCount(nodeId), 16);
  const again = await rawLane(address, node.identity, 'm-3');
  raws.push(again);
  await raws[3]!.ended();
  t.equal(provider.peers.laneCount(nodeId), 16, 'one that comes again is no 17th');
  t.ok(node.peers.store('provider').up);
});

t.test(
  'a lane cannot write, renew or release what its node holds, and gets no direct exports',
  async (t) => {
    const { provider, address, node } = await scene(t);
    const grant = await node.peers.store('provider').lease({ pageCount: 1, ttlMs: 5000 });
    const raw = await rawLane(address, node.identity, 'm');
    t.teardown(() => raw.destroy());
    raw.send((writer) => {
      RawPeer.pages(writer, 1, 0xee);
      writer.pages(WRITE, grant.slabHandle, 1, 0, 0, 1);
    });
    t.match(await raw.readType(WRITE_REPLY), { aux: 6 }, 'NO_LEASE');
    const ask = async (request: object): Promise<Record<string, unknown>> => {
      const { Packr } = await import('msgpackr');
      const packr = new Packr({ useRecords: false });
      raw.send((writer) => writer.body(CONTROL, 2, 0, packr.pack(request)));
      return packr.unpack((await raw.readType(CONTROL_REPLY)).body) as Record<string, unknown>;
    };
    const { leaseId } = grant;
    t.match(await ask({ method: 'renew', leaseIds: [leaseId], ttlMs: 5000 }), {
      unknown: [leaseId],
    });
    t.match(await ask({ method: 'release', leaseId }), { code: 'ERR_LEASE_UNKNOWN' });
    t.match(await ask({ method: 'direct-list' }), { code: 'ERR_UNSUPPORTED' });
    t.match(await ask({ method: 'recall-room' }), { code: 'ERR_UNSUPPORTED' });
    t.ok(provider.slabs.book.slabs.get(grant.slabHandle)!.memory.bytes.every((byte) => byte === 0));
  },
);
