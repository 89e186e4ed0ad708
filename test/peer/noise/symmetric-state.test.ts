import { createHash, hkdfSync } from 'node:crypto';
import { sha256 } from '@noble/hashes/sha2.js';
import t from 'tap';
import { hkdf2, SymmetricState } from '../../../peer/noise/symmetric-state.ts';

const SUITE = { name: 'SHA256', hash: sha256 };
const NAME = 'Noise_XX_25519_ChaChaPoly_SHA256';
const sha = (...parts: (string | Uint8Array)[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

t.test('HKDF is that of RFC 5869 with no info', async (t) => {
  for (const inputLength of [0, 1, 32, 200]) {
    const ck = Buffer.alloc(32, 7);
    const input = Buffer.alloc(inputLength, 9);
    const expected = Buffer.from(hkdfSync('sha256', input, ck, '', 64));
    t.same(Buffer.concat(hkdf2(sha256, ck, input)), expected);
  }
});

t.test(
  'a name of HASHLEN bytes is h itself, a longer one is hashed, a shorter one padded',
  async (t) => {
    t.equal(NAME.length, 32);
    t.same(Buffer.from(new SymmetricState(NAME, SUITE).handshakeHash), Buffer.from(NAME));
    t.same(Buffer.from(new SymmetricState(`${NAME}x`, SUITE).handshakeHash), sha(`${NAME}x`));
    const short = Buffer.alloc(32);
    short.write('Noise');
    t.same(Buffer.from(new SymmetricState('Noise', SUITE).handshakeHash), short);
  },
);

t.test('MixHash chains, and the hash that is given out is a copy', async (t) => {
  const state = new SymmetricState(NAME, SUITE);
  state.mixHash(Buffer.from('abc'));
  state.handshakeHash.fill(0);
  t.same(Buffer.from(state.handshakeHash), sha(NAME, 'abc'));
});

t.test('before a key payloads pass in the clear and are still hashed', async (t) => {
  const state = new SymmetricState(NAME, SUITE);
  t.same(state.encryptAndHash(Buffer.from('abc')), Buffer.from('abc'));
  t.same(Buffer.from(state.handshakeHash), sha(NAME, 'abc'));
  t.notOk(state.hasKey);
});

t.test('MixKey sets a key that both sides share, and zeroes its input', async (t) => {
  const [a, b] = [new SymmetricState(NAME, SUITE), new SymmetricState(NAME, SUITE)];
  const input = Buffer.alloc(32, 5);
  a.mixKey(input);
  t.same(input, Buffer.alloc(32));
  b.mixKey(Buffer.alloc(32, 5));
  const sealed = a.encryptAndHash(Buffer.from('abc'));
  t.same(Buffer.from(b.decryptAndHash(sealed)), Buffer.from('abc'));
  t.same(a.handshakeHash, b.handshakeHash);
  const [a1, a2] = a.split();
  const [b1, b2] = b.split();
  const keys = [a1, b1, a2, b2].map((state) => Buffer.from(state.takeKey()).toString('hex'));
  t.equal(keys[0], keys[1]);
  t.equal(keys[2], keys[3]);
  t.not(keys[0], keys[2]);
});
