/**
 * The client's half of the NBD codec: options and requests to bytes, the server's greeting, option
 * replies and reply headers from bytes. Pure and total: each decoder gets exactly the bytes that its
 * message has and returns a value or throws `ERR_NBD_PROTOCOL`, whatever a hostile server sent.
 *
 * Numbers come from ../constants.ts; sections are those of proto.md.
 */
import { MemcloudError } from '../../common/errors.ts';
import {
  NBD_CLIENT_FLAGS_SIZE_BYTES,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_EXTENDED_REQUEST_SIZE_BYTES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_IHAVEOPT,
  NBD_INFO,
  NBD_MAGIC,
  NBD_OPTION_HEADER_SIZE_BYTES,
  NBD_OPTION_REPLY_MAGIC,
  NBD_REQUEST_MAGIC,
  NBD_REQUEST_SIZE_BYTES,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRING_SIZE_MAX_BYTES,
  NBD_STRUCTURED_REPLY_MAGIC,
} from '../constants.ts';

/** How requests and replies are framed, decided once in the negotiation. */
export type HeaderStyle = 'simple' | 'structured' | 'extended';

/** Characters kept of a text that a server sent. */
const SERVER_TEXT_LENGTH_MAX = 200;

/** An error that names what the server broke. */
export function protocolError(message: string): MemcloudError {
  return new MemcloudError('ERR_NBD_PROTOCOL', message);
}

/** A server's text made safe to show: one line, printable, bounded. */
export function serverText(bytes: Buffer): string {
  const text = bytes.subarray(0, 4 * SERVER_TEXT_LENGTH_MAX).toString('utf8');
  return text.replaceAll(/[\p{C}\u2028\u2029]+/gu, ' ').slice(0, SERVER_TEXT_LENGTH_MAX);
}

// --- Negotiation: proto.md "Fixed newstyle negotiation" -----------------------------------------

/** The server's greeting. */
export interface Greeting {
  /** It understands more than EXPORT_NAME. */
  readonly fixedNewstyle: boolean;
  /** It can leave out the 124 zero bytes. */
  readonly noZeroes: boolean;
}

/** Decodes the 18 bytes of the greeting. */
export function decodeGreeting(bytes: Buffer): Greeting {
  if (bytes.readBigUInt64BE(0) !== NBD_MAGIC) {
    throw protocolError('greeting: expected NBDMAGIC; this is not an NBD server');
  }
  if (bytes.readBigUInt64BE(8) !== NBD_IHAVEOPT) {
    throw protocolError('greeting: expected IHAVEOPT; the server is too old (oldstyle)');
  }
  const flags = bytes.readUInt16BE(16);
  return {
    fixedNewstyle: (flags & NBD_FLAG_FIXED_NEWSTYLE) !== 0,
    noZeroes: (flags & NBD_FLAG_NO_ZEROES) !== 0,
  };
}

/** Encodes the client's flags. */
export function encodeClientFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(NBD_CLIENT_FLAGS_SIZE_BYTES);
  bytes.writeUInt32BE(flags, 0);
  return bytes;
}

/** Encodes one option with its data. */
export function encodeOption(option: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(NBD_OPTION_HEADER_SIZE_BYTES + data.length);
  bytes.writeBigUInt64BE(NBD_IHAVEOPT, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(data.length, 12);
  bytes.set(data, NBD_OPTION_HEADER_SIZE_BYTES);
  return bytes;
}

/**
 * The bytes of an export name.
 *
 * @throws MemcloudError `ERR_NBD_EXPORT_UNKNOWN` for a name that no export can have
 */
export function encodeExportName(name: string): Buffer {
  const bytes = Buffer.from(name, 'utf8');
  if (bytes.length > NBD_STRING_SIZE_MAX_BYTES || bytes.includes(0)) {
    throw new MemcloudError(
      'ERR_NBD_EXPORT_UNKNOWN',
      `export name: expected at most ${NBD_STRING_SIZE_MAX_BYTES} bytes without NUL`,
    );
  }
  return bytes;
}

/** Data of GO and INFO: the name and the information types wanted. "NBD_OPT_INFO and NBD_OPT_GO". */
export function encodeInfoData(name: string, informationTypes: readonly number[]): Buffer {
  const nameBytes = encodeExportName(name);
  const bytes = Buffer.alloc(4 + nameBytes.length + 2 + 2 * informationTypes.length);
  bytes.writeUInt32BE(nameBytes.length, 0);
  bytes.set(nameBytes, 4);
  let at = 4 + nameBytes.length;
  bytes.writeUInt16BE(informationTypes.length, at);
  for (const type of informationTypes) bytes.writeUInt16BE(type, (at += 2));
  return bytes;
}

/** Data of SET_META_CONTEXT: the name and one query. "NBD_OPT_SET_META_CONTEXT". */
export function encodeMetaContextData(name: string, query: string): Buffer {
  const nameBytes = encodeExportName(name);
  const queryBytes = Buffer.from(query);
  const bytes = Buffer.alloc(4 + nameBytes.length + 4 + 4 + queryBytes.length);
  bytes.writeUInt32BE(nameBytes.length, 0);
  bytes.set(nameBytes, 4);
  bytes.writeUInt32BE(1, 4 + nameBytes.length);
  bytes.writeUInt32BE(queryBytes.length, 8 + nameBytes.length);
  bytes.set(queryBytes, 12 + nameBytes.length);
  return bytes;
}

/** The header of an option reply. */
export interface OptionReplyHeader {
  /** The option that it answers. */
  readonly option: number;
  /** `NBD_REP_*`, unsigned. */
  readonly type: number;
  /** Bytes of data that follow. */
  readonly dataLength: number;
}

/** Decodes the 20 bytes before an option reply's data. */
export function decodeOptionReplyHeader(bytes: Buffer): OptionReplyHeader {
  if (bytes.readBigUInt64BE(0) !== NBD_OPTION_REPLY_MAGIC) {
    throw protocolError('option reply: wrong magic');
  }
  return {
    option: bytes.readUInt32BE(8),
    type: bytes.readUInt32BE(12),
    dataLength: bytes.readUInt32BE(16),
  };
}

/** One information item of an INFO or GO reply. Types that we did not ask for are `unknown`. */
export type Information =
  | { readonly type: 'export'; readonly sizeBytes: number; readonly transmissionFlags: number }
  | { readonly type: 'name'; readonly text: string }
  | { readonly type: 'description'; readonly text: string }
  | {
      readonly type: 'blockSize';
      readonly minimum: number;
      readonly preferred: number;
      readonly maximumPayload: number;
    }
  | { readonly type: 'unknown' };

/** Decodes the data of NBD_REP_INFO. */
export function decodeInformation(data: Buffer): Information {
  if (data.length < 2) throw protocolError('NBD_REP_INFO: expected at least 2 bytes');
  switch (data.readUInt16BE(0)) {
    case NBD_INFO.NBD_INFO_EXPORT:
      expectLength('NBD_INFO_EXPORT', data, 12);
      return {
        type: 'export',
        sizeBytes: readSize(data, 2),
        transmissionFlags: data.readUInt16BE(10),
      };
    case NBD_INFO.NBD_INFO_NAME:
      return { type: 'name', text: decodeString('NBD_INFO_NAME', data.subarray(2)) };
    case NBD_INFO.NBD_INFO_DESCRIPTION:
      return { type: 'description', text: decodeString('NBD_INFO_DESCRIPTION', data.subarray(2)) };
    case NBD_INFO.NBD_INFO_BLOCK_SIZE:
      expectLength('NBD_INFO_BLOCK_SIZE', data, 14);
      return decodeBlockSize(data);
    default:
      return { type: 'unknown' };
  }
}

/** proto.md "Block size constraints": powers of two, preferred at least 512 and the minimum. */
function decodeBlockSize(data: Buffer): Information {
  const minimum = data.readUInt32BE(2);
  const preferred = data.readUInt32BE(6);
  const maximumPayload = data.readUInt32BE(10);
  const sane =
    isPowerOfTwo(minimum) &&
    minimum <= 65536 &&
    isPowerOfTwo(preferred) &&
    preferred >= Math.max(512, minimum) &&
    maximumPayload >= preferred;
  if (!sane) {
    throw protocolError(
      `block sizes: expected powers of two in order, got ${minimum}, ${preferred}, ${maximumPayload}`,
    );
  }
  return { type: 'blockSize', minimum, preferred, maximumPayload };
}

/** Size and flags after NBD_OPT_EXPORT_NAME. */
export function decodeExportReply(bytes: Buffer): { sizeBytes: number; transmissionFlags: number } {
  return { sizeBytes: readSize(bytes, 0), transmissionFlags: bytes.readUInt16BE(8) };
}

/** Decodes NBD_REP_SERVER: an export's name, then text for people. */
export function decodeServerReply(data: Buffer): { name: string; description: string } {
  if (data.length < 4) throw protocolError('NBD_REP_SERVER: expected at least 4 bytes');
  const nameLength = data.readUInt32BE(0);
  if (nameLength > data.length - 4) {
    throw protocolError(`NBD_REP_SERVER: the name of ${nameLength} bytes exceeds the reply`);
  }
  return {
    name: decodeString('export name', data.subarray(4, 4 + nameLength)),
    description: serverText(data.subarray(4 + nameLength)),
  };
}

/** Decodes NBD_REP_META_CONTEXT: the id that names the context in block status chunks. */
export function decodeMetaContext(data: Buffer): { id: number; name: string } {
  if (data.length < 4) throw protocolError('NBD_REP_META_CONTEXT: expected at least 4 bytes');
  return { id: data.readUInt32BE(0), name: decodeString('meta context', data.subarray(4)) };
}

// --- Transmission: proto.md "Transmission phase" ------------------------------------------------

/** A request, without its payload. */
export interface Request {
  /** `NBD_CMD_*`. */
  readonly type: number;
  /** `NBD_CMD_FLAG_*`. */
  readonly flags: number;
  /** Chosen by us, 0 to 2^53 - 1. */
  readonly cookie: number;
  /** Bytes from the start of the export. */
  readonly offset: number;
  /** Bytes; below 2^32 unless headers are extended. */
  readonly length: number;
}

/** Encodes a request in the negotiated style. */
export function encodeRequest(style: HeaderStyle, request: Request): Buffer {
  const extended = style === 'extended';
  const size = extended ? NBD_EXTENDED_REQUEST_SIZE_BYTES : NBD_REQUEST_SIZE_BYTES;
  const bytes = Buffer.alloc(size);
  bytes.writeUInt32BE(extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(request.flags, 4);
  bytes.writeUInt16BE(request.type, 6);
  bytes.writeBigUInt64BE(BigInt(request.cookie), 8);
  bytes.writeBigUInt64BE(BigInt(request.offset), 16);
  if (extended) bytes.writeBigUInt64BE(BigInt(request.length), 24);
  else bytes.writeUInt32BE(request.length, 24);
  return bytes;
}

/** The header of a reply or of one of its chunks. */
export type ReplyHeader =
  | { readonly kind: 'simple'; readonly cookie: number; readonly error: number }
  | {
      readonly kind: 'chunk';
      readonly cookie: number;
      readonly flags: number;
      readonly type: number;
      /** Bytes of payload that follow. */
      readonly length: number;
    };

/** Decodes a simple reply's 16 bytes. */
export function decodeSimpleReply(bytes: Buffer): ReplyHeader {
  return { kind: 'simple', error: bytes.readUInt32BE(4), cookie: readCookie(bytes, 8) };
}

/** Decodes a structured chunk's 20 bytes. */
export function decodeStructuredHeader(bytes: Buffer): ReplyHeader {
  return {
    kind: 'chunk',
    flags: bytes.readUInt16BE(4),
    type: bytes.readUInt16BE(6),
    cookie: readCookie(bytes, 8),
    length: bytes.readUInt32BE(16),
  };
}

/** Decodes an extended chunk's 32 bytes. The offset of the request, which it repeats, is not used. */
export function decodeExtendedHeader(bytes: Buffer): ReplyHeader {
  return {
    kind: 'chunk',
    flags: bytes.readUInt16BE(4),
    type: bytes.readUInt16BE(6),
    cookie: readCookie(bytes, 8),
    length: readSize(bytes, 24),
  };
}

/** The framing that a reply's magic announces. */
export function replyStyleOf(magic: number): HeaderStyle {
  if (magic === NBD_SIMPLE_REPLY_MAGIC) return 'simple';
  if (magic === NBD_STRUCTURED_REPLY_MAGIC) return 'structured';
  if (magic === NBD_EXTENDED_REPLY_MAGIC) return 'extended';
  throw protocolError(`reply: wrong magic 0x${magic.toString(16)}`);
}

/** A cookie that is none of ours reads as -1, which no request has. */
function readCookie(bytes: Buffer, at: number): number {
  const cookie = bytes.readBigUInt64BE(at);
  return cookie > BigInt(Number.MAX_SAFE_INTEGER) ? -1 : Number(cookie);
}

function readSize(bytes: Buffer, at: number): number {
  const size = bytes.readBigUInt64BE(at);
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw protocolError(`size: expected at most 2^53 - 1, got ${size}`);
  }
  return Number(size);
}

function decodeString(what: string, bytes: Buffer): string {
  if (bytes.length > NBD_STRING_SIZE_MAX_BYTES) {
    throw protocolError(
      `${what}: expected at most ${NBD_STRING_SIZE_MAX_BYTES} bytes, got ${bytes.length}`,
    );
  }
  return bytes.toString('utf8');
}

function expectLength(what: string, data: Buffer, length: number): void {
  if (data.length !== length) {
    throw protocolError(`${what}: expected ${length} bytes, got ${data.length}`);
  }
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}
