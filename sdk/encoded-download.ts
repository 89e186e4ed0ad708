/**
 * Values that their writer encoded: pieces come as they lie on their holder and leave as they were before.
 * A range of a value that is only sealed takes the chunks that it lies in; of a compressed value everything
 * before it is read and dropped, because nobody knows where in the frames it begins.
 */
import type { ObjectRow } from '../common/rpc-objects.ts';
import { decoderFor } from './encode.ts';
import { loadSealKey } from './seal-key.ts';
import type { ReadSealed, SealKey } from './seal.ts';

/** What a reader has and wants. */
export interface SealOptions {
  /** The key, the file that it is in, or nothing for the user's own. */
  readonly sealKey?: SealKey | string | undefined;
  /** Whether values that are not sealed are refused. */
  readonly mustBeSealed: boolean;
}

/** The encoded value. */
export interface EncodedSource {
  /** What the reader asked for: its key, or none for a block; what the holder calls it does not count. */
  readonly key: string | undefined;
  /** The object, by its holder. */
  readonly object: ObjectRow;
  /** The value from its beginning on. */
  pieces(): AsyncGenerator<Buffer>;
  /** Some bytes of it. */
  readonly read: ReadSealed;
}

/** The key that was given, or that is in the file that was named, or the user's own. */
export function sealKeyFrom(given: SealKey | string | undefined, make: boolean): SealKey {
  if (given !== undefined && typeof given !== 'string') return given;
  return loadSealKey(given, { make });
}

/** Whether the value has to be decoded, or refused. */
export function isEncoded(object: ObjectRow, { mustBeSealed }: SealOptions): boolean {
  return mustBeSealed || object.meta.length > 0;
}

/**
 * The value, or a range of it, as it was.
 *
 * @throws MemcloudError `ERR_OBJECT_SEAL`, `ERR_DATA_LOST`, `ERR_UNSUPPORTED`; what the source throws
 */
export async function* decoded(
  source: EncodedSource,
  range: { readonly offset?: number | undefined; readonly length?: number | undefined },
  { sealKey, mustBeSealed }: SealOptions,
): AsyncGenerator<Buffer> {
  const decoder = decoderFor(source.object.meta, {
    name: source.key ?? '',
    sealKey: () => sealKeyFrom(sealKey, false),
    mustBeSealed,
  });
  const { offset = 0, length = Infinity } = range;
  if (offset === 0 && length === Infinity) {
    yield* decoder.decodeStream(source.pieces());
  } else if (decoder.decodeRange !== undefined) {
    const wanted = { offsetBytes: offset, lengthBytes: length };
    yield* decoder.decodeRange(source.object.sizeBytes, wanted, source.read);
  } else {
    yield* slice(decoder.decodeStream(source.pieces()), offset, offset + length);
  }
}

async function* slice(
  pieces: AsyncIterable<Buffer>,
  start: number,
  end: number,
): AsyncGenerator<Buffer> {
  let at = 0;
  for await (const piece of pieces) {
    const wanted = piece.subarray(Math.max(0, start - at), Math.max(0, end - at));
    if (wanted.length > 0) yield wanted;
    at += piece.length;
    if (at >= end) return;
  }
}
