/** The encoding note: what it says, byte for byte, and that nobody guesses at a note of the future. */
import fc from 'fast-check';
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { decodeMeta, encodeMeta, encodeNote, type Encoding } from '../../sdk/encoding.ts';
import { encodingVectors } from '../helpers/encoding-vectors.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

t.test('vectors', (t) => {
  const { notes, refused } = encodingVectors();
  for (const { meta, encoding, rest } of notes) {
    const decoded = decodeMeta(Buffer.from(meta, 'hex'));
    t.same(decoded.encoding, encoding, meta);
    t.equal(hex(decoded.rest), rest, `${meta}: the writer's own`);
    t.equal(hex(encodeMeta(encoding, Buffer.from(rest, 'hex'))), meta, `${meta}: and back`);
    t.equal(hex(decoded.note) + hex(decoded.rest), meta, 'the note is what is left');
  }
  for (const meta of refused) {
    t.throws(() => decodeMeta(Buffer.from(meta, 'hex')), { code: 'ERR_UNSUPPORTED' }, meta);
  }
  t.end();
});

t.test('a note is 4 bytes, 12 with a size', (t) => {
  const encoding: Encoding = { compression: 'zstd', sealed: true, plainSizeBytes: null };
  t.equal(hex(encodeNote(encoding)), '4d450106');
  t.equal(hex(encodeNote({ ...encoding, plainSizeBytes: 258 })), '4d45010e0000000000000102');
  t.end();
});

t.test('notes of its writer have the room that is left of 256 bytes', (t) => {
  const lz4: Encoding = { compression: 'lz4', sealed: false, plainSizeBytes: 1 };
  const plain: Encoding = { compression: 'none', sealed: false, plainSizeBytes: null };
  t.equal(encodeMeta(lz4, Buffer.alloc(244)).length, 256);
  t.throws(() => encodeMeta(lz4, Buffer.alloc(245)), {
    code: 'ERR_USAGE',
    message: /expected at most 244 bytes, got 245/,
  });
  t.equal(encodeMeta(plain, Buffer.alloc(256)).length, 256);
  t.throws(() => encodeMeta(plain, Buffer.alloc(257)), { code: 'ERR_USAGE' });
  t.end();
});

t.test('any encoding and any notes come back; any bytes are meta or ERR_UNSUPPORTED', (t) => {
  const encodings = fc.record<Encoding>({
    compression: fc.constantFrom('none', 'lz4', 'zstd'),
    sealed: fc.boolean(),
    plainSizeBytes: fc.option(fc.maxSafeNat()),
  });
  const notes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.uint8Array({ maxLength: 20 }).map((tail) => Uint8Array.from([0x4d, 0x45, ...tail])),
  );
  fc.assert(
    fc.property(encodings, notes, (encoding, rest) => {
      const decoded = decodeMeta(encodeMeta(encoding, rest));
      t.same(decoded.encoding, encoding);
      t.equal(hex(decoded.rest), hex(rest));
    }),
  );
  fc.assert(
    fc.property(notes, (meta) => {
      try {
        const { note, rest } = decodeMeta(meta);
        t.equal(hex(note) + hex(rest), hex(meta));
      } catch (error) {
        if (!(error instanceof MemcloudError) || error.code !== 'ERR_UNSUPPORTED') throw error;
      }
    }),
  );
  t.end();
});
