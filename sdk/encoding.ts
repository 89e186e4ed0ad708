/**
 * The encoding note: a few bytes at the front of an object's `meta` that say how its value was encoded
 * by its writer, so that any client can undo it. The writer compresses first and seals after, because
 * sealed bytes do not compress. Holders keep the note and never read it.
 *
 * ```
 * 0  2  magic "ME"
 * 2  1  version, 1
 * 3  1  bits 0-1 compression: 0 none, 1 lz4, 2 zstd; bit 2 sealed; bit 3 a size follows; the rest 0
 * 4  8  with bit 3: bytes of the value before encoding, big-endian
 * ```
 *
 * What follows the note is the writer's own. Meta that does not begin with the magic is the writer's own
 * altogether, and the value is as it was written.
 */
import { MemcloudError } from '../common/errors.ts';
import { OBJECT_META_SIZE_MAX_BYTES } from '../common/objects.ts';

/** How a value can be compressed. */
export type Compression = 'none' | 'lz4' | 'zstd';

/** How a value is encoded. */
export interface Encoding {
  /** By what it is compressed. */
  readonly compression: Compression;
  /** Whether it is sealed (sdk/seal.ts). */
  readonly sealed: boolean;
  /** Bytes before encoding; null when the writer did not know when it began. */
  readonly plainSizeBytes: number | null;
}

/** Meta, taken apart. */
export interface DecodedMeta {
  /** How the value is encoded. */
  readonly encoding: Encoding;
  /** The note as it lies in the meta, empty when there is none; the seal covers these bytes. */
  readonly note: Uint8Array;
  /** The writer's own notes. */
  readonly rest: Uint8Array;
}

/** A value as it was written. */
export const PLAIN_ENCODING: Encoding = {
  compression: 'none',
  sealed: false,
  plainSizeBytes: null,
};

const MAGIC_0 = 0x4d;
const MAGIC_1 = 0x45;
const VERSION = 1;
const HEADER_SIZE_BYTES = 4;
const SIZE_SIZE_BYTES = 8;
const COMPRESSION_MASK = 0x03;
const FLAG_SEALED = 0x04;
const FLAG_SIZE = 0x08;
const FLAGS_KNOWN = COMPRESSION_MASK | FLAG_SEALED | FLAG_SIZE;
const COMPRESSIONS: readonly Compression[] = ['none', 'lz4', 'zstd'];

function hasMagic(meta: Uint8Array): boolean {
  return meta.length >= 2 && meta[0] === MAGIC_0 && meta[1] === MAGIC_1;
}

/** The note of an encoding, 4 or 12 bytes. */
export function encodeNote(encoding: Encoding): Buffer {
  const { compression, sealed, plainSizeBytes } = encoding;
  const hasSize = plainSizeBytes !== null;
  const note = Buffer.alloc(HEADER_SIZE_BYTES + (hasSize ? SIZE_SIZE_BYTES : 0));
  note[0] = MAGIC_0;
  note[1] = MAGIC_1;
  note[2] = VERSION;
  note[3] =
    COMPRESSIONS.indexOf(compression) | (sealed ? FLAG_SEALED : 0) | (hasSize ? FLAG_SIZE : 0);
  if (hasSize) note.writeBigUInt64BE(BigInt(plainSizeBytes), HEADER_SIZE_BYTES);
  return note;
}

/**
 * Meta of an encoding and the writer's own notes. A plain value without a size has no note, unless the
 * writer's own notes could be taken for one.
 *
 * @throws MemcloudError `ERR_USAGE` when it does not fit
 */
export function encodeMeta(encoding: Encoding, rest: Uint8Array = new Uint8Array()): Buffer {
  const { compression, sealed, plainSizeBytes } = encoding;
  const isPlain = compression === 'none' && !sealed && plainSizeBytes === null;
  const note = isPlain && !hasMagic(rest) ? new Uint8Array() : encodeNote(encoding);
  const meta = Buffer.concat([note, rest]);
  if (meta.length > OBJECT_META_SIZE_MAX_BYTES) {
    const room = OBJECT_META_SIZE_MAX_BYTES - note.length;
    throw new MemcloudError(
      'ERR_USAGE',
      `meta: expected at most ${room} bytes, got ${rest.length}`,
    );
  }
  return meta;
}

/**
 * Takes meta apart. The parts are views of `meta`.
 *
 * @throws MemcloudError `ERR_UNSUPPORTED` when the note is cut short or of a later version: the value is
 *   then not what it looks like
 */
export function decodeMeta(meta: Uint8Array): DecodedMeta {
  if (!hasMagic(meta)) {
    return { encoding: PLAIN_ENCODING, note: meta.subarray(0, 0), rest: meta };
  }
  const view = Buffer.from(meta.buffer, meta.byteOffset, meta.length);
  if (view.length < HEADER_SIZE_BYTES) throw unreadable('it is cut short');
  const version = view.readUInt8(2);
  const flags = view.readUInt8(3);
  const compression = COMPRESSIONS[flags & COMPRESSION_MASK];
  if (version !== VERSION || (flags & ~FLAGS_KNOWN) !== 0 || compression === undefined) {
    throw unreadable(`version ${version}, flags ${flags}`);
  }
  const hasSize = (flags & FLAG_SIZE) !== 0;
  const length = HEADER_SIZE_BYTES + (hasSize ? SIZE_SIZE_BYTES : 0);
  if (view.length < length) throw unreadable('it is cut short');
  const size = hasSize ? view.readBigUInt64BE(HEADER_SIZE_BYTES) : null;
  if (size !== null && size > BigInt(Number.MAX_SAFE_INTEGER))
    throw unreadable(`a size of ${size}`);
  return {
    encoding: {
      compression,
      sealed: (flags & FLAG_SEALED) !== 0,
      plainSizeBytes: size === null ? null : Number(size),
    },
    note: meta.subarray(0, length),
    rest: meta.subarray(length),
  };
}

function unreadable(why: string): MemcloudError {
  const message = `the note on how the object is encoded is unknown to this client: ${why}`;
  return new MemcloudError('ERR_UNSUPPORTED', message);
}
