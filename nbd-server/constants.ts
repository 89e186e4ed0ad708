/**
 * The numbers of the NBD protocol, for the server here and the client in `client/`. They stand in
 * the order of the specification, `doc/proto.md` of https://github.com/NetworkBlockDevice/nbd (with
 * its branch `extension-ext-header` for extended headers), and each group names its section. All
 * fields on the wire are big endian. The last group is different: those are *our* limits, which the
 * specification leaves to the implementation; nothing on the wire depends on their exact values.
 */

// --- Specification ------------------------------------------------------------------------------

/** proto.md "Newstyle negotiation": first 8 bytes of the server's greeting, ASCII `NBDMAGIC`. */
export const NBD_MAGIC = 0x4e42444d41474943n;

/** proto.md "Newstyle negotiation": second 8 bytes of the greeting and magic of each option, `IHAVEOPT`. */
export const NBD_IHAVEOPT = 0x49484156454f5054n;

/** proto.md "Fixed newstyle negotiation": magic of each option reply. */
export const NBD_OPTION_REPLY_MAGIC = 0x0003e889045565a9n;

/** proto.md "Handshake flags": 16 bits, sent by the server in its greeting. */
export const NBD_FLAG_FIXED_NEWSTYLE = 0x0001;
/** proto.md "Handshake flags": the server can leave out the 124 zero bytes. */
export const NBD_FLAG_NO_ZEROES = 0x0002;

/** proto.md "Client flags": 32 bits; a server must drop a client that sets any other bit. */
export const NBD_FLAG_C_FIXED_NEWSTYLE = 0x0000_0001;
/** proto.md "Client flags": the client wants the 124 zero bytes left out. */
export const NBD_FLAG_C_NO_ZEROES = 0x0000_0002;

/** proto.md "Transmission flags": 16 bits, sent with the size of an export. */
export const NBD_TRANSMISSION_FLAG = {
  /** Always set. */
  NBD_FLAG_HAS_FLAGS: 0x0001,
  NBD_FLAG_READ_ONLY: 0x0002,
  NBD_FLAG_SEND_FLUSH: 0x0004,
  /** FUA is then valid on every command. */
  NBD_FLAG_SEND_FUA: 0x0008,
  NBD_FLAG_ROTATIONAL: 0x0010,
  NBD_FLAG_SEND_TRIM: 0x0020,
  NBD_FLAG_SEND_WRITE_ZEROES: 0x0040,
  /** Only after structured replies were negotiated. */
  NBD_FLAG_SEND_DF: 0x0080,
  /** Flush and FUA on one connection cover what was replied to on all of them. */
  NBD_FLAG_CAN_MULTI_CONN: 0x0100,
  /** Experimental; we never set it. */
  NBD_FLAG_SEND_RESIZE: 0x0200,
  NBD_FLAG_SEND_CACHE: 0x0400,
  /** Only together with SEND_WRITE_ZEROES. */
  NBD_FLAG_SEND_FAST_ZERO: 0x0800,
  /** Only after extended headers were negotiated. */
  NBD_FLAG_BLOCK_STATUS_PAYLOAD: 0x1000,
} as const;

/** proto.md "Option types": 32 bits. */
export const NBD_OPT = {
  NBD_OPT_EXPORT_NAME: 1,
  NBD_OPT_ABORT: 2,
  NBD_OPT_LIST: 3,
  /** Withdrawn by the specification. */
  NBD_OPT_PEEK_EXPORT: 4,
  NBD_OPT_STARTTLS: 5,
  NBD_OPT_INFO: 6,
  NBD_OPT_GO: 7,
  NBD_OPT_STRUCTURED_REPLY: 8,
  NBD_OPT_LIST_META_CONTEXT: 9,
  NBD_OPT_SET_META_CONTEXT: 10,
  NBD_OPT_EXTENDED_HEADERS: 11,
} as const;

/** proto.md "Option reply types", not errors. */
export const NBD_REP = {
  NBD_REP_ACK: 1,
  NBD_REP_SERVER: 2,
  NBD_REP_INFO: 3,
  NBD_REP_META_CONTEXT: 4,
} as const;

/** proto.md "Option reply types": set in every error reply. */
export const NBD_REP_FLAG_ERROR = 0x8000_0000;

/** proto.md "Option reply types", errors; the payload may be a text for people. */
export const NBD_REP_ERR = {
  NBD_REP_ERR_UNSUP: 0x8000_0001,
  NBD_REP_ERR_POLICY: 0x8000_0002,
  NBD_REP_ERR_INVALID: 0x8000_0003,
  NBD_REP_ERR_PLATFORM: 0x8000_0004,
  NBD_REP_ERR_TLS_REQD: 0x8000_0005,
  NBD_REP_ERR_UNKNOWN: 0x8000_0006,
  NBD_REP_ERR_SHUTDOWN: 0x8000_0007,
  NBD_REP_ERR_BLOCK_SIZE_REQD: 0x8000_0008,
  NBD_REP_ERR_TOO_BIG: 0x8000_0009,
  NBD_REP_ERR_EXT_HEADER_REQD: 0x8000_000a,
} as const;

/** proto.md "NBD_OPT_INFO and NBD_OPT_GO": information types, 16 bits. */
export const NBD_INFO = {
  /** u64 size, u16 transmission flags. */
  NBD_INFO_EXPORT: 0,
  /** The canonical name. */
  NBD_INFO_NAME: 1,
  NBD_INFO_DESCRIPTION: 2,
  /** u32 minimum, u32 preferred, u32 maximum payload. */
  NBD_INFO_BLOCK_SIZE: 3,
} as const;

/** proto.md "Newstyle negotiation": bytes of the greeting (two magics and the flags). */
export const NBD_GREETING_SIZE_BYTES = 18;
/** proto.md "Newstyle negotiation": bytes of the client's flags. */
export const NBD_CLIENT_FLAGS_SIZE_BYTES = 4;
/** proto.md "Newstyle negotiation": bytes of an option before its data (magic, option, length). */
export const NBD_OPTION_HEADER_SIZE_BYTES = 16;
/** proto.md "Fixed newstyle negotiation": bytes of an option reply before its data. */
export const NBD_OPTION_REPLY_HEADER_SIZE_BYTES = 20;
/** proto.md "NBD_OPT_EXPORT_NAME": zero bytes after size and flags, unless NO_ZEROES. */
export const NBD_EXPORT_NAME_ZEROES_SIZE_BYTES = 124;

/** proto.md "Values", strings: the longest name, description or query, in bytes of UTF-8. */
export const NBD_STRING_SIZE_MAX_BYTES = 4096;

/** proto.md "Request message", compact: magic. */
export const NBD_REQUEST_MAGIC = 0x25609513;
/** proto.md "Request message", compact: bytes (magic, flags, type, cookie, offset, u32 length). */
export const NBD_REQUEST_SIZE_BYTES = 28;
/** proto.md "Extended request message": magic. */
export const NBD_EXTENDED_REQUEST_MAGIC = 0x21e41c71;
/** proto.md "Extended request message": bytes (as compact, with a u64 length). */
export const NBD_EXTENDED_REQUEST_SIZE_BYTES = 32;

/** proto.md "Simple reply message": magic. */
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
/** proto.md "Simple reply message": bytes (magic, error, cookie), before read data. */
export const NBD_SIMPLE_REPLY_SIZE_BYTES = 16;
/** proto.md "Structured reply chunk message": magic. */
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;
/** proto.md "Structured reply chunk message": bytes (magic, flags, type, cookie, u32 length). */
export const NBD_STRUCTURED_REPLY_SIZE_BYTES = 20;
/** proto.md "Extended reply chunk message": magic. */
export const NBD_EXTENDED_REPLY_MAGIC = 0x6e8a278c;
/** proto.md "Extended reply chunk message": bytes (magic, flags, type, cookie, offset, u64 length). */
export const NBD_EXTENDED_REPLY_SIZE_BYTES = 32;

/** proto.md "Request types": 16 bits. */
export const NBD_CMD = {
  NBD_CMD_READ: 0,
  NBD_CMD_WRITE: 1,
  NBD_CMD_DISC: 2,
  NBD_CMD_FLUSH: 3,
  NBD_CMD_TRIM: 4,
  NBD_CMD_CACHE: 5,
  NBD_CMD_WRITE_ZEROES: 6,
  NBD_CMD_BLOCK_STATUS: 7,
  /** Experimental; not served. */
  NBD_CMD_RESIZE: 8,
} as const;

/** proto.md "Command flags": 16 bits. */
export const NBD_CMD_FLAG = {
  NBD_CMD_FLAG_FUA: 0x0001,
  NBD_CMD_FLAG_NO_HOLE: 0x0002,
  NBD_CMD_FLAG_DF: 0x0004,
  NBD_CMD_FLAG_REQ_ONE: 0x0008,
  NBD_CMD_FLAG_FAST_ZERO: 0x0010,
  /** Extended headers only: the length is that of a payload. */
  NBD_CMD_FLAG_PAYLOAD_LEN: 0x0020,
} as const;

/** proto.md "Structured reply flags": the last chunk of its reply. */
export const NBD_REPLY_FLAG_DONE = 0x0001;

/** proto.md "Structured reply types": 16 bits. */
export const NBD_REPLY_TYPE = {
  NBD_REPLY_TYPE_NONE: 0,
  /** u64 offset, then at least one byte of data. */
  NBD_REPLY_TYPE_OFFSET_DATA: 1,
  /** u64 offset, u32 size (not 0). */
  NBD_REPLY_TYPE_OFFSET_HOLE: 2,
  /** u32 context id, then descriptors of u32 length, u32 flags. */
  NBD_REPLY_TYPE_BLOCK_STATUS: 5,
  /** u32 context id, u32 count, then descriptors of u64 length, u64 flags. */
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT: 6,
  /** u32 error, u16 message length, message. */
  NBD_REPLY_TYPE_ERROR: 0x8001,
  /** As ERROR, then u64 offset. */
  NBD_REPLY_TYPE_ERROR_OFFSET: 0x8002,
} as const;

/** proto.md "Structured reply types": set in the type of every error chunk. */
export const NBD_REPLY_TYPE_FLAG_ERROR = 0x8000;

/** proto.md "Error values": 32 bits; equal to Linux errno numbers. */
export const NBD_ERROR = {
  NBD_OK: 0,
  NBD_EPERM: 1,
  NBD_EIO: 5,
  NBD_ENOMEM: 12,
  NBD_EINVAL: 22,
  NBD_ENOSPC: 28,
  NBD_EOVERFLOW: 75,
  /** Only as the answer to FAST_ZERO. */
  NBD_ENOTSUP: 95,
  NBD_ESHUTDOWN: 108,
} as const;

/** One of the values of {@link NBD_ERROR}. */
export type NbdError = (typeof NBD_ERROR)[keyof typeof NBD_ERROR];

/** proto.md "The base:allocation metadata context": its name. */
export const NBD_CONTEXT_BASE_ALLOCATION = 'base:allocation';

/** proto.md "Block size constraints": what holds where nothing was negotiated; bytes. */
export const NBD_BLOCK_SIZE_DEFAULT = {
  minimum: 1,
  preferred: 4096,
  maximumPayload: 32 * 2 ** 20,
} as const;

// --- Limits of this implementation --------------------------------------------------------------

/** The greatest payload of a request or a read that we serve, bytes; also what BLOCK_SIZE tells. */
export const NBD_PAYLOAD_SIZE_MAX_BYTES = 32 * 2 ** 20;

/** A request with a payload over the maximum is refused and its payload skipped, up to here; beyond, we close. */
export const NBD_PAYLOAD_SKIP_SIZE_MAX_BYTES = 64 * 2 ** 20;

/** Options that a client may send on one connection before it must have chosen an export. */
export const NBD_OPTION_COUNT_MAX = 32;

/** The longest option payload that is answered; a longer one is refused with TOO_BIG and skipped. */
export const NBD_OPTION_DATA_SIZE_MAX_BYTES = 64 * 1024;

/** The longest option payload that is skipped; a longer one closes the connection. */
export const NBD_OPTION_SKIP_SIZE_MAX_BYTES = 32 * 2 ** 20;

/** The time from the connection to the end of the negotiation, milliseconds. */
export const NBD_HANDSHAKE_TIMEOUT_MS = 10_000;

/** Descriptors that we put into one block status chunk. */
export const NBD_EXTENT_COUNT_MAX = 4096;

/** The id that we give to `base:allocation`; any number would do. */
export const NBD_ALLOCATION_CONTEXT_ID = 1;
