import t from 'tap';
import { silentLogger } from '../../../common/log.ts';
import { LanePeers } from '../../../daemon/mounts/lane-peers.ts';
import type { MountPeer } from '../../../daemon/mounts/protocol.ts';
import { TrustStore } from '../../../peer/trust.ts';
import { testNode, until, type TestNode } from '../../helpers/peer-node.ts';

async function named(node: TestNode, name: string): Promise<MountPeer> {
  const { nodeId, publicKey } = node.identity;
  const address = await node.listen();
  return { nodeId, name, address, publicKey: Buffer.from(publicKey).toString('base64') };
}

t.test('who is on the list is trusted and dialled, who leaves it neither', async (t) => {
  const [alpha, beta] = [testNode(t, 'alpha'), testNode(t, 'beta')];
  const [a, b] = [await named(alpha, 'alpha'), await named(beta, 'beta')];
  const trust = TrustStore.inMemory();
  const node = testNode(t, 'node', { trust, lane: 'm', provider: undefined });
  const left: string[] = [];
  const lanePeers = new LanePeers(node.peers, trust, silentLogger, (source) =>
    left.push(source.nodeName),
  );
  t.equal(lanePeers.settled, true, 'nobody is waited for');
  lanePeers.follow([a, b]);
  t.equal(lanePeers.settled, false);
  t.equal(node.peers.list().length, 2, 'known before they answer');
  await until(() => lanePeers.settled && node.peers.list().every(({ up }) => up));
  t.equal(lanePeers.find('ALPHA')?.nodeId, a.nodeId);
  t.equal(lanePeers.find(b.nodeId)?.name, 'beta');
  const session = node.peers.store('beta').session;
  lanePeers.follow([b]);
  t.notOk(node.peers.store(a.nodeId).up);
  t.same(
    trust.list().map(({ name }) => name),
    ['beta'],
  );
  t.same(node.peers.dialled, [b.address]);
  t.equal(lanePeers.find('alpha'), undefined);
  t.equal(node.peers.store('beta').session, session, 'the others are not touched');
  await until(() => alpha.peers.laneCount(node.identity.nodeId) === 0);
  lanePeers.follow([a, b]);
  await until(() => node.peers.store(a.nodeId).up, 'it may come back');
});

t.test('who is waited for is dialled again soon', async (t) => {
  const alpha = testNode(t, 'alpha');
  const a = await named(alpha, 'alpha');
  const trust = TrustStore.inMemory();
  const node = testNode(t, 'node', { trust, lane: 'm', provider: undefined });
  const lanePeers = new LanePeers(node.peers, trust, silentLogger, () => undefined);
  lanePeers.follow([{ ...a, address: '127.0.0.1:1' }]);
  const dialer = node.peers.connect('127.0.0.1:1');
  lanePeers.hurry();
  let hurried = 0;
  await until(() => {
    if ((dialer.waitMs ?? 0) <= 500) return false;
    lanePeers.hurry();
    hurried += 1;
    return dialer.state === 'connecting';
  });
  t.equal(hurried, 1, 'a long wait ends at once, a short one is waited for');
});

t.test('an address or a name that changes is followed; a bad key is left out', async (t) => {
  const alpha = testNode(t, 'alpha');
  const a = await named(alpha, 'alpha');
  const trust = TrustStore.inMemory();
  const node = testNode(t, 'node', { trust, lane: 'm', provider: undefined, random: () => 0 });
  const left: string[] = [];
  const lanePeers = new LanePeers(node.peers, trust, silentLogger, (source) =>
    left.push(source.nodeName),
  );
  lanePeers.follow([{ ...a, address: '127.0.0.1:1' }]);
  await until(() => lanePeers.settled);
  t.notOk(node.peers.store('alpha').up);
  lanePeers.follow([a, { ...a, name: 'odd', publicKey: 'AAAA' }]);
  await until(() => node.peers.store('alpha').up);
  t.same(node.peers.dialled, [a.address]);
  t.equal(trust.list().length, 1);
  lanePeers.follow([{ ...a, avoided: true }]);
  lanePeers.follow([{ ...a, avoided: true }]);
  t.equal(node.peers.store('alpha').accepting, false);
  t.same(left, ['alpha'], 'what is there leaves, once');
  lanePeers.follow([{ ...a, name: 'renamed' }]);
  t.equal(node.peers.store(a.nodeId).accepting, true);
  t.match(trust.list(), [{ name: 'renamed' }]);
  t.equal(lanePeers.find('renamed')?.address, a.address);
  t.ok(node.peers.store(a.nodeId).up);
});

t.test('an address where another key answers is not used', async (t) => {
  const [alpha, other] = [testNode(t, 'alpha'), testNode(t, 'alpha')];
  const a = await named(alpha, 'alpha');
  const trust = TrustStore.inMemory();
  const node = testNode(t, 'node', { trust, lane: 'm', provider: undefined });
  const left: string[] = [];
  const lanePeers = new LanePeers(node.peers, trust, silentLogger, (source) =>
    left.push(source.nodeName),
  );
  lanePeers.follow([{ ...a, address: await other.listen() }]);
  await until(() => lanePeers.settled);
  t.notOk(node.peers.store('alpha').up);
  await until(() => other.peers.connectionCount === 0);
});
