/**
 * Checks what callers pass. Requests come from other nodes and from any program on this one, so every
 * bound of common/objects.ts is held here once, and what is behind may trust it. Pure.
 */
import { MemcloudError } from '../common/errors.ts';
import {
  OBJECT_KEY_SIZE_MAX_BYTES,
  OBJECT_META_SIZE_MAX_BYTES,
  OBJECT_PIECE_SIZE_MAX_BYTES,
  OBJECT_READER_COUNT_MAX,
  type ObjectMode,
  type ObjectName,
  type ObjectOptions,
  type ObjectReaders,
} from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { readBlockId } from './block-id.ts';

/** The longest time to live, milliseconds. */
const TTL_MAX_MS = 2 ** 40;
const NODE_ID = /^[0-9a-f]{32}$/;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Options that were checked, with what they leave out. */
export interface KeepOptions {
  readonly mode: ObjectMode;
  /** Infinity: no end. */
  readonly ttlMs: number;
  /** Each node once. */
  readonly readers: ObjectReaders;
  readonly ifVersion: number | undefined;
  readonly meta: Uint8Array;
}

const NO_META = new Uint8Array(0);

/** @throws MemcloudError `ERR_USAGE` */
export function usageError(what: string, expected: string, got: unknown): MemcloudError {
  const printed = typeof got === 'number' ? String(got) : typeof got;
  return new MemcloudError('ERR_USAGE', `${what}: expected ${expected}, got ${printed}`);
}

/**
 * A key: text that has a UTF-8 form, so that two keys that differ here differ everywhere.
 *
 * @throws MemcloudError `ERR_USAGE`
 */
export function checkKey(key: string): void {
  const isText = typeof key === 'string' && key.length > 0 && !key.includes('\0');
  if (!isText || LONE_SURROGATE.test(key)) {
    throw new MemcloudError('ERR_USAGE', 'key: expected text that is not empty and has no NUL');
  }
  if (key.length * 3 <= OBJECT_KEY_SIZE_MAX_BYTES) return;
  const sizeBytes = key.length > OBJECT_KEY_SIZE_MAX_BYTES ? key.length : Buffer.byteLength(key);
  if (sizeBytes > OBJECT_KEY_SIZE_MAX_BYTES) {
    throw usageError('key', `at most ${OBJECT_KEY_SIZE_MAX_BYTES} bytes`, sizeBytes);
  }
}

/**
 * A name as the store keeps it: a key, or the own bits of a block.
 *
 * @param ownHolderBits - of this holder
 * @returns undefined when the block would be on another holder: a miss
 * @throws MemcloudError `ERR_USAGE`
 */
export function checkName(name: ObjectName, ownHolderBits: number): string | number | undefined {
  if (name.kind === 'key') {
    checkKey(name.key);
    return name.key;
  }
  const block = typeof name.id === 'string' ? readBlockId(name.id) : undefined;
  if (block === undefined) {
    throw new MemcloudError('ERR_USAGE', 'block id: expected a decimal number of 64 bits');
  }
  return block.holderBits === ownHolderBits ? block.own : undefined;
}

/** A whole number from `min` to `max`. @throws MemcloudError `ERR_USAGE` */
export function checkWhole(what: string, value: number, min: number, max: number): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return;
  throw usageError(what, `a whole number from ${min} to ${max}`, value);
}

/** A version to compare with. @throws MemcloudError `ERR_USAGE` */
export function checkVersion(ifVersion: number | undefined): void {
  if (ifVersion !== undefined) checkWhole('ifVersion', ifVersion, 0, Number.MAX_SAFE_INTEGER);
}

/** A value, or a piece of one. @throws MemcloudError `ERR_USAGE` */
export function checkPiece(bytes: Uint8Array): void {
  if (!(bytes instanceof Uint8Array)) throw usageError('value', 'bytes', bytes);
  if (bytes.length > OBJECT_PIECE_SIZE_MAX_BYTES) {
    throw usageError('value', `at most ${OBJECT_PIECE_SIZE_MAX_BYTES} bytes`, bytes.length);
  }
}

/** @throws MemcloudError `ERR_USAGE` */
export function checkOptions(options: ObjectOptions): KeepOptions {
  const { mode = 'pinned', ttlMs, readers = 'trusted', ifVersion, meta = NO_META } = options;
  if (mode !== 'pinned' && mode !== 'cache') throw usageError('mode', 'pinned or cache', mode);
  if (ttlMs !== undefined) checkWhole('ttlMs', ttlMs, 1, TTL_MAX_MS);
  checkVersion(ifVersion);
  if (!(meta instanceof Uint8Array) || meta.length > OBJECT_META_SIZE_MAX_BYTES) {
    throw usageError('meta', `at most ${OBJECT_META_SIZE_MAX_BYTES} bytes`, meta.length);
  }
  return { mode, ttlMs: ttlMs ?? Infinity, readers: checkReaders(readers), ifVersion, meta };
}

function checkReaders(readers: ObjectReaders): ObjectReaders {
  if (readers === 'private' || readers === 'trusted') return readers;
  const isList = Array.isArray(readers) && readers.length <= OBJECT_READER_COUNT_MAX;
  if (!isList || !readers.every((reader: NodeId) => NODE_ID.test(reader))) {
    throw usageError('readers', `private, trusted or ${OBJECT_READER_COUNT_MAX} node ids`, readers);
  }
  // Copies: what the caller passed may hold on to a whole message.
  const own = Array.from(new Set(readers), (reader: NodeId) => ownText(reader));
  return Object.freeze(own);
}

/** The same text in memory of its own: a part of a long text keeps all of it alive. */
export function ownText(text: string): string {
  return Buffer.from(text).toString();
}
