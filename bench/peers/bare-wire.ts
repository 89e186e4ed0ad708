/**
 * What `bare-remote.ts` and `bare-donor.ts` say to each other, in order and unchecked, over one plain TCP
 * connection: a request is an offset (f64, little endian), a length (u32) and a kind (u32), a write's bytes follow;
 * a read is answered by its bytes, a write by eight bytes.
 */

/** Bytes of the donor's memory. */
export const BARE_SIZE_BYTES = 2 * 2 ** 30;
/** Bytes of a request without a write's own. */
export const BARE_REQUEST_SIZE_BYTES = 16;
/** Bytes of the answer to a write. */
export const BARE_ANSWER_SIZE_BYTES = 8;
/** What is asked for. */
export const BareKind = { READ: 0, WRITE: 1 } as const;
/** Buffers of a connection: the longest message is a MiB and a header. */
export const BARE_STREAM_OPTIONS = {
  inputSizeBytes: 4 * 2 ** 20,
  outputChunkSizeBytes: 2 * 2 ** 20,
} as const;
