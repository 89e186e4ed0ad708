/**
 * A volume as bytes, for the process that goes on with it when this one is replaced
 * (docs/adr/0009-handover.md). The image holds what a frozen volume knows: how it is kept, who holds
 * its slabs under which leases, the state and version of each page, and the sealed bytes of the pages
 * that are still in the ring. The key is not in it (seal.ts, `exportSecrets`); without the key the
 * image gives away no page but the repeated words of same-filled ones.
 *
 * ```
 * magic u32 | format u32 | length of meta u32 | runs u32 | ring pages u32 | version f64 | meta (JSON)
 * each run: slab u32 | pages u32 | PageMap.copyOut of them      slabs in which no page is known are left out
 * ring: page u32 each | sealed page each, in the same order
 * ```
 *
 * Little endian. A page of the ring that was sent and not yet acknowledged by all is one that is to be
 * sent again: the same bytes under the same version. Decoding is total: any bytes give an image that
 * is sound in itself, or `ERR_HANDOVER`.
 */
import * as v from 'valibot';
import { MemcloudError } from '../common/errors.ts';
import { copyMemory } from '../common/libc.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import type { NodeId, SlabSource } from '../common/ports.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { PAGE_RECORD_BYTES, PageState, type PageMap } from './page-map.ts';
import { SlotState, ringSlotCount } from './ring.ts';
import { SlabPhase, type SlabTable } from './slab-table.ts';
import type { VolumeOptions, VolumeState } from './volume-state.ts';
import type { WriteBack } from './write-back.ts';

/** "MCVI" read as a little-endian number. */
const MAGIC = 0x4956434d;
/** Grows with each change of the layout: another version of memnode refuses what it does not know. */
const FORMAT = 2;
const HEADER_SIZE_BYTES = 28;
const RUN_HEADER_SIZE_BYTES = 8;
const META_SIZE_MAX_BYTES = 64 * 2 ** 20;
/** More than any replica set has, also while it is repaired. */
const REPLICA_COUNT_MAX = 16;

const u32 = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32 - 1));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** Bytes of one bit for each page of a slab, and their length in base64. */
const BITS_SIZE_BYTES = SLAB_PAGE_COUNT / 8;
const REPLICA_STATE = v.strictObject({
  writable: v.boolean(),
  leaving: v.boolean(),
  urgent: v.boolean(),
  missing: v.pipe(
    v.string(),
    v.check((text) => text === '' || Buffer.from(text, 'base64').length === BITS_SIZE_BYTES),
  ),
});

const META = v.strictObject({
  options: v.strictObject({
    name: v.string(),
    sizeBytes: count,
    copies: count,
    ringSizeBytes: count,
    leaseTtlMs: v.pipe(v.number(), v.minValue(1)),
    requestDeadlineMs: v.pipe(v.number(), v.minValue(1)),
  }),
  counters: v.record(v.string(), count),
  // Providers; `leasesEndInMs` as of the capture.
  sources: v.array(
    v.strictObject({ nodeId: v.string(), nodeName: v.string(), leasesEndInMs: v.number() }),
  ),
  slabs: v.array(
    v.strictObject({
      index: u32,
      generation: u32,
      replicas: v.pipe(
        v.array(
          v.strictObject({
            source: u32,
            leaseId: v.string(),
            slabHandle: u32,
            state: REPLICA_STATE,
          }),
        ),
        v.maxLength(REPLICA_COUNT_MAX),
      ),
    }),
  ),
});
type Meta = v.InferOutput<typeof META>;

/** A volume that is about to be written out. */
export interface VolumeCapture {
  /** Bytes of the image. */
  readonly sizeBytes: number;
  /** Writes it. To be called in the turn of the capture. */
  writeTo(into: NativeBuffer): void;
}

interface Run {
  readonly slab: number;
  readonly pageCount: number;
  /** {@link PageMap.copyOut} of its pages, borrowed. */
  readonly records: Buffer;
  /** Pages in state SEALED. */
  readonly livePages: number;
}

/** A decoded image; it borrows the bytes that it was decoded from. */
export interface VolumeImage {
  /** How the volume is kept. */
  readonly options: VolumeOptions;
  /** The last version that was given to a page. */
  readonly version: number;
  /** The rest of what is not pages. */
  readonly meta: Meta;
  /** The slabs in which a page is known. */
  readonly runs: readonly Run[];
  /** The pages that were in the ring. */
  readonly ringPages: readonly number[];
  /** Address of their sealed bytes, in the same order. */
  readonly ringAddress: number;
}

function slabPageCount(pageCount: number, slab: number): number {
  return Math.min(SLAB_PAGE_COUNT, pageCount - slab * SLAB_PAGE_COUNT);
}

// --- Out ----------------------------------------------------------------------------------------

function metaOf(state: VolumeState, slabs: SlabTable): Meta {
  const { name, sizeBytes, copies, ringSizeBytes, leaseTtlMs, requestDeadlineMs } = state.options;
  const nowMs = state.world.clock.nowMs();
  const rows: Meta['slabs'] = [];
  for (const slab of slabs.touched()) {
    const replicas = slab.replicas.map(({ link, leaseId, slabHandle, state }) => ({
      source: link.index,
      leaseId,
      slabHandle,
      state,
    }));
    const { index, generation } = slab;
    rows.push({ index, generation, replicas: slab.phase === SlabPhase.LEASED ? replicas : [] });
  }
  return {
    options: { name, sizeBytes, copies, ringSizeBytes, leaseTtlMs, requestDeadlineMs },
    counters: { ...state.counters },
    sources: slabs.links.map(({ source, leasesEndAtMs }) => ({
      nodeId: source.nodeId,
      nodeName: source.nodeName,
      leasesEndInMs: Number.isNaN(leasesEndAtMs) ? 0 : leasesEndAtMs - nowMs,
    })),
    slabs: rows,
  };
}

function isKnown(map: PageMap, firstPage: number, pageCount: number): boolean {
  const end = firstPage + pageCount;
  return map.state(firstPage) !== PageState.HOLE || map.runEnd(firstPage, end) < end;
}

/** Slots of the ring that hold the newest bytes of a page, by page: neighbours travel as one run. */
function ringSlots({ ring, map }: VolumeState): number[] {
  const slots: number[] = [];
  for (let slot = 0; slot < ring.slotCount; slot += 1) {
    const state = ring.state(slot);
    const holds = state === SlotState.QUEUED || state === SlotState.SENT;
    if (holds && map.ringSlot(ring.page[slot] as number) === slot) slots.push(slot);
  }
  return slots.sort((a, b) => (ring.page[a] as number) - (ring.page[b] as number));
}

/** Takes stock of a frozen volume. */
export function captureVolume(state: VolumeState, slabs: SlabTable): VolumeCapture {
  const { map, ring, version } = state;
  const meta = Buffer.from(JSON.stringify(metaOf(state, slabs)));
  const runs: { slab: number; pageCount: number }[] = [];
  let sizeBytes = HEADER_SIZE_BYTES + meta.length;
  for (let slab = 0; slab * SLAB_PAGE_COUNT < map.pageCount; slab += 1) {
    const pageCount = slabPageCount(map.pageCount, slab);
    if (!isKnown(map, slab * SLAB_PAGE_COUNT, pageCount)) continue;
    runs.push({ slab, pageCount });
    sizeBytes += RUN_HEADER_SIZE_BYTES + pageCount * PAGE_RECORD_BYTES;
  }
  const slots = ringSlots(state);
  sizeBytes += slots.length * (4 + SEALED_PAGE_SIZE_BYTES);
  const writeTo = ({ bytes, address }: NativeBuffer): void => {
    bytes.writeUInt32LE(MAGIC, 0);
    bytes.writeUInt32LE(FORMAT, 4);
    bytes.writeUInt32LE(meta.length, 8);
    bytes.writeUInt32LE(runs.length, 12);
    bytes.writeUInt32LE(slots.length, 16);
    bytes.writeDoubleLE(version, 20);
    bytes.set(meta, HEADER_SIZE_BYTES);
    let at = HEADER_SIZE_BYTES + meta.length;
    for (const { slab, pageCount } of runs) {
      bytes.writeUInt32LE(slab, at);
      bytes.writeUInt32LE(pageCount, at + 4);
      at += RUN_HEADER_SIZE_BYTES;
      const end = at + pageCount * PAGE_RECORD_BYTES;
      map.copyOut(slab * SLAB_PAGE_COUNT, pageCount, bytes.subarray(at, end));
      at = end;
    }
    for (const slot of slots) at = bytes.writeUInt32LE(ring.page[slot] as number, at);
    for (const slot of slots) {
      copyMemory(address + at, ring.address(slot), SEALED_PAGE_SIZE_BYTES);
      at += SEALED_PAGE_SIZE_BYTES;
    }
  };
  return { sizeBytes, writeTo };
}

// --- In -----------------------------------------------------------------------------------------

function damaged(what: string): MemcloudError {
  return new MemcloudError('ERR_HANDOVER', `the image of a volume is damaged: ${what}`);
}

function decodeMeta(bytes: Buffer): Meta {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new MemcloudError('ERR_HANDOVER', 'the image of a volume is damaged: no JSON', { cause });
  }
  const result = v.safeParse(META, json);
  if (!result.success) throw damaged(result.issues[0].message);
  return result.output;
}

/** Counts the sealed pages of a run, whose states and versions are checked. */
function countLive(records: Buffer, pageCount: number, version: number): number {
  let live = 0;
  for (let page = 0; page < pageCount; page += 1) {
    const state = records[page] as number;
    if (state > PageState.LOST) throw damaged(`a page in state ${state}`);
    if (state !== PageState.SEALED) continue;
    const low = records.readUInt32LE(pageCount + page * 4);
    const high = records.readUInt32LE(pageCount * 5 + page * 4);
    // A version that the counter has not reached yet would be given to another page again.
    if (!(high * 2 ** 32 + low <= version)) throw damaged('a page of a version to come');
    live += 1;
  }
  return live;
}

function checkSlabs(meta: Meta, slabCount: number): void {
  const seen = new Set<number>();
  for (const { index, replicas } of meta.slabs) {
    if (index >= slabCount || seen.has(index)) throw damaged(`slab ${index}`);
    seen.add(index);
    for (const { source } of replicas) {
      if (source >= meta.sources.length) throw damaged(`provider ${source}`);
    }
  }
}

function decodeRuns(
  bytes: Buffer,
  start: number,
  limits: { runCount: number; pageCount: number; version: number },
): { runs: Run[]; at: number } {
  const runs: Run[] = [];
  let at = start;
  let next = 0;
  for (let index = 0; index < limits.runCount; index += 1) {
    if (at + RUN_HEADER_SIZE_BYTES > bytes.length) throw damaged('it ends early');
    const slab = bytes.readUInt32LE(at);
    const pageCount = bytes.readUInt32LE(at + 4);
    at += RUN_HEADER_SIZE_BYTES;
    if (slab < next || slab * SLAB_PAGE_COUNT >= limits.pageCount) throw damaged(`run ${slab}`);
    if (pageCount !== slabPageCount(limits.pageCount, slab)) throw damaged(`pages of ${slab}`);
    next = slab + 1;
    const end = at + pageCount * PAGE_RECORD_BYTES;
    if (end > bytes.length) throw damaged('it ends early');
    const records = bytes.subarray(at, end);
    const livePages = countLive(records, pageCount, limits.version);
    runs.push({ slab, pageCount, records, livePages });
    at = end;
  }
  return { runs, at };
}

/** The pages of the ring; each is sealed by the word of the page map, and there once. */
function decodeRing(
  bytes: Buffer,
  start: number,
  ringCount: number,
  runs: readonly Run[],
): number[] {
  const bySlab = new Map(runs.map((run) => [run.slab, run]));
  const pages: number[] = [];
  for (let index = 0; index < ringCount; index += 1) {
    const page = bytes.readUInt32LE(start + index * 4);
    const slab = Math.floor(page / SLAB_PAGE_COUNT);
    const state = bySlab.get(slab)?.records[page - slab * SLAB_PAGE_COUNT];
    const isNew = index === 0 || page > (pages[index - 1] as number);
    if (state !== PageState.SEALED || !isNew) throw damaged(`page ${page} of the ring`);
    pages.push(page);
  }
  return pages;
}

/**
 * Reads an image and checks that it is sound in itself.
 *
 * @param image - borrowed as long as the result is used
 * @throws MemcloudError `ERR_HANDOVER` when it is damaged or of another format
 */
export function decodeVolumeImage(image: NativeBuffer): VolumeImage {
  const { bytes, address } = image;
  if (bytes.length < HEADER_SIZE_BYTES || bytes.readUInt32LE(0) !== MAGIC) {
    throw damaged('it is no image');
  }
  const format = bytes.readUInt32LE(4);
  if (format !== FORMAT) {
    const text = `the image of a volume: expected format ${FORMAT}, got ${format}`;
    throw new MemcloudError('ERR_HANDOVER', `${text}; these versions of memnode are too far apart`);
  }
  const metaLength = bytes.readUInt32LE(8);
  const runCount = bytes.readUInt32LE(12);
  const ringCount = bytes.readUInt32LE(16);
  const version = bytes.readDoubleLE(20);
  if (!Number.isSafeInteger(version) || version < 0) throw damaged('the version counter');
  const metaEnd = HEADER_SIZE_BYTES + metaLength;
  if (metaLength > META_SIZE_MAX_BYTES || metaEnd > bytes.length) throw damaged('it ends early');
  const meta = decodeMeta(bytes.subarray(HEADER_SIZE_BYTES, metaEnd));
  const { options } = meta;
  const pageCount = options.sizeBytes / PAGE_SIZE_BYTES;
  if (!Number.isInteger(pageCount) || pageCount < 1) throw damaged('the size of the volume');
  checkSlabs(meta, Math.ceil(pageCount / SLAB_PAGE_COUNT));
  const { runs, at } = decodeRuns(bytes, metaEnd, { runCount, pageCount, version });
  const ringAt = at + ringCount * 4;
  if (bytes.length < ringAt + ringCount * SEALED_PAGE_SIZE_BYTES) throw damaged('it ends early');
  if (ringCount > ringSlotCount(options.ringSizeBytes)) throw damaged('pages of the ring');
  const ringPages = decodeRing(bytes, at, ringCount, runs);
  return { options, version, meta, runs, ringPages, ringAddress: address + ringAt };
}

/** Fills an empty volume, which is frozen, with what an image holds. */
export function restoreVolume(
  state: VolumeState,
  parts: { slabs: SlabTable; writeBack: WriteBack },
  image: VolumeImage,
  sourceOf: (nodeId: NodeId, nodeName: string) => SlabSource,
): void {
  const { map, ring, epochs, counters } = state;
  const { meta, runs } = image;
  const nowMs = state.world.clock.nowMs();
  state.version = image.version;
  for (const name of Object.keys(counters) as (keyof typeof counters)[]) {
    counters[name] = meta.counters[name] ?? 0;
  }
  const sources = meta.sources.map(({ nodeId, nodeName, leasesEndInMs }) => ({
    source: sourceOf(nodeId, nodeName),
    leaseEndsAtMs: nowMs + leasesEndInMs,
  }));
  const livePages = new Map<number, number>();
  for (const run of runs) {
    map.copyIn(run.slab * SLAB_PAGE_COUNT, run.pageCount, run.records);
    livePages.set(run.slab, run.livePages);
  }
  for (const { index, generation, replicas } of meta.slabs) {
    const rows = replicas.flatMap(({ source, ...replica }) => {
      const found = sources[source];
      return found === undefined ? [] : [{ ...found, ...replica }];
    });
    parts.slabs.restore(index, {
      generation,
      livePages: livePages.get(index) ?? 0,
      replicas: rows,
    });
    livePages.delete(index);
  }
  for (const [index, live] of livePages) {
    parts.slabs.restore(index, { generation: 0, livePages: live, replicas: [] });
  }
  let from = image.ringAddress;
  for (const page of image.ringPages) {
    const slot = ring.take(page, epochs.current);
    epochs.add();
    map.setRingSlot(page, slot);
    copyMemory(ring.address(slot), from, SEALED_PAGE_SIZE_BYTES);
    parts.writeBack.enqueue(parts.slabs.of(page), slot);
    from += SEALED_PAGE_SIZE_BYTES;
  }
}
