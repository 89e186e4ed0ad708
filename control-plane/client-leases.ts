/**
 * The managed leases of a node as a client of a control plane, in the order of their life: asked for,
 * presented to their providers, renewed at a third of their time, warned of when that fails, given back.
 * `client-leases-machine.ts` decides, this file asks and waits. Every wait has a deadline.
 *
 * What a former process of this node held and this one does not is given back before the first lease is
 * asked for: nobody could use it.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../common/clock.ts';
import { asMemcloudError, ExitCode, MemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { MANAGED_LEASE_COUNT_MAX, type ManagedLinks } from '../common/managed.ts';
import { pause } from '../common/pause.ts';
import type { NodeId } from '../common/ports.ts';
import { formatDuration } from '../common/units.ts';
import {
  CLIENT_LEASE_COUNT_MAX,
  ClientLeasesMachine,
  type ClientLease,
  type LeaseAction,
  type NewClientLease,
} from './client-leases-machine.ts';
import {
  LeasePresenter,
  type LeaseControl,
  type LeaseGrant,
  type ProviderDoor,
} from './lease-presenter.ts';
import type { ManagedParams } from './schema.ts';

/** How long a request for leases is tried, milliseconds: another control node leads within 5 s. */
const REQUEST_DEADLINE_MS = 6_500;
const REQUEST_PAUSE_MS = 250;
/** The longest wait for one renewal, milliseconds. */
const RENEW_TIMEOUT_MS = 5_000;
/** The longest wait for a provider that is to take a lease back, then for the leader, milliseconds. */
const RETURN_TIMEOUT_MS = 3_000;
/** How often leases are looked at, at most and at least, milliseconds. */
const TICK_MIN_MS = 50;
const TICK_MAX_MS = 1_000;
const LIST_COUNT_MAX = 500;
/** Below so much time left a warning is an error, milliseconds. */
const ALARM_MS = 60_000;

/** What is wanted. */
export interface LeaseWish {
  /** Of each lease. */
  readonly sizeBytes: number;
  /** Time to live, milliseconds. */
  readonly ttlMs: number;
  /** Leases, each on another machine. */
  readonly count: number;
  /** For people: `volume disk`. */
  readonly purpose: string;
  /** Renewed until it is given back. */
  readonly renews: boolean;
  /** As {@link NewClientLease.outlives}. */
  readonly outlives?: boolean;
  /** Only there. */
  readonly zone?: string | undefined;
  /** Providers not to use. */
  readonly exclude?: readonly NodeId[];
  /** The only providers to use. */
  readonly include?: readonly NodeId[] | undefined;
}

/** What listeners are told of a lease. */
export interface LeaseNews {
  /** It warns, or its state has changed. */
  readonly type: 'warn' | 'changed';
  readonly lease: ClientLease;
  /** Until its end. */
  readonly endsInMs: number;
}

/** What it takes. */
export interface ClientLeasesParts {
  readonly control: LeaseControl;
  readonly links: ManagedLinks;
  readonly door: ProviderDoor;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Names this machine: it does not borrow from itself. Empty when it is not known. */
  readonly hostId: string;
  /** How long a provider may take to take a lease, milliseconds; 20 s unless told. */
  readonly presentDeadlineMs?: number;
}

/** See the top of the file. */
export class ClientLeases {
  readonly #parts: ClientLeasesParts;
  readonly #machine = new ClientLeasesMachine();
  readonly #presenter: LeasePresenter;
  readonly #listeners = new Set<(news: LeaseNews) => void>();
  readonly #closing = new AbortController();
  readonly #stopListening: () => void;
  #timer: NodeJS.Timeout | undefined;
  /** What former processes left is given back. */
  #swept: Promise<void> | undefined;
  #started = false;
  /** Leases of requests that are under way: they count against the bound. */
  #wantedCount = 0;

  constructor(parts: ClientLeasesParts) {
    this.#parts = parts;
    this.#presenter = new LeasePresenter(parts);
    this.#stopListening = parts.control.onLeader(() => this.#onLeader());
  }

  /** Every lease, with those that ended a moment ago. */
  list(): ClientLease[] {
    return this.#machine.list();
  }

  /** One lease that has not ended. */
  get(leaseId: string): ClientLease | undefined {
    const lease = this.#machine.get(leaseId);
    return lease?.state === 'ended' ? undefined : lease;
  }

  /** Until the end of a lease, milliseconds, 0 when it has ended. */
  endsInMs(lease: ClientLease): number {
    return Math.max(0, lease.endsAtMs - this.#parts.clock.nowMs());
  }

  /** Calls `listener` when a lease changes or warns. @returns a function that ends it */
  onNews(listener: (news: LeaseNews) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Begins, once every lease that goes on is adopted: others of this node are given back. */
  start(): void {
    this.#started = true;
    this.#sweep(this.#closing.signal).catch(() => undefined);
  }

  // --- Getting -------------------------------------------------------------------------------------

  /**
   * Asks for leases and takes them into use: all of them or none.
   *
   * @throws MemcloudError `ERR_CONTROL_UNREACHABLE`, `ERR_CONTROL_DENIED`, `ERR_CONTROL_QUOTA`,
   *   `ERR_LEASE_CAPACITY`, `ERR_PEER_UNREACHABLE` (a provider), `ERR_USAGE`, `ERR_CANCELLED`
   */
  async request(wish: LeaseWish, cancel?: AbortSignal): Promise<ClientLease[]> {
    const { count } = wish;
    if (this.#machine.liveCount + this.#wantedCount + count > CLIENT_LEASE_COUNT_MAX) {
      const text = `there cannot be more than ${CLIENT_LEASE_COUNT_MAX} managed leases`;
      throw new MemcloudError('ERR_USAGE', text);
    }
    const signals = [this.#closing.signal, ...(cancel === undefined ? [] : [cancel])];
    const signal = AbortSignal.any(signals);
    this.#wantedCount += count;
    try {
      const grants = await this.#grants(wish, signal);
      return await this.#takeUp(wish, grants, signal);
    } finally {
      this.#wantedCount -= count;
    }
  }

  /**
   * Goes on with a lease of a former process: it is renewed at once, which tells its deadline.
   *
   * @param lease - as it was
   */
  adopt(lease: NewClientLease): ClientLease {
    const { clock, door } = this.#parts;
    const nowMs = clock.nowMs();
    door.open(lease.provider, lease.ttlMs);
    const adopted = this.#machine.add(lease, nowMs + lease.ttlMs, nowMs);
    this.#arm();
    return adopted;
  }

  async #grants(wish: LeaseWish, signal: AbortSignal): Promise<LeaseGrant[]> {
    const { sizeBytes, ttlMs, count, purpose, zone, exclude = [], include } = wish;
    const { hostId } = this.#parts;
    const params: ManagedParams<'lease.request'> = {
      requestId: randomBytes(16).toString('hex'),
      ...{ sizeBytes, ttlMs, count, purpose: purpose.slice(0, 64) },
      ...(hostId === '' ? {} : { hostId }),
      ...(zone === undefined ? {} : { zone }),
      ...(exclude.length === 0 ? {} : { exclude: exclude.slice(0, 64) }),
      ...(include === undefined ? {} : { include: include.slice(0, 64) }),
    };
    const { clock, control } = this.#parts;
    const deadlineMs = clock.nowMs() + REQUEST_DEADLINE_MS;
    const leftMs = (): number => deadlineMs - clock.nowMs();
    for (;;) {
      try {
        await this.#sweep(signal);
        const timeoutMs = Math.max(1, leftMs());
        return (await control.call('lease.request', params, { signal, timeoutMs })).leases;
      } catch (error) {
        const passing = asMemcloudError(error).exitCode === ExitCode.RETRYABLE;
        if (!passing || leftMs() <= REQUEST_PAUSE_MS || signal.aborted) throw error;
      }
      // Asked again with the same id it is the same request, whatever became of the first.
      await pause(REQUEST_PAUSE_MS, signal);
    }
  }

  async #takeUp(
    wish: LeaseWish,
    grants: readonly LeaseGrant[],
    signal: AbortSignal,
  ): Promise<ClientLease[]> {
    const { purpose, renews, outlives = false, ttlMs: renewTtlMs } = wish;
    const results = await Promise.allSettled(
      grants.map((grant) => this.#presenter.present(grant, signal)),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined || signal.aborted) {
      await this.#returnGrants(grants);
      if (failed !== undefined) throw asMemcloudError(failed.reason);
      throw new MemcloudError('ERR_CANCELLED', `${purpose}: not wanted any more`);
    }
    const leases = grants.map((grant, index) => {
      const { leaseId, provider, sizeBytes } = grant;
      const presented = results[index];
      const { ttlMs, askedAtMs } =
        presented?.status === 'fulfilled' ? presented.value : { ttlMs: 0, askedAtMs: 0 };
      const fresh = { leaseId, provider, sizeBytes, ttlMs: renewTtlMs, purpose, renews, outlives };
      return this.#machine.add(fresh, askedAtMs + ttlMs);
    });
    for (const { leaseId, provider, sizeBytes } of leases) {
      const fields = { leaseId, provider: provider.name, sizeBytes, purpose };
      this.#parts.logger.info(fields, 'managed lease in use');
    }
    this.#arm();
    return leases;
  }

  /** Nothing of a request that failed stays behind. */
  async #returnGrants(grants: readonly LeaseGrant[]): Promise<void> {
    const leaseIds = grants.map(({ leaseId }) => leaseId);
    // The leader tells the providers; what is not told ends unused, or at its deadline.
    await this.#release(leaseIds, RETURN_TIMEOUT_MS).catch(() => undefined);
    for (const { provider } of grants) this.#closeDoorIfUnused(provider);
  }

  // --- Keeping -------------------------------------------------------------------------------------

  /**
   * Renews leases now.
   *
   * @param ttlMs - what is asked for from now on; as before without
   * @throws MemcloudError `ERR_LEASE_UNKNOWN`, or as the first that was not renewed
   */
  async renew(leaseIds: readonly string[], ttlMs?: number): Promise<ClientLease[]> {
    const leases = leaseIds.map((leaseId) => this.#require(leaseId));
    if (ttlMs !== undefined) for (const id of leaseIds) this.#machine.setTtl(id, ttlMs);
    const byTtl = groupBy(leases, (lease) => ttlMs ?? lease.ttlMs);
    for (const [each, group] of byTtl) {
      const ids = group.map(({ leaseId }) => leaseId);
      for (let at = 0; at < ids.length; at += MANAGED_LEASE_COUNT_MAX) {
        await this.#renew(each, ids.slice(at, at + MANAGED_LEASE_COUNT_MAX));
      }
    }
    for (const id of leaseIds) {
      const lease = this.#machine.get(id);
      if (lease !== undefined && lease.problem === '') continue;
      const why = lease?.problem ?? 'it has ended';
      throw new MemcloudError('ERR_LEASE_UNKNOWN', `managed lease ${id} is not renewed: ${why}`);
    }
    return leaseIds.map((leaseId) => this.#require(leaseId));
  }

  /** Says what leases are for, for people here. */
  setPurpose(leaseIds: readonly string[], purpose: string): void {
    for (const leaseId of leaseIds) this.#machine.setPurpose(leaseId, purpose);
  }

  /** A word of the control plane: leases end. */
  onEnding({ leaseIds, reason, endsInMs }: ManagedParams<'manage.ending'>): void {
    this.#act(this.#machine.onEnding(leaseIds, reason, endsInMs, this.#parts.clock.nowMs()));
    this.#arm();
  }

  #onLeader(): void {
    this.#machine.hasten(this.#parts.clock.nowMs());
    this.#arm();
    if (this.#started) this.#sweep(this.#closing.signal).catch(() => undefined);
  }

  #arm(): void {
    clearTimeout(this.#timer);
    if (this.#closing.signal.aborted) return;
    const nextMs = this.#machine.nextTickMs(this.#parts.clock.nowMs());
    if (nextMs === Infinity) return;
    const delayMs = Math.min(TICK_MAX_MS, Math.max(TICK_MIN_MS, nextMs));
    this.#timer = setTimeout(() => this.tick(), delayMs).unref();
  }

  /** Looks what is due now; a timer does so by itself. */
  tick(): void {
    this.#act(this.#machine.tick(this.#parts.clock.nowMs()));
    this.#arm();
  }

  #act(actions: readonly LeaseAction[]): void {
    const { clock } = this.#parts;
    for (const action of actions) {
      if (action.type === 'renew') {
        this.#renew(action.ttlMs, action.leaseIds).catch(() => undefined);
        continue;
      }
      const { lease } = action;
      const endsInMs = Math.max(0, lease.endsAtMs - clock.nowMs());
      this.#log(action.type, lease, endsInMs);
      for (const listener of [...this.#listeners]) {
        listener({ type: action.type, lease, endsInMs });
      }
      if (lease.state === 'ended') this.#closeDoorIfUnused(lease.provider);
    }
  }

  #log(type: 'warn' | 'changed', lease: ClientLease, endsInMs: number): void {
    const { logger } = this.#parts;
    const { leaseId, provider, purpose, state, reason, problem, renews } = lease;
    const fields = { leaseId, provider: provider.name, purpose, reason, problem };
    if (state === 'ended') return logger.warn(fields, 'managed lease has ended: it is wiped');
    if (type === 'changed' && state === 'active') {
      return logger.info(fields, 'managed lease is renewed after all');
    }
    const text = `managed lease of ${purpose} ends in ${formatDuration(endsInMs)}`;
    if (renews && (endsInMs < ALARM_MS || state === 'ending')) return logger.error(fields, text);
    logger.warn(fields, text);
  }

  async #renew(ttlMs: number, leaseIds: string[]): Promise<void> {
    const { control, clock, door } = this.#parts;
    const { signal } = this.#closing;
    const askedAtMs = clock.nowMs();
    try {
      const answer = await control.call(
        'lease.renew',
        { leaseIds, ttlMs },
        { signal, timeoutMs: RENEW_TIMEOUT_MS },
      );
      const told = new Set<string>();
      for (const row of answer.renewed) {
        told.add(row.leaseId);
        this.#act(this.#machine.onRenewed(row.leaseId, row.ttlMs, askedAtMs));
        const lease = this.#machine.get(row.leaseId);
        if (lease !== undefined) door.open(lease.provider, row.ttlMs);
      }
      for (const { leaseId, why } of answer.refused) {
        told.add(leaseId);
        this.#act(this.#machine.onRefused(leaseId, why, clock.nowMs()));
      }
      const untold = leaseIds.filter((leaseId) => !told.has(leaseId));
      this.#machine.onUnanswered(untold, 'the control plane said nothing of it', clock.nowMs());
    } catch (error) {
      const { message } = asMemcloudError(error);
      this.#machine.onUnanswered(leaseIds, message, clock.nowMs());
      throw error;
    } finally {
      this.#arm();
    }
  }

  // --- Giving back ---------------------------------------------------------------------------------

  /**
   * Gives leases back: to their providers, and to the leader for those that do not answer. Whatever comes
   * of it, they are not renewed any more.
   *
   * @throws MemcloudError `ERR_CONTROL_UNREACHABLE` when neither answers: the leases end at their deadlines
   */
  async release(leaseIds: readonly string[]): Promise<void> {
    const leases = leaseIds.flatMap((leaseId) => this.#machine.get(leaseId) ?? []);
    for (const { leaseId } of leases) this.#machine.remove(leaseId);
    const live = leases.filter(({ state }) => state !== 'ended');
    const left: string[] = [];
    await Promise.all(
      [...groupBy(live, ({ provider }) => provider.nodeId)].map(async ([nodeId, group]) => {
        const ids = group.map(({ leaseId }) => leaseId);
        try {
          for (let at = 0; at < ids.length; at += MANAGED_LEASE_COUNT_MAX) {
            const part = ids.slice(at, at + MANAGED_LEASE_COUNT_MAX);
            await this.#presenter.giveBack(nodeId, part, RETURN_TIMEOUT_MS);
          }
        } catch (error) {
          const { code } = asMemcloudError(error);
          this.#parts.logger.debug({ provider: nodeId, code }, 'the leader is told instead');
          left.push(...ids);
        }
      }),
    );
    try {
      await this.#release(left, RETURN_TIMEOUT_MS);
    } catch (cause) {
      const what = `${left.length} managed leases could not be given back and end at their deadlines`;
      throw new MemcloudError('ERR_CONTROL_UNREACHABLE', what, { cause });
    } finally {
      for (const { provider } of leases) this.#closeDoorIfUnused(provider);
      this.#arm();
    }
  }

  /** Gives everything back but what goes on without this process; in bounded time. */
  async close(): Promise<void> {
    const ending = this.list().filter(({ outlives = false }) => !outlives);
    this.abandon();
    try {
      await this.release(ending.map(({ leaseId }) => leaseId));
    } catch (error) {
      this.#parts.logger.warn({}, asMemcloudError(error).message);
    }
  }

  /** Stops at once; the leases are another process's now, or end at their deadlines. */
  abandon(): void {
    this.#stopListening();
    this.#closing.abort();
    clearTimeout(this.#timer);
  }

  async #release(leaseIds: string[], timeoutMs: number): Promise<void> {
    for (let at = 0; at < leaseIds.length; at += MANAGED_LEASE_COUNT_MAX) {
      const part = leaseIds.slice(at, at + MANAGED_LEASE_COUNT_MAX);
      await this.#parts.control.call('lease.release', { leaseIds: part }, { timeoutMs });
    }
  }

  #closeDoorIfUnused(provider: LeaseGrant['provider']): void {
    const used = this.list().some(
      (lease) => lease.state !== 'ended' && lease.provider.nodeId === provider.nodeId,
    );
    if (!used) this.#parts.door.close(provider);
  }

  #sweep(signal: AbortSignal): Promise<void> {
    this.#swept ??= this.#giveBackStrays(signal).catch((error: unknown) => {
      this.#swept = undefined;
      throw error;
    });
    return this.#swept;
  }

  async #giveBackStrays(signal: AbortSignal): Promise<void> {
    const { control, logger } = this.#parts;
    const strays: string[] = [];
    let cursor: string | null = null;
    do {
      const params = { countMax: LIST_COUNT_MAX, ...(cursor === null ? {} : { cursor }) };
      const page: Awaited<ReturnType<typeof control.call<'lease.list'>>> = await control.call(
        'lease.list',
        params,
        { signal, timeoutMs: REQUEST_DEADLINE_MS },
      );
      for (const { leaseId, state } of page.rows) {
        if (state !== 'ending' && this.#machine.get(leaseId) === undefined) strays.push(leaseId);
      }
      ({ cursor } = page);
    } while (cursor !== null);
    if (strays.length === 0) return;
    await this.#release(strays, RENEW_TIMEOUT_MS);
    logger.info({ count: strays.length }, 'managed leases of a former process are given back');
  }

  #require(leaseId: string): ClientLease {
    const lease = this.get(leaseId);
    if (lease !== undefined) return lease;
    throw new MemcloudError('ERR_LEASE_UNKNOWN', `this node holds no managed lease ${leaseId}`);
  }
}

function groupBy<T, K>(rows: readonly T[], keyOf: (row: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const row of rows) groups.set(keyOf(row), [...(groups.get(keyOf(row)) ?? []), row]);
  return groups;
}
