/**
 * The bytes of the handshake (proto.md "Newstyle negotiation" to "Option types"): the greeting, the
 * options of a client, the replies to them. Rare messages, so these functions return values. Every
 * decoder is total: the lengths inside an option must add up to exactly the length of the option, a
 * string must be UTF-8 without NUL of at most 4096 bytes, or the result is undefined and the machine
 * answers ERR_INVALID.
 */
import {
  NBD_EXPORT_NAME_ZEROES_SIZE_BYTES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_GREETING_SIZE_BYTES,
  NBD_IHAVEOPT,
  NBD_INFO,
  NBD_MAGIC,
  NBD_OPTION_REPLY_HEADER_SIZE_BYTES,
  NBD_OPTION_REPLY_MAGIC,
  NBD_STRING_SIZE_MAX_BYTES,
} from './constants.ts';
import { encodeUint64 } from './message-codec.ts';

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const utf8 = new TextEncoder();

/** What INFO and GO carry. */
export interface InfoRequest {
  /** Export name, '' for the default export. */
  readonly exportName: string;
  /** Information types asked for; unknown ones are to be ignored. */
  readonly infoTypes: readonly number[];
}

/** What LIST_META_CONTEXT and SET_META_CONTEXT carry. */
export interface MetaContextRequest {
  /** Export name, '' for the default export. */
  readonly exportName: string;
  /** Queries, `NAMESPACE:LEAF`. */
  readonly queries: readonly string[];
}

/** A view of the bytes for big-endian access. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Decodes a string of the protocol; undefined when it is too long, not UTF-8 or has a NUL. */
export function decodeString(bytes: Uint8Array): string | undefined {
  if (bytes.length > NBD_STRING_SIZE_MAX_BYTES || bytes.includes(0)) return undefined;
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** A position in option data that never passes its end. */
class DataReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  uint16(): number | undefined {
    if (this.remaining < 2) return undefined;
    this.#at += 2;
    return this.#view.getUint16(this.#at - 2);
  }

  uint32(): number | undefined {
    if (this.remaining < 4) return undefined;
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4);
  }

  /** A string after its 32-bit length. */
  string(): string | undefined {
    const length = this.uint32();
    if (length === undefined || length > this.remaining) return undefined;
    this.#at += length;
    return decodeString(this.#bytes.subarray(this.#at - length, this.#at));
  }
}

/** Decodes the data of INFO or GO. proto.md "NBD_OPT_INFO". */
export function decodeInfoRequest(data: Uint8Array): InfoRequest | undefined {
  const reader = new DataReader(data);
  const exportName = reader.string();
  if (exportName === undefined) return undefined;
  const count = reader.uint16();
  if (count === undefined || reader.remaining !== count * 2) return undefined;
  const infoTypes = Array.from({ length: count }, () => reader.uint16() ?? 0);
  return { exportName, infoTypes };
}

/** Decodes the data of LIST_META_CONTEXT or SET_META_CONTEXT. */
export function decodeMetaContextRequest(data: Uint8Array): MetaContextRequest | undefined {
  const reader = new DataReader(data);
  const exportName = reader.string();
  if (exportName === undefined) return undefined;
  const count = reader.uint32();
  if (count === undefined || count > reader.remaining / 4) return undefined;
  const queries: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const query = reader.string();
    if (query === undefined) return undefined;
    queries.push(query);
  }
  return reader.remaining === 0 ? { exportName, queries } : undefined;
}

/** The server's greeting, 18 bytes: fixed newstyle, NO_ZEROES offered. */
export function encodeGreeting(): Uint8Array {
  const bytes = new Uint8Array(NBD_GREETING_SIZE_BYTES);
  const view = viewOf(bytes);
  view.setBigUint64(0, NBD_MAGIC);
  view.setBigUint64(8, NBD_IHAVEOPT);
  view.setUint16(16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
  return bytes;
}

/** One reply to an option. proto.md "Fixed newstyle negotiation". */
export function encodeOptionReply(
  option: number,
  type: number,
  data: Uint8Array = new Uint8Array(0),
): Uint8Array {
  const bytes = new Uint8Array(NBD_OPTION_REPLY_HEADER_SIZE_BYTES + data.length);
  const view = viewOf(bytes);
  view.setBigUint64(0, NBD_OPTION_REPLY_MAGIC);
  view.setUint32(8, option);
  view.setUint32(12, type);
  view.setUint32(16, data.length);
  bytes.set(data, NBD_OPTION_REPLY_HEADER_SIZE_BYTES);
  return bytes;
}

/** The data of an error reply: a text for people. */
export function encodeText(text: string): Uint8Array {
  return utf8.encode(text);
}

/** The answer to EXPORT_NAME: size, flags, 124 zeroes unless the client declined them. */
export function encodeExportNameReply(
  sizeBytes: number,
  transmissionFlags: number,
  zeroes: boolean,
): Uint8Array {
  const bytes = new Uint8Array(10 + (zeroes ? NBD_EXPORT_NAME_ZEROES_SIZE_BYTES : 0));
  const view = viewOf(bytes);
  encodeUint64(view, 0, sizeBytes);
  view.setUint16(8, transmissionFlags);
  return bytes;
}

/** The data of REP_SERVER: a name and a description. proto.md "NBD_REP_SERVER". */
export function encodeServerData(name: string, description: string): Uint8Array {
  const nameBytes = utf8.encode(name);
  const bytes = Buffer.concat([new Uint8Array(4), nameBytes, utf8.encode(description)]);
  viewOf(bytes).setUint32(0, nameBytes.length);
  return bytes;
}

/** The data of REP_INFO of type EXPORT, 12 bytes. */
export function encodeInfoExport(sizeBytes: number, transmissionFlags: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = viewOf(bytes);
  view.setUint16(0, NBD_INFO.NBD_INFO_EXPORT);
  encodeUint64(view, 2, sizeBytes);
  view.setUint16(10, transmissionFlags);
  return bytes;
}

/** The data of REP_INFO of type NAME or DESCRIPTION. */
export function encodeInfoText(type: number, text: string): Uint8Array {
  const bytes = Buffer.concat([new Uint8Array(2), utf8.encode(text)]);
  viewOf(bytes).setUint16(0, type);
  return bytes;
}

/** The data of REP_INFO of type BLOCK_SIZE, 14 bytes; sizes in bytes. */
export function encodeInfoBlockSize(
  minimum: number,
  preferred: number,
  maximumPayload: number,
): Uint8Array {
  const bytes = new Uint8Array(14);
  const view = viewOf(bytes);
  view.setUint16(0, NBD_INFO.NBD_INFO_BLOCK_SIZE);
  view.setUint32(2, minimum);
  view.setUint32(6, preferred);
  view.setUint32(10, maximumPayload);
  return bytes;
}

/** The data of REP_META_CONTEXT: an id and a name. */
export function encodeMetaContext(id: number, name: string): Uint8Array {
  const bytes = Buffer.concat([new Uint8Array(4), utf8.encode(name)]);
  viewOf(bytes).setUint32(0, id);
  return bytes;
}
