/**
 * The two frames of the peer protocol (docs/peer-protocol.md sections 2 and 5), as bytes in buffers
 * that the caller owns. In the handshake: a length, big endian, and a Noise message. Afterwards a
 * record, whose parts lie in the order in which the cipher takes them:
 *
 *     length u32 | headLength u32 | pages (authenticated) | head (encrypted) | tag
 *
 * Pages come first so that a sender can put them in place while the turn still adds messages, and
 * only then knows where the head goes. A codec: no state, no cipher, total over any bytes.
 */
import { MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';
import {
  HANDSHAKE_LENGTH_SIZE_BYTES,
  HANDSHAKE_MESSAGE_SIZE_MAX,
  HEAD_SIZE_MAX,
  MESSAGE_HEADER_SIZE_BYTES,
  RECORD_HEADER_SIZE_BYTES,
  RECORD_SIZE_MAX,
  RECORD_SIZE_MIN,
  RECORD_TAG_SIZE_BYTES,
} from './constants.ts';

/** Bytes of the `length` field, which it does not count. */
const LENGTH_SIZE_BYTES = 4;

/** A handshake message with its length before it. */
export function encodeHandshakeFrame(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(HANDSHAKE_LENGTH_SIZE_BYTES + message.length);
  frame.writeUInt16BE(message.length, 0);
  frame.set(message, HANDSHAKE_LENGTH_SIZE_BYTES);
  return frame;
}

/**
 * Bytes of the handshake frame at `start`, length field included; 0 when `end` comes before it is
 * whole.
 *
 * @throws MemcloudError `ERR_PEER_HANDSHAKE` when the length is 0 or over the cap, known from its
 *   first two bytes on
 */
export function handshakeFrameSize(bytes: Buffer, start: number, end: number): number {
  if (end - start < HANDSHAKE_LENGTH_SIZE_BYTES) return 0;
  const length = bytes.readUInt16BE(start);
  if (length === 0 || length > HANDSHAKE_MESSAGE_SIZE_MAX) {
    throw new MemcloudError(
      'ERR_PEER_HANDSHAKE',
      `handshake message: expected 1 to ${HANDSHAKE_MESSAGE_SIZE_MAX} bytes, got ${length}`,
    );
  }
  const size = HANDSHAKE_LENGTH_SIZE_BYTES + length;
  return size <= end - start ? size : 0;
}

/** Where the parts of a record lie; filled by {@link readRecordLayout}. */
export interface RecordLayout {
  /** Bytes of the whole record. */
  size: number;
  /** Bytes of pages, a multiple of 4112; they begin 8 bytes into the record. */
  pagesLength: number;
  /** Bytes of the head, which follows the pages; a multiple of 8, at least 16. */
  headLength: number;
}

/** A layout for a caller to keep and fill again for each record. */
export function emptyRecordLayout(): RecordLayout {
  return { size: 0, pagesLength: 0, headLength: 0 };
}

/**
 * Reads the lengths of the record at `start`.
 *
 * @returns false when `end` comes before the record is whole; the layout is then not to be used
 * @throws MemcloudError `ERR_PEER_PROTOCOL` when the lengths cannot be those of a record; they are
 *   not authenticated yet, so nothing may be done on their word but to wait for that many bytes
 */
export function readRecordLayout(
  view: DataView,
  start: number,
  end: number,
  layout: RecordLayout,
): boolean {
  if (end - start < RECORD_HEADER_SIZE_BYTES) return false;
  const size = view.getUint32(start, true) + LENGTH_SIZE_BYTES;
  if (size < RECORD_SIZE_MIN || size > RECORD_SIZE_MAX) {
    throw new MemcloudError(
      'ERR_PEER_PROTOCOL',
      `record: expected ${RECORD_SIZE_MIN} to ${RECORD_SIZE_MAX} bytes, got ${size}`,
    );
  }
  const headLength = view.getUint32(start + LENGTH_SIZE_BYTES, true);
  const pagesLength = size - RECORD_HEADER_SIZE_BYTES - headLength - RECORD_TAG_SIZE_BYTES;
  if (
    headLength < MESSAGE_HEADER_SIZE_BYTES ||
    headLength > HEAD_SIZE_MAX ||
    headLength % 8 !== 0 ||
    pagesLength < 0 ||
    pagesLength % SEALED_PAGE_SIZE_BYTES !== 0
  ) {
    throw new MemcloudError(
      'ERR_PEER_PROTOCOL',
      `record of ${size} bytes: a head of ${headLength} bytes leaves no whole number of pages`,
    );
  }
  layout.size = size;
  layout.pagesLength = pagesLength;
  layout.headLength = headLength;
  return size <= end - start;
}

/** Writes the lengths of a record whose pages and head are in place. @returns its bytes */
export function writeRecordLengths(
  buffer: NativeBuffer,
  start: number,
  pagesLength: number,
  headLength: number,
): number {
  const size = RECORD_HEADER_SIZE_BYTES + pagesLength + headLength + RECORD_TAG_SIZE_BYTES;
  buffer.bytes.writeUInt32LE(size - LENGTH_SIZE_BYTES, start);
  buffer.bytes.writeUInt32LE(headLength, start + LENGTH_SIZE_BYTES);
  return size;
}
