/**
 * TLS 1.3 records (RFC 8446 5.1 to 5.4) as far as this connection uses them: a header of five bytes,
 * then the sealed inner plaintext, which is content, its true type and zero padding.
 *
 *     23 | 0x0303 | length || AEAD(content || 23 || 0*) || tag
 *
 * Only application data is known. Alerts, KeyUpdates, tickets and change_cipher_spec are records that
 * neither the kernel nor we send here, so each of them is a breach. Pure; nothing is made per record.
 */
import { MemcloudError } from '../common/errors.ts';
import {
  TLS_CIPHERTEXT_SIZE_MAX_BYTES,
  TLS_CONTENT_TYPE_APPLICATION_DATA,
  TLS_INNER_PLAINTEXT_SIZE_MAX_BYTES,
  TLS_LEGACY_RECORD_VERSION,
  TLS_RECORD_HEADER_SIZE_BYTES,
  TLS_TAG_SIZE_BYTES,
} from './constants.ts';

/** Answer of {@link decodeRecordHeader} while the header is not there as a whole. */
export const NEED_MORE = -1;

/** Least that follows a header: the type of empty content, and the tag. */
const CIPHERTEXT_SIZE_MIN_BYTES = 1 + TLS_TAG_SIZE_BYTES;

/**
 * Reads the header at `bytes[at]`.
 *
 * @returns bytes that follow the header, 17 to 16640, or {@link NEED_MORE} when `end` cuts it short
 * @throws MemcloudError `ERR_PEER_PROTOCOL` for anything but application data within the limits
 */
export function decodeRecordHeader(bytes: Buffer, at: number, end: number): number {
  if (end - at < TLS_RECORD_HEADER_SIZE_BYTES) return NEED_MORE;
  const type = bytes.readUInt8(at);
  const version = bytes.readUInt16BE(at + 1);
  const length = bytes.readUInt16BE(at + 3);
  if (type !== TLS_CONTENT_TYPE_APPLICATION_DATA) {
    throw breach(`content type ${TLS_CONTENT_TYPE_APPLICATION_DATA}`, `${type}`);
  }
  if (version !== TLS_LEGACY_RECORD_VERSION) {
    throw breach(`version ${TLS_LEGACY_RECORD_VERSION}`, `${version}`);
  }
  if (length < CIPHERTEXT_SIZE_MIN_BYTES || length > TLS_CIPHERTEXT_SIZE_MAX_BYTES) {
    throw breach(
      `${CIPHERTEXT_SIZE_MIN_BYTES} to ${TLS_CIPHERTEXT_SIZE_MAX_BYTES} bytes`,
      `${length}`,
    );
  }
  return length;
}

/** Writes the header of a record whose ciphertext, tag included, has `length` bytes. */
export function encodeRecordHeader(bytes: Buffer, at: number, length: number): void {
  bytes.writeUInt8(TLS_CONTENT_TYPE_APPLICATION_DATA, at);
  bytes.writeUInt16BE(TLS_LEGACY_RECORD_VERSION, at + 1);
  bytes.writeUInt16BE(length, at + 3);
}

/**
 * Finds the content in the inner plaintext `bytes[at, at + length)`, which was authenticated.
 *
 * @returns bytes of content, 0 to 16384; it begins at `at`
 * @throws MemcloudError `ERR_PEER_PROTOCOL` when it is too long, nothing but padding, or of another type
 */
export function decodeInnerPlaintext(bytes: Buffer, at: number, length: number): number {
  if (length > TLS_INNER_PLAINTEXT_SIZE_MAX_BYTES) {
    throw breach(`inner plaintext up to ${TLS_INNER_PLAINTEXT_SIZE_MAX_BYTES} bytes`, `${length}`);
  }
  let last = at + length - 1;
  while (last >= at && bytes[last] === 0) last -= 1;
  const type = last < at ? 0 : bytes[last];
  if (type !== TLS_CONTENT_TYPE_APPLICATION_DATA) {
    throw breach(`inner type ${TLS_CONTENT_TYPE_APPLICATION_DATA}`, `${type}`);
  }
  return last - at;
}

function breach(expected: string, got: string): MemcloudError {
  return new MemcloudError('ERR_PEER_PROTOCOL', `TLS record: expected ${expected}, got ${got}`);
}
