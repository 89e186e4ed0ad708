/**
 * A value as it lies on its holder, on its way here in pieces: the first one tells how long it is and which
 * version, the others are asked for a few at a time, and only of that version, so that a value is never two
 * halves of two. Whether it has to be decoded is for whoever asked: nothing here loads what that takes.
 */
import { MemcloudError } from '../common/errors.ts';
import { OBJECT_PIECE_SIZE_MAX_BYTES } from '../common/objects.ts';
import type { ObjectPieceRow, ObjectRow } from '../common/rpc-objects.ts';
import type { RpcParams } from '../common/rpc-schema.ts';
import type { CallOptions, Caller } from './client.ts';
import type { EncodedSource } from './encoded-download.ts';

/**
 * Pieces asked for at once: many when they are waited for, one when whoever takes them is slow. A piece that
 * lies here for some milliseconds grows old in the heap, where the collector comes by late: a slow reader of a
 * long value would hold tens of megabytes that nobody needs.
 */
const WINDOW_COUNT_MAX = 8;
const WINDOW_COUNT_MIN = 1;
/** More are asked for when waiting takes more than this share of the time that a piece is used. */
const WAIT_SHARE_MAX = 0.5;

/** A piece that was asked for. */
interface AskedPiece {
  readonly offset: number;
  readonly length: number;
  readonly piece: Promise<ObjectPieceRow>;
}

/** The object that is meant, for `object.get`. */
export interface ObjectTarget {
  /** A key, */
  readonly key?: string | undefined;
  /** or a block id. */
  readonly id?: string | undefined;
  /** Its holder; without, the daemon finds it. */
  readonly peer?: string | undefined;
}

/** What of it. */
export interface ObjectRange {
  /** Default: 0. */
  readonly offset?: number | undefined;
  /** Default: to the end. */
  readonly length?: number | undefined;
}

/** For people: which object. */
export function nameOf({ key, id }: ObjectTarget): string {
  return key === undefined ? `block ${id}` : `key ${JSON.stringify(key)}`;
}

/** Asks for the first piece. @param brief - of a whole value: without its row, where the bytes say it all */
export function firstParams(
  { key, id, peer }: ObjectTarget,
  { offset, length }: ObjectRange,
  brief?: boolean,
): RpcParams<'object.get'> {
  if (offset === undefined && length === undefined) return { key, id, peer, brief };
  const size = Math.min(length ?? Infinity, OBJECT_PIECE_SIZE_MAX_BYTES);
  return { key, id, peer, offset: offset ?? 0, length: size };
}

/** The first piece, and the object that it is of. */
export function firstPiece(
  client: Caller,
  target: ObjectTarget,
  range: ObjectRange,
  calls: CallOptions,
): Promise<ObjectPieceRow> {
  return client.call('object.get', firstParams(target, range), calls);
}

/**
 * The pieces behind the first, in order.
 *
 * @throws MemcloudError the daemon's; `ERR_OBJECT_CONFLICT` when the value was replaced meanwhile
 */
export async function* laterPieces(
  client: Caller,
  target: ObjectTarget,
  object: ObjectRow,
  range: { readonly start: number; readonly end: number },
  calls: CallOptions,
): AsyncGenerator<Buffer> {
  const asked: AskedPiece[] = [];
  let next = range.start;
  let windowCount = WINDOW_COUNT_MAX;
  const ask = (): void => {
    const length = Math.min(range.end - next, OBJECT_PIECE_SIZE_MAX_BYTES);
    const params = {
      ...target,
      peer: object.holder,
      ifVersion: object.version,
      offset: next,
      length,
    };
    const piece = client.call('object.get', params, calls);
    // Whoever stops half way does not wait for the rest, so a failure is nothing to be told of here.
    piece.catch(() => undefined);
    asked.push({ offset: next, length, piece });
    next += length;
  };
  while (asked.length > 0 || next < range.end) {
    while (asked.length < windowCount && next < range.end) ask();
    const first = asked.shift();
    if (first === undefined) break;
    const wantedMs = performance.now();
    const { found, data } = await first.piece;
    if (!found) throw new MemcloudError('ERR_OBJECT_UNKNOWN', `${nameOf(target)} is gone`);
    if (data.length === 0) {
      throw new MemcloudError('ERR_RPC_PROTOCOL', `${nameOf(target)}: an empty piece`);
    }
    const cameMs = performance.now();
    yield asBuffer(data);
    const isLate = cameMs - wantedMs > (performance.now() - cameMs) * WAIT_SHARE_MAX;
    windowCount = isLate
      ? Math.min(WINDOW_COUNT_MAX, windowCount + 1)
      : Math.max(WINDOW_COUNT_MIN, windowCount - 1);
    if (data.length === first.length) continue;
    // Shorter than asked for: what was asked for behind it begins too late.
    asked.splice(0);
    next = first.offset + data.length;
  }
}

/** The value, or the range of it that begins with `first`, as it lies there. */
export async function* storedPieces(
  client: Caller,
  target: ObjectTarget,
  range: ObjectRange,
  { object, data }: { readonly object: ObjectRow; readonly data: Uint8Array },
  calls: CallOptions,
): AsyncGenerator<Buffer> {
  if (data.length > 0) yield asBuffer(data);
  const offset = range.offset ?? 0;
  const end = Math.min(object.sizeBytes, offset + (range.length ?? Infinity));
  const start = offset + data.length;
  if (start < end) yield* laterPieces(client, target, object, { start, end }, calls);
}

/** A value as it lies on its holder, of which the first piece is there if it begins the value. */
export function encodedSource(
  client: Caller,
  target: ObjectTarget,
  object: ObjectRow,
  first: Buffer,
  calls: CallOptions,
): EncodedSource {
  const later = (start: number, end: number): AsyncGenerator<Buffer> =>
    laterPieces(client, target, object, { start, end }, calls);
  return {
    key: target.key,
    object,
    async *pieces() {
      if (first.length > 0) yield first;
      if (first.length < object.sizeBytes) yield* later(first.length, object.sizeBytes);
    },
    async read(offsetBytes, lengthBytes) {
      const end = Math.min(object.sizeBytes, offsetBytes + lengthBytes);
      if (end <= first.length) return first.subarray(offsetBytes, end);
      const parts: Buffer[] = [];
      for await (const piece of later(offsetBytes, end)) parts.push(piece);
      return Buffer.concat(parts);
    },
  };
}

/** The same bytes. */
export function asBuffer(data: Uint8Array): Buffer {
  return Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
