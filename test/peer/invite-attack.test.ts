/**
 * Invitations and pins over real connections, and what somebody without the secret, or with that of
 * another connection, may try (docs/peer-protocol.md section 3 "Invitations").
 */
import t, { type Test } from 'tap';
import { monotonicClock } from '../../common/clock.ts';
import type { AcceptedHello } from '../../peer/control.ts';
import { Invites, inviteProof, type InviteProof } from '../../peer/invites.ts';
import { portOf, testNode, until, type TestNode } from '../helpers/peer-node.ts';
import { RawPeer, rawServer } from '../helpers/raw-peer.ts';

const ADDRESSES = ['127.0.0.1:1'];

const ACCEPTED: AcceptedHello = {
  verdict: 'accepted',
  limits: { requestCountMax: 1024, pageBytesMax: 4096 * 4112 },
  usage: { offeredBytes: 0, usedBytes: 0, residentBytes: 0, leaseCount: 0 },
  features: [],
  ...{ hostId: '', zone: '', accepting: true, lane: '', port: 0 },
};

async function inviter(t: Test): Promise<{ host: TestNode; invites: Invites; address: string }> {
  const invites = new Invites(monotonicClock);
  const host = testNode(t, 'host', { autoTrust: false, invites });
  return { host, invites, address: await host.listen() };
}

/** What a raw dialler is told that proves `proof`. */
async function verdictOn(
  address: string,
  proof: (handshakeHash: Uint8Array) => InviteProof,
): Promise<string> {
  const raw = await RawPeer.connect(portOf(address), 'raw');
  await raw.handshake('initiator');
  raw.hello({ ...ACCEPTED, invite: proof(raw.handshakeHash) });
  const { verdict } = await raw.readHello();
  await raw.destroy();
  return verdict;
}

t.test('who joins by an invitation is trusted on both sides, and nobody is asked', async (t) => {
  const { host, invites, address } = await inviter(t);
  const guest = testNode(t, 'guest', { autoTrust: false });
  const { secret } = invites.create({ addresses: [address] });
  const pin = (peer: { nodeId: string }): boolean => peer.nodeId === host.identity.nodeId;
  const dialer = guest.peers.connect(address, { pin, inviteSecret: secret });
  await until(() => dialer.state === 'up', 'the session');
  t.match(host.trust.list(), [{ name: 'guest', decision: 'trusted' }]);
  t.match(guest.trust.list(), [{ name: 'host', decision: 'trusted' }]);
  t.same([...host.consent.list(), ...guest.consent.list()], []);
  t.same(invites.list(), [], 'it is used up');
});

t.test('a right proof lets in, one of another connection or secret does not', async (t) => {
  const { host, invites, address } = await inviter(t);
  const { secret } = invites.create({ addresses: ADDRESSES });
  const other = await verdictOn(address, () => inviteProof(secret, new Uint8Array(32)));
  t.equal(other, 'refused');
  const wrong = await verdictOn(address, (hash) => ({
    id: inviteProof(secret, hash).id,
    proof: '00'.repeat(32),
  }));
  t.equal(wrong, 'refused');
  t.same(host.trust.list(), [], 'nobody was trusted');
  t.same(host.consent.list(), [], 'nor asked about');
  t.equal(invites.list().length, 1, 'the invitation is still open');
  t.equal(await verdictOn(address, (hash) => inviteProof(secret, hash)), 'accepted');
  t.equal(await verdictOn(address, (hash) => inviteProof(secret, hash)), 'refused', 'only once');
});

t.test('a relay that passes a proof on to its own connection gains nothing', async (t) => {
  const { host, invites, address } = await inviter(t);
  const { secret } = invites.create({ addresses: ADDRESSES });
  let seen: InviteProof | undefined;
  const relay = await rawServer(async (raw) => {
    await raw.handshake('responder');
    const hello = await raw.readHello();
    seen = hello.verdict === 'accepted' ? hello.invite : undefined;
  });
  t.teardown(() => relay.close());
  // A guest without the pin, which the token always has, so that the relay sees a proof at all.
  const guest = testNode(t, 'guest', { autoTrust: false });
  guest.peers.connect(`127.0.0.1:${relay.port}`, { inviteSecret: secret });
  await until(() => seen !== undefined, 'the proof');
  const passedOn = seen;
  if (passedOn === undefined) throw new Error('no proof came');
  t.equal(await verdictOn(address, () => passedOn), 'refused');
  t.same(host.trust.list(), []);
});

t.test('a proof that comes while a human is asked takes the question back', async (t) => {
  const { host, invites, address } = await inviter(t);
  const { secret } = invites.create({ addresses: ADDRESSES });
  const raw = await RawPeer.connect(portOf(address), 'slow');
  await raw.handshake('initiator');
  await until(() => host.consent.list().length === 1, 'the question');
  t.match(await raw.readHello(), { verdict: 'pending' });
  raw.hello({ ...ACCEPTED, invite: inviteProof(secret, raw.handshakeHash) });
  t.match(await raw.readHello(), { verdict: 'accepted' });
  t.same(host.consent.list(), []);
  t.match(host.trust.list(), [{ name: 'slow', decision: 'trusted' }]);
  await raw.destroy();
});

t.test('a denied key, and one with the name of another, use no invitation up', async (t) => {
  const { host, invites, address } = await inviter(t);
  const friend = testNode(t, 'friend');
  const { publicKey, nodeId } = friend.identity;
  host.trust.trust({ publicKey, nodeId, name: 'raw' });
  const { secret } = invites.create({ addresses: ADDRESSES });
  t.equal(await verdictOn(address, (hash) => inviteProof(secret, hash)), 'refused');
  t.match(host.peers.keyAlarms, [{ name: 'raw', trustedNodeId: nodeId }], 'and it is remembered');
  t.equal(invites.list().length, 1);
});

t.test('a node that was dialled and shows an invitation breaks the protocol', async (t) => {
  const server = await rawServer(async (raw) => {
    await raw.handshake('responder');
    raw.hello({ ...ACCEPTED, invite: { id: '00'.repeat(8), proof: '00'.repeat(32) } });
    await raw.ended();
    await raw.destroy();
  });
  t.teardown(() => server.close());
  const node = testNode(t, 'node');
  const dialer = node.peers.connect(`127.0.0.1:${server.port}`);
  await until(() => dialer.lastError !== undefined, 'the end');
  t.equal(dialer.lastError?.code, 'ERR_PEER_PROTOCOL');
});

t.test('another key than the pinned one gets no message 3 (W1)', async (t) => {
  let frames = 0;
  const server = await rawServer(async (raw) => {
    try {
      await raw.handshake('responder');
      frames += 1;
    } catch {
      // The dialler left, which is what is wanted.
    }
    await raw.destroy();
  });
  t.teardown(() => server.close());
  const node = testNode(t, 'node');
  const dialer = node.peers.connect(`127.0.0.1:${server.port}`, { pin: () => false });
  await until(() => dialer.lastError !== undefined, 'the refusal');
  t.match(dialer.lastError, { code: 'ERR_PEER_KEY_CHANGED', message: /they are: \w+-\w+-/ });
  t.equal(frames, 0, 'our credentials stayed here');
  t.same(node.trust.list(), [], 'though it trusts at first sight');
});

t.test('a pin holds for a session that is up, and for an attempt that is under way', async (t) => {
  const host = testNode(t, 'host');
  const address = await host.listen();
  const node = testNode(t, 'node');
  const dialer = node.peers.connect(address);
  await until(() => dialer.state === 'up', 'the session');
  t.throws(() => node.peers.connect(address, { pin: () => false }), {
    code: 'ERR_PEER_KEY_CHANGED',
  });
  const wary = testNode(t, 'wary', { autoTrust: false });
  const waiting = wary.peers.connect(address);
  await until(() => waiting.state === 'pending', 'the question');
  wary.peers.connect(address, { pin: () => false });
  await until(() => waiting.lastError?.code === 'ERR_PEER_KEY_CHANGED', 'the refusal');
  t.same(wary.consent.list(), [], 'the question was taken back');
});
