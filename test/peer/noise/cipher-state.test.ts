import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import t from 'tap';
import { CipherState } from '../../../peer/noise/cipher-state.ts';

const KEY = Uint8Array.from({ length: 32 }, (_, index) => index);
const NONE = new Uint8Array(0);
const TEXT = Buffer.from('page');

function cipher(nonce = 0n): CipherState {
  const state = new CipherState();
  state.initializeKey(KEY);
  state.setNonce(nonce);
  return state;
}

t.test('without a key text passes through', async (t) => {
  const state = new CipherState();
  t.equal(state.hasKey, false);
  t.equal(state.encryptWithAd(NONE, TEXT), TEXT);
  t.equal(state.decryptWithAd(NONE, TEXT), TEXT);
  t.throws(() => state.rekey(), { code: 'ERR_INTERNAL' });
  t.throws(() => state.takeKey(), { code: 'ERR_INTERNAL' });
});

t.test('the nonce is 4 zero bytes and the counter, little endian', async (t) => {
  const nonce = Uint8Array.of(0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1);
  const expected = chacha20poly1305(KEY, nonce, TEXT).encrypt(TEXT);
  t.same(cipher(0x0102030405060708n).encryptWithAd(TEXT, TEXT), expected);
});

t.test('the reserved nonce 2^64-1 is refused, the one before it is the last', async (t) => {
  const last = 18446744073709551614n;
  for (const [nonce, allowed] of [
    [last - 1n, true],
    [last, true],
    [last + 1n, false],
  ] as const) {
    const run = (): unknown => cipher(nonce).encryptWithAd(NONE, TEXT);
    if (allowed) t.doesNotThrow(run, String(nonce));
    else t.throws(run, { code: 'ERR_INTERNAL' }, String(nonce));
  }
  const state = cipher(last);
  state.encryptWithAd(NONE, TEXT);
  t.throws(() => state.encryptWithAd(NONE, TEXT), { code: 'ERR_INTERNAL' });
  t.throws(() => cipher(last + 1n).decryptWithAd(NONE, new Uint8Array(20)), {
    code: 'ERR_INTERNAL',
  });
});

t.test('a failed decryption does not count', async (t) => {
  const sealed = cipher().encryptWithAd(NONE, TEXT);
  const state = cipher();
  t.throws(() => state.decryptWithAd(TEXT, sealed), { code: 'ERR_PEER_AUTHENTICATION' });
  t.throws(() => state.decryptWithAd(NONE, sealed.subarray(1)), {
    code: 'ERR_PEER_AUTHENTICATION',
  });
  t.same(Buffer.from(state.decryptWithAd(NONE, sealed)), TEXT);
});

t.test(
  'rekey is the first 32 bytes of zeroes encrypted under nonce 2^64-1, and keeps the counter',
  async (t) => {
    const reserved = Uint8Array.of(0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255);
    const next = chacha20poly1305(KEY, reserved).encrypt(new Uint8Array(32)).subarray(0, 32);
    const state = cipher(5n);
    state.rekey();
    const nonce = Uint8Array.of(0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0);
    t.same(state.encryptWithAd(NONE, TEXT), chacha20poly1305(next, nonce).encrypt(TEXT));
    t.same(state.takeKey(), next);
    t.equal(state.hasKey, false);
  },
);

t.test('destroy zeroes the copy that the state holds', async (t) => {
  const state = cipher();
  state.destroy();
  t.equal(state.hasKey, false);
  t.equal(KEY[1], 1, 'the caller keeps its own');
});
