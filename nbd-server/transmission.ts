/**
 * The rules of the transmission phase, apart from the doing of it: one function says whether a
 * request may be served and with which error it is refused, another turns the end of a page call
 * into an NBD error. `session.ts` executes what passed here and trusts it. The rules are those of
 * proto.md "Request types" and "Error values"; where the specification leaves a choice, the comment
 * says what other servers do.
 */
import { IoStatus, type IoStatusValue } from '../common/ports.ts';
import {
  NBD_CMD,
  NBD_CMD_FLAG,
  NBD_ERROR,
  NBD_PAYLOAD_SIZE_MAX_BYTES,
  type NbdError,
} from './constants.ts';
import { ReplyMode, type ReplyModeValue, type RequestHeader } from './message-codec.ts';

const { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_DISC, NBD_CMD_FLUSH } = NBD_CMD;
const { NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS } = NBD_CMD;
const { NBD_CMD_FLAG_FUA, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_DF } = NBD_CMD_FLAG;
const { NBD_CMD_FLAG_REQ_ONE, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_FLAG_PAYLOAD_LEN } = NBD_CMD_FLAG;

/** What a connection agreed on, as far as the validity of a request depends on it. */
export interface TransmissionTerms {
  /** Size of the export, bytes. */
  readonly sizeBytes: number;
  /** True when writing commands are refused. */
  readonly readOnly: boolean;
  /** How replies are framed. */
  readonly mode: ReplyModeValue;
  /** True when `base:allocation` was set, so that BLOCK_STATUS has something to answer. */
  readonly allocationContext: boolean;
}

/** Bytes of the payload of BLOCK_STATUS with PAYLOAD_LEN that names our only context. */
export const BLOCK_STATUS_PAYLOAD_SIZE_BYTES = 12;

/** The flags that a command may carry; undefined for a command that is not served. */
function flagsAllowed(command: number, mode: ReplyModeValue): number | undefined {
  const payloadFlag = mode === ReplyMode.EXTENDED ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
  switch (command) {
    case NBD_CMD_READ:
      return NBD_CMD_FLAG_FUA | (mode === ReplyMode.SIMPLE ? 0 : NBD_CMD_FLAG_DF);
    case NBD_CMD_WRITE:
      return NBD_CMD_FLAG_FUA | payloadFlag;
    case NBD_CMD_WRITE_ZEROES:
      return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS:
      return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE | payloadFlag;
    case NBD_CMD_FLUSH:
    case NBD_CMD_TRIM:
    case NBD_CMD_CACHE:
      return NBD_CMD_FLAG_FUA;
    default:
      return undefined;
  }
}

function tooLong(header: RequestHeader): NbdError {
  // EOVERFLOW is only for a read that was asked not to be split; otherwise EINVAL, as qemu-nbd does.
  const whole = header.command === NBD_CMD_READ && (header.flags & NBD_CMD_FLAG_DF) !== 0;
  return whole ? NBD_ERROR.NBD_EOVERFLOW : NBD_ERROR.NBD_EINVAL;
}

/**
 * Decides about a request by its header alone. DISC never comes here: it has no reply.
 *
 * A request of length 0 inside the export passes (the specification leaves it open and forbids only
 * a disconnect), except BLOCK_STATUS, which could not be answered with a non-empty extent. The
 * effect length of a BLOCK_STATUS with PAYLOAD_LEN is in its payload; see {@link validateBlockStatus}.
 *
 * @returns `NBD_OK` when the request may be executed, otherwise the error to reply with
 */
export function validateRequest(header: RequestHeader, terms: TransmissionTerms): NbdError {
  const { command, flags, offset, length } = header;
  const allowed = flagsAllowed(command, terms.mode);
  if (allowed === undefined || (flags & ~allowed) !== 0) return NBD_ERROR.NBD_EINVAL;
  if (command === NBD_CMD_FLUSH) {
    return offset === 0 && length === 0 ? NBD_ERROR.NBD_OK : NBD_ERROR.NBD_EINVAL;
  }
  const writes = command === NBD_CMD_WRITE || command === NBD_CMD_WRITE_ZEROES;
  if (terms.readOnly && (writes || command === NBD_CMD_TRIM)) return NBD_ERROR.NBD_EPERM;
  if (command === NBD_CMD_BLOCK_STATUS && (flags & NBD_CMD_FLAG_PAYLOAD_LEN) !== 0) {
    const expected = terms.allocationContext && length === BLOCK_STATUS_PAYLOAD_SIZE_BYTES;
    return expected ? NBD_ERROR.NBD_OK : NBD_ERROR.NBD_EINVAL;
  }
  if (command === NBD_CMD_BLOCK_STATUS) return validateBlockStatus(offset, length, terms);
  if (
    (command === NBD_CMD_READ || command === NBD_CMD_WRITE) &&
    length > NBD_PAYLOAD_SIZE_MAX_BYTES
  ) {
    return tooLong(header);
  }
  if (length > terms.sizeBytes || offset > terms.sizeBytes - length) {
    return writes ? NBD_ERROR.NBD_ENOSPC : NBD_ERROR.NBD_EINVAL;
  }
  return NBD_ERROR.NBD_OK;
}

/** Decides about the range of a BLOCK_STATUS, from the header or from its payload. */
export function validateBlockStatus(
  offset: number,
  length: number,
  terms: TransmissionTerms,
): NbdError {
  const valid =
    terms.allocationContext &&
    length > 0 &&
    length <= terms.sizeBytes &&
    offset <= terms.sizeBytes - length;
  return valid ? NBD_ERROR.NBD_OK : NBD_ERROR.NBD_EINVAL;
}

/** True when the request ends the session. */
export function isDisconnect(header: RequestHeader): boolean {
  return header.command === NBD_CMD_DISC;
}

/**
 * The NBD error for the end of a page call: proto.md "Error values". What cannot be read is EIO and
 * never other bytes; the kernel client makes an I/O error of each of them.
 */
export function ioStatusToNbdError(status: IoStatusValue): NbdError {
  switch (status) {
    case IoStatus.OK:
      return NBD_ERROR.NBD_OK;
    case IoStatus.INVALID:
      return NBD_ERROR.NBD_EINVAL;
    case IoStatus.NO_SPACE:
      return NBD_ERROR.NBD_ENOSPC;
    case IoStatus.LOST:
    case IoStatus.UNREACHABLE:
    case IoStatus.NO_LEASE:
      return NBD_ERROR.NBD_EIO;
    case IoStatus.SHUTDOWN:
      return NBD_ERROR.NBD_ESHUTDOWN;
  }
}
