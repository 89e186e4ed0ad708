/**
 * Writes: whole values at once, and values in pieces. Each checks everything that can be checked, then
 * charges, then takes memory, then changes the table, which cannot fail; so what fails changes nothing. All
 * of it ends before it returns: between a check and what follows from it nobody else comes.
 *
 * An upload is charged as the object that it will be, byte by byte as it grows. Its commit needs no room.
 */
import { MemcloudError } from '../common/errors.ts';
import type { ObjectInfo, ObjectOptions } from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import {
  checkKey,
  checkOptions,
  checkPiece,
  checkWhole,
  ownText,
  type KeepOptions,
} from './arguments.ts';
import { randomOwnBits } from './block-id.ts';
import { objectChargeBytes } from './charges.ts';
import { checkIsAt, checkOwner, findLive, infoOf, type StoreCore } from './core.ts';
import { OBJECT_COUNT_MAX, type NewObject, type Owner } from './object-table.ts';
import { Pieces } from './pieces.ts';
import { PIECE_SIZE_BYTES, slotBytes } from './size-classes.ts';
import { NO_SLOT } from './value-memory.ts';

/** Uploads of one node that are open at once at most. */
export const UPLOAD_COUNT_MAX = 256;
/** An upload to which nothing comes for so long is aborted. */
export const UPLOAD_TIMEOUT_MS = 60_000;
/** A block's charge is that of any number. */
const BLOCK_NAME = 0;

interface Upload {
  readonly owner: Owner;
  /** undefined: a block. */
  readonly key: string | undefined;
  readonly options: KeepOptions;
  /** The notes, then the value so far. */
  readonly pieces: Pieces;
  lastMs: number;
}

/** The writes of one store. */
export class Writer {
  readonly #core: StoreCore;
  readonly #uploads = new Map<string, Upload>();
  #nextUpload = 1;

  constructor(core: StoreCore) {
    this.#core = core;
  }

  /** `ObjectHolder.put` of `requester`. */
  put(
    requester: NodeId,
    key: string | undefined,
    value: Uint8Array,
    given: ObjectOptions,
  ): ObjectInfo {
    const options = checkOptions(given);
    checkPiece(value);
    const { table, room, counters, clock } = this.#core;
    const nowMs = clock.nowMs();
    const row = this.#checkTarget(requester, key, options, nowMs);
    const owner = table.owner(requester);
    const storedBytes = options.meta.length + value.length;
    const charge = objectChargeBytes(key ?? BLOCK_NAME, options.readers, storedBytes);
    const more = charge - (row === undefined ? 0 : table.chargeOf(row));
    room.take(owner, more, nowMs, row);
    const slot = this.#store(row, options.meta, value);
    if (slot === undefined) {
      room.give(owner, more);
      throw noMemory();
    }
    const object = newObject(options, nowMs, value.length, slot);
    counters.put += 1;
    if (row === undefined) {
      return infoOf(this.#core, table.insert(key ?? this.#freeBlock(), owner, object), nowMs);
    }
    const old = table.valueOf(row);
    const oldBytes = table.storedBytesOf(row);
    table.replace(row, object);
    if (old !== slot) room.freeValue(old, oldBytes);
    room.give(owner, -more);
    return infoOf(this.#core, row, nowMs);
  }

  /** `ObjectHolder.begin` of `requester`. */
  begin(
    requester: NodeId,
    key: string | undefined,
    given: ObjectOptions,
    sizeHint: number | undefined,
  ): string {
    const options = checkOptions(given);
    if (sizeHint !== undefined) checkWhole('sizeHint', sizeHint, 0, Number.MAX_SAFE_INTEGER);
    const { table, room, clock } = this.#core;
    const nowMs = clock.nowMs();
    this.#checkTarget(requester, key, options, nowMs);
    const owner = table.owner(requester);
    if (owner.uploadCount >= UPLOAD_COUNT_MAX) {
      throw full(`${UPLOAD_COUNT_MAX} uploads of this node are open`);
    }
    const name = key ?? BLOCK_NAME;
    const refusal =
      sizeHint === undefined
        ? undefined
        : room.refusal(
            owner,
            objectChargeBytes(name, options.readers, options.meta.length + sizeHint),
          );
    if (refusal !== undefined) throw full(refusal);
    const charge = objectChargeBytes(name, options.readers, options.meta.length);
    room.take(owner, charge, nowMs);
    const pieces = new Pieces(this.#core.values);
    if (!pieces.append(options.meta)) {
      room.give(owner, charge);
      throw noMemory();
    }
    const id = String(this.#nextUpload);
    this.#nextUpload += 1;
    owner.uploadCount += 1;
    this.#uploads.set(id, {
      owner,
      key: key === undefined ? undefined : ownText(key),
      options: { ...options, meta: Uint8Array.from(options.meta) },
      pieces,
      lastMs: nowMs,
    });
    return id;
  }

  /** `ObjectHolder.append` of `requester`. */
  append(requester: NodeId, id: string, offset: number, piece: Uint8Array): void {
    checkPiece(piece);
    checkWhole('offset', offset, 0, Number.MAX_SAFE_INTEGER);
    const upload = this.#find(requester, id);
    const { pieces, options } = upload;
    const endBytes = pieces.sizeBytes - options.meta.length;
    if (offset !== endBytes) {
      throw new MemcloudError('ERR_USAGE', `offset: expected ${endBytes}, got ${offset}`);
    }
    const nowMs = this.#core.clock.nowMs();
    const before = this.#chargeOf(upload, pieces.sizeBytes);
    const more = this.#chargeOf(upload, pieces.sizeBytes + piece.length) - before;
    this.#core.room.take(upload.owner, more, nowMs);
    if (!pieces.append(piece)) {
      this.#core.room.give(upload.owner, more);
      throw noMemory();
    }
    upload.lastMs = nowMs;
  }

  /** `ObjectHolder.commit` of `requester`. When it fails for any reason, the upload is over. */
  commit(requester: NodeId, id: string): ObjectInfo {
    const upload = this.#find(requester, id);
    const { owner, key, options, pieces } = upload;
    const { table, room, counters, clock } = this.#core;
    const nowMs = clock.nowMs();
    let row: number | undefined;
    try {
      row = this.#checkTarget(requester, key, options, nowMs);
    } catch (error) {
      this.#end(id, upload);
      throw error;
    }
    this.#uploads.delete(id);
    owner.uploadCount -= 1;
    const sizeBytes = pieces.sizeBytes - options.meta.length;
    const kept = pieces.sizeBytes > PIECE_SIZE_BYTES ? pieces : pieces.handOver();
    const object = newObject(options, nowMs, sizeBytes, kept);
    counters.put += 1;
    if (row === undefined) {
      return infoOf(this.#core, table.insert(key ?? this.#freeBlock(), owner, object), nowMs);
    }
    const old = table.valueOf(row);
    const oldBytes = table.storedBytesOf(row);
    const oldCharge = table.chargeOf(row);
    table.replace(row, object);
    room.freeValue(old, oldBytes);
    room.give(owner, oldCharge);
    return infoOf(this.#core, row, nowMs);
  }

  /** `ObjectHolder.abort` of `requester`. */
  abort(requester: NodeId, id: string): void {
    const upload = this.#uploads.get(id);
    if (upload?.owner.nodeId === requester) this.#end(id, upload);
  }

  /** Aborts every upload of a node. */
  dropOf(requester: NodeId): void {
    for (const [id, upload] of this.#uploads) {
      if (upload.owner.nodeId === requester) this.#end(id, upload);
    }
  }

  /** Aborts uploads to which nothing came for a minute. */
  tick(nowMs: number): void {
    for (const [id, upload] of this.#uploads) {
      if (nowMs - upload.lastMs >= UPLOAD_TIMEOUT_MS) this.#end(id, upload);
    }
  }

  /** The row that a write would replace, if it may. */
  #checkTarget(
    requester: NodeId,
    key: string | undefined,
    options: KeepOptions,
    nowMs: number,
  ): number | undefined {
    if (key !== undefined) checkKey(key);
    const row = key === undefined ? undefined : findLive(this.#core, key, nowMs);
    if (row !== undefined) checkOwner(this.#core, row, requester);
    checkIsAt(this.#core, row, options.ifVersion);
    if (row === undefined && this.#core.table.count >= OBJECT_COUNT_MAX) {
      throw full(`${OBJECT_COUNT_MAX} objects are here`);
    }
    return row;
  }

  /** Writes notes and value into the slot of `row`, if the size is right, or a new one. */
  #store(row: number | undefined, meta: Uint8Array, value: Uint8Array): number | undefined {
    const { table, values } = this.#core;
    const storedBytes = meta.length + value.length;
    if (storedBytes === 0) return NO_SLOT;
    const oldBytes = row === undefined ? 0 : table.storedBytesOf(row);
    const old = row === undefined ? NO_SLOT : table.valueOf(row);
    const fits = typeof old === 'number' && slotBytes(oldBytes) === slotBytes(storedBytes);
    const slot = fits ? old : values.take(storedBytes);
    if (slot === NO_SLOT) return undefined;
    if (meta.length > 0) values.write(slot, 0, meta);
    if (value.length > 0) values.write(slot, meta.length, value);
    if (fits && oldBytes > storedBytes) values.wipe(slot, storedBytes, oldBytes - storedBytes);
    return slot;
  }

  #freeBlock(): number {
    let own = randomOwnBits(this.#core.random);
    while (this.#core.table.find(own) !== undefined) own = randomOwnBits(this.#core.random);
    return own;
  }

  #find(requester: NodeId, id: string): Upload {
    const upload = this.#uploads.get(id);
    if (upload?.owner.nodeId === requester) return upload;
    throw new MemcloudError('ERR_OBJECT_UNKNOWN', 'there is no such upload, or it is over');
  }

  #end(id: string, upload: Upload): void {
    const charge = this.#chargeOf(upload, upload.pieces.sizeBytes);
    this.#uploads.delete(id);
    upload.owner.uploadCount -= 1;
    upload.pieces.free();
    this.#core.room.give(upload.owner, charge);
  }

  #chargeOf(upload: Upload, storedBytes: number): number {
    return objectChargeBytes(upload.key ?? BLOCK_NAME, upload.options.readers, storedBytes);
  }
}

/** One literal: V8 makes a new shape for each object that is spread into another. */
function newObject(
  options: KeepOptions,
  nowMs: number,
  sizeBytes: number,
  value: number | Pieces,
): NewObject {
  const { mode, readers, ttlMs, meta } = options;
  return { mode, readers, endMs: nowMs + ttlMs, metaBytes: meta.length, sizeBytes, value };
}

function full(why: string): MemcloudError {
  return new MemcloudError('ERR_LEASE_CAPACITY', `objects: ${why}`);
}

function noMemory(): MemcloudError {
  return full('the machine has no memory for it now');
}
