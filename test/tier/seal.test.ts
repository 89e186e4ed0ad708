/** Sealed pages: the layout written down, and every wrong page, version, volume and bit found. */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import fc from 'fast-check';
import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { PageSealer } from '../../tier/seal.ts';

const memory = new NativeMemory(4 * 4112);
/** Plaintext, sealed page, opened page. */
const AT = { from: 0, sealed: 4096, to: 4096 + 4112 };

function seal(
  sealer: PageSealer,
  page: number,
  low: number,
  high: number,
  text: Uint8Array,
): Buffer {
  memory.bytes.set(text, AT.from);
  sealer.seal(page, low, high, memory.address + AT.from, memory.address + AT.sealed);
  return Buffer.from(memory.bytes.subarray(AT.sealed, AT.sealed + 4112));
}

function open(
  sealer: PageSealer,
  page: number,
  low: number,
  high: number,
  sealed: Uint8Array,
): Buffer | undefined {
  memory.bytes.set(sealed, AT.sealed);
  memory.bytes.fill(0, AT.to, AT.to + 4096);
  const opened = sealer.open(page, low, high, memory.address + AT.sealed, memory.address + AT.to);
  return opened ? Buffer.from(memory.bytes.subarray(AT.to, AT.to + 4096)) : undefined;
}

const text = Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 31) & 0xff));
const u32 = fc.oneof(
  fc.constantFrom(0, 1, 0xffffffff, 0x80000000),
  fc.integer({ min: 0, max: 0xffffffff }),
);

t.test('a sealed page opens under its own name only', (t) => {
  const sealer = new PageSealer();
  const sealed = seal(sealer, 5, 6, 7, text);
  t.equal(sealed.length, 4112);
  t.same(open(sealer, 5, 6, 7, sealed), text);
  const others: [string, number, number, number][] = [
    ['another page', 4, 6, 7],
    ['an older version', 5, 5, 7],
    ['a newer version', 5, 7, 7],
    ['a version 2^32 older', 5, 6, 6],
    ['the words of the version changed about', 5, 7, 6],
    ['page and version changed about', 6, 5, 7],
  ];
  for (const [name, page, low, high] of others) {
    t.equal(open(sealer, page, low, high, sealed), undefined, name);
  }
  t.same(open(sealer, 5, 6, 7, sealed), text, 'and then still under its own');
  sealer.destroy();
  t.end();
});

t.test('any one flipped bit is found', (t) => {
  const sealer = new PageSealer();
  const sealed = seal(sealer, 1, 2, 3, text);
  fc.assert(
    fc.property(fc.nat(4112 * 8 - 1), (bit) => {
      const changed = Buffer.from(sealed);
      changed[bit >>> 3] = (changed[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
      return open(sealer, 1, 2, 3, changed) === undefined;
    }),
    { numRuns: 300 },
  );
  for (let bit = 4096 * 8; bit < 4112 * 8; bit += 1) {
    const changed = Buffer.from(sealed);
    changed[bit >>> 3] = (changed[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
    if (open(sealer, 1, 2, 3, changed) !== undefined) t.fail(`bit ${bit} of the tag`);
  }
  t.equal(open(sealer, 1, 2, 3, Buffer.alloc(4112)), undefined, 'a wiped page');
  sealer.destroy();
  t.end();
});

t.test('no other volume opens it, and volumes have different names', (t) => {
  const sealers = Array.from({ length: 4 }, () => new PageSealer());
  const [first] = sealers as [PageSealer];
  const sealed = seal(first, 1, 2, 3, text);
  for (const other of sealers.slice(1)) t.equal(open(other, 1, 2, 3, sealed), undefined);
  t.equal(new Set(sealers.map(({ volumeId }) => volumeId)).size, 4);
  for (const { volumeId } of sealers) t.match(volumeId, /^[0-9a-f]{32}$/);
  sealers.forEach((sealer) => sealer.destroy());
  t.end();
});

t.test('the same text is never sealed to the same bytes', (t) => {
  const sealer = new PageSealer();
  const seen = new Set<string>();
  let count = 0;
  for (const page of [0, 1, 0xffffffff]) {
    for (const low of [0, 1, 0xffffffff]) {
      for (const high of [0, 1, 0x1fffff]) {
        seen.add(seal(sealer, page, low, high, text).toString('latin1', 0, 64));
        count += 1;
      }
    }
  }
  t.equal(seen.size, count);
  sealer.destroy();
  t.end();
});

t.test(
  'nonce and associated data are page and version, little endian, behind the volume id',
  (t) => {
    // The key is secret even from tests; what can be seen is which cipher text two names share. With
    // the key stream of a name known, ChaCha20 must give the same for zeroes under that name.
    const sealer = new PageSealer();
    fc.assert(
      fc.property(
        u32,
        u32,
        u32,
        fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
        (page, low, high, other) => {
          const stream = seal(sealer, page, low, high, new Uint8Array(4096)).subarray(0, 4096);
          const sealed = seal(sealer, page, low, high, other);
          const sum = Buffer.from(other.map((byte, index) => byte ^ (stream[index] ?? 0)));
          return (
            sealed.subarray(0, 4096).equals(sum) &&
            open(sealer, page, low, high, sealed)?.equals(other) === true
          );
        },
      ),
      { numRuns: 50 },
    );
    sealer.destroy();
    t.end();
  },
);

t.test('equals @noble/ciphers with the documented nonce and associated data', (t) => {
  const key = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
  const id = Buffer.from(Array.from({ length: 16 }, (_, index) => 0xf0 + index));
  const sealer = new PageSealer({ key: Buffer.from(key), volumeId: id });
  t.equal(sealer.volumeId, 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff');
  fc.assert(
    fc.property(u32, u32, u32, (page, low, high) => {
      const name = Buffer.alloc(12);
      name.writeUInt32LE(page, 0);
      name.writeUInt32LE(low, 4);
      name.writeUInt32LE(high, 8);
      const theirs = chacha20poly1305(key, name, Buffer.concat([id, name])).encrypt(text);
      return seal(sealer, page, low, high, text).equals(theirs);
    }),
    { numRuns: 100 },
  );
  sealer.destroy();
  t.end();
});

t.test('a destroyed sealer opens nothing', (t) => {
  const sealer = new PageSealer();
  seal(sealer, 1, 2, 3, text);
  sealer.destroy();
  t.throws(() => seal(sealer, 1, 2, 4, text));
  t.throws(() => open(sealer, 1, 2, 3, Buffer.alloc(4112)));
  t.end();
});

t.teardown(() => memory.free());
