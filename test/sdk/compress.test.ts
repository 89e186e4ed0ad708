/** Compressed values: what comes back, in what memory, and what hostile bytes cannot do. */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import {
  compressStream,
  compressValue,
  decompressStream,
  decompressValue,
  hasZstd,
  type Compressor,
} from '../../sdk/compress.ts';
import { encodingVectors } from '../helpers/encoding-vectors.ts';
import { Random } from '../helpers/fuzz.ts';

const LOST = { code: 'ERR_DATA_LOST' };
const SIZES = [0, 1, 100, 131_071, 131_072, 131_073, 400_000];

async function gather(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of source) pieces.push(Uint8Array.from(piece));
  return Buffer.concat(pieces);
}

function cut(bytes: Buffer, size: number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
  return pieces;
}

/** Half text, half noise. */
function mixed(size: number): Buffer {
  const random = new Random(size);
  const parts: Buffer[] = [];
  for (let length = 0; length < size;) {
    const part = random.below(2) === 0 ? random.bytes(5000) : Buffer.alloc(9000, 'a log line\n');
    parts.push(part);
    length += part.length;
  }
  return Buffer.concat(parts).subarray(0, size);
}

for (const by of ['lz4', 'zstd'] as const) {
  const skip = by === 'zstd' && !hasZstd ? `zstd needs Node 22.15, this is ${process.version}` : '';
  t.test(`${by}: every length comes back, in pieces of any size`, { skip }, async (t) => {
    for (const size of SIZES) {
      const value = mixed(size);
      const packed = compressValue(by, value);
      t.ok(decompressValue(by, packed).equals(value), `${size} bytes`);
      const streamed = await gather(compressStream(by)(cut(value, 7777)));
      t.ok(streamed.equals(packed), 'the same frames as a stream');
      for (const pieceSize of [1 << 20, 1000, ...(size <= 100 ? [1] : [])]) {
        const opened = await gather(decompressStream(by, size)(cut(packed, pieceSize)));
        t.ok(opened.equals(value), `in pieces of ${pieceSize}`);
      }
    }
  });

  t.test(`${by}: damaged bytes are refused or give bytes of the same bounds`, { skip }, (t) => {
    const random = new Random(Number(process.env['SEED'] ?? 6));
    const packed = compressValue(by, mixed(200_000));
    for (let round = 0; round < 500; round += 1) {
      try {
        t.ok(decompressValue(by, random.mutate(packed), 200_000).length <= 200_000);
      } catch (error) {
        if (!(error instanceof MemcloudError) || error.code !== 'ERR_DATA_LOST') throw error;
      }
    }
    t.end();
  });
}

t.test('zstd on a Node without it is refused in words', { skip: hasZstd && 'it is here' }, (t) => {
  for (const attempt of [compressStream, decompressStream] as ((by: Compressor) => unknown)[]) {
    t.throws(() => attempt('zstd'), { code: 'ERR_UNSUPPORTED', message: /lz4 works everywhere/ });
  }
  t.throws(() => compressValue('zstd', Buffer.alloc(9)), { code: 'ERR_UNSUPPORTED' });
  t.throws(() => decompressValue('zstd', Buffer.alloc(9)), { code: 'ERR_UNSUPPORTED' });
  t.end();
});

t.test('vectors', (t) => {
  const { compressed, damaged } = encodingVectors();
  for (const { what, by, plain, packed } of compressed) {
    t.equal(decompressValue(by, Buffer.from(packed, 'hex')).toString('hex'), plain, what);
  }
  for (const { what, packed } of damaged) {
    const bytes = Buffer.from(packed, 'hex');
    t.throws(() => decompressValue('lz4', bytes), LOST, what);
  }
  t.end();
});

t.test(
  'bytes that do not get shorter lie as they are: 7 bytes more a chunk, 15 at the end',
  (t) => {
    const noise = new Random(7).bytes(262_144);
    t.equal(compressValue('lz4', noise).length, 262_144 + 2 * 7 + 15);
    const text = Buffer.alloc(262_144, 'a log line\n');
    t.ok(compressValue('lz4', text).length < 262_144 / 50, 'and text gets much shorter');
    t.end();
  },
);

t.test('a bomb gives no more than was declared', async (t) => {
  const bomb = compressValue('lz4', Buffer.alloc(64 << 20));
  t.ok(bomb.length < 400_000);
  t.throws(() => decompressValue('lz4', bomb, (64 << 20) - 1), LOST);
  let given = 0;
  const read = async (): Promise<void> => {
    for await (const chunk of decompressStream('lz4', 1 << 20)([bomb])) given += chunk.length;
  };
  await t.rejects(read(), { code: 'ERR_DATA_LOST', message: /longer than 1048576 bytes/ });
  t.equal(given, 1 << 20, 'what was allowed came, and not a byte more');
});

t.test('a stream of any length holds a chunk, and lets go of its source', async (t) => {
  let left = 0;
  let ended = false;
  async function* source(): AsyncGenerator<Buffer> {
    try {
      const piece = Buffer.alloc(1 << 16, 'text ');
      for (left = 64 * 16; left > 0; left -= 1) yield piece;
    } finally {
      ended = true;
    }
  }
  let size = 0;
  for await (const piece of decompressStream('lz4')(compressStream('lz4')(source()))) {
    if (piece.length > 131_072) t.fail('a chunk is too long');
    size += piece.length;
  }
  t.equal(size, 64 << 20);
  ended = false;
  for await (const piece of compressStream('lz4')(source())) if (piece.length > 0) break;
  t.ok(ended && left > 1000, 'a reader that leaves ends the source');
});
