/**
 * The token of an invitation: one word that carries everything by which another machine joins. It names
 * where the inviting node is, pins its key (the node id, which is a hash of the key) and has the secret
 * that proves the invitation. Whoever has it can join once, so it is treated like a password.
 *
 *   "mc1" base32( u8 version 1 | 16 node id | 16 secret | u8 n | n addresses | 4 checksum )
 *   address = u8 length | that many bytes of `HOST:PORT`, ASCII
 *
 * A control node invites with version 2, which names the other control nodes of the same control plane, so
 * that whoever joins knows all of them: behind the addresses u8 m | m times (16 node id | address).
 *
 * The alphabet is Crockford's base32: no case, and o, i, l are read as 0, 1, 1, so that a token can be
 * typed. The checksum is the first 4 bytes of SHA-256 of all before it, so that one that was mistyped is
 * refused before anything is sent. A codec; pure.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { MemcloudError } from './errors.ts';
import type { NodeId } from './ports.ts';
import { parseAddress } from './units.ts';

/** What a token says. */
export interface InviteToken {
  /** The node that invites. */
  readonly nodeId: NodeId;
  /** 16 bytes; the holder zeroes them. */
  readonly secret: Uint8Array;
  /** Where it is reached, `HOST:PORT`, the likeliest first. */
  readonly addresses: readonly string[];
  /** When a control node invites: the others of its control plane, at most {@link CONTROL_NODE_COUNT_MAX}. */
  readonly controlNodes?: readonly ControlNodePlace[];
}

/** Where a control node is. */
export interface ControlNodePlace {
  readonly nodeId: NodeId;
  /** `HOST:PORT` as members reach it. */
  readonly address: string;
}

/** The most control nodes in a token beside the one that invites. */
export const CONTROL_NODE_COUNT_MAX = 8;

/** The most addresses in a token. */
export const INVITE_ADDRESS_COUNT_MAX = 8;

const PREFIX = 'mc1';
const VERSION = 1;
const VERSION_OF_CONTROL_NODE = 2;
const NODE_ID_SIZE_BYTES = 16;
const SECRET_SIZE_BYTES = 16;
const CHECKSUM_SIZE_BYTES = 4;
const CHECKSUM_CONTEXT = 'memcloud/1 invite token';
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
const BITS_PER_DIGIT = 5;
const TOKEN_LENGTH_MAX = 4096;
const ADDRESSES_OFFSET = 1 + NODE_ID_SIZE_BYTES + SECRET_SIZE_BYTES;

/** @throws MemcloudError `ERR_INVITE`, always */
function refuse(why: string): never {
  throw new MemcloudError('ERR_INVITE', `this is no whole invitation: ${why}`);
}

function checksum(bytes: Uint8Array): Buffer {
  const hash = sha256(Buffer.concat([Buffer.from(CHECKSUM_CONTEXT, 'ascii'), bytes]));
  return Buffer.from(hash.subarray(0, CHECKSUM_SIZE_BYTES));
}

function toBase32(bytes: Uint8Array): string {
  let text = '';
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    for (; bits >= BITS_PER_DIGIT; bits -= BITS_PER_DIGIT) {
      text += ALPHABET[(value >>> (bits - BITS_PER_DIGIT)) & 31] ?? '';
    }
    value &= (1 << bits) - 1;
  }
  return bits === 0 ? text : text + (ALPHABET[(value << (BITS_PER_DIGIT - bits)) & 31] ?? '');
}

function fromBase32(text: string): Buffer {
  const bytes: number[] = [];
  let bits = 0;
  let value = 0;
  for (const letter of text.replaceAll('o', '0').replace(/[il]/g, '1')) {
    const digit = ALPHABET.indexOf(letter);
    if (digit < 0) refuse('a character in it can be in none');
    value = (value << BITS_PER_DIGIT) | digit;
    bits += BITS_PER_DIGIT;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((value >>> bits) & 255);
    value &= (1 << bits) - 1;
  }
  if (bits >= BITS_PER_DIGIT || value !== 0) refuse('its end is missing or too long');
  return Buffer.from(bytes);
}

function encodeAddress(address: string): Buffer {
  const bytes = Buffer.from(address, 'ascii');
  return Buffer.concat([Uint8Array.of(bytes.length), bytes]);
}

/** Writes a token. Addresses: 1 to {@link INVITE_ADDRESS_COUNT_MAX}. */
export function encodeInviteToken(token: InviteToken): string {
  const { nodeId, secret, addresses, controlNodes } = token;
  const version = controlNodes === undefined ? VERSION : VERSION_OF_CONTROL_NODE;
  const head = [Uint8Array.of(version), Buffer.from(nodeId, 'hex'), secret];
  const others = controlNodes?.flatMap((each) => [
    Buffer.from(each.nodeId, 'hex'),
    encodeAddress(each.address),
  ]);
  const body = Buffer.concat([
    ...[...head, Uint8Array.of(addresses.length), ...addresses.map(encodeAddress)],
    ...(others === undefined ? [] : [Uint8Array.of(others.length / 2), ...others]),
  ]);
  const text = PREFIX + toBase32(Buffer.concat([body, checksum(body)]));
  body.fill(0);
  return text;
}

/** Reads what is behind the secret, one thing after the other. */
class Reader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.#at = at;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  count(min: number, max: number): number {
    const count = this.#take(1)[0] ?? 0;
    if (count < min || count > max) refuse('its addresses are damaged');
    return count;
  }

  nodeId(): NodeId {
    return this.#take(NODE_ID_SIZE_BYTES).toString('hex');
  }

  address(): string {
    const address = this.#take(this.#take(1)[0] ?? 0).toString('latin1');
    if (!/^[\x21-\x7e]+$/.test(address)) refuse('an address in it is damaged');
    parseAddress(address);
    return address;
  }

  #take(sizeBytes: number): Buffer {
    const end = this.#at + sizeBytes;
    if (end > this.#bytes.length) refuse('its addresses are damaged');
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}

function times<T>(count: number, read: () => T): T[] {
  return Array.from({ length: count }, read);
}

/**
 * Reads a token, in whatever case, with whatever white space and dashes in it.
 *
 * @throws MemcloudError `ERR_INVITE` when it is mistyped, cut off or none; it is never repeated in the message
 */
export function decodeInviteToken(text: string): InviteToken {
  const token = text.replace(/[\s-]+/g, '').toLowerCase();
  if (!token.startsWith(PREFIX)) refuse(`it begins with "${PREFIX}"`);
  if (token.length > TOKEN_LENGTH_MAX) refuse('it is too long');
  const bytes = fromBase32(token.slice(PREFIX.length));
  const body = bytes.subarray(0, Math.max(0, bytes.length - CHECKSUM_SIZE_BYTES));
  if (body.length <= ADDRESSES_OFFSET || !checksum(body).equals(bytes.subarray(body.length))) {
    refuse('a character is wrong or missing; copy it again');
  }
  const [version] = body;
  if (version !== VERSION && version !== VERSION_OF_CONTROL_NODE) {
    refuse(`it is of version ${version}, and this memcloud reads 1 and 2`);
  }
  const secretAt = 1 + NODE_ID_SIZE_BYTES;
  const reader = new Reader(body, ADDRESSES_OFFSET);
  const addresses = times(reader.count(1, INVITE_ADDRESS_COUNT_MAX), () => reader.address());
  const controlNodes =
    version === VERSION
      ? undefined
      : times(reader.count(0, CONTROL_NODE_COUNT_MAX), () => {
          return { nodeId: reader.nodeId(), address: reader.address() };
        });
  if (!reader.isAtEnd) refuse('its addresses are damaged');
  return {
    nodeId: body.toString('hex', 1, secretAt),
    secret: Uint8Array.from(body.subarray(secretAt, secretAt + SECRET_SIZE_BYTES)),
    addresses,
    ...(controlNodes === undefined ? {} : { controlNodes }),
  };
}
