/**
 * An NBD client: connects over TCP or a Unix socket, negotiates, then takes any number of requests
 * at once, each a promise. It is for checking, copying and demonstrating; the page path of the
 * product never passes here. (The kernel gets its own sockets, see kernel-socket.ts.)
 *
 * Order of data: a call takes its share of the window (requests and bytes in flight are bounded;
 * beyond, calls wait), is noted in the {@link ReplyMachine}, and leaves in this turn's write. Replies
 * end the promises in whatever order the server chooses. A request that passes its deadline ends the
 * whole connection, since NBD has no way to take one back; so does anything that breaks the
 * protocol. All then in flight fails with that error.
 */
import type { ByteStream, ByteStreamHandler } from '../../common/byte-stream.ts';
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import { NBD_CMD, NBD_CMD_FLAG, NBD_PAYLOAD_SIZE_MAX_BYTES } from '../constants.ts';
import { encodeRequest } from './codec.ts';
import { negotiate, type NbdAddress, type NbdClientOptions } from './handshake.ts';
import type { ListedExport, NegotiatedExport } from './negotiation.ts';
import { ReplyMachine, type Extent } from './transmission.ts';
import { RequestWindow } from './window.ts';

const REQUEST_TIMEOUT_MS = 30_000;
const CLOSE_TIMEOUT_MS = 2000;
/** Most requests in flight on one connection. */
const IN_FLIGHT_COUNT_MAX = 256;
/** Most payload bytes in flight on one connection, both ways together; one request may exceed it alone. */
const IN_FLIGHT_SIZE_MAX = 16 * 2 ** 20;
/** Longest length of a request without payload when headers are compact: 32 bits. */
const COMPACT_LENGTH_MAX = 2 ** 32 - 1;

/** Flags of a write. */
export interface WriteOptions {
  /** End only when the bytes are durable in the server's sense (FUA). */
  readonly forceUnitAccess?: boolean;
}

/** Flags of {@link NbdClient.writeZeroes}. */
export interface WriteZeroesOptions extends WriteOptions {
  /** Keep the range provisioned. */
  readonly noHole?: boolean;
  /** Fail with ENOTSUP rather than be as slow as a write. */
  readonly fastZero?: boolean;
}

/** A connection in the transmission phase. */
export class NbdClient {
  /** What was negotiated. */
  readonly export: NegotiatedExport;
  readonly #stream: ByteStream;
  readonly #machine: ReplyMachine;
  readonly #window = new RequestWindow(IN_FLIGHT_COUNT_MAX, IN_FLIGHT_SIZE_MAX);
  readonly #requestTimeoutMs: number;
  readonly #failures = new Set<(error: MemcloudError) => void>();
  readonly #closed: Promise<void>;
  #onClosed: (() => void) | undefined;
  #failure: MemcloudError | undefined;
  #nextCookie = 1;

  private constructor(stream: ByteStream, negotiated: NegotiatedExport, requestTimeoutMs: number) {
    this.#stream = stream;
    this.export = negotiated;
    this.#requestTimeoutMs = requestTimeoutMs;
    this.#machine = new ReplyMachine(negotiated.headerStyle, negotiated.allocationContextId);
    this.#closed = new Promise((resolve) => (this.#onClosed = resolve));
  }

  /**
   * Connects and enters the transmission phase.
   *
   * @throws MemcloudError `ERR_NBD_CLOSED` when there is no server or it hangs up, `ERR_TIMEOUT`,
   *   `ERR_NBD_PROTOCOL`, `ERR_NBD_OPTION`, `ERR_NBD_EXPORT_UNKNOWN`
   */
  static async connect(address: NbdAddress, options: NbdClientOptions = {}): Promise<NbdClient> {
    const negotiated = await negotiate(address, 'go', options);
    const { outcome, stream } = negotiated;
    if (outcome.goal === 'list') throw new MemcloudError('ERR_INTERNAL', 'GO ended as LIST');
    const timeoutMs = options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
    const client = new NbdClient(stream, outcome.export, timeoutMs);
    const handler = client.#handler();
    stream.setHandler(handler);
    if (stream.closed) handler.onClosed(undefined);
    return client;
  }

  /** Reads into a new buffer. Errors as {@link NbdClient.readInto}. */
  async read(offset: number, length: number): Promise<Buffer> {
    this.#checkRange('read', offset, length, NBD_PAYLOAD_SIZE_MAX_BYTES);
    const into = Buffer.allocUnsafe(length);
    await this.readInto(offset, into);
    return into;
  }

  /**
   * Reads `into.length` bytes; the buffer is borrowed until the end.
   *
   * @throws NbdIoError `ERR_NBD_IO` with the server's error; MemcloudError `ERR_USAGE` for a range
   *   outside the export, `ERR_TIMEOUT`, `ERR_NBD_CLOSED`, `ERR_NBD_PROTOCOL`
   */
  async readInto(offset: number, into: Buffer): Promise<void> {
    this.#checkRange('read', offset, into.length, NBD_PAYLOAD_SIZE_MAX_BYTES);
    await this.#request(NBD_CMD.NBD_CMD_READ, 0, offset, into.length, { into });
  }

  /** Writes; the bytes are borrowed until the end. Errors as {@link NbdClient.readInto}. */
  async write(offset: number, from: Uint8Array, options: WriteOptions = {}): Promise<void> {
    this.#checkRange('write', offset, from.length, NBD_PAYLOAD_SIZE_MAX_BYTES);
    const flags = options.forceUnitAccess === true ? NBD_CMD_FLAG.NBD_CMD_FLAG_FUA : 0;
    await this.#request(NBD_CMD.NBD_CMD_WRITE, flags, offset, from.length, { from });
  }

  /** Makes every write that ended durable in the server's sense. Errors as {@link NbdClient.readInto}. */
  async flush(): Promise<void> {
    await this.#request(NBD_CMD.NBD_CMD_FLUSH, 0, 0, 0, {});
  }

  /** Says that the range is not needed. Errors as {@link NbdClient.readInto}. */
  async trim(offset: number, length: number): Promise<void> {
    this.#checkRange('trim', offset, length, this.#lengthMax);
    await this.#request(NBD_CMD.NBD_CMD_TRIM, 0, offset, length, {});
  }

  /** Makes the range read as zeroes. Errors as {@link NbdClient.readInto}. */
  async writeZeroes(
    offset: number,
    length: number,
    options: WriteZeroesOptions = {},
  ): Promise<void> {
    this.#checkRange('writeZeroes', offset, length, this.#lengthMax);
    const flags =
      (options.forceUnitAccess === true ? NBD_CMD_FLAG.NBD_CMD_FLAG_FUA : 0) |
      (options.noHole === true ? NBD_CMD_FLAG.NBD_CMD_FLAG_NO_HOLE : 0) |
      (options.fastZero === true ? NBD_CMD_FLAG.NBD_CMD_FLAG_FAST_ZERO : 0);
    await this.#request(NBD_CMD.NBD_CMD_WRITE_ZEROES, flags, offset, length, {});
  }

  /**
   * The state of the range, as runs from `offset` on; it may end before the range does or beyond it.
   *
   * @throws MemcloudError `ERR_UNSUPPORTED` when `base:allocation` was not negotiated; else as
   *   {@link NbdClient.readInto}
   */
  async blockStatus(offset: number, length: number): Promise<readonly Extent[]> {
    if (this.export.allocationContextId === undefined) {
      throw new MemcloudError('ERR_UNSUPPORTED', 'the NBD server tells no block status');
    }
    this.#checkRange('blockStatus', offset, length, this.#lengthMax);
    return this.#request(NBD_CMD.NBD_CMD_BLOCK_STATUS, 0, offset, length, {});
  }

  /** Ends the connection: requests in flight end first, then DISC is sent. Never throws; may be called twice. */
  async close(): Promise<void> {
    const deadline = setTimeout(() => this.#stream.destroy(), CLOSE_TIMEOUT_MS);
    await Promise.race([this.#window.idle(), this.#closed]);
    if (!this.#stream.closed && this.#failure === undefined) {
      this.#failure = new MemcloudError('ERR_NBD_CLOSED', 'the NBD connection was closed');
      this.#send(NBD_CMD.NBD_CMD_DISC, 0, 0, 0, 0);
      this.#stream.close();
    }
    await this.#closed;
    clearTimeout(deadline);
  }

  get #lengthMax(): number {
    return this.export.headerStyle === 'extended' ? Number.MAX_SAFE_INTEGER : COMPACT_LENGTH_MAX;
  }

  #checkRange(what: string, offset: number, length: number, lengthMax: number): void {
    const end = offset + length;
    const sound = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0;
    if (!sound || length < 1 || length > lengthMax || end > this.export.sizeBytes) {
      throw new MemcloudError(
        'ERR_USAGE',
        `${what}: expected 1 to ${lengthMax} bytes below ${this.export.sizeBytes}, got ${length} at ${offset}`,
      );
    }
  }

  async #request(
    type: number,
    flags: number,
    offset: number,
    length: number,
    payload: { into?: Buffer; from?: Uint8Array },
  ): Promise<readonly Extent[]> {
    const sizeBytes = (payload.into ?? payload.from)?.length ?? 0;
    await this.#window.enter(sizeBytes);
    try {
      if (this.#failure !== undefined) throw this.#failure;
      return await new Promise<readonly Extent[]>((resolve, reject) => {
        const cookie = this.#nextCookie++;
        const timer = setTimeout(() => {
          this.#fail(
            new MemcloudError(
              'ERR_TIMEOUT',
              `the NBD server did not answer within ${this.#requestTimeoutMs} ms`,
            ),
          );
        }, this.#requestTimeoutMs);
        const settle = (error: MemcloudError | undefined, extents: readonly Extent[]): void => {
          clearTimeout(timer);
          this.#failures.delete(onFailure);
          if (error === undefined) resolve(extents);
          else reject(error);
        };
        const onFailure = (error: MemcloudError): void => settle(error, []);
        this.#failures.add(onFailure);
        this.#machine.expect(cookie, { type, offset, length, into: payload.into, onEnd: settle });
        this.#send(type, flags, offset, length, cookie);
        if (payload.from !== undefined) this.#stream.send(payload.from);
      });
    } finally {
      this.#window.leave(sizeBytes);
    }
  }

  #send(type: number, flags: number, offset: number, length: number, cookie: number): void {
    // Extended headers: a write's length is that of its payload (proto.md "Command flags").
    const withPayload = this.export.headerStyle === 'extended' && type === NBD_CMD.NBD_CMD_WRITE;
    const allFlags = flags | (withPayload ? NBD_CMD_FLAG.NBD_CMD_FLAG_PAYLOAD_LEN : 0);
    const request = { type, flags: allFlags, cookie, offset, length };
    this.#stream.send(encodeRequest(this.export.headerStyle, request));
  }

  #handler(): ByteStreamHandler {
    return {
      onBytes: (input, start, end) => {
        try {
          return this.#machine.receive(input.bytes, start, end);
        } catch (error) {
          this.#fail(asMemcloudError(error));
          return end;
        }
      },
      onDrain: () => undefined,
      onClosed: (error) => {
        const why = error === undefined ? '' : `: ${error.message}`;
        this.#fail(new MemcloudError('ERR_NBD_CLOSED', `the NBD connection ended${why}`));
        this.#onClosed?.();
      },
    };
  }

  #fail(error: MemcloudError): void {
    this.#failure ??= error;
    for (const reject of [...this.#failures]) reject(this.#failure);
    this.#stream.destroy();
  }
}

/**
 * The exports that a server tells of.
 *
 * @throws MemcloudError as {@link NbdClient.connect}; `ERR_NBD_OPTION` when the server keeps its list to itself
 */
export async function listExports(
  address: NbdAddress,
  options: Pick<NbdClientOptions, 'handshakeTimeoutMs'> = {},
): Promise<readonly ListedExport[]> {
  const { outcome, stream } = await negotiate(address, 'list', options);
  stream.close();
  return outcome.goal === 'list' ? outcome.exports : [];
}

/** What an export is, without using it. @throws MemcloudError as {@link NbdClient.connect} */
export async function inspectExport(
  address: NbdAddress,
  options: NbdClientOptions = {},
): Promise<NegotiatedExport> {
  const { outcome, stream } = await negotiate(address, 'info', options);
  stream.close();
  if (outcome.goal === 'list') throw new MemcloudError('ERR_INTERNAL', 'INFO ended as LIST');
  return outcome.export;
}
