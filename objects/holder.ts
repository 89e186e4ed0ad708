/**
 * The objects of this node as one node may see and change them: `ObjectHolder` of common/objects.ts, with
 * results that are there when the call returns. Who asks is fixed when it is opened and comes from a
 * session's key, never from a message.
 */
import {
  OBJECT_PIECE_SIZE_MAX_BYTES,
  type ObjectHolder,
  type ObjectInfo,
  type ObjectListing,
  type ObjectName,
  type ObjectOptions,
  type ObjectPiece,
  type ObjectQuery,
  type ObjectUsage,
} from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { checkName, checkVersion, checkWhole } from './arguments.ts';
import {
  checkIsAt,
  checkOwner,
  findLive,
  infoOf,
  mayRead,
  viewStored,
  type StoreCore,
} from './core.ts';
import { listObjects } from './listing.ts';
import { discardAllOf, usageOf } from './owners.ts';
import type { Writer } from './writer.ts';

/** One node's way into the store of this node. */
export class LocalHolder implements ObjectHolder {
  readonly nodeId: NodeId;
  readonly #core: StoreCore;
  readonly #writer: Writer;
  readonly #requester: NodeId;

  /** @param requester - for whom it is */
  constructor(core: StoreCore, writer: Writer, requester: NodeId) {
    this.nodeId = core.nodeId;
    this.#core = core;
    this.#writer = writer;
    this.#requester = requester;
  }

  /** @inheritDoc */
  put(key: string | undefined, value: Uint8Array, options: ObjectOptions): ObjectInfo {
    return this.#writer.put(this.#requester, key, value, options);
  }

  /** @inheritDoc */
  get(
    name: ObjectName,
    offset: number,
    length: number,
    ifVersion?: number,
  ): ObjectPiece | undefined {
    checkWhole('offset', offset, 0, Number.MAX_SAFE_INTEGER);
    checkWhole('length', length, 0, Number.MAX_SAFE_INTEGER);
    checkVersion(ifVersion);
    const nowMs = this.#core.clock.nowMs();
    const row = this.#find(name, nowMs);
    const { table, counters } = this.#core;
    if (row === undefined) {
      counters.miss += 1;
      return undefined;
    }
    checkIsAt(this.#core, row, ifVersion);
    counters.hit += 1;
    table.touch(row);
    const rest = Math.max(0, table.sizeOf(row) - offset);
    const count = Math.min(length, rest, OBJECT_PIECE_SIZE_MAX_BYTES);
    return {
      info: infoOf(this.#core, row, nowMs, name),
      offset,
      bytes: viewStored(this.#core, row, table.metaBytesOf(row) + offset, count),
    };
  }

  /** @inheritDoc */
  stat(name: ObjectName): ObjectInfo | undefined {
    const nowMs = this.#core.clock.nowMs();
    const row = this.#find(name, nowMs);
    return row === undefined ? undefined : infoOf(this.#core, row, nowMs, name);
  }

  /** @inheritDoc */
  delete(name: ObjectName, ifVersion?: number): boolean {
    checkVersion(ifVersion);
    const row = this.#find(name, this.#core.clock.nowMs());
    if (row === undefined) return false;
    checkOwner(this.#core, row, this.#requester);
    checkIsAt(this.#core, row, ifVersion);
    this.#core.counters.delete += 1;
    this.#core.room.discard(row);
    return true;
  }

  /** @inheritDoc */
  list(query: ObjectQuery): ObjectListing {
    return listObjects(this.#core, this.#requester, query);
  }

  /** @inheritDoc */
  flush(): ObjectUsage {
    return discardAllOf(this.#core, this.#requester);
  }

  /** @inheritDoc */
  usage(): ObjectUsage {
    return usageOf(this.#core, this.#requester);
  }

  /** @inheritDoc */
  begin(key: string | undefined, options: ObjectOptions, sizeHint?: number): string {
    return this.#writer.begin(this.#requester, key, options, sizeHint);
  }

  /** @inheritDoc */
  append(upload: string, offset: number, piece: Uint8Array): void {
    this.#writer.append(this.#requester, upload, offset, piece);
  }

  /** @inheritDoc */
  commit(upload: string): ObjectInfo {
    return this.#writer.commit(this.#requester, upload);
  }

  /** @inheritDoc */
  abort(upload: string): void {
    this.#writer.abort(this.#requester, upload);
  }

  /** What the requester may not read is not there for it. */
  #find(name: ObjectName, nowMs: number): number | undefined {
    const own = checkName(name, this.#core.holderBits);
    const row = own === undefined ? undefined : findLive(this.#core, own, nowMs);
    return row !== undefined && mayRead(this.#core, row, this.#requester) ? row : undefined;
  }
}
