/** Keys against the RFCs' own vectors, against node:crypto, and against the agreed design by hand. */
import { createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expand, extract } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import t from 'tap';
import {
  deriveDirectKeys,
  derivePlainProof,
  expandLabel,
  wipeDirectKeys,
} from '../../direct/keys.ts';
import { dataRecord } from '../helpers/record-pair.ts';

const folder = path.join(import.meta.dirname, '../../../test/vectors/tls13');

function vectors<T>(name: string): T[] {
  return JSON.parse(readFileSync(path.join(folder, name), 'utf8')) as T[];
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytes = (text: string): Buffer => Buffer.from(text, 'hex');

/** docs/peer-protocol.md section 11, "A vector". */
const VECTOR = {
  prk: '62215de7bddcea7e2c4047ff6bb94f8d18262fc8b3f3648134bb7d44158ff84d',
  consumerSecret: '4c119f4940853f2aebef0592b19149661429d656db42f76b5d8994424c016f6f',
  'consumer key': '0483706b5cf06126a784e60fd8a954fe2425087e37de97bb1e28e50f941c334e',
  'consumer iv': 'f7156bfa8226e91acde7108d',
  'consumer record 0': '1703030015c935ba8a1a68b7b26cbd6c620a6c9c361286e94cd5',
  providerSecret: '5a347be1cc354d13c87da1544afe35f32c066fd05a0108d24cf1389973627678',
  'provider key': '1e5add0b660163fe4e7f0000c13378bcd915c680b694a22b3d361b66c720cca1',
  'provider iv': 'edd4ba5f07400b024a5f684c',
  'provider record 0':
    '17030300233d7c0842a1531887b4712a3c56851d92040e8c11eaba450de4c0c5071cc4ff7e45c50b',
  'provider record 1': '17030300118ede68071d8f4b775665bb6d8f77668b1e',
  proof: '9ccb4bfacc1edab38688116350d610728fef0f5700f81cd230ecab4a6a7b2273',
};

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

t.test('the vector of docs/peer-protocol.md section 11', async (t) => {
  const counting = (start: number, length: number): Buffer =>
    Buffer.from(Array.from({ length }, (_, index) => start + index));
  const material = {
    consumerNonce: counting(0x00, 32),
    secret: counting(0x20, 32),
    ticketId: counting(0x40, 16),
  };
  const prk = extract(sha256, material.secret, material.consumerNonce);
  const secretOf = (side: string): Uint8Array =>
    expand(sha256, prk, Buffer.concat([Buffer.from(side), material.ticketId]), 32);
  const keys = deriveDirectKeys(material);
  const computed: Record<string, string> = {
    prk: hex(prk),
    consumerSecret: hex(secretOf('memcloud/1 direct consumer')),
    'consumer key': hex(keys.consumer.key),
    'consumer iv': hex(keys.consumer.iv),
    'consumer record 0': hex(dataRecord(keys.consumer, 0, bytes('00000003'))),
    providerSecret: hex(secretOf('memcloud/1 direct provider')),
    'provider key': hex(keys.provider.key),
    'provider iv': hex(keys.provider.iv),
    'provider record 0': hex(
      dataRecord(keys.provider, 0, Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1')),
    ),
    'provider record 1': hex(dataRecord(keys.provider, 1, Buffer.alloc(0))),
    proof: hex(derivePlainProof(material)),
  };
  t.same(computed, VECTOR);
  // The document is what others implement from: it must say the same.
  const text = readFileSync(path.join(folder, '../../../docs/peer-protocol.md'), 'utf8');
  for (const [name, value] of Object.entries(VECTOR)) {
    t.ok(text.includes(value), `the document has ${name}`);
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
