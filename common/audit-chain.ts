/**
 * The chain of the audit log: each line carries a hash over the hash of the line before and itself, so
 * that nothing can be taken out or altered without all later hashes changing. Who keeps the last hash
 * somewhere else can tell. A codec; pure.
 *
 *   hash(n) = SHA-256( hash(n - 1) as hex, "\n", line n as JSON with the keys of each object in order )
 *
 * Before line 1 stands {@link AUDIT_HASH_BEGIN}.
 */
import { sha256 } from '@noble/hashes/sha2.js';

/** A line without its hash. */
export interface AuditLine {
  /** Counts from 1 without a gap. */
  readonly sequence: number;
  /** Wall clock of the control node that wrote it, ISO 8601. */
  readonly at: string;
  /** What happened, such as `lease.granted`. */
  readonly event: string;
  /** Node id of who wrote it. */
  readonly controlNode: string;
  /** Its term. */
  readonly epoch: number;
  /** The rest, JSON values. */
  readonly detail: Readonly<Record<string, unknown>>;
}

/** What stands before the first line: 64 zeros. */
export const AUDIT_HASH_BEGIN = '0'.repeat(64);

/** JSON text in which the keys of each object are in the order of their UTF-16 units. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => {
    if (typeof part !== 'object' || part === null || Array.isArray(part)) return part;
    const entries = Object.entries(part as Record<string, unknown>);
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/**
 * The hash of a line.
 *
 * @param previous - of the line before, 64 hex digits
 * @returns 64 hex digits
 */
export function auditHash(previous: string, line: AuditLine): string {
  const { sequence, at, event, controlNode, epoch, detail } = line;
  const text = canonical({ sequence, at, event, controlNode, epoch, detail });
  return Buffer.from(sha256(Buffer.from(`${previous}\n${text}`))).toString('hex');
}

/**
 * Follows the chain.
 *
 * @param previous - the hash before the first of `lines`; undefined when it is not known, then the first
 *   is taken as it is
 * @returns the sequence number of the first line that does not fit; undefined when all do
 */
export function brokenAuditLine(
  lines: readonly (AuditLine & { readonly hash: string })[],
  previous: { readonly sequence: number; readonly hash: string } | undefined,
): number | undefined {
  let before = previous;
  for (const line of lines) {
    const { sequence, hash } = line;
    if (before !== undefined) {
      if (sequence !== before.sequence + 1) return before.sequence + 1;
      if (auditHash(before.hash, line) !== hash) return sequence;
    }
    before = { sequence, hash };
  }
  return undefined;
}
