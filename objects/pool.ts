/**
 * Which node an object is read from and written to. A write goes where its caller says: here, to a named
 * node, or to any peer with room. A read without a name asks the node where this one wrote the key last,
 * then here, then every peer that is up at once; a block id says itself who holds it.
 *
 * Calls that end here end before they return and make no promise. A value and its notes are borrowed until
 * the return.
 */
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type {
  ObjectHolder,
  ObjectInfo,
  ObjectLink,
  ObjectLinks,
  ObjectListing,
  ObjectName,
  ObjectOptions,
  ObjectPiece,
  ObjectQuery,
  ObjectUsage,
} from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { holderBits } from './block-id.ts';
import { KeyHolders } from './key-holders.ts';
import { flushPool, listPool, type FlushRow, type PoolListing } from './pool-listing.ts';
import { holderPrefixOf, RemoteObjects } from './remote.ts';
import { isNoAnswer, searchAll } from './search.ts';

/** Peers that are tried in turn when they refuse a value that may go to any of them. */
const PLACE_TRY_COUNT_MAX = 8;
/** The name of this node, beside its own. */
const LOCAL = 'local';

/** A value now, or later. */
export type Soon<T> = T | Promise<T>;

/** What a pool is made of. */
export interface ObjectPoolParts {
  /** This node. */
  readonly nodeId: NodeId;
  /** What it is called. */
  readonly nodeName: string;
  /** The objects here, as this node may see and change them. */
  readonly local: ObjectHolder;
  /** Everybody's objects here. */
  readonly usageHere: () => ObjectUsage;
  /** The other nodes. */
  readonly links: ObjectLinks;
  /** 0 or more, below 1. */
  readonly random: () => number;
}

/** Where a value is to go. */
export interface Destination {
  /** Undefined makes a block. */
  readonly key?: string | undefined;
  /** A node by id or name. */
  readonly peer?: string | undefined;
  /** On any peer with room. */
  readonly remote?: boolean | undefined;
}

/** A value that comes in pieces, and the node that it goes to. */
export interface PoolUpload {
  /** Whose memory takes it. */
  readonly holder: NodeId;
  /** Adds the bytes at `offset`, which is where the last piece ended; `piece` is borrowed until it resolves. */
  append(offset: number, piece: Uint8Array): Soon<void>;
  /** Makes the value one that others see. @returns the object */
  commit(): Soon<ObjectInfo>;
  /** Gives the room back. */
  abort(): Soon<void>;
}

/** The objects of this node and of the others. */
export class ObjectPool {
  readonly #parts: ObjectPoolParts;
  readonly #remotes = new Map<NodeId, RemoteObjects>();
  readonly #written = new KeyHolders();
  readonly #ownPrefix: number;

  constructor(parts: ObjectPoolParts) {
    this.#parts = parts;
    this.#ownPrefix = holderBits(parts.nodeId);
  }

  /** What people call a node. */
  nameOf(nodeId: NodeId): string {
    const { links, nodeName } = this.#parts;
    if (nodeId === this.#parts.nodeId) return nodeName;
    return links.list().find((link) => link.nodeId === nodeId)?.nodeName ?? nodeId;
  }

  // --- Writing -----------------------------------------------------------------------------------

  /** Writes a whole value. @throws as ObjectHolder.put, `ERR_PEER_UNKNOWN`, `ERR_USAGE` */
  put(to: Destination, value: Uint8Array, options: ObjectOptions): Soon<ObjectInfo> {
    const { key } = to;
    const holder = this.#destination(to);
    if (holder !== undefined) {
      return after(holder.put(key, value, options), (info) => this.#noteWritten(key, info));
    }
    const kept = Uint8Array.from(value);
    const meta = options.meta === undefined ? undefined : Uint8Array.from(options.meta);
    return this.#place(key, async (each) => {
      const info = await each.put(key, kept, { ...options, meta });
      return this.#noteWritten(key, info);
    });
  }

  /** Begins a value that comes in pieces. @throws as ObjectHolder.begin, `ERR_PEER_UNKNOWN`, `ERR_USAGE` */
  begin(to: Destination, options: ObjectOptions, sizeHint?: number): Soon<PoolUpload> {
    const { key } = to;
    const open = (holder: ObjectHolder): Soon<PoolUpload> =>
      after(holder.begin(key, options, sizeHint), (upload) => this.#upload(holder, upload, key));
    const holder = this.#destination(to);
    return holder === undefined ? this.#place(key, async (each) => open(each)) : open(holder);
  }

  #upload(holder: ObjectHolder, upload: string, key: string | undefined): PoolUpload {
    return {
      holder: holder.nodeId,
      append: (offset, piece) => holder.append(upload, offset, piece),
      abort: () => holder.abort(upload),
      commit: () =>
        after(holder.commit(upload), (info) => {
          const told = info.name.kind === 'key' ? info.name.key : undefined;
          if (told === key) return this.#noteWritten(key, info);
          const text = `node "${this.nameOf(info.holder)}" made another object than was sent`;
          throw new MemcloudError('ERR_PEER_PROTOCOL', text);
        }),
    };
  }

  #noteWritten(key: string | undefined, info: ObjectInfo): ObjectInfo {
    if (key === undefined) return info;
    if (info.holder === this.#parts.nodeId) this.#written.delete(key);
    else this.#written.set(key, info.holder);
    return info;
  }

  /** The node that is meant; undefined: any peer. */
  #destination({ peer, remote = false }: Destination): ObjectHolder | undefined {
    if (peer !== undefined && remote) {
      throw new MemcloudError('ERR_USAGE', 'expected one of peer and remote, got both');
    }
    if (remote) return undefined;
    return peer === undefined ? this.#parts.local : this.#named(peer);
  }

  /**
   * Writes to some peer. One that has no room or is gone is passed by; one that fell silent is not, for it
   * may have done it.
   */
  async #place<T>(
    key: string | undefined,
    write: (holder: RemoteObjects) => Promise<T>,
  ): Promise<T> {
    const before = key === undefined ? undefined : this.#written.get(key);
    let refusal: MemcloudError | undefined;
    for (const link of this.#candidates(before)) {
      try {
        return await write(this.#remote(link));
      } catch (error) {
        const failure = asMemcloudError(error);
        if (failure.code !== 'ERR_LEASE_CAPACITY' && !isNoAnswer(failure)) throw failure;
        if (failure.code === 'ERR_TIMEOUT') throw failure;
        refusal = failure;
      }
    }
    if (refusal !== undefined) throw refusal;
    const isAnyUp = this.#parts.links.list().some(({ up }) => up);
    throw isAnyUp
      ? new MemcloudError('ERR_LEASE_CAPACITY', 'no peer that is up has room for objects')
      : new MemcloudError('ERR_PEER_UNREACHABLE', 'no peer is up that keeps objects');
  }

  /** Peers to try: the one that has an older value, then of two at random always the freer one. */
  #candidates(before: NodeId | undefined): ObjectLink[] {
    const left = this.#parts.links.list().filter(({ up, freeBytes }) => up && freeBytes > 0);
    const at = left.findIndex(({ nodeId }) => nodeId === before);
    const chosen = at < 0 ? [] : left.splice(at, 1);
    while (left.length > 0 && chosen.length < PLACE_TRY_COUNT_MAX) {
      const one = Math.floor(this.#parts.random() * left.length);
      const other = Math.floor(this.#parts.random() * left.length);
      const freer = (left[other]?.freeBytes ?? 0) > (left[one]?.freeBytes ?? 0) ? other : one;
      chosen.push(...left.splice(freer, 1));
    }
    return chosen;
  }

  // --- Reading -----------------------------------------------------------------------------------

  /**
   * Reads a piece. Bytes that are there at once are borrowed until the next call.
   *
   * @param peer - the holder by id or name; undefined: whoever has it
   */
  get(
    name: ObjectName,
    peer: string | undefined,
    offset: number,
    length: number,
    ifVersion?: number,
  ): Soon<ObjectPiece | undefined> {
    if (peer !== undefined) return this.#named(peer).get(name, offset, length, ifVersion);
    return this.#find(
      name,
      (isKept) => {
        const piece = this.#parts.local.get(name, offset, length, ifVersion);
        return isKept ? after(piece, withOwnBytes) : piece;
      },
      (holder, signal) => holder.get(name, offset, length, ifVersion, signal),
    );
  }

  /** Looks at an object. @param peer - as {@link ObjectPool.get} */
  stat(name: ObjectName, peer: string | undefined): Soon<ObjectInfo | undefined> {
    if (peer !== undefined) return this.#named(peer).stat(name);
    return this.#find(
      name,
      () => this.#parts.local.stat(name),
      (holder, signal) => holder.stat(name, signal),
    );
  }

  /** Deletes what {@link ObjectPool.get} would find. @param peer - as there */
  delete(name: ObjectName, peer: string | undefined, ifVersion?: number): Soon<boolean> {
    if (peer !== undefined) return this.#deleteOn(this.#named(peer), name, ifVersion);
    const isKeptElsewhere = name.kind === 'key' && this.#written.get(name.key) !== undefined;
    if (isKeptElsewhere) return this.#findAndDelete(name, ifVersion);
    return after(this.#deleteOn(this.#parts.local, name, ifVersion), (deleted) =>
      deleted ? true : this.#findAndDelete(name, ifVersion),
    );
  }

  async #findAndDelete(name: ObjectName, ifVersion: number | undefined): Promise<boolean> {
    const info = await this.stat(name, undefined);
    if (info === undefined) return false;
    return this.#deleteOn(this.#named(info.holder), name, ifVersion);
  }

  #deleteOn(holder: ObjectHolder, name: ObjectName, ifVersion?: number): Soon<boolean> {
    return after(holder.delete(name, ifVersion), (deleted) => {
      if (name.kind === 'key' && this.#written.get(name.key) === holder.nodeId) {
        this.#written.delete(name.key);
      }
      return deleted;
    });
  }

  /** @param here - looks here; with true what it finds is used later than at once */
  #find<T>(
    name: ObjectName,
    here: (isKept: boolean) => Soon<T | undefined>,
    there: (holder: RemoteObjects, signal?: AbortSignal) => Promise<T | undefined>,
  ): Soon<T | undefined> {
    if (name.kind === 'block') return this.#findBlock(name.id, here, there);
    const written = this.#written.get(name.key);
    if (written !== undefined) return this.#findWritten(name.key, written, here, there);
    return after(here(false), (found) => found ?? this.#findOnPeers(there));
  }

  /** A block is with a node whose id begins as its own does, or nowhere. */
  #findBlock<T>(
    id: string,
    here: (isKept: boolean) => Soon<T | undefined>,
    there: (holder: RemoteObjects, signal?: AbortSignal) => Promise<T | undefined>,
  ): Soon<T | undefined> {
    const prefix = holderPrefixOf(id);
    const elsewhere = (): Soon<T | undefined> => {
      const all = this.#parts.links.list();
      const links = all.filter(({ nodeId }) => holderBits(nodeId) === prefix);
      const [only] = links;
      if (only === undefined) return undefined;
      // Its refusal, or that it is not there, is the answer.
      if (links.length === 1) return there(this.#remote(only));
      return searchAll(links, (link, signal) => there(this.#remote(link), signal));
    };
    if (prefix !== this.#ownPrefix) return elsewhere();
    return after(here(false), (found) => found ?? elsewhere());
  }

  /** Where it was written it is, while that node can be asked; if not, that is no miss. */
  async #findWritten<T>(
    key: string,
    written: NodeId,
    here: (isKept: boolean) => Soon<T | undefined>,
    there: (holder: RemoteObjects, signal?: AbortSignal) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    let silence: MemcloudError | undefined;
    try {
      const found = await there(this.#remote(this.#parts.links.find(written)));
      if (found !== undefined) return found;
      if (this.#written.get(key) === written) this.#written.delete(key);
    } catch (error) {
      silence = asMemcloudError(error);
      if (!isNoAnswer(silence)) throw silence;
    }
    const found = (await here(true)) ?? (await this.#findOnPeers(there, written));
    if (found === undefined && silence !== undefined) throw silence;
    return found;
  }

  #findOnPeers<T>(
    there: (holder: RemoteObjects, signal?: AbortSignal) => Promise<T | undefined>,
    except?: NodeId,
  ): Soon<T | undefined> {
    const links = this.#parts.links.list().filter(({ up, nodeId }) => up && nodeId !== except);
    if (links.length === 0) return undefined;
    return searchAll(links, (link, signal) => there(this.#remote(link), signal));
  }

  // --- Everything --------------------------------------------------------------------------------

  /** Lists the objects of one node; here without one. */
  list(query: ObjectQuery, peer: string | undefined): Soon<ObjectListing> {
    return (peer === undefined ? this.#parts.local : this.#named(peer)).list(query);
  }

  /** Lists the objects here and on every peer that is up, sorted by holder and name. */
  listPool(query: ObjectQuery): Promise<PoolListing> {
    return listPool(query, this.#everybody());
  }

  /** Deletes what this node owns there; here without a name. */
  flush(peer: string | undefined): Promise<FlushRow[]> {
    const holder = peer === undefined ? this.#parts.local : this.#named(peer);
    return this.#flush([{ holder, name: this.nameOf(holder.nodeId) }], true);
  }

  /** Deletes what this node owns here and on every peer that is up; a problem is told in its row. */
  flushPool(): Promise<FlushRow[]> {
    return this.#flush(this.#everybody(), false);
  }

  async #flush(
    nodes: readonly { holder: ObjectHolder; name: string }[],
    throws: boolean,
  ): Promise<FlushRow[]> {
    const rows = await flushPool(nodes, throws);
    for (const { holder, problem } of rows) {
      if (problem === '') this.#written.deleteHolder(holder);
    }
    return rows;
  }

  /** What this node owns there; without a name, or by its own: what everybody has here. */
  usage(peer: string | undefined): Soon<ObjectUsage> {
    const holder = peer === undefined ? this.#parts.local : this.#named(peer);
    return holder === this.#parts.local ? this.#parts.usageHere() : holder.usage();
  }

  #everybody(): { holder: ObjectHolder; name: string }[] {
    const { local, links, nodeName } = this.#parts;
    const up = links.list().filter((link) => link.up);
    return [
      { holder: local, name: nodeName },
      ...up.map((link) => ({ holder: this.#remote(link), name: link.nodeName })),
    ];
  }

  #named(peer: string): ObjectHolder {
    const { nodeId, nodeName, local, links } = this.#parts;
    if (peer === LOCAL || peer === nodeId || peer.toLowerCase() === nodeName.toLowerCase()) {
      return local;
    }
    return this.#remote(links.find(peer));
  }

  #remote(link: ObjectLink): RemoteObjects {
    const { nodeId } = link;
    let remote = this.#remotes.get(nodeId);
    if (remote === undefined) {
      remote = new RemoteObjects(link, this.#parts.nodeId);
      this.#remotes.set(nodeId, remote);
    }
    return remote;
  }
}

/** The piece for who uses it later than at once. */
function withOwnBytes(piece: ObjectPiece | undefined): ObjectPiece | undefined {
  return piece && { ...piece, bytes: Uint8Array.from(piece.bytes) };
}

/** Goes on with a value, at once when it is there at once. */
function after<T, R>(value: Soon<T>, next: (value: T) => Soon<R>): Soon<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}
