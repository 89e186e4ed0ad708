/**
 * What the NBD server asks of a connected stream, a seam like those of ports.ts. `byte-stream.ts` is
 * one (the page path); `nbd-server/socket-stream.ts` is another, slower one, for connections that may
 * turn to TLS; `direct/record-stream.ts` is the third, for connections of TLS records from the kernel.
 */
import type { ByteStreamHandler } from './byte-stream.ts';

/** A stream of bytes with reserved output; see `ByteStream` for what each member means. */
export interface NbdStream {
  /** The chunk that the last `reserve` gave room in. */
  readonly output: { readonly bytes: Buffer };
  /** Bytes reserved or handed over that have not left yet. */
  readonly backlogBytes: number;
  /** Who is at the other end, for logs; empty for a Unix socket. */
  readonly remoteAddress: string;
  /** Reserves at most one chunk of output; returns its offset in `output`. */
  reserve(length: number): number;
  /** Copies bytes out. */
  send(bytes: Uint8Array): void;
  /** Stops reading. */
  pause(): void;
  /** Reads again. */
  resume(): void;
  /** Sends what is reserved, then closes our side. */
  close(): void;
  /** Ends the stream at once. */
  destroy(error?: Error): void;
  /** Replaces the handler. */
  setHandler(handler: ByteStreamHandler): void;
  /** Takes bytes that are there, where that can be done past the event loop. */
  poll?(): boolean;
}

/** Bytes of a stream's input buffer. A message that must lie in one piece is at most a quarter of it. */
export const STREAM_INPUT_SIZE_BYTES = 2 ** 20;

/** Bytes of one output chunk. */
export const STREAM_OUTPUT_CHUNK_SIZE_BYTES = 2 ** 20;
