import t, { type Test } from 'tap';
import { nodeIdOf } from '../../common/fingerprint.ts';
import { silentLogger, type Logger } from '../../common/log.ts';
import type { PeerIdentity } from '../../peer/credentials.ts';
import { Revocations } from '../../peer/revocations.ts';
import { TrustStore } from '../../peer/trust.ts';
import { RawPeer } from '../helpers/raw-peer.ts';
import { portOf, testNode, until } from '../helpers/peer-node.ts';

const NOTICE = 0x72;

function peer(fill: number, name: string): PeerIdentity {
  const publicKey = new Uint8Array(32).fill(fill);
  return { publicKey, nodeId: nodeIdOf(publicKey), name };
}
const FRIEND = peer(1, 'friend');
const OTHER = peer(2, 'other');
const STRANGER = peer(3, 'stranger');
const HOUR_S = 3600;

function setUp(obey = false) {
  const time = { nowMs: 10 * 24 * 3600_000 };
  const wallClockMs = (): number => time.nowMs;
  const warnings: string[] = [];
  const logger: Logger = { ...silentLogger, warn: (_fields, message) => warnings.push(message) };
  const trust = TrustStore.inMemory({ wallClockMs });
  trust.trust(FRIEND);
  trust.trust(OTHER);
  const revocations = new Revocations({ trust, obey, logger, wallClockMs });
  return { time, warnings, trust, revocations };
}

t.test('what a trusted peer trusts no more is shown, and nothing else happens', async (t) => {
  const { trust, revocations, warnings, time } = setUp();
  time.nowMs += 1000;
  revocations.hear(FRIEND, [{ nodeId: OTHER.nodeId, ageS: 0 }]);
  t.same(revocations.revokedBy(OTHER.nodeId), ['friend']);
  t.match(revocations.heard(), [{ name: 'other', by: ['friend'], isTrusted: true }]);
  t.equal(trust.check(OTHER), 'trusted');
  revocations.hear(FRIEND, [{ nodeId: OTHER.nodeId, ageS: 1 }]);
  t.equal(warnings.length, 1, 'the operator is told once');
  revocations.hear(FRIEND, []);
  t.same(revocations.heard(), [], 'what is no longer in the list was taken back');
});

t.test('with obey-revocations it is denied here too, and not passed on', async (t) => {
  const { trust, revocations, time } = setUp(true);
  time.nowMs += 1000;
  revocations.hear(FRIEND, [{ nodeId: OTHER.nodeId, ageS: 0 }]);
  t.equal(trust.check(OTHER), 'denied');
  t.same(revocations.ours(), [], 'who decided tells the others itself');
  t.same(revocations.revokedBy(OTHER.nodeId), ['friend'], 'and it can be seen why');
});

t.test('to begin to obey counts for what was heard before', async (t) => {
  const { trust, revocations, time } = setUp();
  time.nowMs += 1000;
  revocations.hear(FRIEND, [{ nodeId: OTHER.nodeId, ageS: 0 }]);
  revocations.setObey(true);
  t.equal(trust.check(OTHER), 'denied');
});

t.test('a decision of the own human that is younger stands', async (t) => {
  const { trust, revocations, time } = setUp(true);
  revocations.hear(FRIEND, [{ nodeId: OTHER.nodeId, ageS: HOUR_S }]);
  t.equal(trust.check(OTHER), 'trusted', 'trusted here after it was revoked there');
  t.same(revocations.heard(), []);
  time.nowMs += 1000;
  revocations.hear(FRIEND, [{ nodeId: OTHER.nodeId, ageS: 0 }]);
  t.equal(trust.check(OTHER), 'denied');
  time.nowMs += 1000;
  trust.expect(OTHER.nodeId);
  revocations.hear(FRIEND, [{ nodeId: OTHER.nodeId, ageS: 2 }]);
  t.equal(trust.check(OTHER), 'trusted', 'as the next session says the same list again');
});

t.test('strangers, former friends and a node itself are not listened to', async (t) => {
  const { trust, revocations, time } = setUp(true);
  time.nowMs += 1000;
  revocations.hear(STRANGER, [{ nodeId: OTHER.nodeId, ageS: 0 }]);
  revocations.hear(OTHER, [{ nodeId: OTHER.nodeId, ageS: 0 }]);
  t.equal(trust.check(OTHER), 'trusted');
  revocations.hear(FRIEND, [{ nodeId: STRANGER.nodeId, ageS: 0 }]);
  t.same(revocations.heard(), [], 'whom we do not know is nobody to us');
  revocations.setObey(false);
  revocations.hear(FRIEND, [{ nodeId: OTHER.nodeId, ageS: 0 }]);
  trust.remove('friend');
  t.same(revocations.revokedBy(OTHER.nodeId), []);
});

t.test('a peer that says and takes back without end fills no log', async (t) => {
  const { revocations, warnings, time } = setUp();
  time.nowMs += 1000;
  for (let round = 0; round < 1000; round += 1) {
    revocations.hear(FRIEND, [{ nodeId: OTHER.nodeId, ageS: 0 }]);
    revocations.hear(FRIEND, []);
  }
  t.equal(warnings.length, 1);
});

/** Three nodes; `a` has sessions with the other two. */
async function three(t: Test) {
  const [a, b, c] = ['a', 'b', 'c'].map((name) => testNode(t, name));
  if (a === undefined || b === undefined || c === undefined) throw new Error('three nodes');
  const revocations = new Revocations({ trust: b.trust, logger: silentLogger });
  await b.peers.close();
  const told = testNode(t, 'b', { identity: b.identity, trust: b.trust, revocations });
  const address = await a.listen();
  const { publicKey, nodeId } = c.identity;
  b.trust.trust({ publicKey, nodeId, name: 'c' });
  for (const node of [told, c]) node.peers.connect(address);
  await until(
    () => a.peers.list().filter(({ session }) => session !== undefined).length === 2,
    'sessions',
  );
  return { a, b: told, c, revocations, address };
}

t.test('trusted peers are told of a revocation, at once and in later sessions', async (t) => {
  const { a, c, b, revocations, address } = await three(t);
  a.trust.remove('c');
  await until(() => revocations.revokedBy(c.identity.nodeId).length === 1, 'the notice');
  t.same(revocations.revokedBy(c.identity.nodeId), ['a']);
  t.equal(b.trust.decisionOf(c.identity.nodeId), 'trusted', 'b decides for itself');
  const late = await RawPeer.open(portOf(address), 'late');
  const notice = await late.readType(NOTICE);
  t.ok(notice.body.includes(Buffer.from(c.identity.nodeId)), 'who comes later is told too');
  await late.destroy();
  const { publicKey, nodeId } = c.identity;
  a.trust.trust({ publicKey, nodeId, name: 'c' });
  await until(() => revocations.revokedBy(nodeId).length === 0, 'the notice that it is over');
});
