/**
 * The composition of a mount's process, and with `wire.ts` what knows both ends of its seams:
 *
 *   peers on a lane, RAM of this machine -- SlabSources --> volume -- BlockDevice --> file store
 *                RAM of this machine alone ------------------------- BlockDevice -------^   |
 *                                                   kernel <-- transport <-- file system <--'
 *
 * It never looks at a path below its own mount, where it would wait for itself. Ends come in the order in
 * which work flows: the mount, the store, and the memory (wire-mount-pool.ts, wire-mount-memory.ts).
 */
import assert from 'node:assert';
import { randomBytes } from 'node:crypto';
import { monotonicClock } from '../common/clock.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import { FileSystem, type FileSystemOptions } from '../fuse-fs/file-system.ts';
import { KernelTransport } from '../fuse-fs/kernel-transport.ts';
import { unmountFuse } from '../fuse-fs/mounting.ts';
import { NativeTransport } from '../fuse-fs/native-transport.ts';
import { FUSE_PROFILES } from '../fuse-fs/negotiation.ts';
import type { FileSystemStatistics } from '../fuse-fs/operations.ts';
import { PageFileStore } from '../fuse-fs/page-file-store.ts';
import type { Transport, TransportEnd } from '../fuse-fs/transport.ts';
import { KernelClock } from '../fuse-fs/wall-clock.ts';
import { resultWithin, within } from './handover/within.ts';
import type { PoolLease, PoolUse } from './managed/pool-lease.ts';
import type { ServedMount, StartMessage } from './mounts/child.ts';
import type { MountPeer, MountStatus } from './mounts/protocol.ts';
import { MountMemory } from './wire-mount-memory.ts';
import type { MountBacking } from './wire-mount-parts.ts';
import { MountPool } from './wire-mount-pool.ts';
import { REQUEST_DEADLINE_MS, staysHere } from './wire-volume.ts';

/** After an unmount the kernel says at once that it is gone; users of a lazy one have so long to leave. */
const GONE_WAIT_MS = 1_500;
/** Calls of files that wait for providers: who unmounts waits so long for their end, milliseconds. */
const CALLS_WAIT_MS = 500;
/** Leases have so long to go back, milliseconds; what does not is wiped by its provider in time. */
const POOL_CLOSE_MS = 2_000;
const LOOK_MS = 5;
const DAMAGED_FILE_COUNT_MAX = 100;

/** Told what a mount does by itself. */
export interface PoolMountEvents {
  /** True once the mount is not wanted any more. */
  readonly cancelled: () => boolean;
  /** Somebody else has unmounted it. */
  readonly onUnmounted: () => void;
  /** A provider broke the rules. */
  readonly onQuarantine: (nodeId: string, reason: string) => void;
}

/** A mount that the kernel has. */
interface Served {
  readonly directory: string;
  readonly transport: Transport;
  /** The kernel says that the mount is gone. */
  gone: boolean;
  /** We are taking it away ourselves. */
  leaving: boolean;
}

/** Files that have no more room than the pool below them, whatever their quota. */
class PoolFiles extends FileSystem {
  readonly #freePageCount: () => number;

  /** @param freePageCount - pages that the pool can still take */
  constructor(freePageCount: () => number, options: FileSystemOptions) {
    super(options);
    this.#freePageCount = freePageCount;
  }

  override statistics(into: FileSystemStatistics): void {
    super.statistics(into);
    into.freeBlockCount = Math.min(into.freeBlockCount, Math.floor(this.#freePageCount()));
  }
}

/** The files on a {@link MountBacking}, and the directory where the kernel shows them. */
export class PoolMount implements ServedMount {
  readonly #start: StartMessage;
  readonly #logger: Logger;
  readonly #events: PoolMountEvents;
  readonly #pool: MountBacking;
  readonly #store: PageFileStore;
  readonly #files: FileSystem;
  #served: Served | undefined;
  /** Resolves when nothing of the last mount is under way any more. */
  #settled: Promise<void> = Promise.resolve();
  /** Requests of mounts that are gone. */
  #formerRequestCount = 0;

  private constructor(
    start: StartMessage,
    logger: Logger,
    events: PoolMountEvents,
    pool: MountBacking,
  ) {
    this.#start = start;
    this.#logger = logger;
    this.#events = events;
    this.#pool = pool;
    const { sizeBytes, uid, gid, mode } = start.request;
    let store: PageFileStore | undefined;
    this.#files = new PoolFiles(() => pool.freePageCount(this.#store.room().usedPageCount), {
      openStore: (sink) => (store = new PageFileStore(pool.device, sink)),
      clock: new KernelClock(),
      ...{ sizeBytes, uid, gid, mode },
      hashSeed: randomBytes(4).readUInt32LE(0),
    });
    assert(store !== undefined);
    this.#store = store;
  }

  /**
   * Makes the pool, the files and the mount.
   *
   * @throws MemcloudError as {@link MountPool.open}; `ERR_MOUNT_POINT`, `ERR_MOUNT_FAILED`,
   *   `ERR_MOUNT_TRANSPORT`, `ERR_UNSUPPORTED`
   */
  static async open(
    start: StartMessage,
    logger: Logger,
    events: PoolMountEvents,
  ): Promise<PoolMount> {
    const { cancelled, onQuarantine } = events;
    const { request, leases, name } = start;
    const isAlone = leases === undefined && staysHere(request.providers, name);
    const pool = isAlone
      ? await MountMemory.open(start, logger, cancelled)
      : await MountPool.open(start, logger, cancelled, onQuarantine);
    const mount = new PoolMount(start, logger, events, pool);
    try {
      await mount.#mount(start.request.directory);
      return mount;
    } catch (error) {
      await mount.close();
      throw error;
    }
  }

  /** @inheritDoc */
  setPeers(peers: readonly MountPeer[]): void {
    this.#pool.setPeers(peers);
  }

  /** @inheritDoc */
  setLeases(leases: readonly PoolLease[]): PoolUse {
    return this.#pool.setLeases(leases);
  }

  /** @inheritDoc */
  status(): MountStatus {
    const { volumeName, sizeBytes, copies, transport } = this.#start.request;
    const directory = this.#served?.directory ?? '';
    const damaged = this.#files.damagedPaths(DAMAGED_FILE_COUNT_MAX);
    const served = this.#served?.transport.requestCount ?? 0;
    return {
      ...{ directory, volumeName, sizeBytes, copies, transport },
      usedBytes: this.#store.room().usedPageCount * PAGE_SIZE_BYTES,
      inodeCount: this.#files.inodeCount,
      metadataBytes: this.#files.metadataBytes + this.#store.metadataBytes,
      ...this.#pool.status(),
      damagedFiles: damaged.paths.map((path) => `${directory}${path}`),
      damagedFileCount: damaged.count,
      requestCount: this.#formerRequestCount + served,
      pid: process.pid,
    };
  }

  /** @inheritDoc */
  async unmount(lazy: boolean): Promise<'done' | 'busy'> {
    const served = this.#served;
    if (served === undefined) return 'done';
    served.leaving = true;
    try {
      const result = await unmountFuse(served.directory, { lazy });
      if (result === 'busy') {
        served.leaving = false;
        return 'busy';
      }
    } catch (error) {
      served.leaving = false;
      throw error;
    }
    await within(GONE_WAIT_MS, LOOK_MS, () => served.gone);
    await this.#disconnect(served);
    return 'done';
  }

  /** @inheritDoc */
  async remount(directory: string): Promise<void> {
    if (this.#served !== undefined) {
      const text = `the files are mounted at ${this.#served.directory}`;
      throw new MemcloudError('ERR_MOUNT_BUSY', text);
    }
    await this.#settled;
    await this.#mount(directory);
  }

  /** @inheritDoc */
  async close(): Promise<void> {
    if (this.#served !== undefined) await this.#disconnect(this.#served);
    this.#files.close();
    const closed = this.#pool.close().catch((error: unknown) => {
      this.#logger.warn({ err: asMemcloudError(error).message }, 'the pool did not close in order');
    });
    await resultWithin(POOL_CLOSE_MS, closed);
  }

  async #mount(directory: string): Promise<void> {
    const transport = this.#transportTo(directory, (end) => this.#onEnd(served, end));
    // Until it is mounted its end is ours to tell.
    const served: Served = { directory, transport, gone: false, leaving: true };
    this.#files.connect(transport.sink);
    try {
      await transport.mount(this.#files);
    } catch (error) {
      transport.close();
      throw error;
    }
    this.#served = served;
    served.leaving = false;
    if (served.gone) this.#onEnd(served, undefined);
  }

  #transportTo(directory: string, onEnd: (end: TransportEnd) => void): Transport {
    const { allowOther, profile, transport, uid, gid } = this.#start.request;
    const options = { directory, allowOther, onEnd };
    if (transport === 'native') return new NativeTransport({ ...options, uid, gid });
    return new KernelTransport({
      ...options,
      profile: FUSE_PROFILES[profile],
      spin: this.#pool.spin,
      clock: monotonicClock,
      log: this.#logger,
    });
  }

  /** The kernel ended the conversation: nobody will ask any more. */
  #onEnd(served: Served, error: MemcloudError | undefined): void {
    served.gone = true;
    if (served.leaving) return;
    const { directory } = served;
    if (error === undefined) this.#logger.info({ directory }, 'unmounted by others');
    else this.#logger.warn({ directory, err: error.message }, 'the connection was aborted');
    void this.#afterEnd(served, error).finally(() => this.#events.onUnmounted());
  }

  async #afterEnd(served: Served, error: MemcloudError | undefined): Promise<void> {
    // A connection that was aborted leaves its mount point, dead.
    if (error !== undefined) {
      await unmountFuse(served.directory, { lazy: true }).catch(() => undefined);
    }
    await this.#disconnect(served);
  }

  /** Serves this mount no more; whoever still uses it is told so by the kernel. */
  async #disconnect(served: Served): Promise<void> {
    if (this.#served !== served) return;
    this.#served = undefined;
    const { transport } = served;
    this.#formerRequestCount += transport.requestCount;
    transport.close();
    this.#settled = this.#settle(transport);
    await resultWithin(CALLS_WAIT_MS, this.#settled);
  }

  /** Calls under way hold memory of the transport, and mean files that would be forgotten: they end first. */
  async #settle(transport: Transport): Promise<void> {
    const isIdle = (): boolean => transport.waitingCount === 0;
    if (!(await within(REQUEST_DEADLINE_MS + CALLS_WAIT_MS, LOOK_MS, isIdle))) {
      this.#logger.error({ calls: transport.waitingCount }, 'calls of files did not end');
      return;
    }
    transport.free();
    this.#files.disconnect();
  }
}
