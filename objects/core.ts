/** What the parts of one store share: its objects, their memory, who is trusted, what time it is. */
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import type { ObjectInfo, ObjectName } from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { blockId } from './block-id.ts';
import type { ObjectTable } from './object-table.ts';
import type { ObjectCounters, Room } from './room.ts';
import type { ValueMemory } from './value-memory.ts';

/** The shared parts. */
export interface StoreCore {
  /** The holder. */
  readonly nodeId: NodeId;
  /** What the ids of its blocks begin with. */
  readonly holderBits: number;
  readonly table: ObjectTable;
  readonly values: ValueMemory;
  readonly room: Room;
  readonly counters: ObjectCounters;
  readonly clock: Clock;
  /** 0 or more, below 1. */
  readonly random: () => number;
  /** Whether objects for trusted readers are for this node. */
  readonly isTrusted: (nodeId: NodeId) => boolean;
}

const NO_META = new Uint8Array(0);
/** A time plus 60 000 less that time can be 60 000.00000000001, which is no 60 001. */
const ROUNDING_MS = 0.001;

/** The row of a name whose time is not over; one whose time is over goes. */
export function findLive(
  core: StoreCore,
  name: string | number,
  nowMs: number,
): number | undefined {
  const row = core.table.find(name);
  if (row === undefined || core.table.endMsOf(row) > nowMs) return row;
  core.counters.expired += 1;
  core.room.discard(row);
  return undefined;
}

/** Whether a node may read an object. */
export function mayRead(core: StoreCore, row: number, requester: NodeId): boolean {
  if (core.table.ownerOf(row).nodeId === requester) return true;
  const readers = core.table.readersOf(row);
  if (readers === 'private') return false;
  if (readers === 'trusted') return requester === core.nodeId || core.isTrusted(requester);
  return readers.includes(requester);
}

/** @throws MemcloudError `ERR_OBJECT_DENIED` unless the object is the requester's */
export function checkOwner(core: StoreCore, row: number, requester: NodeId): void {
  if (core.table.ownerOf(row).nodeId === requester) return;
  throw new MemcloudError('ERR_OBJECT_DENIED', 'the name is that of an object of another node');
}

/** @throws MemcloudError `ERR_OBJECT_CONFLICT` unless the object, or none, is at that version */
export function checkIsAt(core: StoreCore, row: number | undefined, version?: number): void {
  const current = row === undefined ? 0 : core.table.versionOf(row);
  if (version === undefined || version === current) return;
  throw new MemcloudError(
    'ERR_OBJECT_CONFLICT',
    `the object: expected version ${version}, it is at ${current}`,
  );
}

/** The public name of a row. */
export function publicName(core: StoreCore, name: string | number): ObjectName {
  if (typeof name === 'string') return { kind: 'key', key: name };
  return { kind: 'block', id: blockId(core.holderBits, name) };
}

/** An object without its value. @param name - of the row, where it is known: an id is dear to make */
export function infoOf(
  core: StoreCore,
  row: number,
  nowMs: number,
  name: ObjectName = publicName(core, core.table.nameOf(row)),
): ObjectInfo {
  const { table } = core;
  const endMs = table.endMsOf(row);
  return {
    name,
    holder: core.nodeId,
    owner: table.ownerOf(row).nodeId,
    sizeBytes: table.sizeOf(row),
    version: table.versionOf(row),
    mode: table.modeOf(row),
    readers: table.readersOf(row),
    expiresInMs: endMs === Infinity ? null : Math.max(0, Math.ceil(endMs - nowMs - ROUNDING_MS)),
    meta: table.metaBytesOf(row) === 0 ? NO_META : readStored(core, row, 0, table.metaBytesOf(row)),
  };
}

/** A copy of a range of what is stored: the notes, then the value. */
export function readStored(core: StoreCore, row: number, offset: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  if (length === 0) return bytes;
  const value = core.table.valueOf(row);
  if (typeof value === 'number') core.values.read(value, offset, length, bytes, 0);
  else value.read(offset, length, bytes);
  return bytes;
}

/** A range of what is stored where it lies, if it lies in one slot: to be used before the next call. */
export function viewStored(core: StoreCore, row: number, offset: number, length: number): Buffer {
  const value = core.table.valueOf(row);
  if (length === 0 || typeof value !== 'number') return readStored(core, row, offset, length);
  return core.values.view(value, offset, length);
}
