/**
 * How values are encoded on their way to a holder and decoded on their way back, in one place for the
 * SDK and the command line: compressed first, sealed after, and the note that says so in the meta.
 *
 * A note is a claim of the holder until something was opened under it. So a reader who expects sealed
 * values says so (`mustBeSealed`), or a holder could answer with bytes of its own and no seal.
 */
import { MemcloudError } from '../common/errors.ts';
import type { ByteSource, ByteTransform } from './chunks.ts';
import { compressStream, compressValue, decompressStream, decompressValue } from './compress.ts';
import type { Compressor } from './compress.ts';
import { decodeMeta, encodeMeta, encodeNote, type Encoding } from './encoding.ts';
import { openRange, openStream, openValue, sealStream, sealValue } from './seal.ts';
import type { ReadSealed, SealKey } from './seal.ts';

/** How to encode a value. */
export interface EncodeOptions {
  /** The key of the object; empty for a block. */
  readonly name: string;
  /** By what to compress; without: not at all. */
  readonly compress?: Compressor | undefined;
  /** With what to seal; without: not at all. */
  readonly sealKey?: SealKey | undefined;
  /** Bytes of the value, where they are known; kept in the note of an encoded value. */
  readonly plainSizeBytes?: number | undefined;
  /** The writer's own notes; they go in front of every reader and are not sealed. */
  readonly meta?: Uint8Array | undefined;
}

/** A value's way to its holder. */
export interface Encoder {
  /** For the object's options. */
  readonly meta: Buffer;
  /** Whether the bytes change at all. */
  readonly isPlain: boolean;
  /** Encodes a stream, a chunk at a time. Once only: each value is sealed with a salt of its own. */
  readonly encodeStream: ByteTransform;
  /** Encodes a whole value. */
  encodeValue(value: Uint8Array): Uint8Array;
}

/** How to decode a value. */
export interface DecodeOptions {
  /** The key of the object; empty for a block. */
  readonly name: string;
  /** Gives the key with which a sealed value opens; asked only when the value is sealed. */
  readonly sealKey?: (() => SealKey) | undefined;
  /** Refuse what is not sealed. */
  readonly mustBeSealed?: boolean | undefined;
  /** The value may not get longer, however it is encoded. */
  readonly sizeMaxBytes?: number | undefined;
}

/** A value's way back. */
export interface Decoder {
  /** How it is encoded, by the note. */
  readonly encoding: Encoding;
  /** The writer's own notes, a view of the meta. */
  readonly meta: Uint8Array;
  /** Whether the bytes are the value's already. */
  readonly isPlain: boolean;
  /** Decodes a stream, a chunk at a time. It throws `ERR_OBJECT_SEAL` and `ERR_DATA_LOST`. */
  readonly decodeStream: ByteTransform;
  /** Decodes a range (`openRange` of sdk/seal.ts); only where a value is sealed and nothing else. */
  readonly decodeRange?: (
    sizeBytes: number,
    range: { readonly offsetBytes: number; readonly lengthBytes: number },
    read: ReadSealed,
  ) => AsyncGenerator<Buffer, void, undefined>;
  /** Decodes a whole value. @throws MemcloudError `ERR_OBJECT_SEAL`, `ERR_DATA_LOST` */
  decodeValue(bytes: Uint8Array): Uint8Array;
}

async function* unchanged(source: ByteSource): AsyncGenerator<Buffer, void, undefined> {
  for await (const piece of source) {
    yield Buffer.from(piece.buffer, piece.byteOffset, piece.length);
  }
}

/** @throws MemcloudError `ERR_USAGE` when the meta is too long, `ERR_UNSUPPORTED` for zstd on an older Node */
export function encoderFor(options: EncodeOptions): Encoder {
  const { name, compress, sealKey } = options;
  const isPlain = compress === undefined && sealKey === undefined;
  const encoding: Encoding = {
    compression: compress ?? 'none',
    sealed: sealKey !== undefined,
    plainSizeBytes: isPlain ? null : (options.plainSizeBytes ?? null),
  };
  const context = { name, note: encodeNote(encoding) };
  const pack: ByteTransform = compress === undefined ? unchanged : compressStream(compress);
  const seal: ByteTransform = sealKey === undefined ? unchanged : sealStream(sealKey, context);
  return {
    meta: encodeMeta(encoding, options.meta),
    isPlain,
    encodeStream: (source) => seal(pack(source)),
    encodeValue(value) {
      const packed = compress === undefined ? value : compressValue(compress, value);
      return sealKey === undefined ? packed : sealValue(sealKey, context, packed);
    },
  };
}

/**
 * @param meta - the object's, as its holder gave it
 * @throws MemcloudError `ERR_OBJECT_SEAL` when the value is sealed and there is no key, or is not and must
 *   be; `ERR_UNSUPPORTED` when this client does not know the encoding
 */
export function decoderFor(meta: Uint8Array, options: DecodeOptions): Decoder {
  const { encoding, note, rest } = decodeMeta(meta);
  const { compression, sealed, plainSizeBytes } = encoding;
  if (options.mustBeSealed === true && !sealed) {
    throw new MemcloudError(
      'ERR_OBJECT_SEAL',
      'the value is not sealed: its holder may have made it',
    );
  }
  const sealKey = sealed ? options.sealKey?.() : undefined;
  if (sealed && sealKey === undefined) {
    throw new MemcloudError('ERR_OBJECT_SEAL', 'the value is sealed, and no seal key was given');
  }
  const context = { name: options.name, note };
  const sizeMaxBytes = Math.min(plainSizeBytes ?? Infinity, options.sizeMaxBytes ?? Infinity);
  const isPlain = compression === 'none' && !sealed;
  const open: ByteTransform = sealKey === undefined ? unchanged : openStream(sealKey, context);
  const unpack: ByteTransform =
    compression === 'none' ? unchanged : decompressStream(compression, sizeMaxBytes);
  return {
    encoding,
    meta: rest,
    isPlain,
    ...(sealKey === undefined || compression !== 'none'
      ? {}
      : { decodeRange: (size, range, read) => openRange(sealKey, context, size, range, read) }),
    decodeStream: (source) => ofSize(unpack(open(source)), plainSizeBytes, sizeMaxBytes),
    decodeValue(bytes) {
      const opened = sealKey === undefined ? bytes : openValue(sealKey, context, bytes);
      const value =
        compression === 'none' ? opened : decompressValue(compression, opened, sizeMaxBytes);
      checkSize(value.length, plainSizeBytes, sizeMaxBytes);
      return value;
    },
  };
}

async function* ofSize(
  source: AsyncIterable<Buffer>,
  plainSizeBytes: number | null,
  sizeMaxBytes: number,
): AsyncGenerator<Buffer, void, undefined> {
  let sizeBytes = 0;
  for await (const piece of source) {
    sizeBytes += piece.length;
    checkSize(sizeBytes, null, sizeMaxBytes);
    yield piece;
  }
  checkSize(sizeBytes, plainSizeBytes, sizeMaxBytes);
}

function checkSize(sizeBytes: number, expectedBytes: number | null, sizeMaxBytes: number): void {
  if (sizeBytes <= sizeMaxBytes && (expectedBytes === null || sizeBytes === expectedBytes)) return;
  const expected = expectedBytes === null ? `at most ${sizeMaxBytes}` : String(expectedBytes);
  const message = `the value is damaged: expected ${expected} bytes, got ${sizeBytes}`;
  throw new MemcloudError('ERR_DATA_LOST', message);
}
