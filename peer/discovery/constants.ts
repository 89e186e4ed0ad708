/** Every number of discovery (docs/peer-protocol.md section 13): first what goes over the wire, then our limits. */

// --- Specification -------------------------------------------------------------------------------

/** The service type, without its domain: RFC 6763 section 4.1.2. */
export const SERVICE_TYPE = 'memcloud';
/** The service, as it is asked for. */
export const SERVICE_DOMAIN = '_memcloud._tcp.local';
/** The version of the peer protocol that we announce and dial. */
export const PROTOCOL_VERSION = 1;
/** RFC 1035 section 2.3.4: bytes of a label, which an instance name is. */
export const INSTANCE_NAME_SIZE_MAX = 63;
/** Hex digits of a node id. */
export const NODE_ID_DIGITS = 32;
/** RFC 6762 section 3: the group of mDNS over IPv4. */
export const MDNS_GROUP_V4 = '224.0.0.251';
/** RFC 6762 section 3: the group of mDNS over IPv6. */
export const MDNS_GROUP_V6 = 'ff02::fb';
/** The port that a name of the option `dns` means when it has no SRV record. */
export const DEFAULT_PORT = 7070;

// --- Heartbeat -----------------------------------------------------------------------------------

/** How often a query may leave on a link, and so how often everybody there answers, milliseconds. */
export const QUERY_INTERVAL_MS = 1_000;
/** Random wait on top, so that nodes do not ask in step, milliseconds. */
export const QUERY_JITTER_MS = 250;
/** A node that has not answered for so long is gone: three queries, milliseconds. */
export const ADVERT_LIFE_MS = 3_500;
/** Least time between two answers of ours on a link, milliseconds. */
export const ANSWER_GAP_MS = 400;
/** How often interfaces are looked at, milliseconds. */
export const INTERFACE_POLL_MS = 1_000;
/** After mDNS failed on a link it is tried again, milliseconds. */
export const LINK_RETRY_MS = 10_000;
/** How often the machine looks at its clock, milliseconds. */
export const DISCOVERY_TICK_MS = 250;
/** How often names are looked up again, milliseconds. */
export const DNS_REFRESH_MS = 30_000;
/** Longest wait for one answer of a name server, milliseconds. */
export const DNS_TIMEOUT_MS = 5_000;
/** Addresses of one name that count. */
export const DNS_ADDRESS_COUNT_MAX = 32;
/** How often a trusted peer is asked for its peers, milliseconds. */
export const EXCHANGE_INTERVAL_MS = 30_000;
/** How long its answer counts, milliseconds. */
export const EXCHANGE_LIFE_MS = 100_000;

// --- Bounds --------------------------------------------------------------------------------------

/** Packets a second that are decoded on one link; beyond, they are dropped unread. */
export const PACKET_RATE_PER_S = 500;
/** Records of one packet that are looked at. */
export const PACKET_RECORD_COUNT_MAX = 256;
/** Adverts of one packet that count. */
export const PACKET_ADVERT_COUNT_MAX = 16;
/** Nodes and addresses that are known at once. */
export const ENTRY_COUNT_MAX = 256;
/** Addresses of one node id. */
export const ADDRESS_PER_NODE_COUNT_MAX = 4;
/** Entries that one origin (an address, a peer, a name) may have, by how they came. */
export const ENTRY_PER_ORIGIN_COUNT_MAX = { mdns: 8, dns: 32, exchange: 64 } as const;
/** New entries of one origin: one in so many milliseconds, beyond as many as it may have. */
export const ORIGIN_REFILL_MS = 5_000;
/** Origins whose rate is remembered. */
export const ORIGIN_COUNT_MAX = 512;
/** New entries in all at once. */
export const NEWCOMER_BURST_MAX = 64;
/** New entries in all beyond the burst: one in so many milliseconds. */
export const NEWCOMER_REFILL_MS = 250;
/** Attempts at once to reach nodes that are trusted. */
export const TRUSTED_DIAL_COUNT_MAX = 16;
/** Attempts at once to reach nodes that are not, the humans' time to answer included. */
export const UNKNOWN_DIAL_COUNT_MAX = 8;
/** Of these, the most at one host. */
export const UNKNOWN_DIAL_PER_HOST_COUNT_MAX = 2;
/** Attempts to reach unknown nodes beyond the first {@link UNKNOWN_DIAL_COUNT_MAX}: one in so many milliseconds. */
export const UNKNOWN_DIAL_REFILL_MS = 5_000;

// --- Waits ---------------------------------------------------------------------------------------

/** The node with the greater id waits so long for the other to dial, milliseconds. */
export const GREATER_ID_WAIT_MS = 1_500;
/** A node whose id nobody told is dialled after a random wait of at most, milliseconds. */
export const UNKNOWN_ID_WAIT_MS = 3_000;
/** Wait after a failure: the first, and the longest, milliseconds. */
export const RETRY_UNREACHABLE_MS = { first: 1_000, longest: 60_000 } as const;
/** Wait after a refusal: the first, and the longest, milliseconds. */
export const RETRY_REFUSED_MS = { first: 60_000, longest: 900_000 } as const;
/** Wait after another key answered than was announced, milliseconds. */
export const RETRY_IMPOSTOR_MS = 600_000;
/** A session that ended sooner counts as a failure, milliseconds. */
export const SHORT_SESSION_MS = 5_000;
