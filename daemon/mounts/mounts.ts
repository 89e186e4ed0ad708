/**
 * The mounts of this daemon: each is a process of its own that the daemon starts, watches and ends. A
 * mount whose process died would answer "transport endpoint is not connected" for ever; the daemon takes
 * it away at once and says what happened. What a daemon that was killed has left, the next one takes away.
 *
 *     starting --> mounted --> (gone)      unmounted by us or by others; the files are gone
 *                     |  ^---- kept        unmounted with --keep: the files are there, the mount is not;
 *                     |                    "remounting" on the way back
 *                     v
 *                   dead                   the process ended by itself; shown until somebody has seen it
 *
 * Nothing here looks into a mount, ever: its server is our child, and might be waiting for us.
 */
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { MountRegister } from '../../common/mount-register.ts';
import { isFuse, mountAt } from '../../common/mount-table.ts';
import { processStart } from '../../common/process-start.ts';
import type { MountInfo } from '../../common/rpc-schema.ts';
import { detachIfOurs, takeAwayStale, type StaleWorld } from '../../common/stale-mounts.ts';
import type { PoolLease, PoolUse } from '../managed/pool-lease.ts';
import { describeMount, type MountState } from './describe.ts';
import { checkMountPoint, followPath, type MountPointWorld } from './mount-point.ts';
import { MountProcess, type MountProgram } from './mount-process.ts';
import type { MountPeer, MountRequest, MountStatus, ToMount } from './protocol.ts';

/** What a child needs of the daemon, beside the request and the peers. */
export type MountSetting = Omit<
  Extract<ToMount, { readonly type: 'start' }>,
  'type' | 'request' | 'peers'
>;

/** What mounts are made of; `wire.ts` gives it. */
export interface MountsParts {
  /** Told what the operator should know. */
  readonly logger: Logger;
  /** What serves a mount. */
  readonly program: MountProgram;
  /** For children. */
  readonly setting: MountSetting;
  /** Providers that they may use, now. */
  readonly peers: () => readonly MountPeer[];
  /** Believes a provider no more. */
  readonly quarantine: (nodeId: string, reason: string) => void;
  /** Names of volumes that are no mounts. */
  readonly isVolume: (name: string) => boolean;
  /** The machine. */
  readonly world: MountPointWorld;
  /** Removes an empty directory that a mount that failed was made for. */
  readonly removeDirectory: (directory: string) => void;
  /** Takes a mount away whose process is gone, without waiting for who still uses it. */
  readonly detach: (directory: string) => Promise<boolean>;
  /** What a daemon that is killed leaves in writing. */
  readonly register: MountRegister;
  /** The process of a mount ended and could not give its memory back. */
  readonly onKilled: () => void;
}

/** The managed leases under a mount. */
export interface MountLeases {
  /** As they are now. */
  list(): readonly PoolLease[];
  /** What its process has of them. */
  onUse(use: PoolUse): void;
  /** Gives them back. Never throws. */
  close(): Promise<void>;
}

/** How long a child may take, milliseconds. */
export interface MountPatience {
  /** Until it is mounted: it dials its providers before. */
  readonly beginMs: number;
  /** Until it says how it is. */
  readonly statusMs: number;
  /** To unmount: what is not written yet goes to the providers first. */
  readonly unmountMs: number;
  /** To unmount lazily; then it is killed. */
  readonly lazyMs: number;
  /** From a kill to the end. */
  readonly killMs: number;
}

const PATIENCE: MountPatience = {
  beginMs: 60_000,
  statusMs: 1000,
  unmountMs: 20_000,
  lazyMs: 5000,
  killMs: 3000,
};
/** At the end of the daemon: the sum, with the kill, stays below what `main.ts` gives all of it. */
const CLOSE_PATIENCE: MountPatience = { ...PATIENCE, unmountMs: 5000, lazyMs: 3000 };
const PEERS_LOOK_MS = 500;
const MOUNT_COUNT_MAX = 64;

interface Entry {
  request: MountRequest;
  /** Until it is over. */
  leases: MountLeases | undefined;
  process: MountProcess;
  state: MountState;
  /** The last answer. */
  status: MountStatus | undefined;
  /** Why it is dead. */
  reason: string;
  /** A flow of ours ends the process: its end is no accident. */
  ending: boolean;
}

/** The mounts. */
export class Mounts {
  readonly #parts: MountsParts;
  readonly #patience: MountPatience;
  readonly #entries = new Set<Entry>();
  #timer: NodeJS.Timeout | undefined;
  #sentPeers = '';
  #closed = false;

  /** @param patience - how long children may take; for tests */
  constructor(parts: MountsParts, patience: MountPatience = PATIENCE) {
    this.#parts = parts;
    this.#patience = patience;
  }

  /** True when the name is that of a volume under a mount, or of files that are kept. */
  has(volumeName: string): boolean {
    return this.#named(volumeName) !== undefined;
  }

  /** Directories of the mounts that are there, and names of the files that are kept. */
  inUse(): string[] {
    return [...this.#entries]
      .filter(({ state }) => state !== 'dead')
      .map(({ state, request }) => (state === 'kept' ? request.volumeName : request.directory));
  }

  /**
   * Mounts.
   *
   * @param request - the directory as people wrote it
   * @param makeMissing - make the directory when it is not there
   * @param leases - managed leases to make it of, which end with it, also when it is not made
   * @throws MemcloudError `ERR_MOUNT_POINT`, `ERR_VOLUME_EXISTS`, `ERR_MOUNT_FAILED`, `ERR_TIMEOUT`,
   *   `ERR_CANCELLED`, and what the child says; nothing is left then
   */
  async create(
    request: MountRequest,
    makeMissing: boolean,
    leases?: MountLeases,
  ): Promise<MountInfo> {
    try {
      return await this.#create(request, makeMissing, leases);
    } catch (error) {
      await leases?.close();
      throw error;
    }
  }

  async #create(
    request: MountRequest,
    makeMissing: boolean,
    leases: MountLeases | undefined,
  ): Promise<MountInfo> {
    const { volumeName } = request;
    const { world, removeDirectory } = this.#parts;
    const { path: directory, made } = await checkMountPoint(request.directory, makeMissing, world);
    if (this.#closed) throw new MemcloudError('ERR_CANCELLED', 'memnode shuts down');
    this.#refuseTaken(directory, volumeName);
    this.#forgetDead(directory);
    const entry = this.#start({ ...request, directory }, leases);
    try {
      await entry.process.begin(this.#startMessage(entry), this.#patience.beginMs);
    } catch (error) {
      const cancelled = entry.ending;
      await this.#end(entry);
      if (made) removeDirectory(directory);
      if (cancelled) throw new MemcloudError('ERR_CANCELLED', `mount ${directory}: taken back`);
      throw error;
    }
    return this.#mounted(entry);
  }

  /**
   * Mounts files that were kept.
   *
   * @throws MemcloudError `ERR_VOLUME_UNKNOWN`, `ERR_MOUNT_POINT`, and what the child says
   */
  async remount(volumeName: string, wanted: string, makeMissing: boolean): Promise<MountInfo> {
    const { path: directory } = await checkMountPoint(wanted, makeMissing, this.#parts.world);
    const entry = this.#named(volumeName);
    if (entry?.state !== 'kept') {
      throw new MemcloudError('ERR_VOLUME_UNKNOWN', `no files are kept as ${volumeName}`);
    }
    if (this.#at(directory) !== undefined) throw taken(directory);
    entry.state = 'remounting';
    entry.request = { ...entry.request, directory };
    try {
      await entry.process.remount(directory, this.#patience.beginMs);
    } catch (error) {
      if (!entry.process.exited) entry.state = 'kept';
      throw error;
    }
    return this.#mounted(entry);
  }

  /** True when files are kept under this name, and can be mounted again. */
  isKept(volumeName: string): boolean {
    return this.#named(volumeName)?.state === 'kept';
  }

  /**
   * Unmounts. Files that are not kept are gone.
   *
   * @param how - `lazy`: although it is used, at once for new users; `startingOnly`: only a mount that
   *   is not there yet, whose making then fails with `ERR_CANCELLED`
   * @throws MemcloudError `ERR_MOUNT_UNKNOWN`, `ERR_MOUNT_BUSY`, `ERR_TIMEOUT` when its process does
   *   not answer
   */
  async remove(
    wanted: string,
    how: { readonly lazy: boolean; readonly startingOnly: boolean },
  ): Promise<void> {
    const entry = this.#at(wanted) ?? this.#at(await this.#pathOf(wanted));
    if (entry === undefined) throw this.#unknown(wanted);
    if (how.startingOnly && entry.state !== 'starting') throw this.#unknown(wanted);
    if (entry.state === 'dead') return this.#forget(entry);
    if (entry.state === 'remounting') {
      throw new MemcloudError('ERR_MOUNT_BUSY', `mount ${wanted} is being made; try again`);
    }
    if (entry.state === 'starting') {
      entry.ending = true;
      await entry.process.kill(this.#patience.killMs);
      return;
    }
    await this.#unmount(entry, how.lazy, entry.request.keep, this.#patience);
  }

  /**
   * Gives up files that are kept without a mount.
   *
   * @throws MemcloudError `ERR_VOLUME_UNKNOWN`; `ERR_VOLUME_BUSY` while they are mounted
   */
  async drop(volumeName: string): Promise<void> {
    const entry = this.#named(volumeName);
    if (entry === undefined) {
      throw new MemcloudError('ERR_VOLUME_UNKNOWN', `no volume ${volumeName}`);
    }
    if (entry.state !== 'kept') {
      const { directory } = entry.request;
      const text = `volume ${volumeName} is mounted; memcloud umount ${directory} first`;
      throw new MemcloudError('ERR_VOLUME_BUSY', text);
    }
    await this.#unmount(entry, true, false, this.#patience);
  }

  /** Every mount. A process that does not answer is shown as silent, with what it said last. */
  async list(): Promise<MountInfo[]> {
    const { statusMs } = this.#patience;
    const entries = [...this.#entries];
    return Promise.all(
      entries.map(async (entry) => {
        if (entry.state !== 'mounted' && entry.state !== 'kept') return this.#describe(entry, true);
        const status = await entry.process.status(statusMs);
        if (status !== undefined) entry.status = status;
        return this.#describe(entry, status !== undefined);
      }),
    );
  }

  /** Takes away what a daemon that was killed has left; before the first mount. */
  async cleanUp(): Promise<void> {
    await takeAwayStale(this.#parts.register, this.#stale);
    // Processes that outlived their daemon could not be looked at before.
    this.#parts.onKilled();
  }

  /** Ends every mount: cleanly, else lazily, else by force. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await Promise.all(
      [...this.#entries].map(async (entry) => {
        if (entry.state === 'dead') return;
        const begun = entry.state === 'mounted' || entry.state === 'kept';
        try {
          if (begun) await this.#unmount(entry, false, false, CLOSE_PATIENCE);
        } catch (error) {
          const { directory } = entry.request;
          this.#parts.logger.warn({ directory, code: asMemcloudError(error).code }, 'in use');
          await this.#unmount(entry, true, false, CLOSE_PATIENCE);
        }
        if (!begun) await this.#end(entry);
      }),
    );
  }

  // --- Parts of the above --------------------------------------------------------------------------

  #refuseTaken(directory: string, volumeName: string): void {
    if (this.#entries.size >= MOUNT_COUNT_MAX) {
      throw new MemcloudError('ERR_USAGE', `there cannot be more than ${MOUNT_COUNT_MAX} mounts`);
    }
    if (this.#parts.isVolume(volumeName) || this.#named(volumeName) !== undefined) {
      const text = `volume ${volumeName} exists; choose another name with --volume`;
      throw new MemcloudError('ERR_VOLUME_EXISTS', text);
    }
    if (this.#at(directory)?.state !== 'dead' && this.#at(directory) !== undefined) {
      throw taken(directory);
    }
  }

  #start(request: MountRequest, leases: MountLeases | undefined): Entry {
    const process = new MountProcess(this.#parts.program, {
      onExit: (how, clean) => this.#onExit(entry, how, clean),
      onUnmounted: () => this.#onUnmounted(entry),
      onQuarantine: (nodeId, reason) => this.#parts.quarantine(nodeId, reason),
    });
    const entry: Entry = {
      ...{ request, leases, process, state: 'starting' as const },
      ...{ status: undefined, reason: '', ending: false },
    };
    this.#entries.add(entry);
    this.#timer ??= setInterval(() => this.#look(), PEERS_LOOK_MS).unref();
    return entry;
  }

  #startMessage({ request, leases }: Entry): Extract<ToMount, { readonly type: 'start' }> {
    const { setting, peers } = this.#parts;
    const start = { type: 'start' as const, request, ...setting };
    if (leases === undefined) return { ...start, peers: peers() };
    return { ...start, peers: [], leases: leases.list() };
  }

  async #mounted(entry: Entry): Promise<MountInfo> {
    const { directory, volumeName } = entry.request;
    if (entry.ending || entry.process.exited) {
      await this.#end(entry);
      throw new MemcloudError('ERR_CANCELLED', `mount ${directory}: taken back`);
    }
    entry.state = 'mounted';
    const { pid } = entry.process;
    const row = mountAt(this.#parts.world.table(), directory);
    if (row !== undefined) {
      const started = processStart(pid) ?? '';
      this.#parts.register.add({ directory, device: row.device, pid, started });
    }
    this.#parts.logger.info({ directory, volume: volumeName, pid }, 'mounted');
    entry.status = await entry.process.status(this.#patience.statusMs);
    return this.#describe(entry, entry.status !== undefined);
  }

  async #unmount(
    entry: Entry,
    lazy: boolean,
    keep: boolean,
    patience: MountPatience,
  ): Promise<void> {
    const { directory } = entry.request;
    entry.ending = !keep;
    const timeoutMs = lazy ? patience.lazyMs : patience.unmountMs;
    const outcome = await entry.process.unmount({ lazy, keep }, timeoutMs);
    if (outcome === 'busy') {
      entry.ending = false;
      const text = `mount ${directory} is in use`;
      throw new MemcloudError('ERR_MOUNT_BUSY', text);
    }
    if (outcome === undefined && !lazy) {
      entry.ending = false;
      const { pid } = entry.process;
      const text = `mount ${directory}: its process ${pid} does not answer; --lazy ends it by force`;
      throw new MemcloudError('ERR_TIMEOUT', text);
    }
    if (keep && outcome === 'done' && !entry.process.exited) return this.#onUnmounted(entry);
    if (outcome === 'done') await entry.process.ended(patience.killMs);
    await this.#end(entry);
    this.#parts.logger.info({ directory, lazy }, 'unmounted');
  }

  /** Sees to it that nothing of a mount is left: no process, no mount, no entry. */
  async #end(entry: Entry): Promise<void> {
    entry.ending = true;
    const { directory } = entry.request;
    const gone = await entry.process.kill(this.#patience.killMs);
    if (gone) this.#parts.onKilled();
    else this.#parts.logger.error({ pid: entry.process.pid }, 'it does not even die');
    await this.#detachDead(directory, entry.state === 'starting');
    this.#forget(entry);
  }

  #onExit(entry: Entry, how: string, clean: boolean): void {
    if (entry.ending || entry.state === 'starting') return;
    const { directory, volumeName } = entry.request;
    if (clean && !this.#isMounted(directory)) return this.#onUnmounted(entry);
    const wasKept = entry.state === 'kept';
    this.#giveBack(entry);
    entry.state = 'dead';
    entry.reason = `its process ended ${how}; its files are gone`;
    const fields = { directory, volume: volumeName, pid: entry.process.pid, how };
    this.#parts.logger.error(fields, 'the process of a mount ended by itself; its files are gone');
    this.#parts.onKilled();
    if (!wasKept) void this.#detachDead(directory, false);
  }

  #onUnmounted(entry: Entry): void {
    const { directory, keep, volumeName } = entry.request;
    if (entry.ending) return;
    this.#parts.register.remove(directory);
    if (keep && !entry.process.exited) {
      entry.state = 'kept';
      this.#parts.logger.info({ directory, volume: volumeName }, 'unmounted, files are kept');
      return;
    }
    if (!this.#entries.has(entry)) return;
    this.#parts.logger.info({ directory }, 'unmounted by others');
    entry.ending = true;
    this.#forget(entry);
  }

  get #stale(): StaleWorld {
    const { detach, logger, world } = this.#parts;
    return { detach, logger, table: world.table };
  }

  #isMounted(directory: string): boolean {
    const row = mountAt(this.#parts.world.table(), directory);
    return row !== undefined && isFuse(row);
  }

  /**
   * Takes away what a dead process has left at a directory.
   *
   * @param fresh - the mount was being made: what is there is it, since nothing was before
   */
  async #detachDead(directory: string, fresh: boolean): Promise<void> {
    const { register, world } = this.#parts;
    const row = mountAt(world.table(), directory);
    const known = register.list().find((mount) => mount.directory === directory);
    if (row !== undefined && isFuse(row) && fresh) {
      await detachIfOurs({ directory, device: row.device }, this.#stale);
    } else if (known !== undefined) {
      await detachIfOurs(known, this.#stale);
    }
    register.remove(directory);
  }

  /** Its process is over, and needs no memory any more. */
  #giveBack(entry: Entry): void {
    void entry.leases?.close();
    entry.leases = undefined;
  }

  #forget(entry: Entry): void {
    this.#giveBack(entry);
    this.#entries.delete(entry);
    if (this.#entries.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#sentPeers = '';
  }

  #forgetDead(directory: string): void {
    for (const entry of this.#entries) {
      if (entry.state === 'dead' && entry.request.directory === directory) this.#forget(entry);
    }
  }

  /** Tells children when providers came, went or moved, and how their leases are. */
  #look(): void {
    for (const { leases, process, state } of this.#entries) {
      if (leases === undefined || state === 'starting' || state === 'dead') continue;
      void process.follow(leases.list(), this.#patience.statusMs).then((use) => {
        if (use !== undefined) leases.onUse(use);
      });
    }
    const peers = this.#parts.peers();
    const text = JSON.stringify(peers);
    if (text === this.#sentPeers) return;
    this.#sentPeers = text;
    for (const { leases, process, state } of this.#entries) {
      if (state !== 'dead' && leases === undefined) process.setPeers(peers);
    }
  }

  #named(volumeName: string): Entry | undefined {
    return [...this.#entries].find(
      ({ request, state }) => request.volumeName === volumeName && state !== 'dead',
    );
  }

  #at(directory: string): Entry | undefined {
    return [...this.#entries].find(
      ({ request, state }) => state !== 'kept' && request.directory === directory,
    );
  }

  async #pathOf(wanted: string): Promise<string> {
    return (await followPath(wanted, this.#parts.world)).path;
  }

  #unknown(wanted: string): MemcloudError {
    const known = this.inUse().join(', ') || 'none';
    return new MemcloudError(
      'ERR_MOUNT_UNKNOWN',
      `${wanted} is no mount of this memnode; there are: ${known}`,
    );
  }

  #describe(entry: Entry, answered: boolean): MountInfo {
    return describeMount({ ...entry, pid: entry.process.pid }, answered);
  }
}

function taken(directory: string): MemcloudError {
  const text = `mount point ${directory}: a mount is there already, or being made`;
  return new MemcloudError('ERR_MOUNT_POINT', text);
}
