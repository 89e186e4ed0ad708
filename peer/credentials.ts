/**
 * The credentials that each side sends in its encrypted handshake payload (docs/peer-protocol.md
 * section 3): its identity key, a signature of the handshake hash by it, and the name that people call
 * it. The hash binds both ephemeral keys and the Noise static key, so a signature is worth nothing in
 * any other handshake; the role is signed too, so that one cannot be reflected. A codec; pure.
 */
import { MemcloudError } from '../common/errors.ts';
import { nodeIdOf } from '../common/fingerprint.ts';
import type { NodeId } from '../common/ports.ts';
import { CREDENTIALS_VERSION, NODE_NAME_SIZE_MAX, SIGNATURE_CONTEXT } from './constants.ts';
import {
  PUBLIC_KEY_SIZE_BYTES,
  SIGNATURE_SIZE_BYTES,
  verifySignature,
  type Identity,
} from './identity.ts';

/** Which side of the handshake speaks. */
export type Role = keyof typeof SIGNATURE_CONTEXT;

/** A node as its verified credentials name it. */
export interface PeerIdentity {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Computed here from the key; a peer cannot claim one. */
  readonly nodeId: NodeId;
  /** Claimed by the peer; the trust store says whether it may bear it. */
  readonly name: string;
}

/**
 * What a name may be: letters, digits, space, `.`, `_` and `-`, ASCII, beginning and ending with a
 * letter or digit. Nothing in it can move a cursor, hide another name or need escaping.
 */
const NAME_PATTERN = /^[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?$/;

/** True when `name` may be a node's name. */
export function isNodeName(name: string): boolean {
  return NAME_PATTERN.test(name);
}

/** Refuses what may not be a node's name. @throws MemcloudError `ERR_USAGE` */
export function requireNodeName(name: string): void {
  if (isNodeName(name)) return;
  throw new MemcloudError(
    'ERR_USAGE',
    'node name: expected 1 to 64 letters, digits, spaces, ".", "_" or "-", ' +
      `beginning and ending with a letter or digit, got ${JSON.stringify(name)}`,
  );
}

const PUBLIC_KEY_OFFSET = 1;
const SIGNATURE_OFFSET = PUBLIC_KEY_OFFSET + PUBLIC_KEY_SIZE_BYTES;
const NAME_LENGTH_OFFSET = SIGNATURE_OFFSET + SIGNATURE_SIZE_BYTES;
const NAME_OFFSET = NAME_LENGTH_OFFSET + 1;

function signedBytes(role: Role, handshakeHash: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(SIGNATURE_CONTEXT[role], 'ascii'), handshakeHash]);
}

/** Our credentials for a handshake whose hash stands at `handshakeHash`. */
export function encodeCredentials(
  identity: Identity,
  name: string,
  role: Role,
  handshakeHash: Uint8Array,
): Uint8Array {
  const nameBytes = Buffer.from(name, 'ascii');
  return Buffer.concat([
    Uint8Array.of(CREDENTIALS_VERSION),
    identity.publicKey,
    identity.sign(signedBytes(role, handshakeHash)),
    Uint8Array.of(nameBytes.length),
    nameBytes,
  ]);
}

/**
 * Reads and verifies a peer's credentials.
 *
 * @param role - the peer's
 * @throws MemcloudError `ERR_PEER_HANDSHAKE` when they are malformed, `ERR_PEER_AUTHENTICATION` when
 *   the signature does not verify
 */
export function decodeCredentials(
  payload: Uint8Array,
  role: Role,
  handshakeHash: Uint8Array,
): PeerIdentity {
  const version = payload[0];
  if (payload.length < NAME_OFFSET || version !== CREDENTIALS_VERSION) {
    throw new MemcloudError(
      'ERR_PEER_HANDSHAKE',
      `credentials: expected version ${CREDENTIALS_VERSION} and at least ${NAME_OFFSET} bytes, ` +
        `got version ${version ?? 'none'} and ${payload.length} bytes`,
    );
  }
  const nameLength = payload[NAME_LENGTH_OFFSET] ?? 0;
  if (nameLength > NODE_NAME_SIZE_MAX || payload.length !== NAME_OFFSET + nameLength) {
    throw new MemcloudError(
      'ERR_PEER_HANDSHAKE',
      `credentials: a name of ${nameLength} bytes does not fit ${payload.length} bytes`,
    );
  }
  const name = Buffer.from(payload.subarray(NAME_OFFSET)).toString('latin1');
  if (!isNodeName(name)) {
    throw new MemcloudError(
      'ERR_PEER_HANDSHAKE',
      'credentials: a name is 1 to 64 letters, digits, spaces, dots, underscores or hyphens',
    );
  }
  const publicKey = Uint8Array.from(payload.subarray(PUBLIC_KEY_OFFSET, SIGNATURE_OFFSET));
  const signature = payload.subarray(SIGNATURE_OFFSET, NAME_LENGTH_OFFSET);
  if (!verifySignature(signature, signedBytes(role, handshakeHash), publicKey)) {
    throw new MemcloudError(
      'ERR_PEER_AUTHENTICATION',
      'credentials: the signature does not verify',
    );
  }
  return { publicKey, nodeId: nodeIdOf(publicKey), name };
}
