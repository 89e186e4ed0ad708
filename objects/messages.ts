/**
 * The bodies of OBJECT and OBJECT_REPLY (docs/peer-protocol.md section 12). A request is an octet that
 * names the method and its fields; a reply is an octet that says done, missing or refused. A reply does
 * not repeat what was asked: it belongs to a request of one session, and its reader knows which. A
 * codec; pure and total: any bytes give a value within its bounds, or ERR_PEER_PROTOCOL.
 */
import { MemcloudError, type ErrorCode } from '../common/errors.ts';
import {
  OBJECT_LIST_COUNT_MAX,
  OBJECT_PATTERN_COUNT_MAX,
  OBJECT_PIECE_SIZE_MAX_BYTES,
  type ObjectInfo,
  type ObjectListing,
  type ObjectName,
  type ObjectOptions,
  type ObjectPiece,
  type ObjectQuery,
  type ObjectUsage,
} from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { printableAscii } from '../common/printable.ts';
import { BodyReader, BodyWriter, refuse } from './body.ts';
import {
  INFO_SIZE_MAX_BYTES,
  readInfo,
  readMaybe,
  readMaybeKey,
  readName,
  readOptions,
  writeInfo,
  writeMaybe,
  writeMaybeKey,
  writeName,
  writeOptions,
} from './fields.ts';

/** Bytes of a body at most: peer-protocol.md section 6. */
export const OBJECT_BODY_SIZE_MAX_BYTES = 60_000;
/** Bytes of a pattern at most. */
const PATTERN_SIZE_MAX_BYTES = 1024;
/** Bytes of a cursor of one holder at most. */
const CURSOR_SIZE_MAX_BYTES = 4096;
/** Bytes of an upload's number at most. */
const UPLOAD_SIZE_MAX_BYTES = 32;
/** Characters of the message of a refusal at most. */
const MESSAGE_LENGTH_MAX = 256;

/** Methods by their octet. */
const Method = {
  PUT: 1,
  GET: 2,
  STAT: 3,
  DELETE: 4,
  LIST: 5,
  FLUSH: 6,
  USAGE: 7,
  BEGIN: 8,
  APPEND: 9,
  COMMIT: 10,
  ABORT: 11,
} as const;

/** First octet of a reply. */
const Status = { DONE: 0, MISSING: 1, REFUSED: 2 } as const;

/** What a refusal may say, by its octet. Anything else is `ERR_INTERNAL`. */
const REFUSALS: readonly ErrorCode[] = [
  'ERR_INTERNAL',
  'ERR_USAGE',
  'ERR_OBJECT_UNKNOWN',
  'ERR_OBJECT_DENIED',
  'ERR_OBJECT_CONFLICT',
  'ERR_LEASE_CAPACITY',
  'ERR_UNSUPPORTED',
];

const KINDS = ['key', 'block', 'all'] as const;

/** A request. Bytes in it are borrowed as long as the body is. */
export type ObjectRequest =
  | {
      readonly method: 'put';
      readonly key: string | undefined;
      readonly options: ObjectOptions;
      readonly value: Uint8Array;
    }
  | {
      readonly method: 'get';
      readonly name: ObjectName;
      readonly offset: number;
      readonly length: number;
      readonly ifVersion: number | undefined;
    }
  | { readonly method: 'stat'; readonly name: ObjectName }
  | {
      readonly method: 'delete';
      readonly name: ObjectName;
      readonly ifVersion: number | undefined;
    }
  | { readonly method: 'list'; readonly query: ObjectQuery }
  | { readonly method: 'flush' }
  | { readonly method: 'usage' }
  | {
      readonly method: 'begin';
      readonly key: string | undefined;
      readonly options: ObjectOptions;
      readonly sizeHint: number | undefined;
    }
  | {
      readonly method: 'append';
      readonly upload: string;
      readonly offset: number;
      readonly piece: Uint8Array;
    }
  | { readonly method: 'commit'; readonly upload: string }
  | { readonly method: 'abort'; readonly upload: string };

// --- Requests ------------------------------------------------------------------------------------

/** The body of a request. */
export function encodeRequest(request: ObjectRequest): Buffer {
  const writer = new BodyWriter(requestCapacity(request));
  switch (request.method) {
    case 'put':
      writer.u8(Method.PUT);
      writeMaybeKey(writer, request.key);
      writeOptions(writer, request.options);
      writer.fixed(request.value);
      break;
    case 'get':
      writer.u8(Method.GET);
      writeName(writer, request.name);
      writer.safe(request.offset).safe(request.length);
      writeMaybe(writer, request.ifVersion);
      break;
    case 'stat':
      writer.u8(Method.STAT);
      writeName(writer, request.name);
      break;
    case 'delete':
      writer.u8(Method.DELETE);
      writeName(writer, request.name);
      writeMaybe(writer, request.ifVersion);
      break;
    case 'list':
      writeList(writer.u8(Method.LIST), request.query);
      break;
    case 'flush':
      writer.u8(Method.FLUSH);
      break;
    case 'usage':
      writer.u8(Method.USAGE);
      break;
    case 'begin':
      writer.u8(Method.BEGIN);
      writeMaybeKey(writer, request.key);
      writeOptions(writer, request.options);
      writeMaybe(writer, request.sizeHint);
      break;
    case 'append':
      writer.u8(Method.APPEND).text(request.upload).safe(request.offset).fixed(request.piece);
      break;
    case 'commit':
      writer.u8(Method.COMMIT).text(request.upload);
      break;
    case 'abort':
      writer.u8(Method.ABORT).text(request.upload);
      break;
  }
  return writer.take();
}

function requestCapacity(request: ObjectRequest): number {
  if (request.method === 'list') return OBJECT_BODY_SIZE_MAX_BYTES;
  if (request.method === 'put') return INFO_SIZE_MAX_BYTES + request.value.length;
  if (request.method === 'append') return INFO_SIZE_MAX_BYTES + request.piece.length;
  return INFO_SIZE_MAX_BYTES;
}

function writeList(writer: BodyWriter, query: ObjectQuery): void {
  const { kind = 'key', patterns = [], cursor = '', countMax = OBJECT_LIST_COUNT_MAX } = query;
  writer.u8(KINDS.indexOf(kind)).u16(countMax).text(cursor).u8(patterns.length);
  for (const pattern of patterns) writer.text(pattern);
}

/** Checks what a body could not carry. @throws MemcloudError `ERR_USAGE` */
export function checkQuery({ patterns = [], cursor = '', countMax = 1 }: ObjectQuery): void {
  const problem =
    patterns.length > OBJECT_PATTERN_COUNT_MAX
      ? `at most ${OBJECT_PATTERN_COUNT_MAX} patterns`
      : patterns.some((pattern) => Buffer.byteLength(pattern) > PATTERN_SIZE_MAX_BYTES)
        ? `patterns of at most ${PATTERN_SIZE_MAX_BYTES} bytes`
        : Buffer.byteLength(cursor) > CURSOR_SIZE_MAX_BYTES
          ? 'a cursor that a listing gave'
          : countMax < 1 || countMax > OBJECT_LIST_COUNT_MAX
            ? `a page of 1 to ${OBJECT_LIST_COUNT_MAX} objects`
            : undefined;
  if (problem !== undefined) throw new MemcloudError('ERR_USAGE', `listing: expected ${problem}`);
}

/**
 * Reads a request.
 *
 * @param body - bytes of the request are borrowed from it
 * @throws MemcloudError `ERR_PEER_PROTOCOL`
 */
export function decodeRequest(body: Buffer): ObjectRequest {
  const reader = new BodyReader(body);
  const request = readRequest(reader, reader.u8());
  reader.end();
  return request;
}

function readRequest(reader: BodyReader, method: number): ObjectRequest {
  switch (method) {
    case Method.PUT: {
      const key = readMaybeKey(reader);
      const options = readOptions(reader);
      const value = reader.rest(OBJECT_PIECE_SIZE_MAX_BYTES, 'value');
      return { method: 'put', key, options, value };
    }
    case Method.GET: {
      const name = readName(reader);
      const offset = reader.safe('offset');
      const length = reader.safe('length');
      if (length > OBJECT_PIECE_SIZE_MAX_BYTES) refuse(`a piece of ${length} bytes is asked for`);
      return { method: 'get', name, offset, length, ifVersion: readMaybe(reader, 'version') };
    }
    case Method.STAT:
      return { method: 'stat', name: readName(reader) };
    case Method.DELETE:
      return {
        ...{ method: 'delete', name: readName(reader) },
        ifVersion: readMaybe(reader, 'version'),
      };
    case Method.LIST:
      return { method: 'list', query: readList(reader) };
    case Method.FLUSH:
      return { method: 'flush' };
    case Method.USAGE:
      return { method: 'usage' };
    case Method.BEGIN: {
      const key = readMaybeKey(reader);
      const options = readOptions(reader);
      return { method: 'begin', key, options, sizeHint: readMaybe(reader, 'size') };
    }
    case Method.APPEND: {
      const upload = readUpload(reader);
      const offset = reader.safe('offset');
      const piece = reader.rest(OBJECT_PIECE_SIZE_MAX_BYTES, 'piece');
      return { method: 'append', upload, offset, piece };
    }
    case Method.COMMIT:
      return { method: 'commit', upload: readUpload(reader) };
    case Method.ABORT:
      return { method: 'abort', upload: readUpload(reader) };
    default:
      return refuse(`method ${method} is unknown`);
  }
}

function readUpload(reader: BodyReader): string {
  return reader.text(UPLOAD_SIZE_MAX_BYTES, 'upload');
}

function readList(reader: BodyReader): ObjectQuery {
  const kind = KINDS[reader.choice(KINDS.length, 'kind')] ?? 'key';
  const countMax = reader.u16();
  if (countMax < 1 || countMax > OBJECT_LIST_COUNT_MAX) refuse(`a page of ${countMax} objects`);
  const cursor = reader.text(CURSOR_SIZE_MAX_BYTES, 'cursor');
  const patterns: string[] = [];
  for (let left = reader.choice(OBJECT_PATTERN_COUNT_MAX + 1, 'patterns'); left > 0; left -= 1) {
    patterns.push(reader.text(PATTERN_SIZE_MAX_BYTES, 'pattern'));
  }
  return {
    ...{ kind, countMax },
    ...(cursor === '' ? {} : { cursor }),
    ...(patterns.length === 0 ? {} : { patterns }),
  };
}

// --- Replies -------------------------------------------------------------------------------------

/** Bytes of the reply to a request at most: what the requester grants, and the holder keeps to. */
export function replySizeMax(request: ObjectRequest): number {
  if (request.method === 'list') return OBJECT_BODY_SIZE_MAX_BYTES;
  return INFO_SIZE_MAX_BYTES + (request.method === 'get' ? request.length : 0);
}

/** Done, and nothing to tell. */
export function encodeDone(): Buffer {
  return new BodyWriter(1).u8(Status.DONE).take();
}

/** There is no such object, or none that the asker may see. */
export function encodeMissing(): Buffer {
  return new BodyWriter(1).u8(Status.MISSING).take();
}

/** It is refused; the message as printable ASCII. */
export function encodeRefusal({ code, message }: { code: ErrorCode; message: string }): Buffer {
  const known = REFUSALS.indexOf(code);
  const text = known > 0 ? printableAscii(message, MESSAGE_LENGTH_MAX) : 'the holder failed';
  const writer = new BodyWriter(4 + MESSAGE_LENGTH_MAX);
  return writer.u8(Status.REFUSED).u8(Math.max(0, known)).text(text).take();
}

/** To put, stat and commit. */
export function encodeInfo(info: ObjectInfo): Buffer {
  const writer = new BodyWriter(INFO_SIZE_MAX_BYTES).u8(Status.DONE);
  writeInfo(writer, info);
  return writer.take();
}

/** To get. */
export function encodePiece({ info, offset, bytes }: ObjectPiece): Buffer {
  const writer = new BodyWriter(INFO_SIZE_MAX_BYTES + bytes.length).u8(Status.DONE);
  writeInfo(writer, info);
  return writer.safe(offset).fixed(bytes).take();
}

/** To begin. */
export function encodeUpload(upload: string): Buffer {
  return new BodyWriter(INFO_SIZE_MAX_BYTES).u8(Status.DONE).text(upload).take();
}

/** To flush and usage. */
export function encodeUsage(usage: ObjectUsage): Buffer {
  const { objectCount, valueBytes, chargedBytes, uploadCount, evictedCount } = usage;
  const writer = new BodyWriter(INFO_SIZE_MAX_BYTES).u8(Status.DONE);
  for (const number of [objectCount, valueBytes, chargedBytes, uploadCount, evictedCount]) {
    writer.safe(number);
  }
  return writer.take();
}

/**
 * To list.
 *
 * @returns undefined when only `fitting` of the objects have room: ask for a page of so many
 */
export function encodeListing(listing: ObjectListing): Buffer | { readonly fitting: number } {
  const writer = new BodyWriter(OBJECT_BODY_SIZE_MAX_BYTES).u8(Status.DONE);
  const room = OBJECT_BODY_SIZE_MAX_BYTES - INFO_SIZE_MAX_BYTES - CURSOR_SIZE_MAX_BYTES - 8;
  writer.text(listing.cursor ?? '').u16(listing.objects.length);
  // Whatever the length of the cursor, so that the shorter page fits as well, whose cursor is another.
  const start = writer.length;
  for (const [index, info] of listing.objects.entries()) {
    if (writer.length - start > room) return { fitting: index };
    writeInfo(writer, info);
  }
  return writer.take();
}

/**
 * Opens a reply.
 *
 * @returns undefined when there is no such object; else what is to be read by `read...`
 * @throws MemcloudError the holder's refusal, `ERR_PEER_PROTOCOL`
 */
export function openReply(body: Buffer, holderName: string): BodyReader | undefined {
  const reader = new BodyReader(body);
  const status = reader.choice(3, 'status');
  if (status === Status.DONE) return reader;
  if (status === Status.MISSING) {
    reader.end();
    return undefined;
  }
  const code = REFUSALS[reader.choice(REFUSALS.length, 'code')] ?? 'ERR_INTERNAL';
  const message = printableAscii(reader.text(MESSAGE_LENGTH_MAX, 'message'), MESSAGE_LENGTH_MAX);
  reader.end();
  throw new MemcloudError(code, `node "${holderName}": ${message}`);
}

/** Reads an info, and nothing else. */
export function readInfoReply(reader: BodyReader, holder: NodeId): ObjectInfo {
  const info = readInfo(reader, holder);
  reader.end();
  return info;
}

/** Reads a piece of at most `lengthMax` bytes from `offset` on. */
export function readPieceReply(
  reader: BodyReader,
  holder: NodeId,
  offset: number,
  lengthMax: number,
): ObjectPiece {
  const info = readInfo(reader, holder);
  const told = reader.safe('offset');
  if (told !== offset) refuse(`piece: expected from ${offset} on, got ${told}`);
  const bytes = reader.rest(lengthMax, 'piece');
  if (bytes.length > Math.max(0, info.sizeBytes - offset)) refuse('piece: beyond the value');
  return { info, offset, bytes };
}

/** Reads an upload's number. */
export function readUploadReply(reader: BodyReader): string {
  const upload = readUpload(reader);
  reader.end();
  return upload;
}

/** Reads usage. */
export function readUsageReply(reader: BodyReader): ObjectUsage {
  const usage = {
    objectCount: reader.safe('count'),
    valueBytes: reader.safe('bytes'),
    chargedBytes: reader.safe('bytes'),
    uploadCount: reader.safe('count'),
    evictedCount: reader.safe('count'),
  };
  reader.end();
  return usage;
}

/** Reads a page of a listing with at most `countMax` objects. */
export function readListingReply(
  reader: BodyReader,
  holder: NodeId,
  countMax: number,
): ObjectListing {
  const cursor = reader.text(CURSOR_SIZE_MAX_BYTES, 'cursor');
  const count = reader.u16();
  if (count > countMax) refuse(`listing: expected at most ${countMax} objects, got ${count}`);
  const objects: ObjectInfo[] = [];
  for (let index = 0; index < count; index += 1) objects.push(readInfo(reader, holder));
  reader.end();
  return { objects, cursor: cursor === '' ? null : cursor };
}
