/**
 * The messages inside the head of a record (docs/peer-protocol.md section 6): 16 bytes of header, a
 * body, padding to 8. Reading is a cursor that is filled again for each message, writing puts bytes
 * straight into a native buffer: no object per message either way. A codec, pure and total: any bytes
 * give messages within their limits, or ERR_PEER_PROTOCOL.
 */
import { MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { IoStatus, PAGE_CALL_PAGE_COUNT_MAX } from '../common/ports.ts';
import {
  ByeReason,
  MESSAGE_BODY_SIZE_MAX,
  MESSAGE_HEADER_SIZE_BYTES,
  MessageType,
} from './constants.ts';

const VARIABLE = -1;
const UNKNOWN = -2;

/** Bytes of each type's body. */
const BODY_SIZES = new Int16Array(256).fill(UNKNOWN);
BODY_SIZES[MessageType.READ] = 8;
BODY_SIZES[MessageType.WRITE] = 8;
BODY_SIZES[MessageType.TRIM] = 8;
BODY_SIZES[MessageType.READ_REPLY] = 8;
BODY_SIZES[MessageType.WRITE_REPLY] = 0;
BODY_SIZES[MessageType.TRIM_REPLY] = 0;
BODY_SIZES[MessageType.PING] = 0;
BODY_SIZES[MessageType.PONG] = 0;
BODY_SIZES[MessageType.REKEY] = 0;
BODY_SIZES[MessageType.BYE] = 0;
BODY_SIZES[MessageType.CONTROL] = VARIABLE;
BODY_SIZES[MessageType.CONTROL_REPLY] = VARIABLE;
BODY_SIZES[MessageType.OBJECT] = VARIABLE;
BODY_SIZES[MessageType.OBJECT_REPLY] = VARIABLE;
BODY_SIZES[MessageType.MANAGE] = VARIABLE;
BODY_SIZES[MessageType.MANAGE_REPLY] = VARIABLE;
BODY_SIZES[MessageType.HELLO] = VARIABLE;
BODY_SIZES[MessageType.NOTICE] = VARIABLE;

/** Statuses that may travel: all but UNREACHABLE, which only the requester itself can find. */
const LAST_STATUS = IoStatus.NO_LEASE;

/** Bytes of a page request, header and body. */
export const PAGE_MESSAGE_SIZE_BYTES = MESSAGE_HEADER_SIZE_BYTES + 8;

/** `length` and its padding to a multiple of 8. */
export function paddedLength(length: number): number {
  return (length + 7) & ~7;
}

function fail(message: string): never {
  throw new MemcloudError('ERR_PEER_PROTOCOL', message);
}

/** Walks the messages of one head. The fields are those of the message that `next` moved to. */
export class MessageCursor {
  /** One of `MessageType`. */
  type = 0;
  /** Slab handle, status, reason or reply size, by type; unsigned 32 bits. */
  aux = 0;
  /** The request id's low half. */
  idLow = 0;
  /** The request id's high half. */
  idHigh = 0;
  /** Page requests: the first page, unsigned 32 bits. */
  firstPage = 0;
  /** Page requests: 1 to 64. READ_REPLY: 0 to 64, and 0 unless the status is OK. */
  pageCount = 0;
  /** Where the body lies in the buffer. */
  bodyOffset = 0;
  /** Bytes of the body. */
  bodyLength = 0;
  #view: DataView | undefined;
  #at = 0;
  #end = 0;

  /** Begins a head of `length` bytes, a multiple of 8, at `start`. */
  reset(view: DataView, start: number, length: number): void {
    this.#view = view;
    this.#at = start;
    this.#end = start + length;
  }

  /**
   * Moves to the next message.
   *
   * @returns false at the end of the head
   * @throws MemcloudError `ERR_PEER_PROTOCOL` when the bytes are no message
   */
  next(): boolean {
    const view = this.#view;
    const at = this.#at;
    if (view === undefined || at === this.#end) return false;
    if (this.#end - at < MESSAGE_HEADER_SIZE_BYTES) fail('a message is cut off in its header');
    const type = view.getUint8(at);
    const bodyLength = view.getUint16(at + 2, true);
    const expected = BODY_SIZES[type] ?? UNKNOWN;
    if (expected === UNKNOWN) fail(`message: type ${type} is unknown`);
    if (view.getUint8(at + 1) !== 0) fail(`message: type ${type} has flags`);
    if (expected === VARIABLE ? bodyLength > MESSAGE_BODY_SIZE_MAX : bodyLength !== expected) {
      fail(`message: type ${type} has a body of ${bodyLength} bytes`);
    }
    const bodyOffset = at + MESSAGE_HEADER_SIZE_BYTES;
    const next = bodyOffset + paddedLength(bodyLength);
    if (next > this.#end) fail('a message is cut off in its body');
    for (let pad = bodyOffset + bodyLength; pad < next; pad += 1) {
      if (view.getUint8(pad) !== 0) fail('message: the padding is not zero');
    }
    this.type = type;
    this.aux = view.getUint32(at + 4, true);
    this.idLow = view.getUint32(at + 8, true);
    this.idHigh = view.getUint32(at + 12, true);
    this.bodyOffset = bodyOffset;
    this.bodyLength = bodyLength;
    this.#at = next;
    this.#checkFields(view, type);
    return true;
  }

  #checkFields(view: DataView, type: number): void {
    switch (type) {
      case MessageType.READ:
      case MessageType.WRITE:
      case MessageType.TRIM:
        this.firstPage = view.getUint32(this.bodyOffset, true);
        this.pageCount = view.getUint32(this.bodyOffset + 4, true);
        if (this.pageCount === 0 || this.pageCount > PAGE_CALL_PAGE_COUNT_MAX) {
          fail(`page count: expected 1 to ${PAGE_CALL_PAGE_COUNT_MAX}, got ${this.pageCount}`);
        }
        break;
      case MessageType.READ_REPLY: {
        this.pageCount = view.getUint32(this.bodyOffset, true);
        const countMax = this.aux === IoStatus.OK ? PAGE_CALL_PAGE_COUNT_MAX : 0;
        const countMin = this.aux === IoStatus.OK ? 1 : 0;
        if (this.pageCount < countMin || this.pageCount > countMax) {
          fail(`read reply with status ${this.aux}: it cannot have ${this.pageCount} pages`);
        }
        if (view.getUint32(this.bodyOffset + 4, true) !== 0) fail('read reply: reserved is not 0');
        this.#checkStatus();
        break;
      }
      case MessageType.WRITE_REPLY:
      case MessageType.TRIM_REPLY:
        this.#checkStatus();
        break;
      case MessageType.HELLO:
      case MessageType.REKEY:
      case MessageType.NOTICE:
        if (this.aux !== 0) fail(`message: type ${type} has an aux`);
        this.#checkNoId();
        break;
      case MessageType.OBJECT:
        if (this.aux > MESSAGE_BODY_SIZE_MAX) fail(`object request: a reply of ${this.aux} bytes`);
        break;
      case MessageType.BYE:
        if (this.aux > ByeReason.PROTOCOL) fail(`bye: reason ${this.aux} is unknown`);
        this.#checkNoId();
        break;
      default:
        if (this.aux !== 0) fail(`message: type ${type} has an aux`);
    }
  }

  #checkStatus(): void {
    if (this.aux > LAST_STATUS || this.aux === IoStatus.UNREACHABLE) {
      fail(`reply: status ${this.aux} is unknown`);
    }
  }

  #checkNoId(): void {
    if (this.idLow !== 0 || this.idHigh !== 0) fail(`message: type ${this.type} has an id`);
  }
}

/** Puts messages one after another into a native buffer. The caller makes sure of the room. */
export class MessageWriter {
  /** Bytes written since the last reset, a multiple of 8. */
  length = 0;
  readonly #bytes: Buffer;
  readonly #view: DataView;

  /** @param buffer - borrowed for the writer's life */
  constructor(buffer: NativeBuffer) {
    this.#bytes = buffer.bytes;
    this.#view = new DataView(buffer.bytes.buffer, buffer.bytes.byteOffset, buffer.bytes.length);
  }

  /** A message without a body. */
  plain(type: number, aux: number, idLow: number, idHigh: number): void {
    this.#header(type, 0, aux, idLow, idHigh);
    this.length += MESSAGE_HEADER_SIZE_BYTES;
  }

  /** A page request (`word0` first page, `word1` page count) or READ_REPLY (page count, 0). */
  pages(
    type: number,
    aux: number,
    idLow: number,
    idHigh: number,
    word0: number,
    word1: number,
  ): void {
    this.#header(type, 8, aux, idLow, idHigh);
    this.#view.setUint32(this.length + 16, word0, true);
    this.#view.setUint32(this.length + 20, word1, true);
    this.length += PAGE_MESSAGE_SIZE_BYTES;
  }

  /** A message with a body of at most {@link MESSAGE_BODY_SIZE_MAX} bytes, copied. */
  body(type: number, idLow: number, idHigh: number, body: Uint8Array, aux = 0): void {
    this.#header(type, body.length, aux, idLow, idHigh);
    const at = this.length + MESSAGE_HEADER_SIZE_BYTES;
    this.#bytes.set(body, at);
    const next = at + paddedLength(body.length);
    this.#bytes.fill(0, at + body.length, next);
    this.length = next;
  }

  /** Forgets what was written. */
  reset(): void {
    this.length = 0;
  }

  #header(type: number, bodyLength: number, aux: number, idLow: number, idHigh: number): void {
    const at = this.length;
    const view = this.#view;
    // Type, flags 0 and body length as one little-endian word.
    view.setUint32(at, type | (bodyLength << 16), true);
    view.setUint32(at + 4, aux, true);
    view.setUint32(at + 8, idLow, true);
    view.setUint32(at + 12, idHigh, true);
  }
}
