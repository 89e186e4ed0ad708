/**
 * The keys of a data connection. Each side gives 32 random bytes: the provider its `secret`, which
 * reached the consumer inside the encrypted session, the consumer its nonce. They become a
 * pseudo-random key, that becomes one secret for each direction, and from there everything is as in
 * TLS 1.3, because the record layer is that of the kernel. A ticket is used once, so no key is ever
 * used on two connections.
 *
 *     prk            = HKDF-Extract(salt: consumerNonce, ikm: secret)
 *     consumerSecret = HKDF-Expand(prk, "memcloud/1 direct consumer" || ticketId, 32)
 *     providerSecret = HKDF-Expand(prk, "memcloud/1 direct provider" || ticketId, 32)
 *     key, iv        = HKDF-Expand-Label(its sender's secret, "key" | "iv", "", 32 | 12)
 *
 * A connection without records has no keys, but what its holder proves himself with comes from the same:
 *
 *     proof          = HKDF-Expand(prk, "memcloud/1 direct plain" || ticketId, 32)
 *
 * Sources: RFC 5869 (HKDF), RFC 8446 7.1 and 7.3. Pure.
 */
import { expand, extract } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { DIRECT_PROOF_SIZE_BYTES, TLS_IV_SIZE_BYTES, TLS_KEY_SIZE_BYTES } from './constants.ts';

const SECRET_SIZE_BYTES = 32;
const LABEL_CONSUMER = 'memcloud/1 direct consumer';
const LABEL_PROVIDER = 'memcloud/1 direct provider';
const LABEL_PLAIN = 'memcloud/1 direct plain';
/** RFC 8446 7.1: every label begins so. */
const TLS_LABEL_PREFIX = 'tls13 ';

/** What protects the records of one direction. */
export interface DirectionKeys {
  /** 32 bytes; whoever has them zeroes them after use. */
  readonly key: Uint8Array;
  /** 12 bytes, XORed with the record number. RFC 8446 5.3. */
  readonly iv: Uint8Array;
}

/** The keys of a data connection, by who writes with them. */
export interface DirectKeys {
  /** What the consumer writes with. */
  readonly consumer: DirectionKeys;
  /** What the provider writes with. */
  readonly provider: DirectionKeys;
}

/** What the keys are made of. */
export interface DirectKeyMaterial {
  /** The ticket's id, 16 bytes. */
  readonly ticketId: Uint8Array;
  /** The provider's share, 32 bytes. */
  readonly secret: Uint8Array;
  /** The consumer's share, 32 bytes. */
  readonly consumerNonce: Uint8Array;
}

/** Derives the keys of a connection; the caller zeroes its material and, once they are set, the keys. */
export function deriveDirectKeys(material: DirectKeyMaterial): DirectKeys {
  const prk = extract(sha256, material.secret, material.consumerNonce);
  const keysOf = (label: string): DirectionKeys => {
    const info = Buffer.concat([Buffer.from(label), material.ticketId]);
    const secret = expand(sha256, prk, info, SECRET_SIZE_BYTES);
    const keys = {
      key: expandLabel(secret, 'key', TLS_KEY_SIZE_BYTES),
      iv: expandLabel(secret, 'iv', TLS_IV_SIZE_BYTES),
    };
    secret.fill(0);
    return keys;
  };
  const keys = { consumer: keysOf(LABEL_CONSUMER), provider: keysOf(LABEL_PROVIDER) };
  prk.fill(0);
  return keys;
}

/** The bytes that show, on a connection without records, that its holder was given the ticket. */
export function derivePlainProof(material: DirectKeyMaterial): Uint8Array {
  const prk = extract(sha256, material.secret, material.consumerNonce);
  const info = Buffer.concat([Buffer.from(LABEL_PLAIN), material.ticketId]);
  const proof = expand(sha256, prk, info, DIRECT_PROOF_SIZE_BYTES);
  prk.fill(0);
  return proof;
}

/** Zeroes keys that nobody needs any more. */
export function wipeDirectKeys(keys: DirectKeys): void {
  for (const { key, iv } of [keys.consumer, keys.provider]) {
    key.fill(0);
    iv.fill(0);
  }
}

/**
 * HKDF-Expand-Label with an empty context, RFC 8446 7.1.
 *
 * @param label - without the "tls13 " that goes before it
 * @param length - bytes wanted, at most 255 * 32
 */
export function expandLabel(secret: Uint8Array, label: string, length: number): Uint8Array {
  const fullLabel = Buffer.from(TLS_LABEL_PREFIX + label);
  const info = Buffer.alloc(2 + 1 + fullLabel.length + 1);
  info.writeUInt16BE(length, 0);
  info.writeUInt8(fullLabel.length, 2);
  info.set(fullLabel, 3);
  return expand(sha256, secret, info, length);
}
