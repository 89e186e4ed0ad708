/**
 * What both stores refuse before they look at anything: keys, values and transactions beyond the limits
 * of `meta-store.ts`. The limits keep within those of etcd, and the embedded store holds to them as
 * well, so that a control plane that began with one store can go on with the other.
 */
import { MemcloudError } from '../common/errors.ts';
import {
  META_KEY_SIZE_MAX_BYTES,
  META_TRANSACTION_SIZE_MAX_BYTES,
  META_VALUE_SIZE_MAX_BYTES,
  TRANSACTION_OP_COUNT_MAX,
  type MetaCompare,
  type MetaOp,
} from './meta-store.ts';

/** An `ERR_CONTROL_STORE`. */
export function storeError(problem: string, cause?: unknown): MemcloudError {
  return new MemcloudError('ERR_CONTROL_STORE', problem, cause === undefined ? {} : { cause });
}

/** UTF-8 of a text; half a surrogate pair has none, and two such texts would become one. */
function bytesOf(text: string, what: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.toString() !== text) throw storeError(`${what}: expected well-formed Unicode text`);
  return bytes;
}

/** Encodes a key. @throws MemcloudError `ERR_CONTROL_STORE` when it is empty, too long or no Unicode */
export function keyBytes(key: string): Buffer {
  const bytes = prefixBytes(key);
  if (bytes.length === 0) throw storeError('store key: expected at least 1 byte, got 0');
  return bytes;
}

/** Encodes a prefix of keys; the empty one is every key. @throws MemcloudError as {@link keyBytes} */
export function prefixBytes(prefix: string): Buffer {
  const bytes = bytesOf(prefix, 'store key');
  if (bytes.length <= META_KEY_SIZE_MAX_BYTES) return bytes;
  throw storeError(
    `store key: expected at most ${META_KEY_SIZE_MAX_BYTES} bytes, got ${bytes.length}`,
  );
}

/** Encodes a value. @throws MemcloudError `ERR_CONTROL_STORE` when it is too long or no Unicode */
export function valueBytes(value: string): Buffer {
  const bytes = bytesOf(value, 'store value');
  if (bytes.length <= META_VALUE_SIZE_MAX_BYTES) return bytes;
  throw storeError(
    `store value: expected at most ${META_VALUE_SIZE_MAX_BYTES} bytes, got ${bytes.length}`,
  );
}

/** The first key behind all that begin with `prefix`; undefined when there is no end. */
export function prefixEnd(prefix: Buffer): Buffer | undefined {
  for (let length = prefix.length; length > 0; length -= 1) {
    const last = prefix.readUInt8(length - 1);
    if (last === 0xff) continue;
    const end = Buffer.from(prefix.subarray(0, length));
    end.writeUInt8(last + 1, length - 1);
    return end;
  }
  return undefined;
}

/** A change of a transaction, encoded. */
export interface EncodedOp {
  readonly key: Buffer;
  readonly op: MetaOp;
  /** Undefined for a removal. */
  readonly value: Buffer | undefined;
}

/** A condition of a transaction, encoded. */
export interface EncodedCompare {
  readonly key: Buffer;
  readonly revision: number;
}

/**
 * Checks and encodes a transaction.
 *
 * @throws MemcloudError `ERR_CONTROL_STORE` when it is beyond the limits or names a key twice
 */
export function encodeTransaction(
  compares: readonly MetaCompare[],
  ops: readonly MetaOp[],
): { compares: EncodedCompare[]; ops: EncodedOp[] } {
  for (const [what, count] of [
    ['conditions', compares.length],
    ['changes', ops.length],
  ] as const) {
    if (count <= TRANSACTION_OP_COUNT_MAX) continue;
    throw storeError(
      `store transaction: expected at most ${TRANSACTION_OP_COUNT_MAX} ${what}, got ${count}`,
    );
  }
  const seen = new Set<string>();
  let sizeBytes = 0;
  const encoded = ops.map((op): EncodedOp => {
    const text = 'put' in op ? op.put : op.remove;
    if (seen.has(text)) throw storeError('store transaction: expected each key once');
    seen.add(text);
    const key = keyBytes(text);
    const value = 'put' in op ? valueBytes(op.value) : undefined;
    sizeBytes += key.length + (value?.length ?? 0);
    return { key, op, value };
  });
  if (sizeBytes > META_TRANSACTION_SIZE_MAX_BYTES) {
    throw storeError(
      `store transaction: expected at most ${META_TRANSACTION_SIZE_MAX_BYTES} bytes, got ${sizeBytes}`,
    );
  }
  return {
    compares: compares.map(({ key, revision }) => ({ key: keyBytes(key), revision })),
    ops: encoded,
  };
}
