/**
 * Listing and flushing over many holders. A listing goes from holder to holder in the order of their node
 * ids, and its cursor names the holder where it goes on and that holder's own cursor: holders may come and
 * go between two pages. A holder that does not answer is named and passed by.
 */
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import {
  OBJECT_LIST_COUNT_MAX,
  type ObjectHolder,
  type ObjectInfo,
  type ObjectQuery,
} from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { RemoteObjects } from './remote.ts';
import { withDeadline } from './search.ts';

/** Longest time of one page, milliseconds: what is left then waits for the next page. */
const PAGE_TIME_MAX_MS = 2000;
/** Longest wait for one holder's answer, milliseconds. */
const HOLDER_TIME_MAX_MS = 1000;

/** A holder and what people call it. */
export interface NamedHolder {
  readonly holder: ObjectHolder;
  readonly name: string;
}

/** A page of the listing of a pool. */
export interface PoolListing {
  readonly objects: readonly ObjectInfo[];
  readonly cursor: string | null;
  /** Names of holders that did not answer. */
  readonly unreachable: readonly string[];
}

/** What a flush did on one holder. */
export interface FlushRow {
  readonly holder: NodeId;
  readonly holderName: string;
  readonly objectCount: number;
  readonly valueBytes: number;
  /** Empty when it was done. */
  readonly problem: string;
}

/** Takes a pool's cursor apart. @throws MemcloudError `ERR_USAGE` */
function readCursor(cursor: string | undefined): { from: NodeId; inner: string | undefined } {
  if (cursor === undefined) return { from: '', inner: undefined };
  const [, from, inner] = /^([0-9a-f]{32})(?:\.(.+))?$/s.exec(cursor) ?? [];
  if (from === undefined) {
    throw new MemcloudError('ERR_USAGE', 'listing: expected a cursor that a listing gave');
  }
  return { from, inner };
}

/** One page over all of `nodes`. @throws MemcloudError `ERR_USAGE` */
export async function listPool(
  query: ObjectQuery,
  nodes: readonly NamedHolder[],
): Promise<PoolListing> {
  const { from, inner } = readCursor(query.cursor);
  const { kind = 'key', patterns = [] } = query;
  const left = [...nodes]
    .filter(({ holder }) => holder.nodeId >= from)
    .sort((a, b) => (a.holder.nodeId < b.holder.nodeId ? -1 : 1));
  const endMs = performance.now() + PAGE_TIME_MAX_MS;
  const objects: ObjectInfo[] = [];
  const unreachable: string[] = [];
  let room = query.countMax ?? OBJECT_LIST_COUNT_MAX;
  for (const [index, { holder, name }] of left.entries()) {
    if (room === 0 || performance.now() > endMs) {
      return { objects, cursor: holder.nodeId, unreachable };
    }
    const goesOn = index === 0 && holder.nodeId === from && inner !== undefined;
    const page = { kind, patterns, countMax: room, ...(goesOn ? { cursor: inner } : {}) };
    try {
      const listing = await listOn(holder, page);
      objects.push(...listing.objects);
      room -= listing.objects.length;
      if (listing.cursor !== null) {
        return { objects, cursor: `${holder.nodeId}.${listing.cursor}`, unreachable };
      }
    } catch (error) {
      const failure = asMemcloudError(error);
      if (failure.code === 'ERR_USAGE') throw failure;
      unreachable.push(name);
    }
  }
  return { objects, cursor: null, unreachable };
}

function listOn(holder: ObjectHolder, query: ObjectQuery): ReturnType<ObjectHolder['list']> {
  if (!(holder instanceof RemoteObjects)) return holder.list(query);
  return withDeadline(HOLDER_TIME_MAX_MS, (signal) => holder.list(query, signal));
}

/**
 * Flushes all of `nodes` at once.
 *
 * @param throws - a problem is thrown, for there is one node only
 */
export function flushPool(nodes: readonly NamedHolder[], throws: boolean): Promise<FlushRow[]> {
  return Promise.all(
    nodes.map(async ({ holder, name }) => {
      const node = { holder: holder.nodeId, holderName: name };
      try {
        const { objectCount, valueBytes } = await holder.flush();
        return { ...node, objectCount, valueBytes, problem: '' };
      } catch (error) {
        const { code, message } = asMemcloudError(error);
        if (throws) throw error;
        return { ...node, objectCount: 0, valueBytes: 0, problem: `${code}: ${message}` };
      }
    }),
  );
}
