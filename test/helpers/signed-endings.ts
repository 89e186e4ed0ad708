/** The end of a managed lease, and keys that sign it. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { nodeIdOf } from '../../common/fingerprint.ts';
import type { ManagedEnding } from '../../common/managed.ts';

/** A lease that expired. */
export const ENDING: ManagedEnding = {
  leaseId: 'a'.repeat(32),
  client: 'b'.repeat(32),
  sizeBytes: 123_456,
  reason: 'expired',
  wipedBytes: 120_000,
  wipeMs: 12.5,
};

/** A new node; `raw` is its public key, 32 bytes. */
export function newSigner(): { raw: Buffer; nodeId: string; privateKey: KeyObject } {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = Buffer.from(publicKey.export({ format: 'jwk' }).x!, 'base64url');
  return { raw, nodeId: nodeIdOf(raw), privateKey };
}
