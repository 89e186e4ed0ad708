/**
 * Generic netlink messages as bytes, as far as attaching an NBD device needs them. Pure and total:
 * decoders check every length before they look and throw `ERR_NATIVE` for what no kernel sends.
 * All numbers are in host order, which is little endian wherever this runs (the socket checks it).
 *
 * Layout: `nlmsghdr` (16 bytes: length, type, flags, sequence, port), `genlmsghdr` (4 bytes: command,
 * version, reserved), then attributes (4 bytes: length, type; value; padding to 4).
 * Sources: Linux `include/uapi/linux/netlink.h`, `genetlink.h`, `nbd-netlink.h`; netlink(7).
 */
import { MemcloudError } from '../../../common/errors.ts';

/** `netlink.h`: message types and flags. */
export const NETLINK = {
  NLMSG_ERROR: 2,
  NLMSG_DONE: 3,
  NLM_F_REQUEST: 0x01,
  NLM_F_ACK: 0x04,
  /** In an error: the offending message is left out. */
  NLM_F_CAPPED: 0x100,
  /** In an error: attributes follow. */
  NLM_F_ACK_TLVS: 0x200,
  NLMSGERR_ATTR_MSG: 1,
  NLA_F_NESTED: 0x8000,
} as const;

/** `genetlink.h`: the family that knows the families. */
export const GENERIC_CONTROL = {
  GENL_ID_CTRL: 0x10,
  CTRL_VERSION: 2,
  CTRL_CMD_GETFAMILY: 3,
  CTRL_ATTR_FAMILY_ID: 1,
  CTRL_ATTR_FAMILY_NAME: 2,
  CTRL_ATTR_MCAST_GROUPS: 7,
  CTRL_ATTR_MCAST_GRP_NAME: 1,
  CTRL_ATTR_MCAST_GRP_ID: 2,
} as const;

/** `nbd-netlink.h`. */
export const NBD_NETLINK = {
  FAMILY_NAME: 'nbd',
  VERSION: 1,
  MULTICAST_GROUP_NAME: 'nbd_mc_group',
  NBD_CMD_CONNECT: 1,
  NBD_CMD_DISCONNECT: 2,
  NBD_CMD_RECONFIGURE: 3,
  NBD_CMD_LINK_DEAD: 4,
  NBD_CMD_STATUS: 5,
  NBD_ATTR_INDEX: 1,
  NBD_ATTR_SIZE_BYTES: 2,
  NBD_ATTR_BLOCK_SIZE_BYTES: 3,
  NBD_ATTR_TIMEOUT: 4,
  NBD_ATTR_SERVER_FLAGS: 5,
  NBD_ATTR_CLIENT_FLAGS: 6,
  NBD_ATTR_SOCKETS: 7,
  NBD_ATTR_DEAD_CONN_TIMEOUT: 8,
  NBD_ATTR_DEVICE_LIST: 9,
  NBD_SOCK_ITEM: 1,
  NBD_SOCK_FD: 1,
  NBD_DEVICE_ITEM: 1,
  NBD_DEVICE_INDEX: 1,
  NBD_DEVICE_CONNECTED: 2,
} as const;

const MESSAGE_HEADER_SIZE_BYTES = 16;
const GENERIC_HEADER_SIZE_BYTES = 4;
const ATTRIBUTE_HEADER_SIZE_BYTES = 4;
const ATTRIBUTE_TYPE_MASK = 0x3fff;

/** One attribute to be sent. */
export interface Attribute {
  /** Number within its message or nest. */
  readonly type: number;
  /** Encoded value. */
  readonly value: Buffer;
}

/** A u32 attribute. */
export function attributeU32(type: number, value: number): Attribute {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return { type, value: bytes };
}

/** A u64 attribute. */
export function attributeU64(type: number, value: number): Attribute {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return { type, value: bytes };
}

/** A string attribute, with its NUL. */
export function attributeString(type: number, text: string): Attribute {
  return { type, value: Buffer.from(`${text}\0`) };
}

/** An attribute that holds attributes. */
export function attributeNest(type: number, inner: readonly Attribute[]): Attribute {
  return { type: type | NETLINK.NLA_F_NESTED, value: encodeAttributes(inner) };
}

function encodeAttributes(attributes: readonly Attribute[]): Buffer {
  const parts = attributes.map(({ type, value }) => {
    const length = ATTRIBUTE_HEADER_SIZE_BYTES + value.length;
    const bytes = Buffer.alloc(aligned(length));
    bytes.writeUInt16LE(length, 0);
    bytes.writeUInt16LE(type, 2);
    bytes.set(value, ATTRIBUTE_HEADER_SIZE_BYTES);
    return bytes;
  });
  return Buffer.concat(parts);
}

/** A generic netlink request that asks for an acknowledgement. */
export function encodeGenericRequest(request: {
  familyId: number;
  command: number;
  version: number;
  sequence: number;
  attributes: readonly Attribute[];
}): Buffer {
  const body = encodeAttributes(request.attributes);
  const length = MESSAGE_HEADER_SIZE_BYTES + GENERIC_HEADER_SIZE_BYTES + body.length;
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(length, 0);
  bytes.writeUInt16LE(request.familyId, 4);
  bytes.writeUInt16LE(NETLINK.NLM_F_REQUEST | NETLINK.NLM_F_ACK, 6);
  bytes.writeUInt32LE(request.sequence, 8);
  bytes.writeUInt8(request.command, 16);
  bytes.writeUInt8(request.version, 17);
  bytes.set(body, MESSAGE_HEADER_SIZE_BYTES + GENERIC_HEADER_SIZE_BYTES);
  return bytes;
}

/** Attributes by number; of equal ones the last counts, but for the `list` of a message. */
export type Attributes = ReadonlyMap<number, Buffer>;

/** A message from the kernel. */
export type NetlinkMessage =
  | {
      readonly kind: 'generic';
      readonly familyId: number;
      readonly sequence: number;
      readonly command: number;
      readonly attributes: Attributes;
    }
  | {
      /** `errno` 0 is an acknowledgement. */
      readonly kind: 'result';
      readonly sequence: number;
      readonly errno: number;
      /** The kernel's text about the error, empty when it has none. */
      readonly text: string;
    };

/** Decodes one datagram, which may hold several messages. */
export function decodeMessages(datagram: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  let at = 0;
  while (at < datagram.length) {
    if (datagram.length - at < MESSAGE_HEADER_SIZE_BYTES) throw malformed('a header is cut off');
    const length = datagram.readUInt32LE(at);
    if (length < MESSAGE_HEADER_SIZE_BYTES || length > datagram.length - at) {
      throw malformed(`a message of ${length} bytes`);
    }
    const message = decodeMessage(datagram.subarray(at, at + length));
    if (message !== undefined) messages.push(message);
    at += aligned(length);
  }
  return messages;
}

function decodeMessage(bytes: Buffer): NetlinkMessage | undefined {
  const type = bytes.readUInt16LE(4);
  const flags = bytes.readUInt16LE(6);
  const sequence = bytes.readUInt32LE(8);
  const body = bytes.subarray(MESSAGE_HEADER_SIZE_BYTES);
  if (type === NETLINK.NLMSG_ERROR) {
    if (body.length < 4) throw malformed('an error without a number');
    return { kind: 'result', sequence, errno: -body.readInt32LE(0), text: errorText(flags, body) };
  }
  // NOOP, DONE and OVERRUN tell nothing that is waited for.
  if (type < GENERIC_CONTROL.GENL_ID_CTRL) return undefined;
  if (body.length < GENERIC_HEADER_SIZE_BYTES) throw malformed('no generic header');
  return {
    kind: 'generic',
    familyId: type,
    sequence,
    command: body.readUInt8(0),
    attributes: decodeAttributes(body.subarray(GENERIC_HEADER_SIZE_BYTES)),
  };
}

/** The extended acknowledgement after an error: netlink(7), NETLINK_EXT_ACK. */
function errorText(flags: number, body: Buffer): string {
  if ((flags & NETLINK.NLM_F_ACK_TLVS) === 0 || body.length < 4 + MESSAGE_HEADER_SIZE_BYTES) {
    return '';
  }
  const requestLength = (flags & NETLINK.NLM_F_CAPPED) === 0 ? body.readUInt32LE(4) : 16;
  const tail = body.subarray(Math.min(body.length, 4 + aligned(requestLength)));
  return decodeText(decodeAttributes(tail).get(NETLINK.NLMSGERR_ATTR_MSG));
}

/** Decodes attributes in order. @throws MemcloudError `ERR_NATIVE` */
export function decodeAttributeList(bytes: Buffer): Attribute[] {
  const attributes: Attribute[] = [];
  let at = 0;
  while (bytes.length - at >= ATTRIBUTE_HEADER_SIZE_BYTES) {
    const length = bytes.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER_SIZE_BYTES || length > bytes.length - at) {
      throw malformed(`an attribute of ${length} bytes`);
    }
    attributes.push({
      type: bytes.readUInt16LE(at + 2) & ATTRIBUTE_TYPE_MASK,
      value: bytes.subarray(at + ATTRIBUTE_HEADER_SIZE_BYTES, at + length),
    });
    at += aligned(length);
  }
  return attributes;
}

/** Decodes attributes by number. @throws MemcloudError `ERR_NATIVE` */
export function decodeAttributes(bytes: Buffer): Attributes {
  return new Map(decodeAttributeList(bytes).map(({ type, value }) => [type, value]));
}

/** The u32 of an attribute, undefined when it is absent or of another size. */
export function decodeU32(value: Buffer | undefined): number | undefined {
  return value?.length === 4 ? value.readUInt32LE(0) : undefined;
}

/** The text of an attribute up to its NUL, empty when it is absent. */
export function decodeText(value: Buffer | undefined): string {
  return value?.toString('utf8').split('\0')[0] ?? '';
}

function aligned(length: number): number {
  return (length + 3) & ~3;
}

function malformed(what: string): MemcloudError {
  return new MemcloudError('ERR_NATIVE', `netlink: expected a whole message, got ${what}`);
}
