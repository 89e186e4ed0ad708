/**
 * The fingerprint of a node: its key in words that two people can compare across a room. Eight words of
 * the English list of BIP-39 say the first 88 bits of the node id, so of SHA-256 of the public key; to
 * make a key with the words of another takes 2^88 tries.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { MemcloudError } from './errors.ts';
import type { NodeId } from './ports.ts';

/** Words in a fingerprint. */
export const FINGERPRINT_WORD_COUNT = 8;
const BITS_PER_WORD = 11;
const NODE_ID_BITS = 128;

/** The id of the node that holds `publicKey`: 16 bytes of SHA-256 of it, 32 hex digits. */
export function nodeIdOf(publicKey: Uint8Array): NodeId {
  return Buffer.from(sha256(publicKey).subarray(0, NODE_ID_BITS / 8)).toString('hex');
}

/** The words of a node id (32 hex digits), joined by dashes: `legal-winner-thank-...`. */
export function fingerprintOf(nodeId: NodeId): string {
  const bits = BigInt(`0x${nodeId}`);
  return Array.from({ length: FINGERPRINT_WORD_COUNT }, (_, index) => {
    const shift = BigInt(NODE_ID_BITS - BITS_PER_WORD * (index + 1));
    return wordlist[Number((bits >> shift) & 0x7ffn)] ?? '';
  }).join('-');
}

/** A key as people name it. */
export interface KeyPattern {
  /** Whether a key fits. @param publicKey - 64 hex digits */
  readonly fits: (nodeId: NodeId, publicKey: string) => boolean;
  /** The node id, where the text says all of it. */
  readonly nodeId: NodeId | undefined;
}

/**
 * Reads what names a key: a fingerprint in words (dashes, dots or spaces between them, any case), a node
 * id (32 hex digits) or a public key (64 hex digits).
 *
 * @throws MemcloudError `ERR_USAGE`
 */
export function parseKeyPattern(text: string): KeyPattern {
  const wanted = text.trim().toLowerCase();
  if (/^[0-9a-f]{64}$/.test(wanted)) {
    return { fits: (_nodeId, publicKey) => publicKey === wanted, nodeId: undefined };
  }
  if (/^[0-9a-f]{32}$/.test(wanted)) return { fits: (nodeId) => nodeId === wanted, nodeId: wanted };
  const words = wanted.split(/[-.\s]+/);
  const unknown = words.find((word) => !wordlist.includes(word));
  if (words.length !== FINGERPRINT_WORD_COUNT || unknown !== undefined) {
    const why =
      unknown === undefined
        ? `got ${words.length} words`
        : `"${unknown.replace(/[^a-z]/g, '?').slice(0, 32)}" is no word of the list`;
    throw new MemcloudError(
      'ERR_USAGE',
      `fingerprint: expected ${FINGERPRINT_WORD_COUNT} words, a node id or a public key; ${why}`,
    );
  }
  const spelled = words.join('-');
  return { fits: (nodeId) => fingerprintOf(nodeId) === spelled, nodeId: undefined };
}

/** True when {@link parseKeyPattern} takes the text; then it names a key and must not be taken for a name. */
export function isKeyPattern(text: string): boolean {
  try {
    parseKeyPattern(text);
    return true;
  } catch {
    return false;
  }
}
