/**
 * Compressed values: a value is cut into chunks, each compressed by itself into a frame, so that both
 * ends hold one chunk, whatever the value's length. A chunk that does not get shorter lies in its frame
 * as it is. A frame says how long its chunk is before anything is decompressed, so that a few hostile
 * bytes cannot become gigabytes.
 *
 * ```
 * frame:  kind (1): 0 as it is, 1 compressed, 2 end
 *         bytes of the chunk (3, big-endian), 1 to 131 072; of an end frame 0
 *         bytes that follow (3, big-endian), at most those of the chunk
 * lz4:    one block (lz4_Block_format.md), without a length in front
 * zstd:   one frame (RFC 8878)
 * end:    8 bytes, big-endian: bytes of the value
 * ```
 */
import { createRequire } from 'node:module';
import zlib from 'node:zlib';
import type * as Lz4 from 'lz4-napi';
import { MemcloudError } from '../common/errors.ts';
import { chunksOf, type ByteSource, type ByteTransform } from './chunks.ts';
import type { Compression } from './encoding.ts';

/** By what a value can be compressed. */
export type Compressor = Exclude<Compression, 'none'>;

/** Bytes of a chunk before it is compressed, at most. */
export const COMPRESS_CHUNK_SIZE_BYTES = 128 * 1024;

const FRAME_HEADER_SIZE_BYTES = 7;
const KIND_STORED = 0;
const KIND_COMPRESSED = 1;
const KIND_END = 2;
const END_SIZE_BYTES = 8;
/** Bytes of the length that lz4-napi puts in front of a block. */
const LZ4_PREFIX_SIZE_BYTES = 4;

/** Loaded when it is needed: who compresses nothing does not wait for it. */
let lz4Loaded: typeof Lz4 | undefined;
function lz4(): typeof Lz4 {
  lz4Loaded ??= createRequire(import.meta.url)('lz4-napi') as typeof Lz4;
  return lz4Loaded;
}

/** node:zlib from 22.15 on. */
interface ZstdFunctions {
  zstdCompressSync?(bytes: Uint8Array): Buffer;
  zstdDecompressSync?(bytes: Uint8Array, options: { maxOutputLength: number }): Buffer;
}
const zstd = zlib as unknown as ZstdFunctions;

/** Whether this Node has zstd; lz4 is always there. */
export const hasZstd = zstd.zstdCompressSync !== undefined && zstd.zstdDecompressSync !== undefined;

/** @throws MemcloudError `ERR_UNSUPPORTED` when this Node lacks it */
function checkSupported(by: Compressor): void {
  if (by === 'lz4' || hasZstd) return;
  const message = `zstd needs Node 22.15 or later, this is ${process.version}; lz4 works everywhere`;
  throw new MemcloudError('ERR_UNSUPPORTED', message);
}

function compress(by: Compressor, chunk: Buffer): Buffer {
  if (by === 'lz4') return lz4().compressSync(chunk).subarray(LZ4_PREFIX_SIZE_BYTES);
  return zstd.zstdCompressSync?.(chunk) ?? chunk;
}

function decompress(by: Compressor, body: Buffer, sizeBytes: number): Buffer {
  let chunk: Buffer | undefined;
  try {
    if (by === 'lz4') {
      const prefix = Buffer.alloc(LZ4_PREFIX_SIZE_BYTES);
      prefix.writeUInt32LE(sizeBytes);
      chunk = lz4().uncompressSync(Buffer.concat([prefix, body]));
    } else {
      chunk = zstd.zstdDecompressSync?.(body, { maxOutputLength: sizeBytes });
    }
  } catch (cause) {
    throw damaged(`a frame is no ${by}`, cause);
  }
  if (chunk?.length !== sizeBytes) throw damaged('a frame is not as long as it says');
  return chunk;
}

function frame(kind: number, sizeBytes: number, body: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_SIZE_BYTES + body.length);
  bytes.writeUInt8(kind);
  bytes.writeUIntBE(sizeBytes, 1, 3);
  bytes.writeUIntBE(body.length, 4, 3);
  bytes.set(body, FRAME_HEADER_SIZE_BYTES);
  return bytes;
}

function chunkFrame(by: Compressor, chunk: Buffer): Buffer {
  const packed = compress(by, chunk);
  if (packed.length < chunk.length) return frame(KIND_COMPRESSED, chunk.length, packed);
  return frame(KIND_STORED, chunk.length, chunk);
}

function endFrame(valueSizeBytes: number): Buffer {
  const size = Buffer.alloc(END_SIZE_BYTES);
  size.writeBigUInt64BE(BigInt(valueSizeBytes));
  return frame(KIND_END, 0, size);
}

/** Compresses a stream, a chunk at a time. @throws MemcloudError `ERR_UNSUPPORTED` for zstd on an older Node */
export function compressStream(by: Compressor): ByteTransform {
  checkSupported(by);
  return async function* (source: ByteSource) {
    let valueSizeBytes = 0;
    for await (const { bytes } of chunksOf(source, COMPRESS_CHUNK_SIZE_BYTES)) {
      if (bytes.length > 0) yield chunkFrame(by, bytes);
      valueSizeBytes += bytes.length;
    }
    yield endFrame(valueSizeBytes);
  };
}

/**
 * Decompresses a stream, whatever pieces it comes in.
 *
 * @param sizeMaxBytes - the value may not get longer: what its note says, or what there is room for
 * @throws MemcloudError `ERR_UNSUPPORTED` for zstd on an older Node; the generator throws `ERR_DATA_LOST`
 *   when the stream is damaged, cut short or longer than that
 */
export function decompressStream(by: Compressor, sizeMaxBytes = Infinity): ByteTransform {
  checkSupported(by);
  return async function* (source: ByteSource) {
    const frames = new FrameReader(by, sizeMaxBytes);
    for await (const piece of source) yield* frames.push(piece);
    frames.end();
  };
}

/** Compresses a whole value. @throws MemcloudError `ERR_UNSUPPORTED` for zstd on an older Node */
export function compressValue(by: Compressor, value: Uint8Array): Buffer {
  checkSupported(by);
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.length);
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += COMPRESS_CHUNK_SIZE_BYTES) {
    frames.push(chunkFrame(by, bytes.subarray(at, at + COMPRESS_CHUNK_SIZE_BYTES)));
  }
  return Buffer.concat([...frames, endFrame(bytes.length)]);
}

/** Decompresses a whole value. @throws MemcloudError as {@link decompressStream} */
export function decompressValue(
  by: Compressor,
  packed: Uint8Array,
  sizeMaxBytes = Infinity,
): Buffer {
  checkSupported(by);
  const frames = new FrameReader(by, sizeMaxBytes);
  const chunks = [...frames.push(packed)];
  frames.end();
  return Buffer.concat(chunks);
}

/** Cuts pieces into frames and undoes each; it holds one frame at most. */
class FrameReader {
  readonly #by: Compressor;
  readonly #sizeMaxBytes: number;
  readonly #held = Buffer.allocUnsafe(FRAME_HEADER_SIZE_BYTES + COMPRESS_CHUNK_SIZE_BYTES);
  #filled = 0;
  /** Bytes of the frame that comes, as far as they are known. */
  #wanted = FRAME_HEADER_SIZE_BYTES;
  #valueSizeBytes = 0;
  #ended = false;

  constructor(by: Compressor, sizeMaxBytes: number) {
    this.#by = by;
    this.#sizeMaxBytes = sizeMaxBytes;
  }

  *push(piece: Uint8Array): Generator<Buffer, void, undefined> {
    let at = 0;
    while (at < piece.length) {
      if (this.#ended) throw damaged('bytes follow its end');
      const taken = Math.min(this.#wanted - this.#filled, piece.length - at);
      this.#held.set(piece.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      at += taken;
      if (this.#filled < this.#wanted) return;
      if (this.#wanted === FRAME_HEADER_SIZE_BYTES) {
        this.#wanted += this.#checkHeader();
      } else {
        const chunk = this.#takeFrame();
        this.#filled = 0;
        this.#wanted = FRAME_HEADER_SIZE_BYTES;
        if (chunk !== undefined) yield chunk;
      }
    }
  }

  end(): void {
    if (!this.#ended) throw damaged('it is cut short');
  }

  /** @returns the bytes that follow the header, at least 1 */
  #checkHeader(): number {
    const kind = this.#held.readUInt8();
    const sizeBytes = this.#held.readUIntBE(1, 3);
    const bodyLength = this.#held.readUIntBE(4, 3);
    if (kind === KIND_END && sizeBytes === 0 && bodyLength === END_SIZE_BYTES) return bodyLength;
    const fits =
      (kind === KIND_STORED && bodyLength === sizeBytes) ||
      (kind === KIND_COMPRESSED && bodyLength > 0 && bodyLength < sizeBytes);
    if (!fits || sizeBytes === 0 || sizeBytes > COMPRESS_CHUNK_SIZE_BYTES) {
      throw damaged(`a frame of kind ${kind} of ${sizeBytes} bytes in ${bodyLength}`);
    }
    this.#valueSizeBytes += sizeBytes;
    if (this.#valueSizeBytes > this.#sizeMaxBytes) {
      throw damaged(`it is longer than ${this.#sizeMaxBytes} bytes`);
    }
    return bodyLength;
  }

  #takeFrame(): Buffer | undefined {
    const kind = this.#held.readUInt8();
    const sizeBytes = this.#held.readUIntBE(1, 3);
    const body = this.#held.subarray(FRAME_HEADER_SIZE_BYTES, this.#filled);
    if (kind === KIND_COMPRESSED) return decompress(this.#by, body, sizeBytes);
    if (kind === KIND_STORED) return Buffer.from(body);
    if (body.readBigUInt64BE() !== BigInt(this.#valueSizeBytes))
      throw damaged('frames are missing');
    this.#ended = true;
    return undefined;
  }
}

function damaged(why: string, cause?: unknown): MemcloudError {
  const options = cause === undefined ? {} : { cause };
  return new MemcloudError('ERR_DATA_LOST', `the compressed value is damaged: ${why}`, options);
}
