/**
 * What the store knows about each object: a row number, and under it fields in typed arrays, so that a
 * million objects are a dozen arrays for the garbage collector and not a million things to walk. A row
 * that is free is the next one's. Values lie elsewhere (value-memory.ts); a row holds where.
 *
 * The table keeps its parts in step (names, owners' rows, versions) and knows no policy.
 */
import type { ObjectMode, ObjectReaders } from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { ownText } from './arguments.ts';
import { objectChargeBytes } from './charges.ts';
import { ExpiryHeap } from './expiry-machine.ts';
import { Ghosts } from './ghost-machine.ts';
import { NameHash } from './name-hash.ts';
import type { Pieces } from './pieces.ts';
import { PIECE_SIZE_BYTES } from './size-classes.ts';
import { S3Fifo, countUse, type FifoLinks } from './s3-fifo-machine.ts';
import { NO_SLOT } from './value-memory.ts';
import { VersionMemory } from './version-memory.ts';
import { VisibleNames } from './visible-names.ts';

/** Objects at most: a JavaScript map ends at 2^24 entries. */
export const OBJECT_COUNT_MAX = 2 ** 24 - 2 ** 16;
const ROW_COUNT_START = 1024;
const NONE = 0xffff_ffff;

const IS_CACHE = 1;
const READERS_SHIFT = 1;
const READERS = ['private', 'trusted', 'named'] as const;

/** What one node has here. */
export interface Owner {
  readonly nodeId: NodeId;
  objectCount: number;
  valueBytes: number;
  /** Everything, uploads included. */
  chargedBytes: number;
  uploadCount: number;
  evictedCount: number;
  /** Evictions out of the small queue, modulo 2^32. */
  forgottenCount: number;
  /** Bytes charged for objects that may be evicted. */
  cacheBytes: number;
  /** Those objects. */
  readonly cache: S3Fifo;
  /** One of its rows; they are linked. */
  firstRow: number;
}

/** How an object is to be kept, and its value. */
export interface NewObject {
  readonly mode: ObjectMode;
  readonly readers: ObjectReaders;
  /** Milliseconds of the monotonic clock; Infinity: none. */
  readonly endMs: number;
  readonly metaBytes: number;
  /** Bytes of the value without the notes. */
  readonly sizeBytes: number;
  /** Its slot, or its pieces when it has several. */
  readonly value: number | Pieces;
}

/** The objects of one store. */
export class ObjectTable {
  /** Who has anything, or had something evicted. */
  readonly owners = new Map<NodeId, Owner>();
  readonly expiry = new ExpiryHeap();
  readonly visible = new VisibleNames();
  readonly #links: FifoLinks = {
    newer: new Uint32Array(ROW_COUNT_START),
    older: new Uint32Array(ROW_COUNT_START),
    state: new Uint8Array(ROW_COUNT_START),
  };
  readonly #versionMemory = new VersionMemory();
  readonly #ghosts = new Ghosts();
  readonly #hash: NameHash;
  readonly #rowByKey = new Map<string, number>();
  readonly #rowByBlock = new Map<number, number>();
  readonly #namedReaders = new Map<number, readonly NodeId[]>();
  readonly #longValues = new Map<number, Pieces>();
  #names: (string | number | undefined)[] = [];
  #owners: (Owner | undefined)[] = [];
  #flags = new Uint8Array(ROW_COUNT_START);
  #metaBytes = new Uint16Array(ROW_COUNT_START);
  #slots = new Uint32Array(ROW_COUNT_START);
  #sizes = new Float64Array(ROW_COUNT_START);
  #versions = new Float64Array(ROW_COUNT_START);
  #endsMs = new Float64Array(ROW_COUNT_START);
  /** The next row of the same owner, or of the free ones. */
  #next = new Uint32Array(ROW_COUNT_START);
  #previous = new Uint32Array(ROW_COUNT_START);
  #firstFree = NONE;
  #rowCount = 0;

  /** @param random - 0 or more, below 1 */
  constructor(random: () => number) {
    this.#hash = new NameHash(random);
  }

  /** Objects. */
  get count(): number {
    return this.#rowByKey.size + this.#rowByBlock.size;
  }

  /** Rows so far, free ones among them. */
  get rowCount(): number {
    return this.#rowCount;
  }

  /** Whether a row is an object's. */
  hasRow(row: number): boolean {
    return this.#names[row] !== undefined;
  }

  /** The row of a name. */
  find(name: string | number): number | undefined {
    return typeof name === 'string' ? this.#rowByKey.get(name) : this.#rowByBlock.get(name);
  }

  /** A key, or a block's number. */
  nameOf(row: number): string | number {
    return this.#names[row] as string | number;
  }

  /** Who wrote it. */
  ownerOf(row: number): Owner {
    return this.#owners[row] as Owner;
  }

  /** How often its name was written. */
  versionOf(row: number): number {
    return this.#versions[row] as number;
  }

  /** Bytes of its value. */
  sizeOf(row: number): number {
    return this.#sizes[row] as number;
  }

  /** Bytes of its writer's notes, which lie before the value. */
  metaBytesOf(row: number): number {
    return this.#metaBytes[row] as number;
  }

  /** When it is gone. */
  endMsOf(row: number): number {
    return this.#endsMs[row] as number;
  }

  /** Pinned or cache. */
  modeOf(row: number): ObjectMode {
    return ((this.#flags[row] as number) & IS_CACHE) === 0 ? 'pinned' : 'cache';
  }

  /** Who may read it besides its owner. */
  readersOf(row: number): ObjectReaders {
    const kind = READERS[(this.#flags[row] as number) >> READERS_SHIFT] ?? 'private';
    return kind === 'named' ? (this.#namedReaders.get(row) ?? []) : kind;
  }

  /** Its pieces when it has several, else its slot. */
  valueOf(row: number): number | Pieces {
    const isLong = this.storedBytesOf(row) > PIECE_SIZE_BYTES;
    const pieces = isLong ? this.#longValues.get(row) : undefined;
    return pieces ?? (this.#slots[row] as number);
  }

  /** Its value was moved to another slot of the same size. */
  setSlot(row: number, slot: number): void {
    this.#slots[row] = slot;
  }

  /** Bytes of its value and notes. */
  storedBytesOf(row: number): number {
    return this.sizeOf(row) + this.metaBytesOf(row);
  }

  /** Bytes that it is charged. */
  chargeOf(row: number): number {
    return objectChargeBytes(this.nameOf(row), this.readersOf(row), this.storedBytesOf(row));
  }

  /** Notes that it was used: it is worth keeping. */
  touch(row: number): void {
    countUse(this.#links, row);
  }

  /** The state of a node, made at its first object. */
  owner(nodeId: NodeId): Owner {
    let owner = this.owners.get(nodeId);
    if (owner === undefined) {
      owner = {
        nodeId,
        objectCount: 0,
        valueBytes: 0,
        chargedBytes: 0,
        uploadCount: 0,
        evictedCount: 0,
        forgottenCount: 0,
        cacheBytes: 0,
        cache: new S3Fifo(this.#links),
        firstRow: NONE,
      };
      this.owners.set(nodeId, owner);
    }
    return owner;
  }

  /** Forgets a node that has nothing and lost nothing. */
  dropOwner(owner: Owner): void {
    const isEmpty = owner.objectCount === 0 && owner.uploadCount === 0;
    if (isEmpty && owner.evictedCount === 0) this.owners.delete(owner.nodeId);
  }

  /** The rows of a node; each may be removed when it was returned. */
  *rowsOf(owner: Owner): Generator<number> {
    for (let row = owner.firstRow; row !== NONE;) {
      const next = this.#next[row] as number;
      yield row;
      row = next;
    }
  }

  /** Adds an object under a name that is free. */
  insert(name: string | number, owner: Owner, object: NewObject): number {
    const row = this.#takeRow();
    const ownName = typeof name === 'string' ? ownText(name) : name;
    this.#names[row] = ownName;
    if (typeof ownName === 'string') this.#rowByKey.set(ownName, row);
    else this.#rowByBlock.set(ownName, row);
    this.#owners[row] = owner;
    this.#previous[row] = NONE;
    this.#next[row] = owner.firstRow;
    if (owner.firstRow !== NONE) this.#previous[owner.firstRow] = row;
    owner.firstRow = row;
    owner.objectCount += 1;
    this.#versions[row] = this.#versionMemory.last(this.#hash.of(ownName)) + 1;
    this.#fill(row, object);
    this.visible.add(ownName, owner.nodeId, object.readers);
    return row;
  }

  /** Puts another object under the name of one; the value before is the caller's to free. */
  replace(row: number, object: NewObject): void {
    const owner = this.ownerOf(row);
    const readers = this.readersOf(row);
    const sameSight = typeof readers === 'string' && readers === object.readers;
    if (!sameSight) this.visible.remove(this.nameOf(row), owner.nodeId, readers);
    const stays = this.modeOf(row) === 'cache' && object.mode === 'cache';
    this.#clear(row, stays);
    this.#versions[row] = this.versionOf(row) + 1;
    this.#fill(row, object, stays);
    if (!sameSight) this.visible.add(this.nameOf(row), owner.nodeId, object.readers);
  }

  /** An object is about to be evicted: its name may come again. */
  noteEviction(row: number): void {
    const owner = this.ownerOf(row);
    owner.evictedCount += 1;
    if (owner.cache.isMain(row)) return;
    owner.forgottenCount = (owner.forgottenCount + 1) >>> 0;
    this.#ghosts.add(this.#hash.of(this.nameOf(row)), owner.forgottenCount);
  }

  /** Takes an object out; its value is the caller's to free. */
  remove(row: number): void {
    const name = this.nameOf(row);
    const owner = this.ownerOf(row);
    this.visible.remove(name, owner.nodeId, this.readersOf(row));
    this.#versionMemory.keep(this.#hash.of(name), this.versionOf(row));
    this.#clear(row, false);
    if (typeof name === 'string') this.#rowByKey.delete(name);
    else this.#rowByBlock.delete(name);
    this.#unlink(row, owner);
    this.#names[row] = undefined;
    this.#owners[row] = undefined;
    this.#next[row] = this.#firstFree;
    this.#firstFree = row;
    if (this.count === 0) this.#reset();
  }

  #isKnown(row: number, owner: Owner): boolean {
    if (owner.forgottenCount === 0) return false;
    const hash = this.#hash.of(this.nameOf(row));
    return this.#ghosts.has(hash, owner.forgottenCount, owner.cache.mainCount);
  }

  #fill(row: number, object: NewObject, isQueued = false): void {
    const owner = this.ownerOf(row);
    const { readers, mode } = object;
    const kind = typeof readers === 'string' ? readers : 'named';
    this.#flags[row] = (READERS.indexOf(kind) << READERS_SHIFT) | (mode === 'cache' ? IS_CACHE : 0);
    if (typeof readers !== 'string') this.#namedReaders.set(row, readers);
    this.#metaBytes[row] = object.metaBytes;
    this.#sizes[row] = object.sizeBytes;
    this.#endsMs[row] = object.endMs;
    this.#slots[row] = typeof object.value === 'number' ? object.value : NO_SLOT;
    if (typeof object.value !== 'number') this.#longValues.set(row, object.value);
    if (object.endMs !== Infinity) this.expiry.add(row, object.endMs);
    if (isQueued) this.touch(row);
    else if (mode === 'cache') owner.cache.add(row, this.#isKnown(row, owner));
    owner.valueBytes += object.sizeBytes;
    if (mode === 'cache') owner.cacheBytes += this.chargeOf(row);
  }

  /** @param staysQueued - leaves it where it stands in the queue of its owner */
  #clear(row: number, staysQueued: boolean): void {
    const owner = this.ownerOf(row);
    if (this.modeOf(row) === 'cache') {
      owner.cacheBytes -= this.chargeOf(row);
      if (!staysQueued) owner.cache.remove(row);
    }
    owner.valueBytes -= this.sizeOf(row);
    if (this.endMsOf(row) !== Infinity) this.expiry.remove(row);
    this.#namedReaders.delete(row);
    this.#longValues.delete(row);
  }

  #unlink(row: number, owner: Owner): void {
    const next = this.#next[row] as number;
    const previous = this.#previous[row] as number;
    if (previous === NONE) owner.firstRow = next;
    else this.#next[previous] = next;
    if (next !== NONE) this.#previous[next] = previous;
    owner.objectCount -= 1;
  }

  #takeRow(): number {
    if (this.#firstFree !== NONE) {
      const row = this.#firstFree;
      this.#firstFree = this.#next[row] as number;
      return row;
    }
    if (this.#rowCount === this.#flags.length) this.#resize(Math.ceil(this.#rowCount * 1.5));
    this.#rowCount += 1;
    return this.#rowCount - 1;
  }

  #reset(): void {
    this.#rowCount = 0;
    this.#firstFree = NONE;
    this.#names = [];
    this.#owners = [];
    this.#resize(ROW_COUNT_START);
  }

  #resize(rowCount: number): void {
    if (rowCount === this.#flags.length) return;
    const links = this.#links;
    links.newer = resized(links.newer, new Uint32Array(rowCount));
    links.older = resized(links.older, new Uint32Array(rowCount));
    links.state = resized(links.state, new Uint8Array(rowCount));
    this.#flags = resized(this.#flags, new Uint8Array(rowCount));
    this.#metaBytes = resized(this.#metaBytes, new Uint16Array(rowCount));
    this.#slots = resized(this.#slots, new Uint32Array(rowCount));
    this.#sizes = resized(this.#sizes, new Float64Array(rowCount));
    this.#versions = resized(this.#versions, new Float64Array(rowCount));
    this.#endsMs = resized(this.#endsMs, new Float64Array(rowCount));
    this.#next = resized(this.#next, new Uint32Array(rowCount));
    this.#previous = resized(this.#previous, new Uint32Array(rowCount));
  }
}

function resized<Fields extends Uint8Array | Uint16Array | Uint32Array | Float64Array>(
  from: Fields,
  to: Fields,
): Fields {
  to.set(from.subarray(0, to.length));
  return to;
}
