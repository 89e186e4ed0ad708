/** Sealed values: what opens, what does not, and that the bytes are those of an independent construction. */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import {
  openRange,
  openStream,
  openValue,
  openedSizeOf,
  sealKeyOf,
  sealStream,
  sealValue,
  sealedSizeOf,
} from '../../sdk/seal.ts';
import { Random } from '../helpers/fuzz.ts';
import { encodingVectors } from '../helpers/encoding-vectors.ts';

const KEY_BYTES = Buffer.alloc(32, 7);
const KEY = sealKeyOf(KEY_BYTES);
const CONTEXT = { name: 'a/key' };
/** Plain bytes in a chunk of 49 152. */
const PLAIN = 49_136;
const SIZES = [0, 1, PLAIN - 1, PLAIN, PLAIN + 1, 2 * PLAIN, 2 * PLAIN + 1, 300_001];
const SEAL = { code: 'ERR_OBJECT_SEAL' };

function cut(bytes: Buffer, size: number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
  return pieces;
}

async function gather(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of source) pieces.push(Uint8Array.from(piece));
  return Buffer.concat(pieces);
}

/** The construction in the fewest words, on other people's primitives. */
function naiveSeal(value: Uint8Array, name: string, note: Uint8Array, salt: Uint8Array): Buffer {
  const header = Buffer.concat([Buffer.from('4d435301', 'hex'), salt]);
  const key = hkdf(sha256, KEY_BYTES, salt, Buffer.from('memcloud object seal v1'), 32);
  const covered = Buffer.concat([
    header,
    Buffer.from([note.length >> 8, note.length & 255]),
    note,
    Buffer.from(name),
  ]);
  const parts = [header];
  const count = Math.max(1, Math.ceil(value.length / 49_136));
  for (let index = 0; index < count; index += 1) {
    const nonce = Buffer.alloc(12);
    nonce.writeUInt32BE(index, 7);
    nonce[11] = index === count - 1 ? 1 : 0;
    const chunk = value.subarray(index * 49_136, (index + 1) * 49_136);
    parts.push(Buffer.from(chacha20poly1305(key, nonce, covered).encrypt(chunk)));
  }
  return Buffer.concat(parts);
}

t.test('every length comes back, whole and as a stream, in pieces of any size', async (t) => {
  const random = new Random(1);
  for (const size of SIZES) {
    const value = random.bytes(size);
    const whole = sealValue(KEY, CONTEXT, value);
    t.equal(whole.length, sealedSizeOf(size), `${size} bytes sealed`);
    t.equal(openedSizeOf(whole.length), size);
    t.ok(openValue(KEY, CONTEXT, whole).equals(value), 'whole');
    const streamed = await gather(sealStream(KEY, CONTEXT)(cut(value, 10_007)));
    t.equal(streamed.length, whole.length);
    for (const pieceSize of [1 << 20, 49_152, 999, ...(size < 2 ? [1] : [])]) {
      const opened = await gather(openStream(KEY, CONTEXT)(cut(streamed, pieceSize)));
      t.ok(opened.equals(value), `in pieces of ${pieceSize}`);
    }
  }
});

t.test('the bytes are those of STREAM over ChaCha20-Poly1305 and HKDF-SHA256 of noble', (t) => {
  const random = new Random(2);
  for (const size of [0, 100, PLAIN, PLAIN + 1]) {
    const value = random.bytes(size);
    const salt = random.bytes(32);
    const note = random.bytes(12);
    const sealed = sealValue(KEY, { name: 'größe', note }, value, salt);
    t.ok(sealed.equals(naiveSeal(value, 'größe', note, salt)), `${size} bytes`);
  }
  t.end();
});

t.test('vectors', (t) => {
  for (const { key, salt, name, note, plain, sealed, opens } of encodingVectors().sealed) {
    const sealKey = sealKeyOf(Buffer.from(key, 'hex'));
    const context = { name, note: Buffer.from(note, 'hex') };
    const bytes = Buffer.from(sealed, 'hex');
    if (opens) {
      const made = sealValue(sealKey, context, Buffer.from(plain, 'hex'), Buffer.from(salt, 'hex'));
      t.equal(made.toString('hex'), sealed, name);
      t.equal(openValue(sealKey, context, bytes).toString('hex'), plain);
    } else {
      t.throws(() => openValue(sealKey, context, bytes), SEAL, name);
    }
  }
  t.end();
});

t.test('two seals of one value share nothing but the magic', (t) => {
  const value = Buffer.alloc(1000);
  const [one, two] = [sealValue(KEY, CONTEXT, value), sealValue(KEY, CONTEXT, value)];
  t.ok(one.subarray(0, 4).equals(two.subarray(0, 4)));
  t.notOk(one.subarray(4, 36).equals(two.subarray(4, 36)), 'salt');
  t.notOk(one.subarray(36).equals(two.subarray(36)), 'chunks');
  t.notOk(one.includes(Buffer.alloc(16)), 'nothing of the value shows');
  t.end();
});

t.test('what a holder can do to a value is refused, whole and as a stream', async (t) => {
  const value = new Random(3).bytes(3 * PLAIN + 100);
  const sealed = sealValue(KEY, CONTEXT, value);
  const header = sealed.subarray(0, 36);
  const chunk = (index: number): Buffer => sealed.subarray(36 + index * 49_152).subarray(0, 49_152);
  const chunks = [0, 1, 2, 3].map(chunk);
  const flipped = (at: number): Buffer => {
    const copy = Buffer.from(sealed);
    copy[at]! ^= 1;
    return copy;
  };
  const other = sealValue(KEY, CONTEXT, value);
  const cases: Record<string, Buffer> = {
    'nothing at all': Buffer.alloc(0),
    'half a header': sealed.subarray(0, 20),
    'a header alone': header,
    'the last byte missing': sealed.subarray(0, -1),
    'the last chunk missing': Buffer.concat([header, ...chunks.slice(0, 3)]),
    'all chunks but the first missing': Buffer.concat([header, chunk(0)]),
    'a tag alone at its end': Buffer.concat([header, chunk(0), Buffer.alloc(16)]),
    'a byte more': Buffer.concat([sealed, Buffer.alloc(1)]),
    'a chunk more': Buffer.concat([sealed, chunk(0)]),
    'itself twice': Buffer.concat([sealed, sealed]),
    'two chunks exchanged': Buffer.concat([header, chunk(1), chunk(0), chunk(2), chunk(3)]),
    'a chunk doubled': Buffer.concat([header, chunk(0), chunk(0), chunk(2), chunk(3)]),
    'a chunk left out': Buffer.concat([header, chunk(0), chunk(2), chunk(3)]),
    'another magic': flipped(0),
    'another version': flipped(3),
    'another salt': flipped(20),
    'a bit of a chunk': flipped(36 + 49_152 + 5),
    'a bit of a tag': flipped(36 + 49_151),
    'a bit of the last tag': flipped(sealed.length - 1),
    'chunks of another seal of the same value': Buffer.concat([header, other.subarray(36)]),
    'a value of the holder': Buffer.from('plain text of the holder, and long enough to be a value'),
  };
  for (const [what, bytes] of Object.entries(cases)) {
    t.throws(() => openValue(KEY, CONTEXT, bytes), SEAL, what);
    await t.rejects(gather(openStream(KEY, CONTEXT)(cut(bytes, 4096))), SEAL, `${what}, streamed`);
  }
  const small = sealValue(KEY, CONTEXT, Buffer.from('small'));
  for (let at = 0; at < small.length; at += 1) {
    const copy = Buffer.from(small);
    copy[at]! ^= 0x80;
    t.throws(() => openValue(KEY, CONTEXT, copy), SEAL);
    t.throws(() => openValue(KEY, CONTEXT, small.subarray(0, at)), SEAL);
  }
});

t.test('a value is bound to its key, its name and its note', (t) => {
  const note = Buffer.from('4d450104', 'hex');
  const sealed = sealValue(KEY, { name: 'a', note }, Buffer.from('value'));
  t.equal(openValue(KEY, { name: 'a', note }, sealed).toString(), 'value');
  const wrong = {
    'another name': { name: 'b', note },
    'no name': { name: '', note },
    'another note': { name: 'a', note: Buffer.from('4d450105', 'hex') },
    'no note': { name: 'a' },
    // The bytes that are covered would be the same without the length of the note in front.
    'a name that begins with the note': { name: '\x4d\x45\x01\x04a' },
  };
  for (const [what, context] of Object.entries(wrong)) {
    t.throws(() => openValue(KEY, context, sealed), SEAL, what);
  }
  t.throws(() => openValue(sealKeyOf(Buffer.alloc(32, 8)), { name: 'a', note }, sealed), SEAL);
  t.throws(() => sealKeyOf(Buffer.alloc(31)), { code: 'ERR_USAGE' });
  t.end();
});

t.test(
  'a range opens its chunks and no others, and a shorter value is no way to hide bytes',
  async (t) => {
    const value = new Random(4).bytes(3 * PLAIN + 100);
    const sealed = sealValue(KEY, CONTEXT, value);
    const reads: number[] = [];
    const from = (bytes: Buffer) => async (offset: number, length: number) => {
      reads.push(offset);
      return Promise.resolve(bytes.subarray(offset, offset + length));
    };
    const range = async (
      bytes: Buffer,
      offsetBytes: number,
      lengthBytes: number,
      claimed = bytes.length,
    ): Promise<Buffer> =>
      gather(openRange(KEY, CONTEXT, claimed, { offsetBytes, lengthBytes }, from(bytes)));
    for (const [offset, length] of [
      [0, 1],
      [0, value.length],
      [PLAIN - 1, 2],
      [PLAIN, PLAIN],
      [2 * PLAIN, 1],
      [value.length - 1, 1],
      [value.length - 1, 1000],
      [value.length, 10],
      [value.length + 10_000, 10],
      [5, 0],
    ] as const) {
      const got = await range(sealed, offset, length);
      t.ok(got.equals(value.subarray(offset, offset + length)), `${length} bytes at ${offset}`);
    }
    reads.length = 0;
    await range(sealed, PLAIN, PLAIN);
    t.same(reads, [0, 36 + 49_152], 'the header and one chunk');
    const short = sealed.subarray(0, 36 + 2 * 49_152);
    t.ok((await range(short, 0, PLAIN)).equals(value.subarray(0, PLAIN)), 'a true chunk is true');
    await t.rejects(range(short, PLAIN, PLAIN), SEAL, 'but it does not end there');
    await t.rejects(range(short, 2 * PLAIN, 10), SEAL, 'nor before');
    await t.rejects(range(sealed, 2 * PLAIN, 10 * PLAIN, sealed.length - 49_152), SEAL);
    const empty = sealValue(KEY, CONTEXT, Buffer.alloc(0));
    t.equal((await range(empty, 0, 10)).length, 0, 'an empty value has no bytes');
  },
);

t.test('a stream of any length holds a chunk, and lets go of its source', async (t) => {
  let left = 0;
  let ended = false;
  async function* source(): AsyncGenerator<Buffer> {
    try {
      const piece = Buffer.alloc(1 << 16, 1);
      for (left = 64 * 16; left > 0; left -= 1) yield piece;
    } finally {
      ended = true;
    }
  }
  let sealedSize = 0;
  for await (const piece of sealStream(KEY, CONTEXT)(source())) {
    if (piece.length > 49_152) t.fail('longer than a piece of an object');
    sealedSize += piece.length;
  }
  t.equal(sealedSize, sealedSizeOf(64 << 20));
  ended = false;
  for await (const piece of sealStream(KEY, CONTEXT)(source())) if (piece.length > 36) break;
  t.ok(ended && left > 1000, 'a reader that leaves ends the source');
  ended = false;
  const refused = gather(openStream(KEY, CONTEXT)(source()));
  await t.rejects(refused, SEAL);
  t.ok(ended && left > 1000, 'so does a value that does not open, at once');
});

t.test('no bytes make another error, or a value', async (t) => {
  const random = new Random(Number(process.env['SEED'] ?? 5));
  const sealed = sealValue(KEY, CONTEXT, random.bytes(PLAIN + 1000));
  for (let round = 0; round < 300; round += 1) {
    const bytes = random.mutate(sealed);
    if (bytes.equals(sealed)) continue;
    try {
      openValue(KEY, CONTEXT, bytes);
      t.fail('altered bytes opened');
    } catch (error) {
      if (!(error instanceof MemcloudError) || error.code !== 'ERR_OBJECT_SEAL') throw error;
    }
  }
});
