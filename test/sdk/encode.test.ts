/** Values on their way to a holder and back: compressed first, sealed after, and no note believed unproven. */
import t from 'tap';
import { compressValue } from '../../sdk/compress.ts';
import { decoderFor, encoderFor, type EncodeOptions } from '../../sdk/encode.ts';
import { encodeMeta } from '../../sdk/encoding.ts';
import { sealKeyOf, sealValue } from '../../sdk/seal.ts';

const KEY = sealKeyOf(Buffer.alloc(32, 9));
const VALUE = Buffer.alloc(300_000, 'a log line that comes again\n');

async function gather(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of source) pieces.push(Uint8Array.from(piece));
  return Buffer.concat(pieces);
}

t.test('each way of encoding comes back, whole and as a stream', async (t) => {
  const ways: Omit<EncodeOptions, 'name'>[] = [
    {},
    { compress: 'lz4' },
    { sealKey: KEY },
    { compress: 'lz4', sealKey: KEY },
    { compress: 'lz4', sealKey: KEY, plainSizeBytes: VALUE.length, meta: Buffer.from('mine') },
    { meta: Buffer.from('ME too') },
  ];
  for (const way of ways) {
    const encoder = encoderFor({ name: 'k', ...way });
    const decoder = decoderFor(encoder.meta, { name: 'k', sealKey: () => KEY });
    t.equal(Buffer.from(decoder.meta).toString(), way.meta?.toString() ?? '');
    t.equal(encoder.isPlain, decoder.isPlain);
    t.match(decoder.encoding, {
      compression: way.compress ?? 'none',
      sealed: way.sealKey !== undefined,
      plainSizeBytes: way.plainSizeBytes ?? null,
    });
    const packed = Buffer.from(encoder.encodeValue(VALUE));
    t.ok(VALUE.equals(decoder.decodeValue(packed)), 'whole');
    const streamed = await gather(encoder.encodeStream([VALUE]));
    t.ok(VALUE.equals(await gather(decoder.decodeStream([streamed]))), 'as a stream');
    t.ok(way.compress === undefined || packed.length < 10_000, 'compressed before it is sealed');
  }
});

t.test('a note that the holder changed does not change the value', async (t) => {
  const encoder = encoderFor({ name: 'k', compress: 'lz4', sealKey: KEY, plainSizeBytes: 5 });
  const bytes = encoder.encodeValue(Buffer.from('value'));
  const claims = [
    { compression: 'none', sealed: true, plainSizeBytes: 5 },
    { compression: 'lz4', sealed: true, plainSizeBytes: 4 },
    { compression: 'lz4', sealed: true, plainSizeBytes: null },
  ] as const;
  for (const claim of claims) {
    const decoder = decoderFor(encodeMeta(claim), { name: 'k', sealKey: () => KEY });
    t.throws(() => decoder.decodeValue(bytes), { code: 'ERR_OBJECT_SEAL' });
    await t.rejects(gather(decoder.decodeStream([bytes])), { code: 'ERR_OBJECT_SEAL' });
  }
});

t.test('who wants sealed values gets no others', (t) => {
  const forged = encoderFor({ name: 'k', compress: 'lz4' });
  const wants = { name: 'k', sealKey: () => KEY, mustBeSealed: true };
  t.throws(() => decoderFor(forged.meta, wants), {
    code: 'ERR_OBJECT_SEAL',
    message: /not sealed/,
  });
  t.throws(() => decoderFor(Buffer.alloc(0), wants), { code: 'ERR_OBJECT_SEAL' });
  const sealed = encoderFor({ name: 'k', sealKey: KEY });
  t.throws(() => decoderFor(sealed.meta, { name: 'k' }), {
    code: 'ERR_OBJECT_SEAL',
    message: /no seal key was given/,
  });
  t.ok(decoderFor(sealed.meta, wants).encoding.sealed);
  t.end();
});

t.test('the key is asked for only when a value is sealed', (t) => {
  const sealKey = (): never => t.fail('asked') as never;
  t.ok(decoderFor(Buffer.alloc(0), { name: 'k', sealKey }).isPlain);
  t.end();
});

t.test('a value is as long as its note says, and no longer than there is room', async (t) => {
  const sealed = encodeMeta({ compression: 'none', sealed: true, plainSizeBytes: 6 });
  const bytes = sealValue(KEY, { name: 'k', note: sealed }, Buffer.from('value'));
  const decoder = decoderFor(sealed, { name: 'k', sealKey: () => KEY });
  t.throws(() => decoder.decodeValue(bytes), {
    code: 'ERR_DATA_LOST',
    message: /expected 6 bytes, got 5/,
  });
  await t.rejects(gather(decoder.decodeStream([bytes])), { code: 'ERR_DATA_LOST' });
  const packed = compressValue('lz4', VALUE);
  for (const [plainSizeBytes, sizeMaxBytes] of [
    [VALUE.length - 1, undefined],
    [VALUE.length + 1, undefined],
    [null, VALUE.length - 1],
    [VALUE.length, 1000],
  ] as const) {
    const meta = encodeMeta({ compression: 'lz4', sealed: false, plainSizeBytes });
    const decoder = decoderFor(meta, { name: 'k', sizeMaxBytes });
    t.throws(() => decoder.decodeValue(packed), { code: 'ERR_DATA_LOST' });
    await t.rejects(gather(decoder.decodeStream([packed])), { code: 'ERR_DATA_LOST' });
  }
  const plain = decoderFor(Buffer.alloc(0), { name: 'k', sizeMaxBytes: 10 });
  t.throws(() => plain.decodeValue(VALUE), { code: 'ERR_DATA_LOST' });
});
