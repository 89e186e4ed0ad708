/** Cuts a stream of bytes into chunks of one size, so that whoever encodes holds one chunk and no more. */

/** Bytes that come in any pieces: a Node stream, a generator, an array. */
export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** Turns one stream of bytes into another; fits `stream.pipeline` as it is. */
export type ByteTransform = (source: ByteSource) => AsyncGenerator<Buffer, void, undefined>;

/** A piece of a stream. */
export interface Chunk {
  /** Its bytes, borrowed until the next chunk is asked for. */
  readonly bytes: Buffer;
  /** Whether nothing follows. */
  readonly isLast: boolean;
}

/**
 * Yields chunks of `sizeBytes`, the last one of 1 to `sizeBytes`; an empty stream is one empty chunk. A
 * full chunk is held back until it is known whether more follows.
 */
export async function* chunksOf(
  source: ByteSource,
  sizeBytes: number,
): AsyncGenerator<Chunk, void, undefined> {
  const held = Buffer.allocUnsafe(sizeBytes);
  let filled = 0;
  for await (const piece of source) {
    let at = 0;
    while (at < piece.length) {
      if (filled === sizeBytes) {
        yield { bytes: held, isLast: false };
        filled = 0;
      }
      const taken = Math.min(sizeBytes - filled, piece.length - at);
      held.set(piece.subarray(at, at + taken), filled);
      filled += taken;
      at += taken;
    }
  }
  yield { bytes: held.subarray(0, filled), isLast: true };
}
