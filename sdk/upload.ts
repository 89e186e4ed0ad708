/**
 * A value on its way to its holder in pieces: what comes is gathered into pieces of the size of a request,
 * a few of them are on their way at once, and no more is read while they are. When anything goes wrong the
 * holder is told, and gives the room back.
 */
import { Readable } from 'node:stream';
import { MemcloudError } from '../common/errors.ts';
import { OBJECT_PIECE_SIZE_MAX_BYTES } from '../common/objects.ts';
import type { ObjectRow } from '../common/rpc-objects.ts';
import type { RpcParams } from '../common/rpc-schema.ts';
import type { CallOptions, Caller } from './client.ts';

/** What a value may come in. */
export type StreamSource =
  Readable | AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>;

/** Pieces on their way at once. */
const WINDOW_COUNT = 8;

/** Pieces sent and not yet acknowledged. */
class Window {
  readonly #client: Caller;
  readonly #upload: string;
  readonly #calls: CallOptions;
  readonly #onFailed: () => void;
  #inFlight = 0;
  #offset = 0;
  #wake: (() => void) | undefined;
  failure: unknown;

  constructor(client: Caller, upload: string, calls: CallOptions, onFailed: () => void) {
    this.#client = client;
    this.#upload = upload;
    this.#calls = calls;
    this.#onFailed = onFailed;
  }

  /** Sends a piece, borrowed until the return of this call; waits while too many are on their way. */
  async send(data: Uint8Array): Promise<void> {
    if (this.failure !== undefined) throw this.failure as Error;
    const params = { upload: this.#upload, offset: this.#offset, data };
    this.#offset += data.length;
    this.#inFlight += 1;
    this.#client.call('object.append', params, this.#calls).then(
      () => this.#onSettled(undefined),
      (error: unknown) => this.#onSettled(error),
    );
    await this.#waitBelow(WINDOW_COUNT);
  }

  /** Waits until all is acknowledged. */
  async drain(): Promise<void> {
    await this.#waitBelow(1);
  }

  async #waitBelow(count: number): Promise<void> {
    while (this.#inFlight >= count && this.failure === undefined) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    if (this.failure !== undefined) throw this.failure as Error;
  }

  #onSettled(error: unknown): void {
    this.#inFlight -= 1;
    if (error !== undefined && this.failure === undefined) {
      this.failure = error;
      this.#onFailed();
    }
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

/** Sends what a source yields, in pieces of the greatest size. */
async function sendAll(source: StreamSource, window: Window): Promise<void> {
  const piece = Buffer.allocUnsafeSlow(OBJECT_PIECE_SIZE_MAX_BYTES);
  let filled = 0;
  for await (const chunk of source as AsyncIterable<string | Uint8Array>) {
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) {
      throw new MemcloudError('ERR_USAGE', `stream: expected text or bytes, got ${typeof chunk}`);
    }
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    let at = 0;
    while (at < bytes.length) {
      // A whole piece that lies in one chunk is not copied first.
      if (filled === 0 && bytes.length - at >= piece.length) {
        await window.send(bytes.subarray(at, at + piece.length));
        at += piece.length;
        continue;
      }
      const taken = Math.min(bytes.length - at, piece.length - filled);
      piece.set(bytes.subarray(at, at + taken), filled);
      filled += taken;
      at += taken;
      if (filled < piece.length) continue;
      await window.send(piece);
      filled = 0;
    }
  }
  if (filled > 0) await window.send(piece.subarray(0, filled));
  await window.drain();
}

function cancelled(): MemcloudError {
  return new MemcloudError('ERR_CANCELLED', 'the stream was taken back by the caller');
}

/**
 * Begins. The signal does not cancel the call itself: the daemon may have begun by then, and only who knows
 * the number of the upload can give its room back.
 */
async function beginUpload(
  client: Caller,
  begin: RpcParams<'object.begin'>,
  calls: CallOptions,
): Promise<string> {
  const { signal, ...others } = calls;
  if (signal?.aborted === true) throw cancelled();
  const begun = client.call('object.begin', begin, others);
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(cancelled());
    signal?.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return (await Promise.race([begun, aborted])).upload;
  } catch (error) {
    begun.then(({ upload }) => client.call('object.abort', { upload })).catch(() => undefined);
    throw error;
  } finally {
    if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
  }
}

/**
 * Stores what a source yields as one object.
 *
 * @param begin - where it goes and how it is kept
 * @param origin - what `source` encodes, if it does: it is told when the upload is over before its end
 * @throws MemcloudError the daemon's, `ERR_CANCELLED`; what the source throws
 */
export async function upload(
  client: Caller,
  source: StreamSource,
  begin: RpcParams<'object.begin'>,
  calls: CallOptions,
  origin: StreamSource = source,
): Promise<ObjectRow> {
  const { signal } = calls;
  // A source that is slow, or never ends, must not keep an upload that is over from ending.
  const stop = (): void => {
    if (origin instanceof Readable) origin.destroy();
  };
  const upload = await beginUpload(client, begin, calls).catch((error: unknown) => {
    stop();
    throw error;
  });
  const window = new Window(client, upload, calls, stop);
  const onAbort = (): void => {
    window.failure ??= cancelled();
    stop();
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await sendAll(source, window);
    // Taken back, it may have happened all the same: whoever is told of its end has to be told the truth.
    return await client.call('object.commit', { upload }, { timeoutMs: calls.timeoutMs });
  } catch (error) {
    stop();
    // The daemon may be gone; then the room is back as well.
    await client.call('object.abort', { upload }).catch(() => undefined);
    throw window.failure ?? error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}
