/**
 * Numbers of direct exports that both ends of the seam must have alike: `peer/` carries the control
 * messages and reads the preface, `direct/` executes and sends. docs/peer-protocol.md section 11.
 */

/** What a data connection begins with, before the id of its ticket: ASCII. */
export const DIRECT_PREFACE_MAGIC = 'MCDIRECT';
/** Bytes of a ticket's id. */
export const DIRECT_TICKET_ID_SIZE_BYTES = 16;
/** Bytes of each side's share of the keys. */
export const DIRECT_SECRET_SIZE_BYTES = 32;
/** The most exports of one holder, and in one control message. */
export const DIRECT_EXPORT_COUNT_MAX = 64;
