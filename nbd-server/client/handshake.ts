/**
 * The shell of the negotiation over a {@link ByteStream}: connects, feeds a
 * {@link ClientNegotiation} with exactly the bytes that it wants, and holds it to a deadline. What
 * the server sent beyond the negotiation stays unread for whoever takes over the stream.
 */
import { ByteStream, type ByteStreamHandler } from '../../common/byte-stream.ts';
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import type { NativeBuffer } from '../../common/native-memory.ts';
import { NBD_HANDSHAKE_TIMEOUT_MS } from '../constants.ts';
import type { HeaderStyle } from './codec.ts';
import {
  ClientNegotiation,
  type NegotiationOutcome,
  type NegotiationRequest,
} from './negotiation.ts';

/** Reads come in pieces of at most so many bytes; far above the longest piece that the reply machine needs whole. */
const INPUT_SIZE_BYTES = 256 * 1024;
const OUTPUT_CHUNK_SIZE_BYTES = 256 * 1024;

/** Where a server listens. */
export type NbdAddress =
  { readonly host: string; readonly port: number } | { readonly path: string };

/** How to connect. */
export interface NbdClientOptions {
  /** Default: the empty name, which is the server's default export. */
  readonly exportName?: string;
  /** The best framing to ask for; default `structured`. */
  readonly headerStyle?: HeaderStyle;
  /** Ask for `base:allocation`, which block status needs; default true. */
  readonly allocationContext?: boolean;
  /** Time for connecting and negotiating: milliseconds. */
  readonly handshakeTimeoutMs?: number;
  /** Time for each request: milliseconds. */
  readonly requestTimeoutMs?: number;
}

/**
 * Connects and negotiates.
 *
 * @returns how it ended, and the stream, whose handler the caller replaces or which it closes
 * @throws MemcloudError `ERR_NBD_CLOSED` when there is no server or it hangs up, `ERR_TIMEOUT`,
 *   `ERR_NBD_PROTOCOL`, `ERR_NBD_OPTION`, `ERR_NBD_EXPORT_UNKNOWN`
 */
export async function negotiate(
  address: NbdAddress,
  goal: NegotiationRequest['goal'],
  options: NbdClientOptions,
): Promise<{ outcome: NegotiationOutcome; stream: ByteStream }> {
  const timeoutMs = options.handshakeTimeoutMs ?? NBD_HANDSHAKE_TIMEOUT_MS;
  const startMs = performance.now();
  const negotiation = new ClientNegotiation({
    goal,
    exportName: options.exportName ?? '',
    headerStyle: options.headerStyle ?? 'structured',
    allocationContext: options.allocationContext ?? true,
  });
  const handshake = new Handshake(negotiation);
  let stream: ByteStream;
  try {
    stream = await ByteStream.connect(
      address,
      {
        inputSizeBytes: INPUT_SIZE_BYTES,
        outputChunkSizeBytes: OUTPUT_CHUNK_SIZE_BYTES,
        timeoutMs,
      },
      handshake,
    );
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new MemcloudError('ERR_NBD_CLOSED', `no NBD server answers: ${reason}`, { cause: error });
  }
  handshake.send = (bytes) => stream.send(bytes);
  const remainingMs = Math.max(1, timeoutMs - (performance.now() - startMs));
  const timer = setTimeout(() => {
    const text = `the NBD server did not finish the handshake within ${timeoutMs} ms`;
    handshake.fail(new MemcloudError('ERR_TIMEOUT', text));
  }, remainingMs);
  try {
    return { outcome: await handshake.outcome, stream };
  } catch (error) {
    stream.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Feeds a negotiation with exactly the bytes that it wants. */
class Handshake implements ByteStreamHandler {
  readonly outcome: Promise<NegotiationOutcome>;
  send: (bytes: Uint8Array) => void = () => undefined;
  readonly #negotiation: ClientNegotiation;
  #resolve: (outcome: NegotiationOutcome) => void = () => undefined;
  #reject: (error: MemcloudError) => void = () => undefined;

  constructor(negotiation: ClientNegotiation) {
    this.#negotiation = negotiation;
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // A failure may come before anyone waits.
    this.outcome.catch(() => undefined);
  }

  fail(error: MemcloudError): void {
    this.#reject(error);
  }

  onBytes(input: NativeBuffer, start: number, end: number): number {
    let at = start;
    try {
      for (;;) {
        const wanted = this.#negotiation.wantedBytes;
        if (wanted === 0 || end - at < wanted) return at;
        const { send, outcome } = this.#negotiation.receive(input.bytes.subarray(at, at + wanted));
        at += wanted;
        this.send(send);
        if (outcome !== undefined) this.#resolve(outcome);
      }
    } catch (error) {
      this.#reject(asMemcloudError(error));
      return end;
    }
  }

  onDrain(): void {
    // The handshake is a few hundred bytes; it waits for nothing.
  }

  onClosed(error: Error | undefined): void {
    const why = error === undefined ? '' : `: ${error.message}`;
    const text = `the NBD server hung up during the handshake${why}`;
    this.#reject(new MemcloudError('ERR_NBD_CLOSED', text));
  }
}
