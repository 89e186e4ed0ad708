/**
 * The audit log: lines that are only ever added, each with the hash of itself and of the line before it,
 * so that none can be altered or taken out unseen. A line is written in the transaction of the change it
 * tells of, with the head (the last sequence number and hash). Beyond a bound the oldest lines go; the head
 * keeps where the rest begins, and the rest still verifies from there.
 *
 * Pure: hashes, keys and values; who writes them is `commit-queue.ts`.
 */
import * as v from 'valibot';
import { AUDIT_HASH_BEGIN, auditHash } from '../common/audit-chain.ts';
import { MemcloudError } from '../common/errors.ts';
import { wholeNumber } from '../common/schema-parts.ts';
import type { MetaOp } from './meta-store.ts';
import type { ManagedResult } from './schema.ts';

/** A line, as `admin.audit` tells it. */
export type AuditLine = ManagedResult<'admin.audit'>['rows'][number];

/** What a line says before it has its place. */
export interface AuditDraft {
  readonly event: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** Where the log stands. */
export interface AuditHead {
  /** Of the last line; 0: none was written. */
  readonly sequence: number;
  readonly hash: string;
  /** Of the last line that is gone; 0: none is. */
  readonly prunedSequence: number;
  readonly prunedHash: string;
}

/** The most lines that are kept. */
export const AUDIT_LINE_COUNT_MAX = 200_000;
/** The key of the head. */
export const AUDIT_HEAD_KEY = '/memcloud/v1/audit-head';
/** Before the sequence number in the key of a line. */
export const AUDIT_PREFIX = '/memcloud/v1/audit/';
const SEQUENCE_DIGITS = 16;

/** Of a log without a line. */
export const EMPTY_AUDIT_HEAD: AuditHead = {
  sequence: 0,
  hash: AUDIT_HASH_BEGIN,
  prunedSequence: 0,
  prunedHash: AUDIT_HASH_BEGIN,
};

/** The key of a line: the sequence number with zeroes before it, so that keys sort as numbers do. */
export function auditKey(sequence: number): string {
  return `${AUDIT_PREFIX}${String(sequence).padStart(SEQUENCE_DIGITS, '0')}`;
}

/** Adds lines behind a head. */
export class AuditChain {
  readonly #author: { readonly controlNode: string; readonly epoch: number };
  readonly #countMax: number;
  /** Hashes of the next lines to go, by sequence; those that are older than this process are read. */
  #head: AuditHead;

  constructor(
    head: AuditHead,
    author: { readonly controlNode: string; readonly epoch: number },
    countMax = AUDIT_LINE_COUNT_MAX,
  ) {
    this.#head = head;
    this.#author = author;
    this.#countMax = countMax;
  }

  /** Where the log stands after what was added. */
  get head(): AuditHead {
    return this.#head;
  }

  /** Whether there are so many lines that the oldest should go. */
  get excessCount(): number {
    return Math.max(0, this.#head.sequence - this.#head.prunedSequence - this.#countMax);
  }

  /** Adds a line. @param at - wall clock, ISO 8601 */
  add(draft: AuditDraft, at: string): { readonly op: MetaOp; readonly line: AuditLine } {
    const unhashed = { ...this.#author, sequence: this.#head.sequence + 1, at, ...draft };
    const line = { ...unhashed, hash: auditHash(this.#head.hash, unhashed) };
    this.#head = { ...this.#head, sequence: line.sequence, hash: line.hash };
    return { op: { put: auditKey(line.sequence), value: JSON.stringify(line) }, line };
  }

  /** Takes out the oldest lines, which the caller has read. @param lines - in order, from the first that there is */
  prune(lines: readonly AuditLine[]): MetaOp[] {
    const last = lines.at(-1);
    if (last === undefined) return [];
    this.#head = { ...this.#head, prunedSequence: last.sequence, prunedHash: last.hash };
    return lines.map(({ sequence }) => ({ remove: auditKey(sequence) }));
  }

  /** The change that writes the head. */
  headOp(): MetaOp {
    return { put: AUDIT_HEAD_KEY, value: JSON.stringify(this.#head) };
  }
}

const lineSchema = v.object({
  sequence: wholeNumber(),
  at: v.string(),
  event: v.string(),
  controlNode: v.string(),
  epoch: wholeNumber(),
  detail: v.record(v.string(), v.unknown()),
  hash: v.string(),
});
const headSchema = v.object({
  sequence: wholeNumber(),
  hash: v.string(),
  prunedSequence: wholeNumber(),
  prunedHash: v.string(),
});

function parse<S extends v.GenericSchema>(
  schema: S,
  value: string,
  what: string,
): v.InferOutput<S> {
  try {
    return v.parse(schema, JSON.parse(value));
  } catch (cause) {
    throw new MemcloudError('ERR_CONTROL_STORE', `${what} is damaged`, { cause });
  }
}

/** Reads a stored line. @throws MemcloudError `ERR_CONTROL_STORE` */
export function parseAuditLine(value: string): AuditLine {
  return parse(lineSchema, value, 'a line of the audit log');
}

/** Reads a stored head. @throws MemcloudError `ERR_CONTROL_STORE` */
export function parseAuditHead(value: string): AuditHead {
  return parse(headSchema, value, 'the head of the audit log');
}
