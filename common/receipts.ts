/**
 * Receipts: a provider's signed word that a lease has ended and its bytes are wiped. They go into the
 * audit log as they came, so that whoever reads it later can check them with the provider's key alone.
 */
import * as v from 'valibot';
import { MemcloudError } from './errors.ts';
import { MANAGED_END_REASONS, type ManagedEnding } from './managed.ts';
import type { NodeId } from './ports.ts';
import { hexDigits, wholeNumber } from './schema-parts.ts';
import { SignatureProblem, signCompact, verifyCompact, type SigningKey } from './signatures.ts';

const TYP = 'memcloud-receipt';

const receiptSchema = v.strictObject({
  lease: hexDigits(32),
  client: hexDigits(32),
  size: wholeNumber(),
  reason: v.picklist(MANAGED_END_REASONS),
  wiped: wholeNumber(),
  wipeMs: v.pipe(v.number(), v.minValue(0)),
  iat: wholeNumber(),
});

/** Signs the end of a lease. @param key - of the provider */
export function signReceipt(key: SigningKey, ending: ManagedEnding): Promise<string> {
  const { leaseId, client, sizeBytes, reason, wipedBytes, wipeMs } = ending;
  return signCompact(key, TYP, {
    lease: leaseId,
    client,
    size: sizeBytes,
    reason,
    wiped: wipedBytes,
    wipeMs,
    iat: Math.floor(Date.now() / 1000),
  });
}

/**
 * Checks a receipt.
 *
 * @param publicKey - of the provider, 32 bytes
 * @returns who signed it, and what ended
 * @throws MemcloudError `ERR_CONTROL_PROTOCOL`
 */
export async function verifyReceipt(
  publicKey: Uint8Array,
  jws: string,
): Promise<{ readonly provider: NodeId; readonly ending: ManagedEnding }> {
  const { signer, payload } = await verifyCompact(jws, TYP, () => publicKey).catch(
    (cause: unknown) => {
      if (!(cause instanceof SignatureProblem)) throw cause;
      throw new MemcloudError('ERR_CONTROL_PROTOCOL', `receipt: ${cause.message}`, { cause });
    },
  );
  const parsed = v.safeParse(receiptSchema, payload);
  if (!parsed.success) {
    throw new MemcloudError('ERR_CONTROL_PROTOCOL', 'receipt: its fields are not those of one');
  }
  const { lease, client, size, reason, wiped, wipeMs } = parsed.output;
  return {
    provider: signer,
    ending: { leaseId: lease, client, sizeBytes: size, reason, wipedBytes: wiped, wipeMs },
  };
}

/**
 * Whether a text is a provider's receipt that says of an ending what is said of it.
 *
 * @param publicKey - of the provider, 32 bytes
 */
export async function isReceiptOf(
  publicKey: Uint8Array,
  provider: NodeId,
  said: ManagedEnding,
  jws: string,
): Promise<boolean> {
  try {
    const { provider: signer, ending } = await verifyReceipt(publicKey, jws);
    return (
      signer === provider &&
      ending.leaseId === said.leaseId &&
      ending.client === said.client &&
      ending.sizeBytes === said.sizeBytes &&
      ending.reason === said.reason &&
      ending.wipedBytes === said.wipedBytes &&
      ending.wipeMs === said.wipeMs
    );
  } catch {
    return false;
  }
}
