/**
 * A value on its way to its holder. What fits into one request is one request; a longer value goes in
 * pieces (sdk/upload.ts), so that neither this program nor the daemon ever has all of it in memory, and
 * nobody sees it before its last byte has come.
 */
import { MemcloudError } from '../../common/errors.ts';
import { OBJECT_PIECE_SIZE_MAX_BYTES } from '../../common/objects.ts';
import type { ObjectRow } from '../../common/rpc-objects.ts';
import type { Caller } from '../../sdk/client.ts';
import { upload as uploadPieces, type StreamSource } from '../../sdk/upload.ts';
import type { Destination } from './wanted.ts';

/** How an upload is to go. */
export interface UploadOptions {
  /** Bytes that are expected; the holder checks them against its room before the first piece. */
  readonly sizeHint?: number | undefined;
  /** Ends the upload: the holder gives the room back. */
  readonly signal?: AbortSignal | undefined;
  /** What `source` is made of, if of something else: it is ended with the upload. */
  readonly origin?: StreamSource | undefined;
}

/** What comes before it is known that one request is not enough. */
interface Head {
  readonly chunks: Uint8Array[];
  /** Whether nothing follows. */
  isWhole: boolean;
}

async function headOf(source: AsyncIterator<Uint8Array>): Promise<Head> {
  const head: Head = { chunks: [], isWhole: false };
  for (let length = 0; length <= OBJECT_PIECE_SIZE_MAX_BYTES;) {
    const next = await source.next();
    if (next.done === true) return { ...head, isWhole: true };
    head.chunks.push(next.value);
    length += next.value.length;
  }
  return head;
}

async function* behind(
  chunks: readonly Uint8Array[],
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield* chunks;
  yield* { [Symbol.asyncIterator]: () => rest };
}

/**
 * Stores a value.
 *
 * @param source - its bytes; read no faster than they are taken
 * @returns the object, which its holder has
 * @throws MemcloudError `ERR_CANCELLED` after the signal; the daemon's errors
 */
export async function upload(
  caller: Caller,
  source: AsyncIterable<Uint8Array>,
  destination: Destination,
  { sizeHint, signal, origin = source }: UploadOptions = {},
): Promise<ObjectRow> {
  const rest = source[Symbol.asyncIterator]();
  try {
    const { chunks, isWhole } = await headOf(rest);
    if (signal?.aborted !== true && isWhole) {
      return await caller.call('object.put', { ...destination, data: Buffer.concat(chunks) });
    }
    const begin = { ...destination, ...(sizeHint === undefined ? {} : { sizeHint }) };
    return await uploadPieces(caller, behind(chunks, rest), begin, { signal }, origin);
  } catch (error) {
    // What the source throws when it is ended is the signal's doing.
    if (signal?.aborted !== true) throw error;
    throw new MemcloudError('ERR_CANCELLED', 'interrupted; nothing was stored', { cause: error });
  } finally {
    await rest.return?.();
  }
}
