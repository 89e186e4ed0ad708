/**
 * A volume: an array of pages that this machine owns and other machines hold. This file puts the
 * parts together and is what NBD (and later FUSE) sits on:
 *
 *   write: client buffer -> fill test -> seal -> ring (the request ends) -> write-back -> replicas
 *   read:  page map -> hole | fill | ring | replicas -> open -> client buffer
 *
 * A volume is a machine with one thread: everything happens in calls from clients, from page queues,
 * in deferred tasks of the same turn, and in {@link Volume.tick}.
 */
import { MemcloudError } from '../common/errors.ts';
import { IoStatus, type IoStatusValue, type NodeId, type SlabSource } from '../common/ports.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { NativeMemory } from '../common/native-memory.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES, formatSize } from '../common/units.ts';
import { CallKind, CallTable } from './call-table.ts';
import { CopyBuffer } from './copy-buffer.ts';
import { FlushEpochs } from './flush-epochs.ts';
import { PageLocks } from './page-locks.ts';
import { PageMap } from './page-map.ts';
import { ReadPath, type ReadRange } from './read-path.ts';
import { Repair } from './repair.ts';
import { RequestKind, RequestTable } from './request-table.ts';
import { Ring, ringSlotCount } from './ring.ts';
import type { PageGuard } from './page-guard.ts';
import { PageSealer } from './seal.ts';
import { SlabPhase, SlabTable } from './slab-table.ts';
import type { SourceLink } from './source-link.ts';
import {
  captureVolume,
  restoreVolume,
  type VolumeCapture,
  type VolumeImage,
} from './volume-image.ts';
import { VolumeCounters, endRequest } from './volume-state.ts';
import type { VolumeOptions, VolumeSink, VolumeState, VolumeWorld } from './volume-state.ts';
import { WriteBack } from './write-back.ts';
import { WritePath, type WriteRange } from './write-path.ts';

/** How often {@link Volume.tick} should be called, milliseconds. */
export const VOLUME_TICK_MS = 100;

const PAGE_COUNT_MAX = 2 ** 32 - 1;
/** 1 GiB of page data; beyond 4 GiB Node 20 has no Buffer for it. */
const RING_SLOT_COUNT_MAX = 2 ** 18;
const COPY_COUNT_MAX = 8;

/** What a volume looks like from outside. */
export interface VolumeStatus {
  /** Pages whose bytes are sealed, in the ring or on providers. */
  readonly sealedPages: number;
  /** Slabs with a replica set. */
  readonly leasedSlabs: number;
  /** Leased slabs with fewer whole copies on providers that answer than promised. */
  readonly degradedSlabs: number;
  /** Slabs that repair works on, and sealed bytes that it has still to copy. */
  readonly repair: { readonly slabs: number; readonly bytesLeft: number };
  /** Ring slots in use and in all. */
  readonly ringUsedPages: number;
  /** Ring slots in all. */
  readonly ringPages: number;
  /** True when the ring and the key are in locked memory. */
  readonly ringLocked: boolean;
  /** What is leased from each provider. */
  readonly providers: readonly ProviderShare[];
}

/** What a volume has leased from one provider. */
export interface ProviderShare {
  /** Who it is. */
  readonly nodeId: NodeId;
  /** What people call it. */
  readonly nodeName: string;
  /** Bytes. */
  leasedBytes: number;
  /** Until the first lease ends unless it is renewed, milliseconds; less than 0 when it has ended. */
  readonly leaseEndsInMs: number;
  /** The time to live of a lease that was just renewed, milliseconds. */
  readonly leaseTtlMs: number;
}

function makePageMap(pageCount: number): PageMap {
  try {
    return new PageMap(pageCount);
  } catch (cause) {
    const message = `volume size: not enough memory for the map of ${pageCount} pages`;
    throw new MemcloudError('ERR_VOLUME_SIZE', message, { cause });
  }
}

/** The volume. */
export class Volume {
  /** How it is kept. */
  readonly options: VolumeOptions;
  /** Counters from its creation on. */
  readonly counters = new VolumeCounters();
  /** Pages that a client changes in part: who else writes them takes turns (block-device.ts). */
  readonly pageLocks = new PageLocks();
  readonly #state: VolumeState;
  readonly #ringMemory: NativeMemory;
  readonly #slabs: SlabTable;
  readonly #writeBack: WriteBack;
  readonly #writePath: WritePath;
  readonly #readPath: ReadPath;
  readonly #repair: Repair;
  readonly #readRange: ReadRange;
  readonly #writeRange: WriteRange;
  #openQueue = 0;
  #openTag = 0;
  readonly #openReadRow = (): number =>
    this.#takeRow(RequestKind.READ, this.#openQueue, this.#openTag);

  /**
   * Makes an empty volume; nothing is leased until the first write.
   *
   * @param guard - by default a seal with a new key; another one for a volume whose pages are known
   *   elsewhere, or never leave this process
   * @throws MemcloudError `ERR_VOLUME_SIZE` for the volume or its ring, `ERR_USAGE` for the copies
   */
  constructor(options: VolumeOptions, world: VolumeWorld, guard?: PageGuard) {
    const pageCount = options.sizeBytes / PAGE_SIZE_BYTES;
    if (!Number.isInteger(pageCount) || pageCount < 1 || pageCount > PAGE_COUNT_MAX) {
      throw new MemcloudError(
        'ERR_VOLUME_SIZE',
        `volume size: expected a multiple of 4 KiB below 16 TiB, got ${options.sizeBytes} bytes`,
      );
    }
    const { copies, ringSizeBytes } = options;
    if (!Number.isInteger(copies) || copies < 1 || copies > COPY_COUNT_MAX) {
      throw new MemcloudError(
        'ERR_USAGE',
        `copies: expected 1 to ${COPY_COUNT_MAX}, got ${copies}`,
      );
    }
    const slotCount = ringSlotCount(ringSizeBytes);
    if (!(slotCount <= RING_SLOT_COUNT_MAX)) {
      const most = formatSize(RING_SLOT_COUNT_MAX * PAGE_SIZE_BYTES);
      throw new MemcloudError(
        'ERR_VOLUME_SIZE',
        `ring size: expected at most ${most}, got ${ringSizeBytes} bytes`,
      );
    }
    this.options = options;
    const map = makePageMap(pageCount);
    this.#ringMemory = new NativeMemory(slotCount * SEALED_PAGE_SIZE_BYTES, { lock: true });
    this.#state = {
      options,
      world,
      map,
      ring: new Ring(slotCount, this.#ringMemory),
      epochs: new FlushEpochs(),
      sealer: guard ?? new PageSealer(),
      calls: new CallTable(),
      copyBuffer: new CopyBuffer(),
      requests: new RequestTable(),
      counters: this.counters,
      queues: [],
      endWaiters: [],
      version: options.firstVersion ?? 0,
      closed: false,
      frozen: false,
    };
    this.#slabs = new SlabTable(this.#state, {
      onLeased: () => {
        this.#writeBack.onLeased();
        this.#writePath.resume();
      },
      onLeaseRefused: () => this.#writePath.onLeaseRefused(),
      onVacated: () => this.#repair.onVacated(),
      onSuspect: (link) => this.#onSuspect(link),
      onReadDone: (call, status, pages, offset) => {
        const copied = this.#state.calls.kind[call] === CallKind.COPY_READ;
        const part = copied ? this.#repair : this.#readPath;
        part.onReadDone(call, status, pages, offset);
      },
      onWriteDone: (call, status) => {
        const copied = this.#state.calls.kind[call] === CallKind.COPY_WRITE;
        const part = copied ? this.#repair : this.#writeBack;
        part.onWriteDone(call, status);
      },
      onLinkReady: (link) => this.#writeBack.onLinkReady(link),
    });
    this.#writeBack = new WriteBack(this.#state, this.#slabs, {
      onRoom: () => this.#writePath.resume(),
      onEpochAdvanced: () => this.#writePath.onEpochAdvanced(),
    });
    const parts = { slabs: this.#slabs, writeBack: this.#writeBack };
    this.#writePath = new WritePath(this.#state, parts);
    this.#readPath = new ReadPath(this.#state, this.#slabs);
    this.#repair = new Repair(this.#state, this.#slabs);
    const buffer = this.#ringMemory;
    this.#readRange = { firstPage: 0, pageCount: 0, into: buffer, intoOffset: 0 };
    this.#writeRange = { firstPage: 0, pageCount: 0, from: buffer, fromOffset: 0 };
  }

  /**
   * Makes a volume that another process had, from what its {@link Volume.capture} gave: the same
   * pages under the same key, the same leases. It is frozen until {@link Volume.thaw}; the other one
   * must never seal a page again.
   *
   * @param image - borrowed until the return
   * @param secrets - as {@link PageSealer.exportSecrets} wrote them; zeroed
   * @param sourceOf - the provider of each name in the image, known or not, up or not
   * @throws MemcloudError as the constructor
   */
  static fromImage(
    image: VolumeImage,
    secrets: Buffer,
    world: VolumeWorld,
    sourceOf: (nodeId: NodeId, nodeName: string) => SlabSource,
  ): Volume {
    const volume = new Volume(image.options, world, PageSealer.fromSecrets(secrets));
    volume.freeze();
    const parts = { slabs: volume.#slabs, writeBack: volume.#writeBack };
    restoreVolume(volume.#state, parts, image, sourceOf);
    return volume;
  }

  /**
   * Stops everything that the volume does by itself: it sends, leases and gives back nothing. Answers
   * of providers still come in, and so do requests of clients, who must be held before.
   */
  freeze(): void {
    this.#state.frozen = true;
  }

  /** True when pages of it may lie in a file of this process, which no other can go on with. */
  get spills(): boolean {
    return this.#state.world.spill !== undefined;
  }

  /** True when nothing is on its way to or from providers. */
  get idle(): boolean {
    const { calls } = this.#state;
    return calls.usedCount === 0 && !this.#slabs.asking && !this.#repair.asking;
  }

  /** Goes on after {@link Volume.freeze}. */
  thaw(): void {
    this.#state.frozen = false;
    for (const slab of this.#slabs.touched()) this.#slabs.releaseIfEmpty(slab);
    this.#writeBack.tick();
    this.#writePath.resume();
  }

  /** What it takes to go on in another process; true until the next request. The volume is frozen. */
  capture(): VolumeCapture {
    return captureVolume(this.#state, this.#slabs);
  }

  /** The key, for the process that goes on; see {@link PageSealer.exportSecrets}. */
  exportSecrets(into: Buffer): void {
    this.#state.sealer.exportSecrets(into);
  }

  /** Forgets the volume without a word to anybody: another process has it. The key here is destroyed. */
  abandon(): void {
    const state = this.#state;
    if (state.closed) return;
    state.closed = true;
    state.sealer.destroy();
  }

  /**
   * Takes all memory of the ring now. For a volume that the kernel swaps onto: otherwise the ring
   * would take it page by page just when memory is short, from the free memory that others count on.
   */
  populate(): void {
    this.#ringMemory.populate();
  }

  /** Pages in the volume. */
  get pageCount(): number {
    return this.#state.map.pageCount;
  }

  /** Registers a client; its number goes into each request. */
  openQueue(sink: VolumeSink): number {
    const { queues } = this.#state;
    const free = queues.indexOf(undefined);
    const number = free === -1 ? queues.length : free;
    queues[number] = { sink, rowCount: 0, closing: false };
    return number;
  }

  /** Unregisters a client. Its requests in flight still end, each once, and hold their buffers until then. */
  closeQueue(number: number): void {
    const queue = this.#state.queues[number];
    if (queue === undefined) return;
    queue.closing = true;
    if (queue.rowCount === 0) this.#state.queues[number] = undefined;
  }

  /** Reads pages; the buffer is borrowed until the end. Pages must lie in the volume. */
  read(
    queue: number,
    tag: number,
    firstPage: number,
    pageCount: number,
    into: NativeBuffer,
    intoOffset: number,
  ): void {
    if (this.#refuse(queue, tag)) return;
    const range = this.#readRange;
    range.firstPage = firstPage;
    range.pageCount = pageCount;
    range.into = into;
    range.intoOffset = intoOffset;
    this.#openQueue = queue;
    this.#openTag = tag;
    const status = this.#readPath.read(range, this.#openReadRow);
    if (status === -1) return;
    if (status !== IoStatus.OK) this.counters.failedRequests += 1;
    this.#state.queues[queue]?.sink.onVolumeDone(tag, status);
  }

  /** Writes pages if there is room for all of them now; false when nothing was taken. */
  tryWrite(firstPage: number, pageCount: number, from: NativeBuffer, fromOffset: number): boolean {
    if (this.#state.closed) return false;
    const range = this.#writeRange;
    range.firstPage = firstPage;
    range.pageCount = pageCount;
    range.from = from;
    range.fromOffset = fromOffset;
    return this.#writePath.tryWrite(range);
  }

  /** Writes pages; the buffer is borrowed until the end. */
  write(
    queue: number,
    tag: number,
    firstPage: number,
    pageCount: number,
    from: NativeBuffer,
    fromOffset: number,
    forceUnitAccess: boolean,
  ): void {
    if (this.#refuse(queue, tag)) return;
    const kind = forceUnitAccess ? RequestKind.WRITE_FUA : RequestKind.WRITE;
    const row = this.#takeRow(kind, queue, tag);
    this.#state.requests.setRange(row, firstPage, pageCount, from, fromOffset);
    this.#writePath.write(row);
  }

  /** Ends when every write that ended before is on all its replicas. */
  flush(queue: number, tag: number): void {
    if (this.#refuse(queue, tag)) return;
    this.#writePath.flush(this.#takeRow(RequestKind.FLUSH, queue, tag));
  }

  /** Makes pages holes, at once; their RAM goes back in the background. Returns OK or SHUTDOWN. */
  trim(firstPage: number, pageCount: number): IoStatusValue {
    if (this.#state.closed) return IoStatus.SHUTDOWN;
    this.#writePath.trim(firstPage, pageCount);
    return IoStatus.OK;
  }

  /** Makes pages read as zeroes, at once. Returns OK or SHUTDOWN. */
  zero(firstPage: number, pageCount: number): IoStatusValue {
    if (this.#state.closed) return IoStatus.SHUTDOWN;
    this.#writePath.zero(firstPage, pageCount);
    return IoStatus.OK;
  }

  /**
   * True while a write of the page waits for room: it was made, and its bytes are not there yet.
   * Walks the requests; for changes of part of a page, which are rare.
   */
  writeWaits(page: number): boolean {
    return this.#state.requests.writeCovers(page);
  }

  /** Resolves at the next end of any request. */
  nextEnd(): Promise<void> {
    return new Promise((resolve) => this.#state.endWaiters.push(resolve));
  }

  /** The end of the run of pages like `page`, at most `end`, and whether they are holes or zeroes. */
  extent(page: number, end: number): { end: number; hole: boolean; zero: boolean } {
    const { map } = this.#state;
    const zero = map.isZero(page);
    return { end: map.runEnd(page, end), hole: map.state(page) === 0, zero };
  }

  /** Lets time pass: deadlines, renewals, second tries. Call every {@link VOLUME_TICK_MS}. */
  tick(): void {
    if (this.#state.closed || this.#state.frozen) return;
    const nowMs = this.#state.world.clock.nowMs();
    this.#slabs.tick(nowMs);
    this.#readPath.tick(nowMs);
    this.#repair.tick(nowMs);
    this.#writeBack.tick();
    this.#writePath.tick(nowMs);
  }

  /**
   * Moves every slab away from a source, live, as fast as repair may, for as long as the source is not
   * `accepting`.
   */
  evacuate(source: SlabSource): void {
    this.#slabs.vacate(source);
  }

  /** Counts and providers, for people; walks the slabs. */
  status(): VolumeStatus {
    const { ring, world } = this.#state;
    const leaseTtlMs = this.#slabs.renewal.ttlMs;
    const nowMs = world.clock.nowMs();
    const providers = new Map<string, ProviderShare>();
    let sealedPages = 0;
    let degradedSlabs = 0;
    for (const slab of this.#slabs.touched()) {
      sealedPages += slab.livePages;
      if (slab.phase !== SlabPhase.LEASED) continue;
      // A provider that is away may come back with its pages; until then it keeps no promise.
      const soundCount = slab.replicas.filter(({ sound }) => sound).length;
      if (soundCount < this.options.copies) degradedSlabs += 1;
      for (const { link } of slab.replicas) {
        const { nodeId, nodeName } = link.source;
        const leaseEndsInMs = link.leasesEndAtMs - nowMs;
        const fresh = { nodeId, nodeName, leasedBytes: 0, leaseEndsInMs, leaseTtlMs };
        const row = providers.get(nodeId) ?? fresh;
        row.leasedBytes += slab.pageCount * SEALED_PAGE_SIZE_BYTES;
        providers.set(nodeId, row);
      }
    }
    return {
      sealedPages,
      leasedSlabs: this.#slabs.leasedCount,
      degradedSlabs,
      repair: this.#repair.status(),
      ringUsedPages: ring.slotCount - ring.freeCount,
      ringPages: ring.slotCount,
      ringLocked: this.#ringMemory.locked,
      providers: [...providers.values()],
    };
  }

  /**
   * Ends every request with SHUTDOWN, gives the leases back and destroys the key. The pages are
   * gone, wherever they were.
   */
  async close(): Promise<void> {
    const state = this.#state;
    if (state.closed) return;
    state.closed = true;
    this.#writePath.close();
    for (const link of this.#slabs.links) {
      link.expireReads(() => true);
      link.failWaitingWrites(() => true, IoStatus.SHUTDOWN);
    }
    this.#readPath.close();
    // Reads in flight end with SHUTDOWN; however late an end comes, it touches no memory any more.
    for (const link of this.#slabs.links) link.close();
    const released = this.#slabs.releaseAll();
    setImmediate(() => {
      state.sealer.destroy();
      state.copyBuffer.free();
      this.#ringMemory.free();
    });
    await released;
    state.world.spill?.close();
    state.world.logger.info(
      { volume: this.options.name, size: formatSize(this.options.sizeBytes) },
      'volume closed, key destroyed',
    );
  }

  #onSuspect(link: SourceLink): void {
    const { counters, world } = this.#state;
    counters.suspicions += 1;
    world.logger.warn({ provider: link.source.nodeName }, 'a provider does not answer');
    this.#readPath.onSuspect(link);
    this.#writeBack.onSuspect(link);
  }

  #takeRow(
    kind: (typeof RequestKind)[keyof typeof RequestKind],
    queue: number,
    tag: number,
  ): number {
    const { world, options, requests, queues } = this.#state;
    const client = queues[queue];
    if (client !== undefined) client.rowCount += 1;
    return requests.take(kind, queue, tag, world.clock.nowMs() + options.requestDeadlineMs);
  }

  #refuse(queue: number, tag: number): boolean {
    if (!this.#state.closed) return false;
    const row = this.#takeRow(RequestKind.FLUSH, queue, tag);
    endRequest(this.#state, row, IoStatus.SHUTDOWN);
    return true;
  }
}
