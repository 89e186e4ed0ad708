/**
 * The client's transmission phase as a machine that does no I/O: it knows the requests in flight by
 * cookie, takes the server's bytes in any pieces, puts read data straight into the readers' buffers
 * and tells how each request ended. Nothing is held for a reply but what the request asked for: data
 * goes where it belongs as it arrives, and extents beyond a bound are dropped (a block status may
 * always tell less than the whole range). Anything that proto.md "Transmission phase" does not allow
 * throws `ERR_NBD_PROTOCOL`, after which the connection is good for nothing.
 */
import { MemcloudError } from '../../common/errors.ts';
import {
  NBD_CMD,
  NBD_ERROR,
  NBD_EXTENDED_REPLY_SIZE_BYTES,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE,
  NBD_REPLY_TYPE_FLAG_ERROR,
  NBD_SIMPLE_REPLY_SIZE_BYTES,
  NBD_STRING_SIZE_MAX_BYTES,
  NBD_STRUCTURED_REPLY_SIZE_BYTES,
} from '../constants.ts';
import {
  decodeExtendedHeader,
  decodeSimpleReply,
  decodeStructuredHeader,
  protocolError,
  replyStyleOf,
  serverText,
  type HeaderStyle,
  type ReplyHeader,
} from './codec.ts';
import { Coverage } from './coverage.ts';

/** Extents kept of one block status reply. */
const EXTENT_COUNT_MAX = 65_536;
/** Most bytes of an error chunk: error, message length, message, offset. Nothing longer is needed in one piece. */
const ERROR_CHUNK_SIZE_MAX = 4 + 2 + NBD_STRING_SIZE_MAX_BYTES + 8;

/** A run of equal state. */
export interface Extent {
  /** Bytes, at least 1. */
  readonly lengthBytes: number;
  /** Bits of `base:allocation`: 1 hole, 2 zero. */
  readonly flags: number;
}

/** A server's error answer. */
export class NbdIoError extends MemcloudError {
  /** `NBD_E*`, equal to Linux errno numbers. */
  readonly nbdError: number;

  /**
   * @param nbdError - what the server answered
   * @param message - what was asked and what the server said
   */
  constructor(nbdError: number, message: string) {
    super('ERR_NBD_IO', message);
    this.name = 'NbdIoError';
    this.nbdError = nbdError;
  }
}

/** A request in flight, as the machine needs it. */
export interface PendingRequest {
  /** `NBD_CMD_*`. */
  readonly type: number;
  /** Bytes from the start of the export. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** Takes a read's data; `length` bytes. Its content is undefined until the request ended well. */
  readonly into: Buffer | undefined;
  /** Told the end, once. */
  readonly onEnd: (error: NbdIoError | undefined, extents: readonly Extent[]) => void;
}

interface Tracked {
  readonly request: PendingRequest;
  readonly coverage: Coverage;
  readonly extents: Extent[];
  statusSeen: boolean;
  error: NbdIoError | undefined;
}

/** What the bytes to come belong to. */
type Expectation =
  /** A reply header. */
  | { readonly kind: 'header' }
  /** A chunk's payload that is needed in one piece. */
  | { readonly kind: 'piece'; readonly length: number; readonly take: (piece: Buffer) => void }
  /** Read data, `remaining` bytes into `into` from `at`. */
  | { readonly kind: 'data'; readonly into: Buffer; at: number; remaining: number }
  /** Extents, `remaining` bytes of descriptors. */
  | { readonly kind: 'extents'; readonly wide: boolean; remaining: number };

const HEADER = { kind: 'header' } as const;

const HEADER_SIZE_BYTES = {
  simple: NBD_SIMPLE_REPLY_SIZE_BYTES,
  structured: NBD_STRUCTURED_REPLY_SIZE_BYTES,
  extended: NBD_EXTENDED_REPLY_SIZE_BYTES,
} as const;

/** The receiving half of one connection. */
export class ReplyMachine {
  readonly #style: HeaderStyle;
  readonly #contextId: number | undefined;
  readonly #inFlight = new Map<number, Tracked>();
  #expectation: Expectation = HEADER;
  #current: Tracked | undefined;
  #currentCookie = 0;
  #currentIsLast = false;

  /**
   * @param style - as negotiated
   * @param allocationContextId - as negotiated
   */
  constructor(style: HeaderStyle, allocationContextId: number | undefined) {
    this.#style = style;
    this.#contextId = allocationContextId;
  }

  /** Requests that have not ended. */
  get inFlightCount(): number {
    return this.#inFlight.size;
  }

  /** Notes a request before it is sent. @param cookie - not in flight */
  expect(cookie: number, request: PendingRequest): void {
    if (this.#inFlight.has(cookie)) {
      throw new MemcloudError('ERR_INTERNAL', 'cookie: already in flight');
    }
    const length = request.type === NBD_CMD.NBD_CMD_READ ? request.length : 0;
    this.#inFlight.set(cookie, {
      request,
      coverage: new Coverage(length),
      extents: [],
      statusSeen: false,
      error: undefined,
    });
  }

  /**
   * Takes what it can of `bytes[start, end)`.
   *
   * @returns where it stopped; what is left must be offered again with more behind it
   * @throws MemcloudError `ERR_NBD_PROTOCOL`
   */
  receive(bytes: Buffer, start: number, end: number): number {
    let at = start;
    for (;;) {
      const taken = this.#take(bytes, at, end);
      if (taken === 0) return at;
      at += taken;
    }
  }

  /** Returns how many bytes it took, 0 when more must come first. */
  #take(bytes: Buffer, at: number, end: number): number {
    const available = end - at;
    const expectation = this.#expectation;
    switch (expectation.kind) {
      case 'header':
        return this.#takeHeader(bytes, at, available);
      case 'piece':
        if (available < expectation.length) return 0;
        expectation.take(bytes.subarray(at, at + expectation.length));
        return expectation.length;
      case 'data': {
        const length = Math.min(available, expectation.remaining);
        bytes.copy(expectation.into, expectation.at, at, at + length);
        expectation.at += length;
        expectation.remaining -= length;
        if (expectation.remaining === 0) this.#endChunk();
        return length;
      }
      case 'extents': {
        const size = expectation.wide ? 16 : 8;
        if (available < size) return 0;
        this.#addExtent(bytes, at, expectation.wide);
        expectation.remaining -= size;
        if (expectation.remaining === 0) this.#endChunk();
        return size;
      }
    }
  }

  #takeHeader(bytes: Buffer, at: number, available: number): number {
    if (available < 4) return 0;
    const style = replyStyleOf(bytes.readUInt32BE(at));
    const simpleAmongStructured = this.#style === 'structured' && style === 'simple';
    if (style !== this.#style && !simpleAmongStructured) {
      throw protocolError(`reply: expected ${this.#style} headers, got a ${style} one`);
    }
    const size = HEADER_SIZE_BYTES[style];
    if (available < size) return 0;
    const header = bytes.subarray(at, at + size);
    if (style === 'simple') this.#onHeader(decodeSimpleReply(header));
    else if (style === 'structured') this.#onHeader(decodeStructuredHeader(header));
    else this.#onHeader(decodeExtendedHeader(header));
    return size;
  }

  #onHeader(header: ReplyHeader): void {
    const tracked = this.#inFlight.get(header.cookie);
    if (tracked === undefined) throw protocolError('reply: its cookie belongs to no request');
    this.#current = tracked;
    this.#currentCookie = header.cookie;
    this.#currentIsLast = header.kind === 'simple' || (header.flags & NBD_REPLY_FLAG_DONE) !== 0;
    if (header.kind === 'simple') this.#onSimple(tracked, header.error);
    else this.#onChunk(tracked, header.type, header.length);
  }

  #onSimple(tracked: Tracked, error: number): void {
    const { request, coverage } = tracked;
    const isRead = request.type === NBD_CMD.NBD_CMD_READ;
    if (isRead && this.#style !== 'simple') {
      throw protocolError('reply: a read must be answered by chunks after STRUCTURED_REPLY');
    }
    if (error !== NBD_ERROR.NBD_OK) {
      tracked.error = ioError(request, error, '');
      this.#endChunk();
    } else if (isRead && request.into !== undefined) {
      coverage.add(0, request.length);
      this.#expectation = { kind: 'data', into: request.into, at: 0, remaining: request.length };
    } else {
      this.#endChunk();
    }
  }

  #onChunk(tracked: Tracked, type: number, length: number): void {
    switch (type) {
      case NBD_REPLY_TYPE.NBD_REPLY_TYPE_NONE:
        if (length !== 0 || !this.#currentIsLast) {
          throw protocolError('NBD_REPLY_TYPE_NONE: expected no payload and the DONE flag');
        }
        this.#endChunk();
        return;
      case NBD_REPLY_TYPE.NBD_REPLY_TYPE_OFFSET_DATA:
        requireRead(tracked);
        if (length < 9) throw protocolError('OFFSET_DATA: expected at least 9 bytes');
        this.#expectPiece(8, (piece) => this.#onDataOffset(tracked, piece, length - 8));
        return;
      case NBD_REPLY_TYPE.NBD_REPLY_TYPE_OFFSET_HOLE:
        requireRead(tracked);
        if (length !== 12) throw protocolError(`OFFSET_HOLE: expected 12 bytes, got ${length}`);
        this.#expectPiece(12, (piece) => this.#onHole(tracked, piece));
        return;
      case NBD_REPLY_TYPE.NBD_REPLY_TYPE_BLOCK_STATUS:
      case NBD_REPLY_TYPE.NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
        this.#onBlockStatus(tracked, type, length);
        return;
      default:
        if ((type & NBD_REPLY_TYPE_FLAG_ERROR) === 0) {
          throw protocolError(`reply chunk: unknown type ${type}`);
        }
        if (length < 6 || length > ERROR_CHUNK_SIZE_MAX) {
          throw protocolError(`error chunk: expected 6 to ${ERROR_CHUNK_SIZE_MAX} bytes`);
        }
        this.#expectPiece(length, (piece) => this.#onError(tracked, type, piece));
    }
  }

  #onDataOffset(tracked: Tracked, piece: Buffer, length: number): void {
    const at = this.#cover(tracked, piece, length);
    const { into } = tracked.request;
    if (into === undefined) throw new MemcloudError('ERR_INTERNAL', 'a read without a buffer');
    this.#expectation = { kind: 'data', into, at, remaining: length };
  }

  #onHole(tracked: Tracked, piece: Buffer): void {
    const length = piece.readUInt32BE(8);
    const at = this.#cover(tracked, piece, length);
    tracked.request.into?.fill(0, at, at + length);
    this.#endChunk();
  }

  /** Marks `length` bytes from the chunk's offset on as come; returns the place in the request. */
  #cover(tracked: Tracked, piece: Buffer, length: number): number {
    const { request, coverage } = tracked;
    const at = Number(piece.readBigUInt64BE(0) - BigInt(request.offset));
    if (!coverage.add(at, at + length)) {
      throw protocolError('read chunk: out of range, twice, or one of too many');
    }
    return at;
  }

  #onBlockStatus(tracked: Tracked, type: number, length: number): void {
    const wide = type === NBD_REPLY_TYPE.NBD_REPLY_TYPE_BLOCK_STATUS_EXT;
    const [prefix, size] = wide ? [8, 16] : [4, 8];
    const payload = length - prefix;
    if (tracked.request.type !== NBD_CMD.NBD_CMD_BLOCK_STATUS || tracked.statusSeen) {
      throw protocolError('block status chunk: not asked for, or the second of its context');
    }
    if (wide !== (this.#style === 'extended')) {
      throw protocolError('block status chunk: of the other header style');
    }
    if (payload < size || payload % size !== 0) {
      throw protocolError(`block status chunk: ${length} bytes hold no whole extents`);
    }
    tracked.statusSeen = true;
    this.#expectPiece(prefix, (piece) => {
      if (piece.readUInt32BE(0) !== this.#contextId) {
        throw protocolError('block status chunk: of a context that was not negotiated');
      }
      if (wide && piece.readUInt32BE(4) !== payload / size) {
        throw protocolError('block status chunk: its count and its length differ');
      }
      this.#expectation = { kind: 'extents', wide, remaining: payload };
    });
  }

  #addExtent(bytes: Buffer, at: number, wide: boolean): void {
    const length = wide ? bytes.readBigUInt64BE(at) : BigInt(bytes.readUInt32BE(at));
    const flags = wide ? bytes.readBigUInt64BE(at + 8) : BigInt(bytes.readUInt32BE(at + 4));
    if (length === 0n) throw protocolError('block status chunk: an extent of no bytes');
    const extents = this.#current?.extents;
    if (extents === undefined || extents.length >= EXTENT_COUNT_MAX) return;
    extents.push({ lengthBytes: Number(length), flags: Number(flags & 0xffff_ffffn) });
  }

  #onError(tracked: Tracked, type: number, piece: Buffer): void {
    const error = piece.readUInt32BE(0);
    const textLength = piece.readUInt16BE(4);
    const withOffset = type === NBD_REPLY_TYPE.NBD_REPLY_TYPE_ERROR_OFFSET;
    if (error === NBD_ERROR.NBD_OK || 6 + textLength + (withOffset ? 8 : 0) > piece.length) {
      throw protocolError('error chunk: no error, or a message longer than the chunk');
    }
    const text = serverText(piece.subarray(6, 6 + textLength));
    tracked.error ??= ioError(tracked.request, error, text);
    this.#endChunk();
  }

  #expectPiece(length: number, take: (piece: Buffer) => void): void {
    this.#expectation = { kind: 'piece', length, take };
  }

  #endChunk(): void {
    this.#expectation = HEADER;
    const tracked = this.#current;
    if (!this.#currentIsLast || tracked === undefined) return;
    const { request, coverage, error, statusSeen, extents } = tracked;
    if (error === undefined && !coverage.complete) {
      throw protocolError('read: the server ended its reply before every byte came');
    }
    if (error === undefined && request.type === NBD_CMD.NBD_CMD_BLOCK_STATUS && !statusSeen) {
      throw protocolError('block status: the server ended its reply without one');
    }
    this.#inFlight.delete(this.#currentCookie);
    this.#current = undefined;
    request.onEnd(error, extents);
  }
}

function requireRead(tracked: Tracked): void {
  if (tracked.request.type !== NBD_CMD.NBD_CMD_READ) {
    throw protocolError('reply chunk: data for a request that was no read');
  }
}

function ioError(request: PendingRequest, error: number, text: string): NbdIoError {
  const nameOf = (table: Record<string, number>, value: number): string =>
    Object.entries(table).find(([, number]) => number === value)?.[0] ?? `error ${value}`;
  const command = nameOf(NBD_CMD, request.type);
  const said = text === '' ? '' : ` (${text})`;
  return new NbdIoError(
    error,
    `${command} of ${request.length} bytes at ${request.offset}: ${nameOf(NBD_ERROR, error)}${said}`,
  );
}
