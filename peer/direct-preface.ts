/**
 * The first 24 bytes of a data connection (docs/peer-protocol.md section 11): `MCDIRECT` and the id
 * of a ticket, in clear. Read as a handshake frame they would claim 19779 bytes, which no handshake
 * message has, so the two openings cannot be taken for each other from the second byte on. A codec;
 * pure and total.
 */
import { DIRECT_PREFACE_MAGIC, DIRECT_TICKET_ID_SIZE_BYTES } from '../common/direct-constants.ts';

const MAGIC = Buffer.from(DIRECT_PREFACE_MAGIC, 'latin1');

/** Bytes of the preface. */
export const DIRECT_PREFACE_SIZE_BYTES = MAGIC.length + DIRECT_TICKET_ID_SIZE_BYTES;

/** True when `bytes[start, end)` is a preface as far as it goes; one byte at least must be there. */
export function opensDirect(bytes: Buffer, start: number, end: number): boolean {
  const length = Math.min(end - start, MAGIC.length);
  return length > 0 && bytes.compare(MAGIC, 0, length, start, start + length) === 0;
}

/**
 * The ticket id of the preface at `start`, 32 hex digits; undefined when `end` comes before it is
 * whole. Only for what {@link opensDirect}.
 */
export function directTicketId(bytes: Buffer, start: number, end: number): string | undefined {
  if (end - start < DIRECT_PREFACE_SIZE_BYTES) return undefined;
  return bytes.toString('hex', start + MAGIC.length, start + DIRECT_PREFACE_SIZE_BYTES);
}
