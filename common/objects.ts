/**
 * Objects: what blocks, keys and streams are to every part of the program. A *block* is named by an id
 * that its holder chose, a *key* by its writer's text; a stream is a block or key whose value comes and
 * goes in pieces. Each lies whole on one node, its *holder*, and belongs to the node that wrote it, its
 * *owner*: only the owner replaces or deletes it, and its access list says who may read it.
 *
 * A *block id* is an unsigned 64-bit number in decimal. Its upper 24 bits are the first 24 bits of the
 * holder's node id, so whoever has an id knows whom to ask, without a table that could be lost or lied to.
 */
import type { NodeId } from './ports.ts';

/** Bytes of a key at most, UTF-8; it may be any text without NUL but the empty one. */
export const OBJECT_KEY_SIZE_MAX_BYTES = 1024;
/** Bytes of the writer's own notes on an object at most: holders keep them and never read them. */
export const OBJECT_META_SIZE_MAX_BYTES = 256;
/** Bytes of a value, or of a piece of one, that one request carries at most. */
export const OBJECT_PIECE_SIZE_MAX_BYTES = 48 * 1024;
/** Nodes on an access list at most. */
export const OBJECT_READER_COUNT_MAX = 64;
/** Names in one answer to a listing at most. */
export const OBJECT_LIST_COUNT_MAX = 512;
/** Patterns in one listing at most. */
export const OBJECT_PATTERN_COUNT_MAX = 16;
/** Bits of a holder's node id in a block id. */
export const BLOCK_ID_HOLDER_BITS = 24;

/** An object's name on its holder. Keys and blocks do not meet. */
export type ObjectName =
  { readonly kind: 'key'; readonly key: string } | { readonly kind: 'block'; readonly id: string };

/**
 * `pinned` stays until it is deleted, its time is over or its holder ends; when there is no room for it,
 * it is refused. `cache` may be evicted whenever its holder wants the room.
 */
export type ObjectMode = 'pinned' | 'cache';

/** Who besides its owner may read an object: nobody, every node that the holder trusts, or these. */
export type ObjectReaders = 'private' | 'trusted' | readonly NodeId[];

/** How an object is to be kept. */
export interface ObjectOptions {
  /** Default: `pinned`. */
  readonly mode?: ObjectMode | undefined;
  /** Milliseconds until it is gone, 1 to 2^40; none: no end. */
  readonly ttlMs?: number | undefined;
  /** Default: `trusted`. */
  readonly readers?: ObjectReaders | undefined;
  /** Compare-and-set: refuse unless the object is at this version; 0: unless there is none. */
  readonly ifVersion?: number | undefined;
  /** The writer's own notes, at most {@link OBJECT_META_SIZE_MAX_BYTES}: how the value is encoded, for one. */
  readonly meta?: Uint8Array | undefined;
}

/** An object without its value. */
export interface ObjectInfo {
  /** Its name. */
  readonly name: ObjectName;
  /** The node that holds it. */
  readonly holder: NodeId;
  /** The node that wrote it. */
  readonly owner: NodeId;
  /** Bytes of its value. */
  readonly sizeBytes: number;
  /** Counts the writes of this name on this holder, from 1; never falls while the holder lives. */
  readonly version: number;
  /** How it is kept. */
  readonly mode: ObjectMode;
  /** Who may read it. */
  readonly readers: ObjectReaders;
  /** Milliseconds until it is gone; null: no end. */
  readonly expiresInMs: number | null;
  /** The writer's own notes. */
  readonly meta: Uint8Array;
}

/** A piece of a value. */
export interface ObjectPiece {
  /** The object as it was when the piece was read. */
  readonly info: ObjectInfo;
  /** Where the piece begins in the value. */
  readonly offset: number;
  /** Its bytes; fewer than asked for only at the end of the value, or at the limit of a request. */
  readonly bytes: Uint8Array;
}

/** One page of a listing, sorted by name. */
export interface ObjectListing {
  /** The objects. */
  readonly objects: readonly ObjectInfo[];
  /** Pass it on for the rest; null at the end. It stays good when objects come and go meanwhile. */
  readonly cursor: string | null;
}

/** Which objects are meant. */
export interface ObjectQuery {
  /** `keys`, `blocks` or both; default: keys. */
  readonly kind?: 'key' | 'block' | 'all';
  /** Glob patterns on keys: `*`, `?`, `[a-z]`, `\` before any of them; one must fit. Default: all. */
  readonly patterns?: readonly string[];
  /** Where the last page ended. */
  readonly cursor?: string;
  /** Default and most: {@link OBJECT_LIST_COUNT_MAX}. */
  readonly countMax?: number;
}

/** What one node has in objects on one holder, or all of them together. */
export interface ObjectUsage {
  /** Objects. */
  readonly objectCount: number;
  /** Bytes of their values. */
  readonly valueBytes: number;
  /** Bytes charged: values as they lie, names, records, and pieces of values that are still coming. */
  readonly chargedBytes: number;
  /** Values that are still coming. */
  readonly uploadCount: number;
  /** Objects evicted so far. */
  readonly evictedCount: number;
}

/**
 * The objects of one holder as one node may see and change them. On the holder itself calls are plain
 * memory work and end before they return; `Promise` is for the way over a session. What the caller may not
 * read is not there for it: a miss, not a refusal, so that names cannot be probed; what it may read and
 * does not own it cannot change (`ERR_OBJECT_DENIED`).
 *
 * Every call may reject with `ERR_USAGE` when an argument is out of its bounds, and remote ones with
 * `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_UNSUPPORTED`, `ERR_CANCELLED`.
 */
export interface ObjectHolder {
  /** The holder. */
  readonly nodeId: NodeId;
  /**
   * Writes a whole value of at most {@link OBJECT_PIECE_SIZE_MAX_BYTES}; the bytes are borrowed until the
   * end. When it is done the holder has it: there is no later.
   *
   * @param key - undefined makes a block
   * @throws MemcloudError `ERR_OBJECT_DENIED`, `ERR_OBJECT_CONFLICT`, `ERR_LEASE_CAPACITY`
   */
  put(
    key: string | undefined,
    value: Uint8Array,
    options: ObjectOptions,
  ): ObjectInfo | Promise<ObjectInfo>;
  /**
   * Reads at most `length` bytes from `offset` on; undefined: there is no such object. Bytes that are there
   * at once are the holder's: borrowed until the next call of anything here.
   */
  get(
    name: ObjectName,
    offset: number,
    length: number,
    ifVersion?: number,
  ): ObjectPiece | undefined | Promise<ObjectPiece | undefined>;
  /** Looks at an object. */
  stat(name: ObjectName): ObjectInfo | undefined | Promise<ObjectInfo | undefined>;
  /**
   * Deletes. @returns whether there was one. @throws MemcloudError `ERR_OBJECT_DENIED`, `ERR_OBJECT_CONFLICT`
   */
  delete(name: ObjectName, ifVersion?: number): boolean | Promise<boolean>;
  /** Lists what the caller may read. */
  list(query: ObjectQuery): ObjectListing | Promise<ObjectListing>;
  /** Deletes everything that the caller owns. @returns what went */
  flush(): ObjectUsage | Promise<ObjectUsage>;
  /** What the caller owns. */
  usage(): ObjectUsage | Promise<ObjectUsage>;
  /**
   * Begins a value that comes in pieces. Nobody sees it before the commit; its room counts from the
   * first byte. It is aborted when nothing comes for a minute or the caller's session ends.
   *
   * @param sizeHint - bytes that are expected, checked against the room at once
   * @returns its number
   */
  begin(
    key: string | undefined,
    options: ObjectOptions,
    sizeHint?: number,
  ): string | Promise<string>;
  /** Adds a piece; `offset` is where the value ends so far. @throws as put, `ERR_OBJECT_UNKNOWN` */
  append(upload: string, offset: number, piece: Uint8Array): void | Promise<void>;
  /** Makes the value an object. @throws as put, `ERR_OBJECT_UNKNOWN` */
  commit(upload: string): ObjectInfo | Promise<ObjectInfo>;
  /** Gives the room back; without effect when there is no such upload. */
  abort(upload: string): void | Promise<void>;
}

// --- The provider's memory: provider -> objects ---------------------------------------------------

/** RAM of the provider that objects lie in: a run of whole pages of its tmpfs, zero where nothing was reserved. */
export interface ObjectArena {
  /** Address of the first byte, a multiple of 4096, valid until the arena is given back. */
  readonly address: number;
  /** The same bytes. A byte that is not reserved must not be touched (provider/arena.ts). */
  readonly bytes: Buffer;
  /** Makes the range, whole pages, safe to touch; false when the machine has no room. */
  reserve(offsetBytes: number, lengthBytes: number): boolean;
  /** Wipes the range, whole pages, and gives its RAM back to the system. */
  release(offsetBytes: number, lengthBytes: number): void;
}

/** How much more an owner could be charged. */
export interface ObjectRoom {
  /** Bytes left of the owner's allowance; Infinity without one, below 0 when it was lowered since. */
  readonly ownerFreeBytes: number;
  /** Bytes left of what the provider offers and its machine has; below 0 when it has less than is taken. */
  readonly providerFreeBytes: number;
}

/** The provider as objects see it. What they take counts with the leases of the same node, in one quota. */
export interface ObjectMemory {
  /** False while nothing new is taken: the node is drained, or its machine is short of memory. */
  readonly accepting: boolean;
  /**
   * Charges bytes to an owner.
   *
   * @returns undefined, or why there is no room, for people
   */
  charge(owner: NodeId, bytes: number): string | undefined;
  /**
   * Looks at the room after a refused charge, so that nothing is evicted when that could not help. A
   * charge of at most both numbers is then granted, if the provider is accepting.
   */
  room(owner: NodeId): ObjectRoom;
  /** Takes a charge back. */
  refund(owner: NodeId, bytes: number): void;
  /** A new arena of `sizeBytes` of address space. @throws MemcloudError `ERR_NATIVE` */
  takeArena(sizeBytes: number): ObjectArena;
  /** Wipes an arena and unmaps it. */
  giveArenaBack(arena: ObjectArena): void;
  /**
   * The machine wants memory back: `bytes` of cache objects should go if there are as many. The listener
   * returns the bytes that it gave.
   */
  onPressure(listener: (bytes: number) => number): void;
}

// --- Objects of other nodes: peer -> objects, objects -> peer --------------------------------------

/** Answers requests about objects; bodies are those of `objects/messages.ts`, at most 60 000 bytes. */
export interface ObjectService {
  /**
   * @param requester - the node that asks, by its key
   * @param body - borrowed until the return
   * @returns the reply, the caller's
   * @throws MemcloudError `ERR_PEER_PROTOCOL` when `body` is no request: the session ends
   */
  serveObject(requester: NodeId, body: Buffer): Buffer;
  /** The last session of a node ended, or its trust did: its uploads are over. */
  onRequesterGone(requester: NodeId): void;
  /** A node lost its trust: what it owns here is deleted. */
  onRequesterRevoked(requester: NodeId): void;
}

/** The way to the objects on one other node. */
export interface ObjectLink {
  /** Who it is. */
  readonly nodeId: NodeId;
  /** What people call it. */
  readonly nodeName: string;
  /** True when requests have a chance, and the node knows objects. */
  readonly up: boolean;
  /** Bytes that it would still take from us. */
  readonly freeBytes: number;
  /**
   * Sends a request; requests of one link are executed in the order of the calls.
   *
   * @param body - at most 60 000 bytes, taken before the return
   * @param replySizeMax - the most bytes that the reply can have, at most and by default 60 000: what is
   *   under way at once is bounded by it; a node whose reply is longer breaks the protocol
   * @returns the reply's body, the caller's
   * @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_UNSUPPORTED`, `ERR_CANCELLED`
   */
  request(body: Uint8Array, signal?: AbortSignal, replySizeMax?: number): Promise<Buffer>;
}

/** The nodes that objects can be on. */
export interface ObjectLinks {
  /** Every node that was ever let in. */
  list(): readonly ObjectLink[];
  /** By id or name. @throws MemcloudError `ERR_PEER_UNKNOWN` */
  find(nodeIdOrName: string): ObjectLink;
}
