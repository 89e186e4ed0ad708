/**
 * The numbers of the direct path, in the order in which a connection meets them: those of
 * specifications first, then those that are ours (docs/peer-protocol.md section 11; those that `peer/`
 * has as well are in `common/direct-constants.ts`), then our limits.
 */

/** RFC 8446 5.1 "ContentType": the only outer and inner type that this connection carries. */
export const TLS_CONTENT_TYPE_APPLICATION_DATA = 23;
/** RFC 8446 5.1 "legacy_record_version", on the wire for TLS 1.3 too. */
export const TLS_LEGACY_RECORD_VERSION = 0x0303;
/** RFC 8446 5.1: content type, version, length. */
export const TLS_RECORD_HEADER_SIZE_BYTES = 5;
/** RFC 8446 5.1: content of one record. */
export const TLS_PLAINTEXT_SIZE_MAX_BYTES = 2 ** 14;
/** RFC 8446 5.4: content, its type and padding together. */
export const TLS_INNER_PLAINTEXT_SIZE_MAX_BYTES = 2 ** 14 + 1;
/** RFC 8446 5.2: what follows the header. */
export const TLS_CIPHERTEXT_SIZE_MAX_BYTES = 2 ** 14 + 256;
/** RFC 8439 2.8, RFC 8446 5.3: ChaCha20-Poly1305's key, nonce (and so the static iv) and tag. */
export const TLS_KEY_SIZE_BYTES = 32;
/** See {@link TLS_KEY_SIZE_BYTES}. */
export const TLS_IV_SIZE_BYTES = 12;
/** See {@link TLS_KEY_SIZE_BYTES}. */
export const TLS_TAG_SIZE_BYTES = 16;

/** What a holder proves itself with on a connection without records: bytes behind the preface. */
export const DIRECT_PROOF_SIZE_BYTES = 32;

/** Tickets of one holder that nobody has used yet. */
export const DIRECT_TICKET_COUNT_MAX = 16;
/** Pages in one slab of an export: the most that a provider leases at once, 256 MiB. */
export const DIRECT_SLAB_PAGE_COUNT = 65_536;
/** The shortest time to live of an export: milliseconds. */
export const DIRECT_TTL_MIN_MS = 1000;
/** The longest time to live of an export: milliseconds, 24 h. */
export const DIRECT_TTL_MAX_MS = 24 * 60 * 60 * 1000;

/** Silence after which TCP asks whether the consumer is still there: seconds. */
export const KEEP_ALIVE_IDLE_S = 60;
/** Time between two such questions: seconds. */
export const KEEP_ALIVE_INTERVAL_S = 15;
/** Unanswered questions that end the connection. */
export const KEEP_ALIVE_COUNT = 20;
