/**
 * What `object.*` do: a request of people becomes a call of the pool, and its answer a row. What ends on
 * this node ends before the handler returns, so that its answer costs no promise.
 */
import { MemcloudError } from '../../common/errors.ts';
import {
  OBJECT_PIECE_SIZE_MAX_BYTES,
  type ObjectInfo,
  type ObjectName,
  type ObjectOptions,
  type ObjectPiece,
  type ObjectQuery,
  type ObjectReaders,
} from '../../common/objects.ts';
import type { NodeId } from '../../common/ports.ts';
import type { ObjectPieceRow, ObjectRow } from '../../common/rpc-objects.ts';
import type { RpcParams } from '../../common/rpc-schema.ts';
import type { ObjectPool } from '../../objects/pool.ts';
import type { RpcHandlers } from '../rpc/call.ts';
import { Uploads } from './uploads.ts';

/** What the methods work on. */
export interface ObjectContext {
  /** The objects of all nodes. */
  readonly pool: ObjectPool;
  /** Who may read an object whose writer does not say. */
  readonly readersDefault: 'trusted' | 'private';
  /** A node by id or name. @throws MemcloudError `ERR_PEER_UNKNOWN` */
  readonly resolveNode: (nodeIdOrName: string) => NodeId;
}

/** The methods of objects. */
export type ObjectHandlers = Pick<
  RpcHandlers,
  | 'object.put'
  | 'object.get'
  | 'object.stat'
  | 'object.delete'
  | 'object.list'
  | 'object.flush'
  | 'object.usage'
  | 'object.begin'
  | 'object.append'
  | 'object.commit'
  | 'object.abort'
>;

const NO_BYTES = new Uint8Array(0);
const MISS: ObjectPieceRow = { found: false, object: null, data: NO_BYTES };

/** The handlers. */
export function objectHandlers(context: ObjectContext): ObjectHandlers {
  const { pool } = context;
  const row = (info: ObjectInfo): ObjectRow => rowOf(info, pool.nameOf(info.holder));
  const pieceRow = (piece: ObjectPiece | undefined): ObjectPieceRow =>
    piece === undefined ? MISS : { found: true, object: row(piece.info), data: piece.bytes };
  const briefPieceRow = (piece: ObjectPiece | undefined): ObjectPieceRow =>
    piece !== undefined && saysItAll(piece)
      ? { found: true, object: null, data: piece.bytes }
      : pieceRow(piece);
  return {
    'object.put': (params) => then(pool.put(params, params.data, optionsOf(params, context)), row),
    'object.get': (params) => {
      const { peer, offset = 0, length = OBJECT_PIECE_SIZE_MAX_BYTES, ifVersion } = params;
      const piece = pool.get(nameOf(params), peer, offset, length, ifVersion);
      return then(piece, params.brief === true ? briefPieceRow : pieceRow);
    },
    'object.stat': (params) =>
      then(pool.stat(nameOf(params), params.peer), (info) =>
        info === undefined ? null : row(info),
      ),
    'object.delete': (params) =>
      then(pool.delete(nameOf(params), params.peer, params.ifVersion), (deleted) => ({ deleted })),
    'object.list': (params) => list(pool, params),
    'object.flush': ({ peer, all = false }) => {
      if (all && peer !== undefined) throw usage('expected one of peer and all, got both');
      return all ? pool.flushPool() : pool.flush(peer);
    },
    'object.usage': ({ peer }) => pool.usage(peer),
    ...uploadHandlers(context, row),
  };
}

/** Whether the bytes end the value, and their writer noted nothing on it. */
function saysItAll({ info, offset, bytes }: ObjectPiece): boolean {
  return info.meta.length === 0 && offset + bytes.length >= info.sizeBytes;
}

function uploadHandlers(
  context: ObjectContext,
  row: (info: ObjectInfo) => ObjectRow,
): Pick<ObjectHandlers, 'object.begin' | 'object.append' | 'object.commit' | 'object.abort'> {
  const { pool } = context;
  const uploads = new Uploads();
  return {
    'object.begin': async (params, { connection }) => {
      const options = optionsOf(params, context);
      const { number, upload } = await uploads.begin(connection, () =>
        pool.begin(params, options, params.sizeHint),
      );
      const { holder } = upload;
      return { upload: number, holder, holderName: pool.nameOf(holder) };
    },
    'object.append': ({ upload, offset, data }, { connection }) => {
      const end = { offset: offset + data.length };
      return then(uploads.find(connection, upload).append(offset, data), () => end);
    },
    'object.commit': ({ upload }, { connection }) =>
      then(uploads.find(connection, upload).commit(), (info) => {
        uploads.remove(connection, upload);
        return row(info);
      }),
    'object.abort': ({ upload }, { connection }) =>
      then(uploads.remove(connection, upload)?.abort(), () => null),
  };
}

async function list(
  pool: ObjectPool,
  params: RpcParams<'object.list'>,
): Promise<{
  objects: readonly ObjectRow[];
  cursor: string | null;
  unreachable: readonly string[];
}> {
  const { peer, pool: everywhere = false, kind = 'key', patterns = [], countMax, cursor } = params;
  if (everywhere && peer !== undefined) throw usage('expected one of peer and pool, got both');
  const query: ObjectQuery = {
    ...{ kind, patterns },
    ...(cursor === undefined ? {} : { cursor }),
    ...(countMax === undefined ? {} : { countMax }),
  };
  const found = everywhere
    ? await pool.listPool(query)
    : { unreachable: [], ...(await pool.list(query, peer)) };
  const names = new Map<NodeId, string>();
  const objects = found.objects.map((info) => {
    const name = names.get(info.holder) ?? pool.nameOf(info.holder);
    names.set(info.holder, name);
    return rowOf(info, name);
  });
  return { objects, cursor: found.cursor, unreachable: found.unreachable };
}

function rowOf(info: ObjectInfo, holderName: string): ObjectRow {
  const { name, holder, owner, sizeBytes, version, mode, readers, expiresInMs, meta } = info;
  return {
    key: name.kind === 'key' ? name.key : null,
    id: name.kind === 'block' ? name.id : null,
    holder,
    holderName,
    owner,
    sizeBytes,
    version,
    mode,
    readers,
    expiresInMs,
    meta,
  };
}

function nameOf({ key, id }: { key?: string | undefined; id?: string | undefined }): ObjectName {
  if (key !== undefined && id === undefined) return { kind: 'key', key };
  if (id !== undefined && key === undefined) return { kind: 'block', id };
  throw usage('expected one of key and id');
}

/** Options as the holder takes them: nodes by their ids, and the default of this node. */
function optionsOf(params: RpcParams<'object.begin'>, context: ObjectContext): ObjectOptions {
  const { mode, ttlMs, ifVersion, meta } = params;
  // Literals, here and behind: V8 makes a new shape for each object that is spread into another.
  return { mode, ttlMs, readers: readersOf(params.readers, context), ifVersion, meta };
}

function readersOf(
  readers: RpcParams<'object.begin'>['readers'],
  { readersDefault, resolveNode }: ObjectContext,
): ObjectReaders {
  if (readers === undefined) return readersDefault;
  return typeof readers === 'string' ? readers : readers.map(resolveNode);
}

function usage(text: string): MemcloudError {
  return new MemcloudError('ERR_USAGE', text);
}

function then<T, R>(value: T | Promise<T>, next: (value: T) => R): R | Promise<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}
