/**
 * What a client is told of an export: its name, its size, and in the transmission flags what may be
 * asked of it (proto.md "Transmission flags").
 */
import { NBD_TRANSMISSION_FLAG } from './constants.ts';
import { ReplyMode, type ReplyModeValue } from './message-codec.ts';

/** What the machine tells of an export. */
export interface ExportInfo {
  /** Its name, never empty. */
  readonly name: string;
  /** One line for people. */
  readonly description: string;
  /** Bytes. */
  readonly sizeBytes: number;
  /** True when clients may not write. */
  readonly readOnly: boolean;
  /** True when a second connection ends the first, so that a client may not open several. */
  readonly singleConnection: boolean;
}

/** The exports of a server, as the machine asks for them. */
export interface ExportDirectory {
  /** All exports. */
  list(): readonly ExportInfo[];
  /** The export of that name; for '' the only one there is. */
  find(name: string): ExportInfo | undefined;
}

/** The transmission flags of an export. proto.md "Transmission flags". */
export function transmissionFlags(info: ExportInfo, mode: ReplyModeValue): number {
  const flag = NBD_TRANSMISSION_FLAG;
  let flags =
    flag.NBD_FLAG_HAS_FLAGS |
    flag.NBD_FLAG_SEND_FLUSH |
    flag.NBD_FLAG_SEND_FUA |
    flag.NBD_FLAG_SEND_CACHE;
  if (!info.singleConnection) flags |= flag.NBD_FLAG_CAN_MULTI_CONN;
  if (info.readOnly) flags |= flag.NBD_FLAG_READ_ONLY;
  else {
    flags |=
      flag.NBD_FLAG_SEND_TRIM | flag.NBD_FLAG_SEND_WRITE_ZEROES | flag.NBD_FLAG_SEND_FAST_ZERO;
  }
  if (mode !== ReplyMode.SIMPLE) flags |= flag.NBD_FLAG_SEND_DF;
  if (mode === ReplyMode.EXTENDED) flags |= flag.NBD_FLAG_BLOCK_STATUS_PAYLOAD;
  return flags;
}
