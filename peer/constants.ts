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
  OBJECT: 0x30,
  MANAGE: 0x40,
  HELLO: 0x70,
  REKEY: 0x71,
  NOTICE: 0x72,
  BYE: 0x73,
  READ_REPLY: 0x81,
  WRITE_REPLY: 0x82,
  TRIM_REPLY: 0x83,
  PONG: 0x90,
  CONTROL_REPLY: 0xa0,
  OBJECT_REPLY: 0xb0,
  MANAGE_REPLY: 0xc0,
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
  /** Answers the control method `peers` (section 8). */
  PEERS: 'peers',
  /** Answers OBJECT (section 12). */
  OBJECTS: 'objects',
  /** Answers MANAGE, and takes leases that name a managed one (section 14). */
  MANAGED: 'managed',
} as const;

/** Section 7: the most names in a list of features. */
export const FEATURE_COUNT_MAX = 16;
/** Section 7: the most characters of a feature's name. */
export const FEATURE_LENGTH_MAX = 32;
/** Section 7 "NOTICE": the most node ids in a list of revocations. */
export const REVOCATION_COUNT_MAX = 64;
/** Section 3 "Invitations": bytes of the secret in a token. */
export const INVITE_SECRET_SIZE_BYTES = 16;
/** Section 3 "Invitations": what is hashed before the secret to name an invitation, ASCII. */
export const INVITE_ID_CONTEXT = 'memcloud/1 invite id';
/** Section 3 "Invitations": what a proof covers before the handshake hash, ASCII: the role of the prover. */
export const INVITE_PROOF_CONTEXT = 'memcloud/1 invite initiator';

/** Section 12 "Objects": the most OBJECT requests in flight. */
export const OBJECT_REQUEST_COUNT_MAX = 64;
/** Section 12: the most bytes of OBJECT requests in flight, each with the most that its reply may be. */
export const OBJECT_BYTES_MAX = 2 ** 20;

/** Section 14 "Managed messages": the most MANAGE requests in flight. */
export const MANAGE_REQUEST_COUNT_MAX = 64;

// --- Limits of this implementation ---------------------------------------------------------------

/** Requests that a peer may have in flight here, announced in HELLO. */
export const REQUEST_COUNT_MAX = 1024;
/** Bytes of sealed pages that a peer's requests in flight may carry or ask for, announced in HELLO. */
export const PAGE_BYTES_MAX = 4096 * SEALED_PAGE_SIZE_BYTES;
/** Of the request slots, those kept for control requests, so that leases can be renewed under load. */
export const CONTROL_SLOT_COUNT = 16;
/** Control requests of one session that may wait for a slot; beyond, one is refused at once. */
export const CONTROL_WAIT_COUNT_MAX = 4096;
/** OBJECT requests of one session that may wait for credits; beyond, one is refused at once. */
export const OBJECT_WAIT_COUNT_MAX = 4096;
/** Bytes of those. */
export const OBJECT_WAIT_BYTES_MAX = 32 * 2 ** 20;
/** Longest wait for credits, milliseconds; the wait for the reply begins after it. */
export const OBJECT_WAIT_MAX_MS = 20_000;
/** Bytes waiting for the kernel above which no OBJECT request is sent: pages do not queue behind many. */
export const OBJECT_BACKLOG_BYTES_MAX = 256 * 1024;
/** MANAGE requests of one session that may wait to be sent; beyond, one is refused at once. */
export const MANAGE_WAIT_COUNT_MAX = 1024;
/** Bytes of those. */
export const MANAGE_WAIT_BYTES_MAX = 8 * 2 ** 20;
/** Longest wait to be sent, milliseconds; the wait for the reply begins after it. */
export const MANAGE_WAIT_MAX_MS = 5_000;
/** Bytes waiting for the kernel above which MANAGE and its replies are held back: pages do not queue behind many. */
export const MANAGE_BACKLOG_BYTES_MAX = 256 * 1024;
/** Bytes of them that leave all the same in each 50 ms: pages do not keep them back for good. */
export const MANAGE_OVERDRAFT_BYTES = 64 * 1024;
/** Of the credits, the share that writes may use, so that reads always find some: 3/4. */
export const WRITE_CREDIT_SHARE = 0.75;
/** Bytes waiting for the kernel above which no new write is taken: reads do not queue behind them. */
export const WRITE_BACKLOG_BYTES_MAX = 128 * 1024;
/** Bytes that the kernel may hold before it can send them: behind these, and the backlog, reads do queue. */
export const UNSENT_BYTES_MAX = 128 * 1024;

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
/** Keys that were named and have not been seen yet. */
export const EXPECTED_KEY_COUNT_MAX = 64;
/** Names that came with another key, as they are remembered for people. */
export const KEY_ALARM_COUNT_MAX = 16;
/** How long one is remembered, milliseconds. */
export const KEY_ALARM_TTL_MS = 3_600_000;
/** Invitations that may be open at once. */
export const INVITE_COUNT_MAX = 32;
/** How long an invitation is open unless it says otherwise, milliseconds. */
export const INVITE_TTL_MS = 600_000;
/** Wrong proofs of invitations from one address in {@link INVITE_RATE_WINDOW_MS}; then none is looked at. */
export const INVITE_RATE_MAX = 8;
/** The window of {@link INVITE_RATE_MAX}, milliseconds. */
export const INVITE_RATE_WINDOW_MS = 60_000;
/** Addresses whose wrong proofs are remembered. */
export const INVITE_ADDRESS_COUNT_MAX = 1024;
/** Nodes whose allowance somebody decided. */
export const ALLOWANCE_COUNT_MAX = 4096;
/** Nodes in quarantine; beyond, the oldest verdict makes room. */
export const QUARANTINE_COUNT_MAX = 4096;
/** Characters of the reason of a quarantine. */
export const QUARANTINE_REASON_LENGTH_MAX = 256;
/** Nodes in the registry of peers. */
export const PEER_COUNT_MAX = 256;
/** Of those, the most that are guests: trusted nodes find room. */
export const GUEST_PEER_COUNT_MAX = 192;
/** Keys that are let in as guests; beyond, the one whose time is over first makes room. */
export const GUEST_COUNT_MAX = 1024;
/** Lease ids in one control message. */
export const LEASE_ID_COUNT_MAX = 1024;
/** Page queues on one remote node. */
export const PAGE_QUEUE_COUNT_MAX = 4096;
/** Addresses that a node keeps dialling. */
export const DIAL_COUNT_MAX = 256;
/** Attempts at once to reach nodes that were found. */
export const FOUND_DIAL_COUNT_MAX = 32;
/** First wait before dialling again after a failure, milliseconds; it doubles with each. */
export const REDIAL_MIN_MS = 200;
/** Longest wait before dialling again, milliseconds. */
export const REDIAL_MAX_MS = 30_000;
/** After a session that lived this long there is no wait, milliseconds. */
export const REDIAL_RESET_AFTER_MS = 5_000;
/** Longest wait for a reply, milliseconds. */
export const REQUEST_TIMEOUT_MS = 5_000;
