/** Guests: who is let in because a control plane says so, for how long, and under which name. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { Guests } from '../../peer/guests.ts';
import { fingerprintOf, nodeIdOf } from '../../common/fingerprint.ts';
import { TrustStore } from '../../peer/trust.ts';

function peerOf(name: string, publicKey = randomBytes(32)) {
  return { publicKey, nodeId: nodeIdOf(publicKey), name };
}

function rig() {
  const trust = TrustStore.inMemory();
  const here = new Set<string>();
  const said: string[] = [];
  const time = { nowMs: 0 };
  const guests = new Guests({
    trust,
    clock: { nowMs: () => time.nowMs },
    isHere: (nodeId) => here.has(nodeId),
    onAdmitted: (nodeId) => said.push(`admitted ${nodeId}`),
    onDismissed: (nodeId) => said.push(`dismissed ${nodeId}`),
  });
  return { trust, here, said, time, guests };
}

t.test('a key is let in for its time, which only grows', (t) => {
  const { guests, time, said } = rig();
  const peer = peerOf('anna');
  t.notOk(guests.admits(peer));
  t.notOk(guests.isGuest(peer.nodeId));
  guests.admit(peer.publicKey, 1000);
  t.same(said, [`admitted ${peer.nodeId}`]);
  time.nowMs = 999;
  t.ok(guests.admits(peer));
  guests.admit(peer.publicKey, 100);
  guests.admit(peer.publicKey, 10);
  time.nowMs = 1098;
  t.ok(guests.admits(peer));
  time.nowMs = 1099;
  t.notOk(guests.admits(peer));
  t.notOk(guests.isGuest(peer.nodeId));
  t.end();
});

t.test('while it is here it stays a guest, and comes in no more', (t) => {
  const { guests, time, here } = rig();
  const peer = peerOf('anna');
  guests.admit(peer.publicKey, 1000);
  here.add(peer.nodeId);
  time.nowMs = 5000;
  t.ok(guests.isGuest(peer.nodeId));
  t.notOk(guests.admits(peer));
  guests.admit(randomBytes(32), 10);
  t.ok(guests.isGuest(peer.nodeId), 'a look through the list forgets nobody who is here');
  here.clear();
  t.notOk(guests.isGuest(peer.nodeId));
  t.end();
});

t.test('the trust store goes first', (t) => {
  const { guests, trust, said } = rig();
  const [friend, foe] = [peerOf('friend'), peerOf('foe')];
  trust.trust(friend);
  trust.deny(foe);
  guests.admit(friend.publicKey, 1000);
  guests.admit(foe.publicKey, 1000);
  t.same(said, []);
  for (const peer of [friend, foe]) {
    t.notOk(guests.admits(peer));
    t.notOk(guests.isGuest(peer.nodeId));
  }
  const later = peerOf('later');
  guests.admit(later.publicKey, 1000);
  trust.trust(later);
  t.notOk(guests.isGuest(later.nodeId), 'it is more than that by now');
  t.notOk(guests.admits(later));
  guests.dismiss(later.nodeId);
  t.equal(said.length, 1, 'nor does anybody end what a trusted node has');
  trust.deny(later);
  t.notOk(guests.admits(later));
  t.end();
});

t.test('who is dismissed is told once, and not let in', (t) => {
  const { guests, said } = rig();
  const peer = peerOf('anna');
  guests.dismiss(peer.nodeId);
  guests.admit(peer.publicKey, 1000);
  guests.dismiss(peer.nodeId);
  guests.dismiss(peer.nodeId);
  t.same(said, [`admitted ${peer.nodeId}`, `dismissed ${peer.nodeId}`]);
  t.notOk(guests.admits(peer));
  t.end();
});

t.test('a guest bears no name of a trusted key, nor one that reads like a key', (t) => {
  const { guests, trust } = rig();
  trust.trust(peerOf('Alpha'));
  const plain = peerOf('beta');
  t.equal(guests.named(plain), plain);
  const clash = peerOf('ALPHA');
  t.equal(guests.named(clash).name, `guest-${clash.nodeId.slice(0, 12)}`);
  t.equal(guests.named(clash).nodeId, clash.nodeId);
  const other = 'ab'.repeat(16);
  for (const name of [other, 'cd'.repeat(32), fingerprintOf(other)]) {
    const peer = peerOf(name);
    t.match(guests.named(peer).name, /^guest-[0-9a-f]{12}$/, name);
  }
  t.end();
});

t.test('what is no key, or no time, is refused', (t) => {
  const { guests } = rig();
  for (const size of [0, 31, 33]) {
    t.throws(() => guests.admit(Buffer.alloc(size), 1000), { code: 'ERR_USAGE' });
  }
  for (const ttlMs of [0, -1, NaN]) {
    t.throws(() => guests.admit(randomBytes(32), ttlMs), { code: 'ERR_USAGE' });
  }
  t.end();
});

t.test('guests are bounded: whose time ends first makes room, unless it is here', (t) => {
  const { guests, here } = rig();
  const peers = Array.from({ length: 1025 }, (_, index) => peerOf(`n${index}`));
  for (const [index, { publicKey }] of peers.slice(0, 1024).entries()) {
    guests.admit(publicKey, 1000 + index);
  }
  here.add(peers[0]!.nodeId);
  guests.admit(peers[1024]!.publicKey, 10);
  const ids = peers.filter(({ nodeId }) => guests.isGuest(nodeId));
  t.equal(ids.length, 1024);
  t.ok(guests.isGuest(peers[0]!.nodeId));
  t.notOk(guests.isGuest(peers[1]!.nodeId));
  t.ok(guests.admits(peers[1024]!));
  t.end();
});
