/**
 * What the file of the trust store says: JSON of format `memcloud-trust/2`. The format before it had
 * only `peers`; it is read as one without patterns and revocations and written anew at the next change.
 * A codec; pure. Whatever it does not understand it refuses as a whole: guessing at trust is worse than
 * not starting.
 */
import { nodeIdOf, parseKeyPattern } from '../common/fingerprint.ts';
import type { NodeId } from '../common/ports.ts';
import {
  EXPECTED_KEY_COUNT_MAX,
  REVOCATION_COUNT_MAX,
  TRUST_ENTRY_COUNT_MAX,
} from './constants.ts';
import { isNodeName } from './credentials.ts';

const FORMAT = 'memcloud-trust/2';
const FORMAT_BEFORE = 'memcloud-trust/1';

/** What a human decided about a key. */
export type TrustDecision = 'trusted' | 'denied';

/** One key of the store. */
export interface TrustEntry {
  /** 64 hex digits. */
  readonly publicKey: string;
  /** Follows from the key. */
  readonly nodeId: NodeId;
  /** The name that the key came with last. */
  readonly name: string;
  /** The decision. */
  readonly decision: TrustDecision;
  /** When it was made, milliseconds of the wall clock since 1970. */
  readonly decidedAtMs: number;
}

/** A key that will be trusted when it is first seen. */
export interface ExpectedKey {
  /** A fingerprint in words, a node id or a public key, as `parseKeyPattern` reads it. */
  readonly pattern: string;
  /** What its operator calls it until it has told its name; empty for nothing. */
  readonly name: string;
  /** When it was added, milliseconds since 1970. */
  readonly addedAtMs: number;
}

/** A key that lost our trust, as other nodes are told. */
export interface Revocation {
  /** Whose it was. */
  readonly nodeId: NodeId;
  /** When, milliseconds since 1970. */
  readonly atMs: number;
}

/** All that the file holds. */
export interface TrustFile {
  readonly peers: readonly TrustEntry[];
  readonly expected: readonly ExpectedKey[];
  readonly revocations: readonly Revocation[];
}

/** The bytes of a file. */
export function encodeTrustFile({ peers, expected, revocations }: TrustFile): Buffer {
  const rows = peers.map(({ publicKey, name, decision, decidedAtMs }) => {
    return { publicKey, name, decision, decidedAtMs };
  });
  const text = JSON.stringify({ format: FORMAT, peers: rows, expected, revocations }, null, 2);
  return Buffer.from(`${text}\n`);
}

/** Reads a file. @throws Error that says what is wrong with it */
export function decodeTrustFile(bytes: Buffer): TrustFile {
  const file = (JSON.parse(bytes.toString('utf8')) ?? {}) as Record<string, unknown>;
  const { format, peers } = file;
  if (format !== FORMAT && format !== FORMAT_BEFORE) {
    throw new Error(`expected format "${FORMAT}" with a list of peers`);
  }
  const isNew = format === FORMAT;
  return {
    peers: peerRows(listOf(peers, 'peers', TRUST_ENTRY_COUNT_MAX)),
    expected: isNew
      ? listOf(file['expected'], 'expected keys', EXPECTED_KEY_COUNT_MAX).map(expectedRow)
      : [],
    revocations: isNew
      ? listOf(file['revocations'], 'revocations', REVOCATION_COUNT_MAX).map(revocationRow)
      : [],
  };
}

function listOf(value: unknown, what: string, countMax: number): Record<string, unknown>[] {
  if (!Array.isArray(value)) throw new Error(`expected format "${FORMAT}" with a list of ${what}`);
  if (value.length > countMax) throw new Error(`it has too many ${what}`);
  return value.map((row: unknown) => (row ?? {}) as Record<string, unknown>);
}

function peerRows(rows: readonly Record<string, unknown>[]): TrustEntry[] {
  const names = new Set<string>();
  return rows.map(({ publicKey, name, decision, decidedAtMs }, index) => {
    if (
      typeof publicKey !== 'string' ||
      !/^[0-9a-f]{64}$/.test(publicKey) ||
      typeof name !== 'string' ||
      !isNodeName(name) ||
      (decision !== 'trusted' && decision !== 'denied') ||
      !isTime(decidedAtMs)
    ) {
      throw new Error(`peer ${index} is malformed`);
    }
    if (decision === 'trusted' && names.has(name.toLowerCase())) {
      throw new Error(`peer ${index}: two trusted keys share one name`);
    }
    if (decision === 'trusted') names.add(name.toLowerCase());
    const nodeId = nodeIdOf(Buffer.from(publicKey, 'hex'));
    return { publicKey, nodeId, name, decision, decidedAtMs };
  });
}

function expectedRow(row: Record<string, unknown>, index: number): ExpectedKey {
  const { pattern, name, addedAtMs } = row;
  const isNamed = typeof name === 'string' && (name === '' || isNodeName(name));
  if (typeof pattern !== 'string' || !isNamed || !isTime(addedAtMs)) {
    throw new Error(`expected key ${index} is malformed`);
  }
  parseKeyPattern(pattern);
  return { pattern, name, addedAtMs };
}

function revocationRow({ nodeId, atMs }: Record<string, unknown>, index: number): Revocation {
  if (typeof nodeId !== 'string' || !/^[0-9a-f]{32}$/.test(nodeId) || !isTime(atMs)) {
    throw new Error(`revocation ${index} is malformed`);
  }
  return { nodeId, atMs };
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}
