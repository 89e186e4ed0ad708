/** ChaCha20-Poly1305 over native memory: RFC 8439's example, equality with @noble/ciphers, forgeries. */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import fc from 'fast-check';
import t from 'tap';
import { AeadKey, addressIn, emptyAeadMessage } from '../../common/aead.ts';
import { NativeMemory } from '../../common/native-memory.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
const memory = new NativeMemory(64 * 1024);
/** Where each part lies in the memory. */
const AT = { aad: 0, aad2: 8192, input: 16384, output: 32768, tag: 49152 };

/** Seals or opens with every part in its own place; the nonce as 12 bytes. */
function place(
  nonce: Uint8Array,
  parts: { aad: Uint8Array; aad2?: Uint8Array; input: Uint8Array },
) {
  const { bytes, address } = memory;
  const { aad, aad2 = new Uint8Array(0), input } = parts;
  bytes.fill(0xee);
  bytes.set(aad, AT.aad);
  bytes.set(aad2, AT.aad2);
  bytes.set(input, AT.input);
  const message = emptyAeadMessage();
  message.aad = address + AT.aad;
  message.aadLength = aad.length;
  message.aad2 = address + AT.aad2;
  message.aad2Length = aad2.length;
  message.input = address + AT.input;
  message.length = input.length;
  message.output = address + AT.output;
  message.tag = address + AT.tag;
  const view = new DataView(nonce.buffer, nonce.byteOffset);
  const words = [0, 4, 8].map((at) => view.getUint32(at, true)) as [number, number, number];
  return { message, words };
}

function seal(
  key: AeadKey,
  nonce: Uint8Array,
  parts: { aad: Uint8Array; aad2?: Uint8Array; input: Uint8Array },
): Buffer {
  const { message, words } = place(nonce, parts);
  key.seal(...words, message);
  const { bytes } = memory;
  return Buffer.concat([
    bytes.subarray(AT.output, AT.output + parts.input.length),
    bytes.subarray(AT.tag, AT.tag + 16),
  ]);
}

function open(
  key: AeadKey,
  nonce: Uint8Array,
  parts: { aad: Uint8Array; aad2?: Uint8Array; sealed: Uint8Array },
): Buffer | undefined {
  const { sealed, ...rest } = parts;
  const length = sealed.length - 16;
  const { message, words } = place(nonce, { ...rest, input: sealed.subarray(0, length) });
  memory.bytes.set(sealed.subarray(length), AT.tag);
  if (!key.open(...words, message)) return undefined;
  return Buffer.from(memory.bytes.subarray(AT.output, AT.output + length));
}

t.test('the example of RFC 8439 section 2.8.2', (t) => {
  const key = new AeadKey(hex('808182838485868788898a8b8c8d8e8f 909192939495969798999a9b9c9d9e9f'));
  const nonce = hex('070000004041424344454647');
  const aad = hex('50515253c0c1c2c3c4c5c6c7');
  const input = Buffer.from(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  const sealed = hex(`
    d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6
    3dbea45e8ca9671282fafb69da92728b 1a71de0a9e060b2905d6a5b67ecd3b36
    92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
    3ff4def08e4b7a9de576d26586cec64b 6116
    1ae10b594f09e26a7e902ecbd0600691`);
  t.equal(seal(key, nonce, { aad, input }).toString('hex'), sealed.toString('hex'));
  t.same(open(key, nonce, { aad, sealed }), input);
  key.destroy();
  t.end();
});

const bytes = (maxLength: number): fc.Arbitrary<Uint8Array> =>
  fc.oneof(
    fc.uint8Array({ maxLength, size: 'max' }),
    // Lengths about the block of Poly1305, of ChaCha20, and a page.
    fc
      .constantFrom(0, 1, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097)
      .map((length) => new Uint8Array(Math.min(length, maxLength)).fill(length)),
  );
const exactly = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });

t.test('equals @noble/ciphers for any key, nonce, associated data and text', (t) => {
  fc.assert(
    fc.property(exactly(32), exactly(12), bytes(200), bytes(5000), (key, nonce, aad, input) => {
      const ours = new AeadKey(key);
      const sealed = seal(ours, nonce, { aad, input });
      const theirs = chacha20poly1305(key, nonce, aad).encrypt(input);
      const opened = open(ours, nonce, { aad, sealed: theirs });
      ours.destroy();
      return sealed.equals(theirs) && opened?.equals(input) === true;
    }),
    { numRuns: 300 },
  );
  t.pass('every message');
  t.end();
});

t.test('associated data in two runs equals the same in one', (t) => {
  const key = new AeadKey(Buffer.alloc(32, 1));
  fc.assert(
    fc.property(exactly(12), bytes(300), fc.nat(), bytes(100), (nonce, aad, cut, input) => {
      const at = cut % (aad.length + 1);
      const parts = { aad: aad.subarray(0, at), aad2: aad.subarray(at), input };
      const split = seal(key, nonce, parts);
      const whole = seal(key, nonce, { aad, input });
      return (
        split.equals(whole) && open(key, nonce, { ...parts, sealed: whole })?.equals(input) === true
      );
    }),
    { numRuns: 200 },
  );
  t.pass('every cut');
  key.destroy();
  t.end();
});

t.test('output may lie on input', (t) => {
  const key = new AeadKey(Buffer.alloc(32, 2));
  const nonce = Buffer.alloc(12, 3);
  for (const length of [0, 1, 64, 1000, 4096]) {
    const input = Buffer.alloc(length, 0x5a);
    const apart = seal(key, nonce, { aad: Buffer.alloc(5), input });
    const { message, words } = place(nonce, { aad: Buffer.alloc(5), input });
    message.output = message.input;
    key.seal(...words, message);
    const there = memory.bytes.subarray(AT.input, AT.input + length);
    t.same(there, apart.subarray(0, length), `seal ${length}`);
    t.same(memory.bytes.subarray(AT.tag, AT.tag + 16), apart.subarray(length));
    t.ok(key.open(...words, message));
    t.same(there, input, `open ${length}`);
  }
  key.destroy();
  t.end();
});

t.test('nothing is written but output and tag', (t) => {
  const key = new AeadKey(Buffer.alloc(32, 2));
  for (const length of [0, 1, 15, 4096]) {
    seal(key, Buffer.alloc(12), { aad: Buffer.alloc(12, 1), input: Buffer.alloc(length, 2) });
    const { bytes } = memory;
    t.ok(bytes.subarray(AT.aad, AT.aad + 12).every((byte) => byte === 1));
    t.ok(bytes.subarray(AT.input, AT.input + length).every((byte) => byte === 2));
    t.ok(
      bytes.subarray(AT.output + length, AT.tag).every((byte) => byte === 0xee),
      `${length}`,
    );
    t.ok(bytes.subarray(AT.tag + 16).every((byte) => byte === 0xee));
  }
  key.destroy();
  t.end();
});

t.test('a flipped bit anywhere is found, and the key works on', (t) => {
  const key = new AeadKey(Buffer.alloc(32, 4));
  const nonce = Buffer.alloc(12, 5);
  const aad = Buffer.from('associated');
  const aad2 = Buffer.from('data');
  const input = Buffer.alloc(300, 6);
  const sealed = seal(key, nonce, { aad, aad2, input });
  const flip = (buffer: Buffer, bit: number): Buffer => {
    const changed = Buffer.from(buffer);
    changed[bit >>> 3] = (changed[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
    return changed;
  };
  let found = 0;
  for (let bit = 0; bit < sealed.length * 8; bit += 7) {
    if (open(key, nonce, { aad, aad2, sealed: flip(sealed, bit) }) !== undefined)
      t.fail(`bit ${bit}`);
    found += 1;
  }
  for (let bit = 0; bit < aad.length * 8; bit += 1) {
    if (open(key, nonce, { aad: flip(aad, bit), aad2, sealed }) !== undefined) t.fail(`aad ${bit}`);
  }
  for (let bit = 0; bit < aad2.length * 8; bit += 1) {
    if (open(key, nonce, { aad, aad2: flip(aad2, bit), sealed }) !== undefined)
      t.fail(`aad2 ${bit}`);
  }
  for (let bit = 0; bit < 96; bit += 1) {
    if (open(key, flip(nonce, bit), { aad, aad2, sealed }) !== undefined) t.fail(`nonce ${bit}`);
  }
  t.equal(open(key, nonce, { aad: aad.subarray(1), aad2, sealed }), undefined, 'shorter aad');
  t.equal(open(key, nonce, { aad, sealed }), undefined, 'one run of aad missing');
  t.equal(open(key, nonce, { aad, aad2, sealed: sealed.subarray(1) }), undefined, 'shorter text');
  const other = new AeadKey(Buffer.alloc(32, 7));
  t.equal(open(other, nonce, { aad, aad2, sealed }), undefined, 'another key');
  t.same(open(key, nonce, { aad, aad2, sealed }), input, `after ${found} forgeries`);
  key.destroy();
  other.destroy();
  t.end();
});

t.test('the three nonce words are little endian, in order', (t) => {
  const key = Buffer.alloc(32, 8);
  const ours = new AeadKey(key);
  const message = place(Buffer.alloc(12), {
    aad: Buffer.alloc(0),
    input: Buffer.from('x'),
  }).message;
  ours.seal(0x03020100, 0x07060504, 0xfb0a0908, message);
  const sealed = Buffer.concat([
    memory.bytes.subarray(AT.output, AT.output + 1),
    memory.bytes.subarray(AT.tag, AT.tag + 16),
  ]);
  const nonce = hex('000102030405060708090afb');
  t.same(sealed, Buffer.from(chacha20poly1305(key, nonce).encrypt(Buffer.from('x'))));
  ours.destroy();
  t.end();
});

t.test('a key of another length is refused', (t) => {
  for (const length of [0, 16, 31, 33, 64]) {
    t.throws(() => new AeadKey(Buffer.alloc(length)), { code: 'ERR_INTERNAL' }, `${length}`);
  }
  t.end();
});

t.test('the key is copied, so that the caller can zero its own', (t) => {
  const bytes = Buffer.alloc(32, 9);
  const key = new AeadKey(bytes);
  bytes.fill(0);
  const nonce = Buffer.alloc(12);
  const sealed = seal(key, nonce, { aad: Buffer.alloc(0), input: Buffer.from('text') });
  const theirs = chacha20poly1305(Buffer.alloc(32, 9), nonce).encrypt(Buffer.from('text'));
  t.same(sealed, Buffer.from(theirs));
  key.destroy();
  t.end();
});

t.test('a destroyed key throws and crashes nothing', (t) => {
  const key = new AeadKey(Buffer.alloc(32, 10));
  key.destroy();
  key.destroy();
  const parts = { aad: Buffer.alloc(0), input: Buffer.from('text') };
  t.throws(() => seal(key, Buffer.alloc(12), parts), { code: 'ERR_INTERNAL' });
  t.throws(() => open(key, Buffer.alloc(12), { aad: parts.aad, sealed: Buffer.alloc(20) }), {
    code: 'ERR_INTERNAL',
  });
  t.end();
});

t.test('addresses are given only inside the buffer', (t) => {
  const size = memory.bytes.length;
  t.equal(addressIn(memory, 0, size), memory.address);
  t.equal(addressIn(memory, size, 0), memory.address + size);
  t.equal(addressIn(memory, 100, 10), memory.address + 100);
  const outside: [number, number][] = [
    [-1, 1],
    [0, -1],
    [0, size + 1],
    [size, 1],
    [size + 1, 0],
    [1, size],
    [NaN, 1],
    [0, NaN],
    [0, Infinity],
    [2 ** 53, 1],
  ];
  for (const [offset, length] of outside) {
    t.throws(() => addressIn(memory, offset, length), RangeError, `${offset}+${length}`);
  }
  t.end();
});

t.teardown(() => memory.free());
