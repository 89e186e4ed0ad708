/**
 * The RPC methods of objects: parameters and results. Bytes travel as MessagePack binary; a client that
 * prints JSON shows them as it sees fit. `peer` names the holder by id or name; `local` and the name of the
 * node itself are this node. Without it a write stays here, a read by key asks here first and then every
 * peer at once, and a block id says itself where the block is.
 */
import * as v from 'valibot';
import {
  OBJECT_KEY_SIZE_MAX_BYTES,
  OBJECT_LIST_COUNT_MAX,
  OBJECT_META_SIZE_MAX_BYTES,
  OBJECT_PATTERN_COUNT_MAX,
  OBJECT_PIECE_SIZE_MAX_BYTES,
  OBJECT_READER_COUNT_MAX,
} from './objects.ts';
import type { ObjectUsage } from './objects.ts';
import { wholeNumber } from './schema-parts.ts';

const binary = (sizeMax: number) =>
  v.pipe(
    v.custom<Uint8Array>((value) => value instanceof Uint8Array, 'expected binary'),
    v.check((bytes) => bytes.length <= sizeMax, `expected at most ${sizeMax} bytes`),
  );

const key = v.pipe(
  v.string(),
  v.check(
    (text) =>
      text.length > 0 &&
      !text.includes('\0') &&
      Buffer.byteLength(text) <= OBJECT_KEY_SIZE_MAX_BYTES,
    `expected 1 to ${OBJECT_KEY_SIZE_MAX_BYTES} bytes of text without NUL`,
  ),
);
const block = v.pipe(
  v.string(),
  v.regex(/^(0|[1-9][0-9]{0,19})$/, 'expected a block id: a decimal number of 64 bits'),
);
const peer = v.optional(v.string());
/** Exactly one of `key` and `id`; the handler checks that. */
const named = { key: v.optional(key), id: v.optional(block), peer };
const SIZE_MAX = Number.MAX_SAFE_INTEGER;

const options = {
  mode: v.optional(v.picklist(['pinned', 'cache'])),
  ttlMs: v.optional(wholeNumber(2 ** 40)),
  // Node names or ids are resolved by the daemon.
  readers: v.optional(
    v.union([
      v.picklist(['private', 'trusted']),
      v.pipe(v.array(v.string()), v.maxLength(OBJECT_READER_COUNT_MAX)),
    ]),
  ),
  ifVersion: v.optional(wholeNumber(SIZE_MAX)),
  meta: v.optional(binary(OBJECT_META_SIZE_MAX_BYTES)),
};
const destination = {
  // Without: a block.
  key: v.optional(key),
  peer,
  // On any peer with room, instead of here.
  remote: v.optional(v.boolean()),
};
const version = { ifVersion: v.optional(wholeNumber(SIZE_MAX)) };

/** The parameters of the methods of objects. */
export const OBJECT_RPC_PARAMS = {
  'object.put': v.strictObject({
    ...destination,
    ...options,
    data: binary(OBJECT_PIECE_SIZE_MAX_BYTES),
  }),
  'object.get': v.strictObject({
    ...named,
    ...version,
    offset: v.optional(wholeNumber(SIZE_MAX)),
    length: v.optional(wholeNumber(OBJECT_PIECE_SIZE_MAX_BYTES)),
    // Leave the row out where the bytes say it all: they end the value, and it has no notes.
    brief: v.optional(v.boolean()),
  }),
  'object.stat': v.strictObject(named),
  'object.delete': v.strictObject({ ...named, ...version }),
  'object.list': v.strictObject({
    patterns: v.optional(v.pipe(v.array(v.string()), v.maxLength(OBJECT_PATTERN_COUNT_MAX))),
    kind: v.optional(v.picklist(['key', 'block', 'all'])),
    peer,
    /** Here and on every peer that is up, instead of here alone. */
    pool: v.optional(v.boolean()),
    cursor: v.optional(v.string()),
    countMax: v.optional(wholeNumber(OBJECT_LIST_COUNT_MAX)),
  }),
  'object.flush': v.strictObject({
    peer,
    /** Here and on every peer that is up. */
    all: v.optional(v.boolean()),
  }),
  'object.usage': v.strictObject({ peer }),
  'object.begin': v.strictObject({
    ...destination,
    ...options,
    sizeHint: v.optional(wholeNumber(SIZE_MAX)),
  }),
  'object.append': v.strictObject({
    upload: v.string(),
    offset: wholeNumber(SIZE_MAX),
    data: binary(OBJECT_PIECE_SIZE_MAX_BYTES),
  }),
  'object.commit': v.strictObject({ upload: v.string() }),
  'object.abort': v.strictObject({ upload: v.string() }),
} as const;

/** An object, without its value. */
export interface ObjectRow {
  /** Its key; null for a block. */
  readonly key: string | null;
  /** Its block id; null for a key. */
  readonly id: string | null;
  /** Node id of its holder. */
  readonly holder: string;
  /** Name of its holder. */
  readonly holderName: string;
  /** Node id of its owner. */
  readonly owner: string;
  /** Bytes of its value. */
  readonly sizeBytes: number;
  /** Counts its writes. */
  readonly version: number;
  /** `pinned` or `cache`. */
  readonly mode: string;
  /** `private`, `trusted`, or node ids. */
  readonly readers: string | readonly string[];
  /** Milliseconds until it is gone; null: no end. */
  readonly expiresInMs: number | null;
  /** The writer's own notes. */
  readonly meta: Uint8Array;
}

/** A piece of a value; with a miss only `found` says anything. */
export interface ObjectPieceRow {
  /** Whether there is such an object. */
  readonly found: boolean;
  /** The object; null when there is none, and when a brief answer says it all without. */
  readonly object: ObjectRow | null;
  /** The bytes from the offset on. */
  readonly data: Uint8Array;
}

/** What flush did on one holder. */
export interface ObjectFlushRow {
  /** Node id of the holder. */
  readonly holder: string;
  /** Its name. */
  readonly holderName: string;
  /** Objects deleted. */
  readonly objectCount: number;
  /** Bytes of their values. */
  readonly valueBytes: number;
  /** Why it was not done there; empty when it was. */
  readonly problem: string;
}

/** The results of the methods of objects. */
export interface ObjectRpcResults {
  /** The object: its holder has it. */
  'object.put': ObjectRow;
  /** The piece, or that there is no such object. */
  'object.get': ObjectPieceRow;
  /** The object; null when there is none. */
  'object.stat': ObjectRow | null;
  /** Whether there was one. */
  'object.delete': { readonly deleted: boolean };
  /** A page of the listing; `unreachable` names peers that did not answer. */
  'object.list': {
    readonly objects: readonly ObjectRow[];
    readonly cursor: string | null;
    readonly unreachable: readonly string[];
  };
  /** A row for each holder. */
  'object.flush': readonly ObjectFlushRow[];
  /** What this node owns there; here: what everybody has. */
  'object.usage': ObjectUsage;
  /** The upload's number, for the connection that began it. */
  'object.begin': { readonly upload: string; readonly holder: string; readonly holderName: string };
  /** Where the next piece begins. */
  'object.append': { readonly offset: number };
  /** The object. */
  'object.commit': ObjectRow;
  /** Nothing. */
  'object.abort': null;
}
