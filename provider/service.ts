/**
 * The provider of a machine: control path and shell around the pure parts. A lease passes
 *
 *   request -> bounds -> quota -> host memory and tmpfs -> room in an arena -> lease table
 *
 * and nothing is taken before the last check. It ends by release, deadline, revocation or close;
 * every ending goes one way: out of the table (page calls stop), wiped, refunded, listeners told.
 * Slabs under a managed lease are taken from what was set aside for it (managed-memory.ts).
 *
 * Deadlines are enforced by a timer of this process alone, whatever happens to holder and network.
 */
import { randomBytes, randomInt } from 'node:crypto';
import fs from 'node:fs';
import { monotonicClock, type Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import { holderParts } from '../common/holder.ts';
import { silentLogger, type Logger } from '../common/log.ts';
import type { ManagedMemory } from '../common/managed.ts';
import type { ObjectMemory } from '../common/objects.ts';
import type {
  NodeId,
  ProviderUsage,
  SlabAccess,
  SlabAccessEvents,
  SlabGrant,
  SlabProvider,
  SlabRequest,
} from '../common/ports.ts';
import { everyTick, type Tick } from '../common/ticker.ts';
import { GiveBack, type GiveBackStatus } from './give-back.ts';
import { LeaseTable, leaseEndsAtMs } from './leases.ts';
import type { ManagedLease } from './managed-leases.ts';
import { ProviderManagedMemory } from './managed-memory.ts';
import { MemoryGauge } from './memory-gauge.ts';
import { ProviderObjects } from './object-memory.ts';
import type { PressureReading } from './pressure-machine.ts';
import { defaultReserveBytes, hostRefusal, parseMeminfo } from './pressure.ts';
import type { HostMemory, HostRoom } from './pressure.ts';
import { Quota, leaseChargeBytes } from './quota.ts';
import { RamStore } from './ram-store.ts';
import type { ProviderStatus } from './provider-status.ts';
import type { RecallableLease } from './recall-machine.ts';
import { SlabPool } from './slab-pool.ts';
import type { Slab } from './slab.ts';
import { DEFAULT_TMPFS_BASE, TmpfsDirectory } from './tmpfs-directory.ts';
import { WipeQueue, idsByHolder, type LeaseEndReason, type SlabLease } from './wipe-queue.ts';

/** The most pages in one slab. */
export const SLAB_PAGE_COUNT_MAX = 65_536;
/** The shortest time to live that may be asked for. */
export const LEASE_TTL_MIN_MS = 1000;
/** The longest time to live that may be asked for. */
export const LEASE_TTL_MAX_MS = 24 * 60 * 60 * 1000;

/** How long holders have in an emergency to give leases back, unless the operator says otherwise. */
export const RECALL_GRACE_MS = 10_000;

const SWEEP_INTERVAL_MS = 200;
const FIRST_HANDLE_MAX = 2 ** 30;
const EPOCH_MAX = 2 ** 47;

/** A lease that ended; its pages are wiped. */
export interface LeaseEnding {
  readonly leaseId: string;
  readonly slabHandle: number;
  readonly holder: NodeId;
  readonly reason: LeaseEndReason;
  /** RAM that came back with it, bytes. */
  readonly residentBytes: number;
}

/** How to open a {@link RamProvider}. */
export interface RamProviderOptions {
  /** The most bytes to lend, metadata included; 0 lends nothing. */
  readonly offeredBytes: number;
  /** Directory on tmpfs in which the provider makes its own; default `/dev/shm`. */
  readonly directory?: string;
  /** `auto` (default): a private tmpfs mounted `noswap` where allowed; `off`: never mounts. */
  readonly noswap?: 'auto' | 'off';
  /**
   * The most bytes that a node may have, in leases of all its holders and in objects together; asked each
   * time, Infinity for no limit. Default: no limit.
   */
  readonly allowedBytes?: (node: NodeId) => number;
  /** RAM that new leases leave to the host; default: a tenth of it, at most 1 GiB. */
  readonly reserveBytes?: number;
  /** How long holders have in an emergency to give leases back; default: {@link RECALL_GRACE_MS}. */
  readonly recallGraceMs?: number;
  /** The longest time to live granted; default and most: 24 h. */
  readonly ttlMaxMs?: number;
  /** Default: the machine's monotonic clock. */
  readonly clock?: Clock;
  /** Default: reads /proc/meminfo. */
  readonly readHostMemory?: () => HostMemory;
  /** Default: reads /proc/meminfo and /proc/pressure/memory; only the first when that is given otherwise. */
  readonly readPressure?: () => PressureReading;
  /** Where pressure is noted. */
  readonly logger?: Logger;
}

/** A {@link SlabProvider} over the RAM of this machine. Opened and closed by the daemon. */
export class RamProvider implements SlabProvider {
  readonly #clock: Clock;
  readonly #directory: TmpfsDirectory;
  readonly #pool: SlabPool;
  readonly #quota: Quota;
  readonly #leases: LeaseTable<Slab, ManagedLease>;
  readonly #store: RamStore;
  readonly #objects: ProviderObjects;
  readonly #managed: ProviderManagedMemory;
  readonly #allowedBytes: (node: NodeId) => number;
  readonly #readHostMemory: () => HostMemory;
  readonly #giveBack: GiveBack;
  #gauge: MemoryGauge | undefined;
  /** How to tell each holder; one that cannot be told is not asked for its leases. */
  readonly #events = new Map<NodeId, SlabAccessEvents>();
  /** Holders that are gone and still have leases. */
  readonly #gone = new Set<NodeId>();
  readonly #ttlMaxMs: number;
  readonly #timer: Tick;
  readonly #listeners = new Set<(ending: LeaseEnding) => void>();
  readonly #wipes = new WipeQueue({
    end: (lease, reason) => this.#end(lease, reason),
    tell: (holder, leaseIds) => this.#events.get(holder)?.onLeasesEnded(leaseIds),
  });
  #closed = false;

  private constructor(options: RamProviderOptions) {
    const { offeredBytes, directory = DEFAULT_TMPFS_BASE, noswap = 'auto' } = options;
    this.#clock = options.clock ?? monotonicClock;
    this.#allowedBytes = options.allowedBytes ?? (() => Infinity);
    this.#readHostMemory = options.readHostMemory ?? readMeminfo;
    this.#ttlMaxMs = Math.min(options.ttlMaxMs ?? LEASE_TTL_MAX_MS, LEASE_TTL_MAX_MS);
    this.#quota = new Quota(offeredBytes);
    this.#leases = new LeaseTable(randomInt(1, EPOCH_MAX), randomInt(1, FIRST_HANDLE_MAX));
    this.#store = new RamStore(this.#leases, this.#clock);
    this.#directory = TmpfsDirectory.open({ base: directory, noswap, sizeBytes: offeredBytes });
    this.#pool = new SlabPool(this.#directory.path);
    this.#timer = everyTick(SWEEP_INTERVAL_MS, () => this.sweep());
    this.#giveBack = this.#watchMemory(options);
    this.#objects = new ProviderObjects({
      directory: this.#directory.path,
      quota: this.#quota,
      allowedBytes: this.#allowedBytes,
      refusal: () => this.#closedRefusal() ?? this.#giveBack.refusal,
      room: () => this.#hostRoom(),
      nowMs: () => this.#clock.nowMs(),
    });
    this.#managed = this.#openManaged();
  }

  /**
   * Removes what dead providers left in the directory and opens a new one.
   *
   * @throws MemcloudError `ERR_UNSUPPORTED` when the directory is not on tmpfs, `ERR_NATIVE`
   */
  static open(options: RamProviderOptions): RamProvider {
    return new RamProvider(options);
  }

  /** True after {@link RamProvider.close}. */
  get closed(): boolean {
    return this.#closed;
  }

  /** The view of one holder: its own leases and nobody else's. */
  openAccess(holder: NodeId, events?: SlabAccessEvents): SlabAccess {
    this.#gone.delete(holder);
    if (events !== undefined) {
      this.#events.set(holder, events);
      this.#giveBack.onHolder(this.#idsOf(holder));
      this.#managed.onHolder(holderParts(holder).nodeId);
    }
    const store = this.#store;
    return {
      lease: (request) => this.#lease(holder, request),
      renew: (leaseIds, ttlMs) => this.#renew(holder, leaseIds, ttlMs),
      release: (leaseId) => this.#release(holder, leaseId),
      readPages: (slabHandle, firstPage, pageCount, into, intoOffset) =>
        store.readPages(holder, slabHandle, firstPage, pageCount, into, intoOffset),
      writePages: (slabHandle, firstPage, pageCount, from, fromOffset) =>
        store.writePages(holder, slabHandle, firstPage, pageCount, from, fromOffset),
      trimPages: (slabHandle, firstPage, pageCount) =>
        store.trimPages(holder, slabHandle, firstPage, pageCount),
      usage: () => this.usage(holderParts(holder).nodeId),
    };
  }

  /** Forgets a holder that will not come again, once it has no leases. */
  closeAccess(holder: NodeId): void {
    if (this.#quota.leasedBy(holder) === 0) this.#events.delete(holder);
    else this.#gone.add(holder);
  }

  /**
   * The memory that objects lie in, one for the provider. Whoever keeps objects ends before the provider
   * does: afterwards no byte of an arena may be touched.
   */
  openObjectMemory(): ObjectMemory {
    return this.#objects;
  }

  /** The managed leases; there is one set for a provider. */
  openManaged(): ManagedMemory {
    return this.#managed;
  }

  /** Bytes lent, or set aside, for managed leases. */
  get reservedBytes(): number {
    return this.#quota.reservedBytes;
  }

  /** Bytes lent to a node that its allowance counts: leases of all its holders, and objects. */
  usedBy(node: NodeId): number {
    return this.#quota.usedBy(node);
  }

  /** The provider's room now, objects included. Leases that ended and wait for their wipe still count. */
  usage(node?: NodeId): ProviderUsage {
    const residentBytes = this.#pool.residentBytes + this.#objects.residentBytes;
    const leaseCount = this.#leases.count + this.#wipes.count;
    if (node === undefined) {
      const { offeredBytes, usedBytes } = this.#quota;
      return { offeredBytes, usedBytes, residentBytes, leaseCount };
    }
    const room = this.#quota.roomOf(node, this.#allowedBytes(node));
    return { ...room, residentBytes: Math.min(residentBytes, room.usedBytes), leaseCount };
  }

  /** Everything that status shows. */
  status(): ProviderStatus {
    const nowMs = this.#clock.nowMs();
    return {
      usage: this.usage(),
      directory: this.#directory.path,
      files: [...this.#pool.files, ...this.#objects.files],
      swap: this.#directory.swap,
      noMountReason: this.#directory.noMountReason,
      reserveBytes: this.#giveBack.reserveBytes,
      giveBack: this.#giveBack.status(),
      managed: this.#managed.list(),
      leases: Array.from(this.#leases.all(), (lease) => ({
        leaseId: lease.id,
        slabHandle: lease.handle,
        holder: lease.holder,
        epoch: lease.epoch,
        pageCount: lease.slab.pageCount,
        chargedBytes: lease.chargedBytes,
        residentBytes: lease.slab.residentBytes,
        expiresInMs: Math.max(0, leaseEndsAtMs(lease) - nowMs),
      })),
    };
  }

  /** Pressure of memory, and drain. */
  giveBackStatus(): GiveBackStatus {
    return this.#giveBack.status();
  }

  /** False while no leases are granted: the node is drained, or its machine is short of memory. */
  get accepting(): boolean {
    return this.#giveBack.accepting;
  }

  /** Asks every lease back and grants none, until it is set to false. */
  setDraining(draining: boolean): void {
    this.#giveBack.setDraining(draining);
  }

  /** Changes what the owner of the machine is to have: at once, for new leases and for old ones. */
  setReserve(reserveBytes: number): void {
    this.#giveBack.setReserve(reserveBytes);
  }

  /** Changes how long holders have in an emergency to give leases back, milliseconds. */
  setRecallGrace(graceMs: number): void {
    this.#giveBack.setGrace(graceMs);
  }

  /** Looks at the machine's memory and asks for what it needs. A timer calls it, as {@link RamProvider.sweep}. */
  watchMemory(): void {
    this.#giveBack.tick();
  }

  /**
   * Changes the offer, at once where it grows. Leases are never ended for it: a smaller offer is reached
   * as they end, and until then none is granted.
   *
   * @throws MemcloudError `ERR_NATIVE` when the private mount cannot grow; the offer is as before then
   */
  setOffer(offeredBytes: number): void {
    this.#directory.grow(offeredBytes);
    this.#quota.setOffer(offeredBytes);
  }

  /**
   * Calls `listener` after each lease ending, once the pages are wiped. It may not throw and may
   * not close the provider.
   *
   * @returns a function that stops it
   */
  onLeaseEnded(listener: (ending: LeaseEnding) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Ends every lease of `holder`, for example when its trust is withdrawn: page calls stop now, the
   * wipe goes slice by slice as in {@link RamProvider.sweep}.
   *
   * @returns how many leases ended
   */
  revoke(holder: NodeId): number {
    const leases = this.#leases.takeAll(holder);
    this.#wipes.add(leases, 'revoked');
    return leases.length;
  }

  /**
   * Ends the leases whose deadline has passed: one slice of wiping now, the rest in later turns of
   * the event loop. A timer calls it; call it yourself only under a clock of your own.
   */
  sweep(): void {
    this.#managed.tick();
    this.#wipes.add(this.#leases.takeExpired(this.#clock.nowMs()), 'expired');
  }

  /** Wipes everything, unmaps and removes the files. Page calls then answer `NO_LEASE`. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer.stop();
    this.#giveBack.close();
    this.#gauge?.close();
    this.#managed.close();
    this.#wipes.close();
    for (const lease of this.#leases.takeAll()) this.#end(lease, 'closed');
    this.#objects.close();
    this.#pool.close();
    this.#directory.close();
  }

  #watchMemory(options: RamProviderOptions): GiveBack {
    return new GiveBack({
      host: {
        isLending: () => this.#leases.count > 0 || this.#objects.chargedBytes > 0,
        evict: (bytes) => this.#objects.evict(bytes),
        recallable: () => this.#recallable(),
        tell: ({ holder, leaseIds, endsInMs }) =>
          this.#events.get(holder)?.onRecall({ leaseIds, endsInMs }),
        end: (leaseIds) => this.#wipes.add(this.#takeByIds(leaseIds), 'recalled'),
        announce: (accepting) => {
          for (const events of this.#events.values()) events.onAccepting(accepting);
        },
        setEpoch: (epoch) => (this.#store.epoch = epoch),
      },
      reserveBytes: options.reserveBytes ?? defaultReserveBytes(this.#readHostMemory().totalBytes),
      graceMs: options.recallGraceMs ?? RECALL_GRACE_MS,
      clock: this.#clock,
      read: pressureReader(options, () => (this.#gauge = new MemoryGauge())),
      logger: options.logger ?? silentLogger,
    });
  }

  #openManaged(): ProviderManagedMemory {
    return new ProviderManagedMemory({
      ...{ quota: this.#quota, clock: this.#clock },
      host: {
        refusal: (bytes) =>
          this.#closedRefusal() ??
          this.#giveBack.refusal ??
          this.#quota.refusal('', bytes, Infinity) ??
          hostRefusal(bytes, this.#hostRoom()),
        wipe: (slabIds, reason) =>
          this.#wipes.add(this.#takeByIds(slabIds), reason === 'expired' ? 'expired' : 'revoked'),
        recall: (slabIds, endsInMs) => {
          const leases = Array.from(slabIds, (id) => this.#leases.byId(id) ?? []).flat();
          for (const [holder, leaseIds] of idsByHolder(leases)) {
            this.#events.get(holder)?.onRecall({ leaseIds, endsInMs });
          }
        },
      },
    });
  }

  *#recallable(): Iterable<RecallableLease> {
    for (const { id, holder, slab } of this.#leases.all()) {
      if (!this.#events.has(holder)) continue;
      yield { id, holder, residentBytes: slab.residentBytes, lastUse: slab.lastUse };
    }
  }

  *#idsOf(holder: NodeId): Iterable<string> {
    for (const lease of this.#leases.all()) if (lease.holder === holder) yield lease.id;
  }

  #lease(holder: NodeId, request: SlabRequest): SlabGrant {
    const { pageCount } = request;
    if (!(Number.isInteger(pageCount) && pageCount >= 1 && pageCount <= SLAB_PAGE_COUNT_MAX)) {
      throw new MemcloudError(
        'ERR_LEASE_INVALID',
        `lease: expected 1 to ${SLAB_PAGE_COUNT_MAX} pages, got ${pageCount}`,
      );
    }
    const ttlMs = this.#checkTtl(request.ttlMs);
    const chargedBytes = leaseChargeBytes(pageCount);
    const { nodeId } = holderParts(holder);
    const limit =
      request.under === undefined
        ? undefined
        : this.#managed.room(request.under, nodeId, chargedBytes);
    const refusal =
      this.#stopped() ?? (limit === undefined ? this.#refusal(nodeId, chargedBytes) : undefined);
    if (refusal !== undefined) throw new MemcloudError('ERR_LEASE_CAPACITY', `lease: ${refusal}`);
    const slab = this.#pool.take(pageCount);
    const id = this.#newId();
    const lease = this.#leases.grant(
      { id, holder, chargedBytes, ttlMs, slab, limit },
      this.#clock.nowMs(),
    );
    if (limit === undefined) this.#quota.chargeLease(holder, chargedBytes);
    else this.#managed.onGranted(limit, lease);
    return { leaseId: lease.id, slabHandle: lease.handle, ttlMs };
  }

  #closedRefusal(): string | undefined {
    return this.#closed ? 'the provider is shutting down' : undefined;
  }

  /** Why no slabs are granted to anybody. */
  #stopped(): string | undefined {
    const refusal = this.#closedRefusal() ?? this.#giveBack.refusal;
    if (refusal !== undefined) return refusal;
    return this.#leases.hasRoom
      ? undefined
      : `the provider has ${this.#leases.count} leases, its most`;
  }

  #refusal(nodeId: NodeId, askedBytes: number): string | undefined {
    return (
      this.#quota.refusal(nodeId, askedBytes, this.#allowedBytes(nodeId)) ??
      hostRefusal(askedBytes, this.#hostRoom())
    );
  }

  #hostRoom(): HostRoom {
    const leasedBytes = this.#quota.usedBytes - this.#objects.chargedBytes;
    return {
      promisedBytes: leasedBytes - this.#pool.residentBytes + this.#objects.promisedBytes,
      availableBytes: this.#readHostMemory().availableBytes,
      reserveBytes: this.#giveBack.reserveBytes,
      tmpfsFreeBytes: this.#directory.freeBytes(),
    };
  }

  #newId(): string {
    for (;;) {
      const id = randomBytes(8).toString('hex');
      if (!this.#leases.hasId(id)) return id;
    }
  }

  #checkTtl(ttlMs: number): number {
    if (!(ttlMs >= LEASE_TTL_MIN_MS && ttlMs <= LEASE_TTL_MAX_MS)) {
      throw new MemcloudError(
        'ERR_LEASE_INVALID',
        `lease: expected a time to live of ${LEASE_TTL_MIN_MS} to ${LEASE_TTL_MAX_MS} ms, got ${ttlMs}`,
      );
    }
    return Math.min(ttlMs, this.#ttlMaxMs);
  }

  #renew(holder: NodeId, leaseIds: readonly string[], ttlMs: number): string[] {
    const grantedMs = this.#checkTtl(ttlMs);
    const nowMs = this.#clock.nowMs();
    return leaseIds.filter((id) => !this.#leases.renew(id, holder, grantedMs, nowMs));
  }

  #release(holder: NodeId, leaseId: string): void {
    const lease = this.#leases.release(leaseId, holder, this.#clock.nowMs());
    if (lease === undefined) {
      throw new MemcloudError(
        'ERR_LEASE_UNKNOWN',
        'release: the lease is unknown, expired or held by another key',
      );
    }
    this.#end(lease, 'released');
  }

  #takeByIds(ids: Iterable<string>): SlabLease[] {
    return Array.from(ids, (id) => this.#leases.takeById(id) ?? []).flat();
  }

  #end(lease: SlabLease, reason: LeaseEndReason): void {
    const { id: leaseId, handle: slabHandle, holder } = lease;
    const { residentBytes } = lease.slab;
    this.#pool.give(lease.slab);
    if (lease.limit === undefined) this.#quota.refundLease(holder, lease.chargedBytes);
    else this.#managed.onWiped(lease.limit, lease, residentBytes);
    if (this.#gone.has(holder) && this.#quota.leasedBy(holder) === 0) {
      this.#gone.delete(holder);
      this.#events.delete(holder);
    }
    this.#giveBack.onLeaseEnded(leaseId, residentBytes, reason);
    const ending = { leaseId, slabHandle, holder, reason, residentBytes };
    for (const listener of this.#listeners) listener(ending);
  }
}

/** How pressure is read: from the kernel, or from what a test gives for /proc/meminfo. */
function pressureReader(
  options: RamProviderOptions,
  makeGauge: () => MemoryGauge,
): () => PressureReading {
  const { readPressure, readHostMemory } = options;
  if (readPressure !== undefined) return readPressure;
  if (readHostMemory !== undefined) {
    return () => ({ availableBytes: readHostMemory().availableBytes, stallTotalUs: undefined });
  }
  const gauge = makeGauge();
  return () => gauge.read();
}

function readMeminfo(): HostMemory {
  return parseMeminfo(fs.readFileSync('/proc/meminfo', 'utf8'));
}
