/**
 * The receipts in the audit log: a line that tells of a wiped lease carries the provider's signed word of it.
 * Whoever has the provider's key can tell whether the line says what was signed, whoever wrote the log.
 */
import * as v from 'valibot';
import type { AuditLine } from './audit-chain.ts';
import { MANAGED_END_REASONS } from './managed.ts';
import type { NodeId } from './ports.ts';
import { isReceiptOf } from './receipts.ts';

/** The event of lines that carry a receipt. */
const WIPED_EVENT = 'lease.wiped';

const wipedSchema = v.object({
  leaseId: v.string(),
  client: v.string(),
  provider: v.string(),
  sizeBytes: v.number(),
  reason: v.picklist(MANAGED_END_REASONS),
  wipedBytes: v.number(),
  wipeMs: v.number(),
  receipt: v.string(),
  receiptValid: v.boolean(),
});

/** What became of the receipts in some lines. */
export interface ReceiptCounts {
  /** Receipts that say what their line says, signed by the provider. */
  readonly valid: number;
  /** Receipts of providers whose key is not known here. */
  readonly unknownKey: number;
  /** Receipts that the control plane itself did not take when they came, and says so. */
  readonly refused: number;
}

/** {@link ReceiptCounts}, and where the first line is that does not say what was signed. */
export interface CheckedReceipts extends ReceiptCounts {
  /** Its sequence number; undefined when there is none. */
  readonly falseLine: number | undefined;
}

type Verdict = keyof ReceiptCounts | 'false';

async function check(
  { detail }: AuditLine,
  keyOf: (provider: NodeId) => Uint8Array | undefined,
): Promise<Verdict> {
  const parsed = v.safeParse(wipedSchema, detail);
  if (!parsed.success) return 'false';
  const { provider, receipt, receiptValid, ...said } = parsed.output;
  if (!receiptValid) return 'refused';
  const publicKey = keyOf(provider);
  if (publicKey === undefined) return 'unknownKey';
  return (await isReceiptOf(publicKey, provider, said, receipt)) ? 'valid' : 'false';
}

/**
 * Checks the receipts in lines; lines without one count for nothing.
 *
 * @param keyOf - the public key of a provider, 32 bytes; the caller answers for it that it is that node's
 */
export async function checkAuditReceipts(
  lines: readonly AuditLine[],
  keyOf: (provider: NodeId) => Uint8Array | undefined,
): Promise<CheckedReceipts> {
  const wiped = lines.filter(({ event }) => event === WIPED_EVENT);
  const verdicts = await Promise.all(wiped.map((line) => check(line, keyOf)));
  const count = (verdict: Verdict): number => verdicts.filter((each) => each === verdict).length;
  return {
    valid: count('valid'),
    unknownKey: count('unknownKey'),
    refused: count('refused'),
    falseLine: wiped[verdicts.indexOf('false')]?.sequence,
  };
}
