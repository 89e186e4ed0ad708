/** Keys against the RFCs' own vectors, against node:crypto, and against the agreed design by hand. */
import { createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expand, extract } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import t from 'tap';
import { deriveDirectKeys, expandLabel, wipeDirectKeys } from '../../direct/keys.ts';

const folder = path.join(import.meta.dirname, '../../../test/vectors/tls13');

function vectors<T>(name: string): T[] {
  return JSON.parse(readFileSync(path.join(folder, name), 'utf8')) as T[];
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytes = (text: string): Buffer => Buffer.from(text, 'hex');

interface LabelVector {
  name: string;
  secret: string;
  key: string;
  iv: string;
}

for (const { name, secret, key, iv } of vectors<LabelVector>('rfc8448-section-3.json')) {
  t.test(`RFC 8448 section 3, ${name}`, async (t) => {
    t.equal(hex(expandLabel(bytes(secret), 'key', 16)), key);
    t.equal(hex(expandLabel(bytes(secret), 'iv', 12)), iv);
  });
}

interface HkdfVector {
  name: string;
  ikm: string;
  salt: string;
  info: string;
  length: number;
  prk: string;
  okm: string;
}

for (const vector of vectors<HkdfVector>('rfc5869-appendix-a.json')) {
  t.test(`the HKDF under the keys passes RFC 5869 ${vector.name}`, async (t) => {
    const prk = extract(sha256, bytes(vector.ikm), bytes(vector.salt));
    t.equal(hex(prk), vector.prk);
    t.equal(hex(expand(sha256, prk, bytes(vector.info), vector.length)), vector.okm);
  });
}

t.test('the keys are those of the design, by another HKDF', async (t) => {
  const [secret, consumerNonce, ticketId] = [randomBytes(32), randomBytes(32), randomBytes(16)];
  const keys = deriveDirectKeys({ secret, consumerNonce, ticketId });
  for (const side of ['consumer', 'provider'] as const) {
    const info = Buffer.concat([Buffer.from(`memcloud/1 direct ${side}`), ticketId]);
    const traffic = Buffer.from(hkdfSync('sha256', secret, consumerNonce, info, 32));
    // HKDF-Expand of at most 32 bytes is one HMAC over the info and a 1; the info is RFC 8446's HkdfLabel.
    const label = (text: string, length: number): string =>
      createHmac('sha256', traffic)
        .update(Buffer.from([0, length, text.length]))
        .update(text)
        .update(Buffer.from([0, 1]))
        .digest()
        .subarray(0, length)
        .toString('hex');
    t.equal(hex(keys[side].key), label('tls13 key', 32), `${side} key`);
    t.equal(hex(keys[side].iv), label('tls13 iv', 12), `${side} iv`);
  }
  t.not(hex(keys.consumer.key), hex(keys.provider.key), 'each direction has a key of its own');
});

t.test('each of the three inputs changes every key', async (t) => {
  const base = {
    secret: Buffer.alloc(32, 1),
    consumerNonce: Buffer.alloc(32, 2),
    ticketId: Buffer.alloc(16, 3),
  };
  const reference = deriveDirectKeys(base);
  for (const name of ['secret', 'consumerNonce', 'ticketId'] as const) {
    const changed = Buffer.from(base[name]);
    changed[changed.length - 1] = 77;
    const other = deriveDirectKeys({ ...base, [name]: changed });
    for (const side of ['consumer', 'provider'] as const) {
      t.not(hex(other[side].key), hex(reference[side].key), `${name}: ${side} key`);
      t.not(hex(other[side].iv), hex(reference[side].iv), `${name}: ${side} iv`);
    }
  }
});

t.test('wiped keys are zero', async (t) => {
  const keys = deriveDirectKeys({
    secret: randomBytes(32),
    consumerNonce: randomBytes(32),
    ticketId: randomBytes(16),
  });
  wipeDirectKeys(keys);
  for (const { key, iv } of [keys.consumer, keys.provider]) {
    t.equal(hex(key), '00'.repeat(32));
    t.equal(hex(iv), '00'.repeat(12));
  }
});
