/**
 * What the process of a mount does with the words of its daemon, and with the daemon's end:
 *
 *   waiting -(start)-> starting --> mounted <-(remount)- kept
 *      |                  |           |  `-(unmount, keep)--^
 *      `------------------+-----------`-(unmount; channel closed; SIGTERM)-> ending --> gone
 *
 * Changes of the mount come one after the other; questions are answered at once. An end that nobody asked
 * for is never put off for long: what is mounted is unmounted, at once if nobody uses it, else lazily, and
 * the process is gone at its deadline whatever happens, because a process that hangs hangs its users.
 */
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import { resultWithin } from '../handover/within.ts';
import type { PoolLease, PoolUse } from '../managed/pool-lease.ts';
import type { FromMount, MountPeer, MountStatus, ToMount } from './protocol.ts';

/** Longest time from `start` to the end of a process that could not be asked anything, milliseconds. */
const END_DEADLINE_MS = 12_000;
/** Of that, for an orderly unmount; after it the mount goes lazily. */
const ORDERLY_MS = 4_000;
/** Longest wait for the first word of the daemon, milliseconds. */
const START_WAIT_MS = 30_000;

/** The order to begin. */
export type StartMessage = Extract<ToMount, { readonly type: 'start' }>;

/** A mount as its process holds it; `wire-mount.ts` makes it. */
export interface ServedMount {
  /** Follows the list of providers. */
  setPeers(peers: readonly MountPeer[]): void;
  /** Follows the managed leases. @returns what it has of them */
  setLeases(leases: readonly PoolLease[]): PoolUse;
  /** How it is. */
  status(): MountStatus;
  /**
   * Takes the mount away; the files stay. Without a mount: done.
   *
   * @throws MemcloudError `ERR_MOUNT_FAILED`, `ERR_TIMEOUT`
   */
  unmount(lazy: boolean): Promise<'done' | 'busy'>;
  /** Mounts the files again. @throws MemcloudError `ERR_MOUNT_FAILED`, `ERR_MOUNT_BUSY` while it is mounted */
  remount(directory: string): Promise<void>;
  /** Ends everything: pages and leases are gone. Never throws. */
  close(): Promise<void>;
}

/** What the process gives. */
export interface MountChildWorld {
  /**
   * Makes the mount.
   *
   * @param cancelled - true once it is not wanted any more
   * @param onUnmounted - somebody else has unmounted it
   * @throws MemcloudError
   */
  readonly open: (
    start: StartMessage,
    cancelled: () => boolean,
    onUnmounted: () => void,
  ) => Promise<ServedMount>;
  /** Tells the daemon; resolves when it was handed over, or cannot be. */
  readonly send: (message: FromMount) => Promise<void>;
  /** Ends the process. */
  readonly exit: (code: number) => void;
  /** Notes something for the operator. */
  readonly note: (fields: Record<string, unknown>, message: string) => void;
}

/** See the top of the file. */
export class MountChild {
  readonly #world: MountChildWorld;
  #start: StartMessage | undefined;
  #opening: Promise<void> | undefined;
  #mount: ServedMount | undefined;
  #latestPeers: readonly MountPeer[] | undefined;
  #work: Promise<void> = Promise.resolve();
  #unmounting = false;
  #ending = false;
  readonly #startTimer: NodeJS.Timeout;

  constructor(world: MountChildWorld) {
    this.#world = world;
    this.#startTimer = setTimeout(() => this.end('no word of the daemon'), START_WAIT_MS);
  }

  /** A word of the daemon. */
  onMessage(message: ToMount): void {
    switch (message.type) {
      case 'start':
        if (this.#start !== undefined) return;
        this.#start = message;
        clearTimeout(this.#startTimer);
        this.#opening = this.#open(message);
        return;
      case 'peers':
        this.#latestPeers = message.peers;
        this.#mount?.setPeers(message.peers);
        return;
      case 'leases':
        if (this.#mount !== undefined) {
          const use = this.#mount.setLeases(message.leases);
          this.#tell({ type: 'use', id: message.id, use });
        }
        return;
      case 'status':
        if (this.#mount !== undefined) {
          this.#tell({ type: 'status', id: message.id, status: this.#mount.status() });
        }
        return;
      case 'unmount':
        // One that has to wait for what is not written yet is not waited for.
        if (message.lazy && this.#unmounting) return void this.#unmount(message);
        return this.#next(() => this.#unmount(message));
      case 'remount':
        return this.#next(() => this.#remount(message));
    }
  }

  /**
   * Ends the process: the daemon is gone, or somebody wants it gone. A second time: at once.
   *
   * @param why - for the log
   */
  end(why: string): void {
    if (this.#ending) return this.#world.exit(1);
    this.#beginEnd(why);
    void this.#leave().finally(() => this.#world.exit(0));
  }

  #beginEnd(why: string): void {
    this.#ending = true;
    clearTimeout(this.#startTimer);
    this.#world.note({ why }, 'mount ends');
    setTimeout(() => this.#world.exit(1), END_DEADLINE_MS).unref();
  }

  async #open(start: StartMessage): Promise<void> {
    try {
      const mount = await this.#world.open(
        start,
        () => this.#ending,
        () => this.#next(() => this.#onUnmountedByOthers()),
      );
      this.#mount = mount;
      if (this.#latestPeers !== undefined) mount.setPeers(this.#latestPeers);
      this.#tell({ type: 'mounted' });
    } catch (thrown) {
      const { code, message, stack } = asMemcloudError(thrown);
      if (code === 'ERR_INTERNAL') this.#world.note({ stack }, 'the mount could not be made');
      await this.#world.send({ type: 'failed', code, message });
      // Without a mount there is nothing to take away.
      if (!this.#ending) this.#world.exit(1);
    }
  }

  async #unmount(order: Extract<ToMount, { readonly type: 'unmount' }>): Promise<void> {
    const { id, lazy, keep } = order;
    let outcome: 'done' | 'busy' = 'done';
    this.#unmounting = true;
    try {
      outcome = (await this.#mount?.unmount(lazy)) ?? 'done';
    } catch (error) {
      this.#world.note({ err: asMemcloudError(error).message, lazy }, 'not unmounted');
      // Lazily means: whatever it takes.
      if (!lazy) outcome = 'busy';
    } finally {
      this.#unmounting = false;
    }
    if (outcome === 'busy' || keep)
      return this.#tell({ type: 'unmounted', id, busy: outcome === 'busy' });
    await this.#goes({ type: 'unmounted', id, busy: false }, 'unmounted');
  }

  async #onUnmountedByOthers(): Promise<void> {
    const gone = { type: 'unmounted', id: 0, busy: false } as const;
    if (this.#start?.request.keep === true) return this.#tell(gone);
    await this.#goes(gone, 'unmounted by others');
  }

  /** The mount is gone: says so and ends. */
  async #goes(message: FromMount, why: string): Promise<void> {
    if (this.#ending) return;
    this.#beginEnd(why);
    await this.#world.send(message);
    await this.#mount?.close();
    this.#world.exit(0);
  }

  async #remount({ id, directory }: Extract<ToMount, { readonly type: 'remount' }>): Promise<void> {
    try {
      if (this.#mount === undefined) throw new MemcloudError('ERR_MOUNT_FAILED', 'nothing is kept');
      await this.#mount.remount(directory);
      this.#tell({ type: 'remounted', id, error: null });
    } catch (thrown) {
      const { code, message } = asMemcloudError(thrown);
      this.#tell({ type: 'remounted', id, error: { code, message } });
    }
  }

  async #leave(): Promise<void> {
    // What is being made is taken away when it is there.
    await this.#opening;
    const mount = this.#mount;
    if (mount === undefined) return;
    try {
      const outcome = await resultWithin(ORDERLY_MS, mount.unmount(false));
      if (outcome !== 'done') await mount.unmount(true);
    } catch (error) {
      this.#world.note({ err: asMemcloudError(error).message }, 'not unmounted in order');
      await mount.unmount(true).catch(() => undefined);
    }
    await mount.close();
  }

  /** One change after the other, and none once the end has begun. */
  #next(change: () => Promise<void>): void {
    this.#work = this.#work
      .then(() => this.#opening)
      .then(() => (this.#ending ? undefined : change()))
      .catch((error: unknown) => {
        const { message, stack } = asMemcloudError(error);
        this.#world.note({ err: message, stack }, 'a defect in the process of a mount');
      });
  }

  #tell(message: FromMount): void {
    void this.#world.send(message);
  }
}
