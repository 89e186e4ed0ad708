/**
 * The fields that requests and replies about objects share (docs/peer-protocol.md section 12): names,
 * versions, readers, options, and what is told of an object. Every field is checked on its way in; who
 * holds an object is never in a body, for the node that answers is its holder.
 */
import {
  OBJECT_KEY_SIZE_MAX_BYTES,
  OBJECT_META_SIZE_MAX_BYTES,
  OBJECT_READER_COUNT_MAX,
  type ObjectInfo,
  type ObjectMode,
  type ObjectName,
  type ObjectOptions,
  type ObjectReaders,
} from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { refuse, type BodyReader, type BodyWriter } from './body.ts';

/** Bytes of a node id. */
const NODE_ID_SIZE_BYTES = 16;
/** Kinds of names. */
const KIND = { KEY: 1, BLOCK: 2 } as const;
/** Readers: a count up to 64, or one of these. */
const READERS = { TRUSTED: 0xff, PRIVATE: 0xfe } as const;
const MODES: readonly ObjectMode[] = ['pinned', 'cache'];
const TTL_MAX_MS = 2 ** 40;

/** Bytes of one {@link ObjectInfo} at most, or of a name with options. */
export const INFO_SIZE_MAX_BYTES = 2560;

/** A key: not empty, without NUL. */
function readKey(reader: BodyReader): string {
  const key = reader.text(OBJECT_KEY_SIZE_MAX_BYTES, 'key');
  if (key === '' || key.includes('\0')) refuse('key: expected text without NUL, not empty');
  return key;
}

/** Writes a name. */
export function writeName(writer: BodyWriter, name: ObjectName): void {
  if (name.kind === 'key') writer.u8(KIND.KEY).text(name.key);
  else writer.u8(KIND.BLOCK).u64(name.id);
}

/** Reads a name. */
export function readName(reader: BodyReader): ObjectName {
  const kind = reader.u8();
  if (kind === KIND.KEY) return { kind: 'key', key: readKey(reader) };
  if (kind === KIND.BLOCK) return { kind: 'block', id: reader.u64() };
  return refuse(`name: kind ${kind} is unknown`);
}

/** Writes a key, or that there is none, which makes a block. */
export function writeMaybeKey(writer: BodyWriter, key: string | undefined): void {
  if (key === undefined) writer.u8(KIND.BLOCK);
  else writer.u8(KIND.KEY).text(key);
}

/** Reads what {@link writeMaybeKey} wrote. */
export function readMaybeKey(reader: BodyReader): string | undefined {
  const kind = reader.u8();
  if (kind === KIND.KEY) return readKey(reader);
  if (kind === KIND.BLOCK) return undefined;
  return refuse(`name: kind ${kind} is unknown`);
}

/** Writes a number that may be missing. */
export function writeMaybe(writer: BodyWriter, value: number | null | undefined): void {
  if (value === undefined || value === null) writer.u8(0);
  else writer.u8(1).safe(value);
}

/** Reads a number that may be missing. */
export function readMaybe(reader: BodyReader, what: string): number | undefined {
  return reader.choice(2, what) === 1 ? reader.safe(what) : undefined;
}

function writeReaders(writer: BodyWriter, readers: ObjectReaders): void {
  if (readers === 'trusted') writer.u8(READERS.TRUSTED);
  else if (readers === 'private') writer.u8(READERS.PRIVATE);
  else {
    writer.u8(readers.length);
    for (const nodeId of readers) writer.fixed(Buffer.from(nodeId, 'hex'));
  }
}

function readReaders(reader: BodyReader): ObjectReaders {
  const count = reader.u8();
  if (count === READERS.TRUSTED) return 'trusted';
  if (count === READERS.PRIVATE) return 'private';
  if (count > OBJECT_READER_COUNT_MAX) refuse(`readers: ${count} are too many`);
  const readers: NodeId[] = [];
  for (let index = 0; index < count; index += 1) readers.push(readNodeId(reader));
  return readers;
}

function readNodeId(reader: BodyReader): NodeId {
  return reader.fixed(NODE_ID_SIZE_BYTES).toString('hex');
}

function readMode(reader: BodyReader): ObjectMode {
  return MODES[reader.choice(MODES.length, 'mode')] ?? 'pinned';
}

/** Writes how an object is to be kept, defaults filled in. */
export function writeOptions(writer: BodyWriter, options: ObjectOptions): void {
  writer.u8(options.mode === 'cache' ? 1 : 0);
  writeMaybe(writer, options.ttlMs);
  writeMaybe(writer, options.ifVersion);
  writeReaders(writer, options.readers ?? 'trusted');
  writer.short(options.meta ?? new Uint8Array(0));
}

/** Reads how an object is to be kept; `meta` is borrowed. */
export function readOptions(reader: BodyReader): ObjectOptions {
  const mode = readMode(reader);
  const ttlMs = readMaybe(reader, 'ttl');
  if (ttlMs !== undefined && (ttlMs < 1 || ttlMs > TTL_MAX_MS)) {
    refuse(`ttl: expected 1 to 2^40 ms, got ${ttlMs}`);
  }
  const ifVersion = readMaybe(reader, 'version');
  const readers = readReaders(reader);
  const meta = reader.short(OBJECT_META_SIZE_MAX_BYTES, 'meta');
  return {
    ...{ mode, readers, meta },
    ...(ttlMs === undefined ? {} : { ttlMs }),
    ...(ifVersion === undefined ? {} : { ifVersion }),
  };
}

/** Writes what is told of an object. */
export function writeInfo(writer: BodyWriter, info: ObjectInfo): void {
  writeName(writer, info.name);
  writer.fixed(Buffer.from(info.owner, 'hex'));
  writer.safe(info.sizeBytes).safe(info.version);
  writer.u8(info.mode === 'cache' ? 1 : 0);
  writeMaybe(writer, info.expiresInMs === null ? null : Math.max(0, Math.round(info.expiresInMs)));
  writeReaders(writer, info.readers);
  writer.short(info.meta);
}

/**
 * Reads what is told of an object.
 *
 * @param holder - the node that told it
 */
export function readInfo(reader: BodyReader, holder: NodeId): ObjectInfo {
  const name = readName(reader);
  const owner = readNodeId(reader);
  const sizeBytes = reader.safe('size');
  const version = reader.safe('version');
  const mode = readMode(reader);
  const expiresInMs = readMaybe(reader, 'expiry') ?? null;
  const readers = readReaders(reader);
  // Kept by the reader of the info, longer than the body.
  const meta = Uint8Array.from(reader.short(OBJECT_META_SIZE_MAX_BYTES, 'meta'));
  return { name, holder, owner, sizeBytes, version, mode, readers, expiresInMs, meta };
}
