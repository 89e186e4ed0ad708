/**
 * Every number of the peer protocol (docs/peer-protocol.md), in the order of that document, and after
 * them the limits of this implementation, which another one may choose otherwise.
 */
import { SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';

// --- Specification -------------------------------------------------------------------------------

/** Section 2 "Handshake": the prologue, ASCII. */
export const PROLOGUE = 'memcloud/1';
/** Section 2: the most bytes of a handshake message, without its length. */
export const HANDSHAKE_MESSAGE_SIZE_MAX = 1024;
/** Section 2: bytes of the length before a handshake message, big endian. */
export const HANDSHAKE_LENGTH_SIZE_BYTES = 2;

/** Section 3 "Credentials": the version octet. */
export const CREDENTIALS_VERSION = 1;
/** Section 3: the most bytes of a node name. */
export const NODE_NAME_SIZE_MAX = 64;
/** Section 3: what a signature covers before the handshake hash. */
export const SIGNATURE_CONTEXT = {
  initiator: 'memcloud/1 initiator',
  responder: 'memcloud/1 responder',
} as const;

/** Section 5 "Records": bytes of the two lengths that open a record. */
export const RECORD_HEADER_SIZE_BYTES = 8;
/** Section 5: bytes of the tag that ends a record. */
export const RECORD_TAG_SIZE_BYTES = 16;
/** Section 5: the most bytes of a record's head. */
export const HEAD_SIZE_MAX = 65536;
/** Section 5: the most bytes of a whole record, lengths and tag included. */
export const RECORD_SIZE_MAX = 2 * 1024 * 1024;
/** Section 5: the fewest bytes of a whole record: one message without a body. */
export const RECORD_SIZE_MIN = 40;
/** Section 5 "Rekey": the most records under one key. */
export const REKEY_RECORD_COUNT_MAX = 2 ** 20;
/** Section 5 "Rekey": the most record bytes under one key. */
export const REKEY_BYTES_MAX = 2 ** 36;
/** Section 5 "Rekey": the longest that a sender keeps one key, milliseconds. */
export const REKEY_AGE_MAX_MS = 3_600_000;

/** Section 6 "Messages": bytes of a message's header. */
export const MESSAGE_HEADER_SIZE_BYTES = 16;
/** Section 6: the most bytes of a message's body. */
export const MESSAGE_BODY_SIZE_MAX = 60_000;

/** Section 6: the types. The high bit tells a reply. */
export const MessageType = {
  READ: 0x01,
  WRITE: 0x02,
  TRIM: 0x03,
  PING: 0x10,
  CONTROL: 0x20,
  HELLO: 0x70,
  REKEY: 0x71,
  NOTICE: 0x72,
  BYE: 0x73,
  READ_REPLY: 0x81,
  WRITE_REPLY: 0x82,
  TRIM_REPLY: 0x83,
  PONG: 0x90,
  CONTROL_REPLY: 0xa0,
} as const;

/** Section 7 "Reasons of BYE". */
export const ByeReason = {
  /** The node shuts down. */
  SHUTDOWN: 0,
  /** Another connection of the same two nodes stays. */
  DUPLICATE: 1,
  /** The other node is no longer trusted. */
  REVOKED: 2,
  /** An operator asked for it. */
  DISCONNECT: 3,
  /** The other node broke the protocol. */
  PROTOCOL: 4,
} as const;

/** One of the values of {@link ByeReason}. */
export type ByeReasonValue = (typeof ByeReason)[keyof typeof ByeReason];

/** Section 7 "HELLO": what a node can do beyond version 1, announced by name. */
export const Feature = {
  /** Serves direct exports (section 11) and the control methods `direct-...`. */
  DIRECT: 'direct',
  /** Answers the control method `recall-room`. */
  RECALL: 'recall',
  /** Takes sessions on lanes (section 8). */
  LANES: 'lanes',
} as const;

/** Section 7: the most names in a list of features. */
export const FEATURE_COUNT_MAX = 16;
/** Section 7: the most characters of a feature's name. */
export const FEATURE_LENGTH_MAX = 32;
// --- Limits of this implementation ---------------------------------------------------------------

/** Requests that a peer may have in flight here, announced in HELLO. */
export const REQUEST_COUNT_MAX = 1024;
/** Bytes of sealed pages that a peer's requests in flight may carry or ask for, announced in HELLO. */
export const PAGE_BYTES_MAX = 4096 * SEALED_PAGE_SIZE_BYTES;
/** Of the request slots, those kept for control requests, so that leases can be renewed under load. */
export const CONTROL_SLOT_COUNT = 16;
/** Control requests of one session that may wait for a slot; beyond, one is refused at once. */
export const CONTROL_WAIT_COUNT_MAX = 4096;
/** Of the credits, the share that writes may use, so that reads always find some: 3/4. */
export const WRITE_CREDIT_SHARE = 0.75;
/** Bytes waiting for the kernel above which no new write is taken: reads do not queue behind them. */
export const WRITE_BACKLOG_BYTES_MAX = 1024 * 1024;

/** Pages after which an outgoing record is closed; one page call always fits. */
export const RECORD_PAGE_COUNT_TARGET = 64;

/** Bytes of a connection's input buffer: two of the longest records, touched only as far as used. */
export const INPUT_SIZE_BYTES = 2 * RECORD_SIZE_MAX;
/** Bytes of one output chunk: two of the longest records that we send. */
export const OUTPUT_CHUNK_SIZE_BYTES = 1024 * 1024;

/** Longest time of one handshake step, milliseconds. */
export const HANDSHAKE_STEP_TIMEOUT_MS = 5_000;
/** Longest time of a TCP connect, milliseconds. */
export const CONNECT_TIMEOUT_MS = 5_000;
/** Connections that may be in the handshake at once. */
export const HANDSHAKE_COUNT_MAX = 64;
/** Of those, the most from one address. */
export const HANDSHAKE_COUNT_PER_ADDRESS_MAX = 16;
/** Handshakes that may begin at once; each costs some milliseconds of processor time. */
export const HANDSHAKE_BURST_MAX = 64;
/** Handshakes a second beyond the burst. */
export const HANDSHAKE_RATE_PER_S = 20;
/** Connections in all, sessions and handshakes. */
export const CONNECTION_COUNT_MAX = 256;

/** Sessions on lanes that one node may have here at once: its mounts, and some that end. */
export const LANE_COUNT_MAX = 16;
/** How long we wait for a dialler's HELLO, which may name a lane, before a human is asked about it, milliseconds. */
export const LANE_WAIT_MS = 250;

/** Requests for consent that may wait at once. */
export const CONSENT_COUNT_MAX = 16;
/** How long one waits, milliseconds. */
export const CONSENT_TTL_MS = 120_000;
/** New requests for consent from one address in {@link CONSENT_RATE_WINDOW_MS}. */
export const CONSENT_RATE_MAX = 6;
/** The window of {@link CONSENT_RATE_MAX}, milliseconds. */
export const CONSENT_RATE_WINDOW_MS = 60_000;
/** Addresses whose rate is remembered. */
export const CONSENT_ADDRESS_COUNT_MAX = 1024;
/** Keys in the trust store. */
export const TRUST_ENTRY_COUNT_MAX = 4096;
/** Nodes in quarantine; beyond, the oldest verdict makes room. */
export const QUARANTINE_COUNT_MAX = 4096;
/** Characters of the reason of a quarantine. */
export const QUARANTINE_REASON_LENGTH_MAX = 256;
/** Nodes in the registry of peers. */
export const PEER_COUNT_MAX = 256;
/** Lease ids in one control message. */
export const LEASE_ID_COUNT_MAX = 1024;
/** Page queues on one remote node. */
export const PAGE_QUEUE_COUNT_MAX = 4096;
/** Addresses that a node keeps dialling. */
export const DIAL_COUNT_MAX = 256;
/** First wait before dialling again after a failure, milliseconds; it doubles with each. */
export const REDIAL_MIN_MS = 200;
/** Longest wait before dialling again, milliseconds. */
export const REDIAL_MAX_MS = 30_000;
/** After a session that lived this long there is no wait, milliseconds. */
export const REDIAL_RESET_AFTER_MS = 5_000;
/** Longest wait for a reply, milliseconds. */
export const REQUEST_TIMEOUT_MS = 5_000;
