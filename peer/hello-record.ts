/**
 * Reads the only record that may come before both sides accepted: one HELLO, small, without pages
 * (docs/peer-protocol.md section 4). The cap is checked on the lengths, before the bytes are waited for.
 */
import type { NativeBuffer } from '../common/native-memory.ts';
import { HANDSHAKE_MESSAGE_SIZE_MAX, MessageType, RECORD_HEADER_SIZE_BYTES } from './constants.ts';
import { decodeHello, type Hello } from './control.ts';
import { emptyRecordLayout, readRecordLayout } from './frame.ts';
import { MessageCursor } from './messages.ts';
import type { RecordOpener } from './record-cipher.ts';
import { bodyOf, breach } from './record-pages.ts';

/**
 * Takes the HELLO record of `input.bytes[start, end)`.
 *
 * @returns the HELLO and the bytes of its record; undefined while it is not whole
 * @throws MemcloudError `ERR_PEER_PROTOCOL`, `ERR_PEER_AUTHENTICATION` for anything else
 */
export function takeHelloRecord(
  opener: RecordOpener,
  input: NativeBuffer,
  start: number,
  end: number,
): { hello: Hello; size: number } | undefined {
  const layout = emptyRecordLayout();
  const { bytes } = input;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const whole = readRecordLayout(view, start, end, layout);
  const { size, pagesLength, headLength } = layout;
  if (size > HANDSHAKE_MESSAGE_SIZE_MAX || pagesLength > 0) {
    breach(`a record of ${size} bytes came before both sides accepted`);
  }
  if (!whole) return undefined;
  opener.open(input, start, pagesLength, headLength);
  const cursor = new MessageCursor();
  cursor.reset(view, start + RECORD_HEADER_SIZE_BYTES, headLength);
  cursor.next();
  if (cursor.type !== MessageType.HELLO) breach('a message came before both sides accepted');
  const hello = decodeHello(bodyOf(cursor, input));
  if (cursor.next()) breach('a message follows HELLO in its record');
  return { hello, size };
}
