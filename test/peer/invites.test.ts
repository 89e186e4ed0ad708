import { createHash, createHmac, randomBytes } from 'node:crypto';
import t from 'tap';
import { inviteProof, Invites } from '../../peer/invites.ts';

const HASH = new Uint8Array(32).fill(7);
const ADDRESSES = ['10.0.0.1:7070'];
const refused = { code: 'ERR_INVITE' };
const FROM = '10.0.0.9:1';

function open(): { invites: Invites; time: { nowMs: number } } {
  const time = { nowMs: 0 };
  return { invites: new Invites({ nowMs: () => time.nowMs }), time };
}

t.test('a proof is the HMAC of the document, and tells the secret to nobody', async (t) => {
  const secret = Uint8Array.from({ length: 16 }, (_, index) => index);
  const { id, proof } = inviteProof(secret, HASH);
  const hash = createHash('sha256').update('memcloud/1 invite id').update(secret).digest('hex');
  t.equal(id, hash.slice(0, 16));
  const mac = createHmac('sha256', secret).update('memcloud/1 invite initiator').update(HASH);
  t.equal(proof, mac.digest('hex'));
});

t.test('an invitation lets one machine in, once', async (t) => {
  const { invites } = open();
  const { invite, secret } = invites.create({ addresses: ADDRESSES, allowedBytes: 5 });
  t.equal(secret.length, 16, '128 bits');
  t.match(invites.list(), [{ id: invite.id, expiresInMs: 600_000, allowedBytes: 5 }]);
  const proof = inviteProof(secret, HASH);
  t.same(invites.redeem(proof, HASH, FROM), { id: invite.id, allowedBytes: 5 });
  t.throws(() => invites.redeem(proof, HASH, FROM), refused);
  t.same(invites.list(), []);
});

t.test(
  'a proof of another handshake, role or secret is refused; the invitation stays',
  async (t) => {
    const { invites } = open();
    const { invite, secret } = invites.create({ addresses: ADDRESSES });
    const other = inviteProof(secret, new Uint8Array(32).fill(8));
    const mac = createHmac('sha256', secret).update('memcloud/1 invite responder').update(HASH);
    const wrong = [
      other,
      { id: invite.id, proof: mac.digest('hex') },
      { ...inviteProof(randomBytes(16), HASH), id: invite.id },
      { id: '00'.repeat(8), proof: inviteProof(secret, HASH).proof },
    ];
    const messages = new Set<string>();
    for (const proof of wrong) {
      try {
        invites.redeem(proof, HASH, FROM);
        t.fail('taken');
      } catch (error) {
        messages.add((error as Error).message);
      }
    }
    t.equal(messages.size, 1, 'unknown and wrong are not told apart');
    t.doesNotThrow(() => invites.redeem(inviteProof(secret, HASH), HASH, FROM));
  },
);

t.test('it lapses, and can be taken back', async (t) => {
  const { invites, time } = open();
  const one = invites.create({ addresses: ADDRESSES, ttlMs: 1000 });
  const two = invites.create({ addresses: ADDRESSES });
  time.nowMs = 999;
  t.equal(invites.list().length, 2);
  time.nowMs = 1000;
  t.throws(() => invites.redeem(inviteProof(one.secret, HASH), HASH, FROM), refused);
  t.throws(() => invites.revoke(one.invite.id), { code: 'ERR_PEER_UNKNOWN' });
  invites.revoke(two.invite.id);
  t.throws(() => invites.redeem(inviteProof(two.secret, HASH), HASH, FROM), refused);
});

t.test('after 8 wrong proofs in a minute an address is not listened to, others are', async (t) => {
  const { invites, time } = open();
  const { secret } = invites.create({ addresses: ADDRESSES });
  const guess = { id: '11'.repeat(8), proof: '22'.repeat(32) };
  for (let count = 0; count < 8; count += 1) {
    t.throws(() => invites.redeem(guess, HASH, `10.0.0.9:${count}`), /no invitation/);
  }
  const right = inviteProof(secret, HASH);
  t.throws(() => invites.redeem(right, HASH, '10.0.0.9:99'), /too many wrong proofs/);
  time.nowMs = 59_999;
  t.throws(() => invites.redeem(right, HASH, '10.0.0.9:99'), refused);
  t.doesNotThrow(() => invites.redeem(right, HASH, '10.0.0.8:99'));
});

t.test('32 are open at most', async (t) => {
  const { invites } = open();
  for (let count = 0; count < 32; count += 1) invites.create({ addresses: ADDRESSES });
  t.throws(() => invites.create({ addresses: ADDRESSES }), refused);
  invites.close();
  t.same(invites.list(), []);
  t.doesNotThrow(() => invites.create({ addresses: ADDRESSES }));
});
