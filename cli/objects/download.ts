/**
 * A value on its way here (sdk/pieces.ts), opened and unpacked as the note on it says. What that takes is
 * loaded only for a value that needs it.
 */
import type { ObjectRow } from '../../common/rpc-objects.ts';
import type { Caller } from '../../sdk/client.ts';
import { asBuffer, encodedSource, firstPiece, storedPieces } from '../../sdk/pieces.ts';
import type { ObjectRange } from '../../sdk/pieces.ts';
import { unknownObject, type WantedObject } from './wanted.ts';

/** How a value is to be read. */
export interface DownloadOptions {
  /** Which bytes of it. */
  readonly range?: ObjectRange | undefined;
  /** As it lies on its holder. */
  readonly raw?: boolean | undefined;
  /** Only if it was sealed. */
  readonly sealed?: boolean | undefined;
}

/** A value that is being read. */
export interface Download {
  /** The object. */
  readonly object: ObjectRow;
  /** Bytes that come, where that is known. */
  readonly sizeBytes: number | undefined;
  /** The bytes in order; read it once, to the end or not. */
  readonly bytes: AsyncGenerator<Uint8Array>;
}

function partSize(sizeBytes: number, { offset = 0, length = Infinity }: ObjectRange): number {
  return Math.max(0, Math.min(sizeBytes - offset, length));
}

/**
 * Begins to read a value.
 *
 * @throws MemcloudError `ERR_OBJECT_UNKNOWN` when nobody who was asked has it; the daemon's errors
 */
export async function download(
  caller: Caller,
  wanted: WantedObject,
  { range = {}, raw = false, sealed = false }: DownloadOptions = {},
): Promise<Download> {
  const { found, object, data } = await firstPiece(caller, wanted, range, {});
  if (!found || object === null) throw unknownObject(wanted);
  if (raw || (object.meta.length === 0 && !sealed)) {
    const bytes = storedPieces(caller, wanted, range, { object, data }, {});
    return { object, sizeBytes: partSize(object.sizeBytes, range), bytes };
  }
  const { decoded } = await import('../../sdk/encoded-download.ts');
  const { decodeMeta } = await import('../../sdk/encoding.ts');
  const { compression, sealed: isSealed, plainSizeBytes } = decodeMeta(object.meta).encoding;
  const isPlain = compression === 'none' && !isSealed;
  const sizeBytes = isPlain ? object.sizeBytes : plainSizeBytes;
  const first = (range.offset ?? 0) === 0 ? asBuffer(data) : Buffer.alloc(0);
  const seal = { sealKey: undefined, mustBeSealed: sealed };
  return {
    object,
    sizeBytes: sizeBytes === null ? undefined : partSize(sizeBytes, range),
    bytes: decoded(encodedSource(caller, wanted, object, first, {}), range, seal),
  };
}
