/**
 * Who a node is: an Ed25519 key, made once and kept in the state directory, mode 0600. Everything
 * that others believe about a node (its id, their trust in it, its leases) hangs on this key, so a
 * file that is damaged or that others could have read is refused rather than replaced: a silent new
 * identity would lose all of it, and a leaked one is worse than none.
 */
import { createPrivateKey, randomBytes, type KeyObject } from 'node:crypto';
import path from 'node:path';
import { ed25519 } from '@noble/curves/ed25519.js';
import { MemcloudError } from '../common/errors.ts';
import { nodeIdOf } from '../common/fingerprint.ts';
import type { NodeId } from '../common/ports.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

/** Name of the identity file in the state directory. */
export const IDENTITY_FILE_NAME = 'identity.json';

/** Bytes of a public key. RFC 8032 5.1.5. */
export const PUBLIC_KEY_SIZE_BYTES = 32;
/** Bytes of a signature. RFC 8032 5.1.6. */
export const SIGNATURE_SIZE_BYTES = 64;

const FILE_SIZE_MAX = 4096;
const FORMAT = 'memcloud-identity/1';
/** What stands before the 32 bytes of an Ed25519 private key in PKCS #8, DER. RFC 8410 section 7. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/**
 * Verifies an Ed25519 signature by the strict rules (RFC 8032 5.1.7, canonical encodings, no key of
 * small order), so that one signature means one key.
 */
export function verifySignature(
  signature: Uint8Array,
  message: Uint8Array,
  publicKey: Uint8Array,
): boolean {
  try {
    return ed25519.verify(signature, message, publicKey, { zip215: false });
  } catch {
    return false;
  }
}

/** This node's key pair. */
export class Identity {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** The id that follows from the public key. */
  readonly nodeId: NodeId;
  readonly #secretKey: Uint8Array;

  /** @param secretKey - 32 random bytes, kept and zeroed by {@link Identity.destroy} */
  constructor(secretKey: Uint8Array) {
    this.#secretKey = secretKey;
    this.publicKey = ed25519.getPublicKey(secretKey);
    this.nodeId = nodeIdOf(this.publicKey);
  }

  /** A new identity that no file holds; for tests and throw-away nodes. */
  static ephemeral(): Identity {
    return new Identity(randomBytes(32));
  }

  /**
   * Reads the identity of a state directory, or makes it when there is none.
   *
   * @throws MemcloudError `ERR_IDENTITY` when the file is damaged, readable by others or cannot be
   *   read or made
   */
  static load(stateDirectory: string): Identity {
    const file = path.join(stateDirectory, IDENTITY_FILE_NAME);
    try {
      const bytes = readPrivateFile(file, FILE_SIZE_MAX) ?? createIdentityFile(file);
      return new Identity(parseIdentityFile(bytes));
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new MemcloudError(
        'ERR_IDENTITY',
        `identity file ${file}: ${reason}; restore it from a backup, or move it away to start as a ` +
          'new node that others must trust again',
        { cause },
      );
    }
  }

  /** The private key as libraries that sign want it (jose); it holds a copy, which lives as long as itself. */
  get signingKey(): KeyObject {
    const der = Buffer.concat([PKCS8_PREFIX, this.#secretKey]);
    try {
      return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    } finally {
      der.fill(0);
    }
  }

  /** Signs. @returns 64 bytes */
  sign(message: Uint8Array): Uint8Array {
    return ed25519.sign(message, this.#secretKey);
  }

  /** Zeroes the secret key. */
  destroy(): void {
    this.#secretKey.fill(0);
  }
}

function createIdentityFile(file: string): Buffer {
  const secretKey = randomBytes(32);
  const publicKey = Buffer.from(ed25519.getPublicKey(secretKey)).toString('hex');
  const bytes = Buffer.from(
    `${JSON.stringify({ format: FORMAT, publicKey, secretKey: secretKey.toString('hex') })}\n`,
  );
  secretKey.fill(0);
  try {
    writePrivateFile(file, bytes, 'create');
    return bytes;
  } catch (error) {
    const other = (error as NodeJS.ErrnoException).code === 'EEXIST';
    const existing = other ? readPrivateFile(file, FILE_SIZE_MAX) : undefined;
    if (existing === undefined) throw error;
    return existing;
  }
}

/** @returns the secret key; the bytes of the file are zeroed */
function parseIdentityFile(bytes: Buffer): Uint8Array {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>;
  } catch {
    throw new Error('it is not JSON');
  } finally {
    bytes.fill(0);
  }
  if (fields === null || typeof fields !== 'object' || fields['format'] !== FORMAT) {
    throw new Error(`expected format "${FORMAT}"`);
  }
  const { secretKey, publicKey } = fields;
  if (typeof secretKey !== 'string' || !/^[0-9a-f]{64}$/.test(secretKey)) {
    throw new Error('expected a secret key of 64 hex digits');
  }
  const key = Buffer.from(secretKey, 'hex');
  if (Buffer.from(ed25519.getPublicKey(key)).toString('hex') !== publicKey) {
    throw new Error('its public key does not belong to its secret key');
  }
  return key;
}
