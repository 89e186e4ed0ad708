/**
 * The bytes of the transmission phase (proto.md "Transmission phase"): requests in, replies out.
 * This is the page path, so nothing here makes an object: a request is decoded into a header that
 * the caller keeps, and a reply is written into room that the caller reserved. A cookie is opaque
 * and is carried as its two halves. Offsets and lengths of 64 bits become doubles: values from 2^53
 * on lose low bits, but stay greater than every export, so a range check refuses them all the same;
 * the halves of the offset are kept because an extended reply must echo them exactly.
 */
import {
  NBD_CMD,
  NBD_CMD_FLAG,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_EXTENDED_REQUEST_SIZE_BYTES,
  NBD_REQUEST_MAGIC,
  NBD_REQUEST_SIZE_BYTES,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from './constants.ts';

const TWO_POW_32 = 2 ** 32;

/** How replies are framed; each mode includes the options of the one before. */
export const ReplyMode = {
  /** Simple replies only. */
  SIMPLE: 0,
  /** NBD_OPT_STRUCTURED_REPLY: reads are answered in chunks. */
  STRUCTURED: 1,
  /** NBD_OPT_EXTENDED_HEADERS: 32-byte headers both ways, 64-bit lengths. */
  EXTENDED: 2,
} as const;

/** One of the values of {@link ReplyMode}. */
export type ReplyModeValue = (typeof ReplyMode)[keyof typeof ReplyMode];

/** A decoded request header; one is made for each connection and filled again for each request. */
export class RequestHeader {
  /** Command flags, 16 bits, {@link NBD_CMD_FLAG}. */
  flags = 0;
  /** Request type, 16 bits, {@link NBD_CMD}. */
  command = 0;
  /** First half of the cookie, unsigned 32 bits. */
  cookieHigh = 0;
  /** Second half of the cookie. */
  cookieLow = 0;
  /** First half of the offset as sent. */
  offsetHigh = 0;
  /** Second half of the offset as sent. */
  offsetLow = 0;
  /** The offset in bytes, exact below 2^53. */
  offset = 0;
  /** The length in bytes, of the effect or of the payload, exact below 2^53. */
  length = 0;
}

/** Bytes of a request header in the mode. */
export function requestSizeBytes(mode: ReplyModeValue): number {
  return mode === ReplyMode.EXTENDED ? NBD_EXTENDED_REQUEST_SIZE_BYTES : NBD_REQUEST_SIZE_BYTES;
}

/**
 * Decodes the request header at `at`; the caller has checked that {@link requestSizeBytes} bytes
 * are there. proto.md "Request message", "Extended request message".
 *
 * @param into - filled; unchanged when the magic is wrong
 * @returns false when the magic is wrong: the two sides are out of step and only a close helps
 */
export function decodeRequest(
  view: DataView,
  at: number,
  mode: ReplyModeValue,
  into: RequestHeader,
): boolean {
  const extended = mode === ReplyMode.EXTENDED;
  const magic = extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;
  if (view.getUint32(at) !== magic) return false;
  into.flags = view.getUint16(at + 4);
  into.command = view.getUint16(at + 6);
  into.cookieHigh = view.getUint32(at + 8);
  into.cookieLow = view.getUint32(at + 12);
  into.offsetHigh = view.getUint32(at + 16);
  into.offsetLow = view.getUint32(at + 20);
  into.offset = into.offsetHigh * TWO_POW_32 + into.offsetLow;
  into.length = extended
    ? view.getUint32(at + 24) * TWO_POW_32 + view.getUint32(at + 28)
    : view.getUint32(at + 24);
  return true;
}

/**
 * Bytes that follow the header on the wire. A WRITE always has its data; another command has a
 * payload only under extended headers and with PAYLOAD_LEN, whether we like the flag there or not.
 */
export function payloadSizeBytes(header: RequestHeader, mode: ReplyModeValue): number {
  if (header.command === NBD_CMD.NBD_CMD_WRITE) return header.length;
  const counted =
    mode === ReplyMode.EXTENDED &&
    (header.flags & NBD_CMD_FLAG.NBD_CMD_FLAG_PAYLOAD_LEN) !== 0 &&
    header.command !== NBD_CMD.NBD_CMD_DISC;
  return counted ? header.length : 0;
}

/** Writes a simple reply, 16 bytes. proto.md "Simple reply message". */
export function encodeSimpleReply(
  view: DataView,
  at: number,
  error: number,
  cookieHigh: number,
  cookieLow: number,
): void {
  view.setUint32(at, NBD_SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
}

/**
 * Writes the header of a structured reply chunk, 20 bytes. proto.md "Structured reply chunk message".
 *
 * @param length - bytes of the chunk's payload, below 2^32
 */
export function encodeStructuredReply(
  view: DataView,
  at: number,
  flags: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
  length: number,
): void {
  view.setUint32(at, NBD_STRUCTURED_REPLY_MAGIC);
  view.setUint16(at + 4, flags);
  view.setUint16(at + 6, type);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
  view.setUint32(at + 16, length);
}

/**
 * Writes the header of an extended reply chunk, 32 bytes. proto.md (extension-ext-header)
 * "Extended reply chunk message": the offset is the request's own, echoed.
 *
 * @param length - bytes of the chunk's payload, below 2^32
 */
export function encodeExtendedReply(
  view: DataView,
  at: number,
  flags: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
  offsetHigh: number,
  offsetLow: number,
  length: number,
): void {
  view.setUint32(at, NBD_EXTENDED_REPLY_MAGIC);
  view.setUint16(at + 4, flags);
  view.setUint16(at + 6, type);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
  view.setUint32(at + 16, offsetHigh);
  view.setUint32(at + 20, offsetLow);
  view.setUint32(at + 24, 0);
  view.setUint32(at + 28, length);
}

/** Writes an unsigned number below 2^53 as 64 bits. */
export function encodeUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_POW_32));
  view.setUint32(at + 4, value % TWO_POW_32);
}

/** Reads 64 bits as a double: exact below 2^53, otherwise no less than 2^53. */
export function decodeUint64(view: DataView, at: number): number {
  return view.getUint32(at) * TWO_POW_32 + view.getUint32(at + 4);
}
