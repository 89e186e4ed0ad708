/**
 * One term in which this node leads: the state in memory, the queue that stores what was decided, and what
 * leaves after that. It begins when the state is read and ends at the first doubt: a transaction that
 * failed, the word of the election, a defect in a decision. Then it answers nothing but an error, and the
 * next one reads everything anew.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../common/clock.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { NodeId } from '../common/ports.ts';
import { AuditChain } from './audit.ts';
import { CommitQueue, WAITING_STEP_COUNT_MAX } from './commit-queue.ts';
import { Steps, type Decision, type Message, type Step } from './decision.ts';
import { EventRing } from './events.ts';
import { leasesUnknown, tickLeases } from './lease-machine.ts';
import { LedgerState } from './ledger-state.ts';
import type { LoadedState } from './load-state.ts';
import type { MetaCompare, MetaStore } from './meta-store.ts';
import type { After, Outbox } from './outbox.ts';
import { tickProviders } from './provider-machine.ts';
import type { ManagedParams, ManagedResult } from './schema.ts';
import { zoneCapacities, type ZoneCapacity } from './rows.ts';

/** How often meters of clients with leases are stored, milliseconds. */
const METER_INTERVAL_MS = 10_000;
/** How often the capacity of a zone is told at most, milliseconds. */
const CAPACITY_INTERVAL_MS = 1_000;
/** Followers that wait for an event at most; more are answered at once. */
const WATCHER_COUNT_MAX = 256;
const WATCH_DEFAULT_MS = 4_000;

/** A node with a session here, as it proves itself. */
export interface SessionPeer {
  /** 64 hex digits. */
  readonly publicKey: string;
  readonly name: string;
  /** Where its session comes from. */
  readonly host: string;
}

/** What a term is made of. */
export interface LeaderOptions {
  readonly store: MetaStore;
  readonly term: { readonly epoch: number; readonly fence: MetaCompare };
  readonly nodeId: NodeId;
  readonly name: string;
  readonly loaded: LoadedState;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly outbox: Outbox;
  readonly sessions: ReadonlyMap<NodeId, SessionPeer>;
  readonly after: After;
  readonly logger: Logger;
  /** The term is over for this process; the state is to be read anew, if this node still leads. */
  onFailed(error: MemcloudError): void;
}

/** See the top of the file. */
export class Leader {
  readonly epoch: number;
  readonly state: LedgerState;
  readonly #options: LeaderOptions;
  readonly #queue: CommitQueue;
  readonly #ring: EventRing;
  readonly #watchers = new Set<() => void>();
  #capacities = new Map<string, ZoneCapacity>();
  #capacityMs: number;
  #meterMs: number;
  #failure: MemcloudError | undefined;

  constructor(options: LeaderOptions) {
    this.#options = options;
    const { store, term, nodeId, loaded, random, clock } = options;
    this.epoch = term.epoch;
    const newId = (): string => randomBytes(16).toString('hex');
    const world = { epoch: this.epoch, random, newId };
    this.state = LedgerState.restore(world, clock.nowMs(), loaded.stored);
    this.#ring = new EventRing(`${this.epoch}-${newId().slice(0, 8)}`);
    this.#queue = new CommitQueue({
      store,
      fence: term.fence,
      chain: new AuditChain(loaded.head, { controlNode: nodeId, epoch: this.epoch }),
      headRevision: loaded.headRevision,
      wallClock: () => new Date().toISOString(),
      onStored: (step) => this.#stored(step),
      onFailed: (error) => this.#fail(error),
    });
    this.#capacityMs = this.#meterMs = clock.nowMs();
    this.#begin(loaded.stored.tokenKeys);
  }

  /** Why it is over; undefined while it lives. */
  get failure(): MemcloudError | undefined {
    return this.#failure;
  }

  /**
   * Decides, stores, answers.
   *
   * @throws MemcloudError the refusal; `ERR_CONTROL_STORE`, `ERR_CONTROL_NOT_LEADER` when it could not be stored
   */
  async decide<T>(make: (state: LedgerState, nowMs: number) => Decision<T>): Promise<T> {
    this.#assertLives();
    if (this.#queue.waitingCount > WAITING_STEP_COUNT_MAX) {
      throw new MemcloudError(
        'ERR_CONTROL_STORE',
        'the store is too slow for what is asked; ask again',
      );
    }
    const { steps, answer } = this.#attempt(() => make(this.state, this.#options.clock.nowMs()));
    await this.#queue.add(steps);
    if ('refusal' in answer) throw answer.refusal;
    return answer.value;
  }

  /** Reads from the state; answered when all that it may tell of is stored. */
  async read<T>(make: (state: LedgerState, nowMs: number) => T): Promise<T> {
    this.#assertLives();
    const value = this.#attempt(() => make(this.state, this.#options.clock.nowMs()));
    await this.#queue.add(new Steps());
    return value;
  }

  /** Decides what nobody waits for. */
  do(make: (state: LedgerState, nowMs: number) => Steps): void {
    if (this.#failure !== undefined) return;
    try {
      const steps = this.#attempt(() => make(this.state, this.#options.clock.nowMs()));
      this.#queue.add(steps).catch(() => undefined);
    } catch (error) {
      this.#options.logger.error({ error: asMemcloudError(error).message }, 'a decision failed');
    }
  }

  /** Deals with all that time brings; to be called some times a second. */
  tick(): void {
    if (this.#queue.waitingCount > WAITING_STEP_COUNT_MAX) return;
    const nowMs = this.#options.clock.nowMs();
    this.do((state) => tickProviders(state, nowMs));
    this.do((state) => tickLeases(state, nowMs));
    if (nowMs - this.#meterMs >= METER_INTERVAL_MS) this.#storeMeters(nowMs);
    if (nowMs - this.#capacityMs >= CAPACITY_INTERVAL_MS) this.#tellCapacities(nowMs);
  }

  /** The events behind a cursor, waited for. */
  async watch(params: ManagedParams<'admin.watch'>): Promise<ManagedResult<'admin.watch'>> {
    this.#assertLives();
    const { cursor, waitMs = WATCH_DEFAULT_MS } = params;
    if (cursor === undefined) return { events: [], cursor: this.#ring.cursor, missed: false };
    const found = this.#ring.after(cursor);
    if (found !== undefined) return found;
    if (waitMs > 0 && this.#watchers.size < WATCHER_COUNT_MAX) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          this.#watchers.delete(done);
          callOff();
          resolve();
        };
        const callOff = this.#options.after(waitMs, done);
        this.#watchers.add(done);
      });
    }
    this.#assertLives();
    return this.#ring.after(cursor) ?? { events: [], cursor, missed: false };
  }

  /** Ends the term: whatever waits is answered with `error`. */
  close(error: MemcloudError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#queue.close(error);
    this.#wakeWatchers();
  }

  /** @throws MemcloudError when the term is over */
  #assertLives(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** A defect in the middle of a decision leaves a state that nobody knows: it is thrown away. */
  #attempt<T>(make: () => T): T {
    try {
      return make();
    } catch (error) {
      if (!(error instanceof MemcloudError)) this.#fail(asMemcloudError(error));
      throw error;
    }
  }

  #fail(error: MemcloudError): void {
    if (this.#failure !== undefined) return;
    this.close(error);
    this.#options.onFailed(error);
  }

  /** The first words of a term; tokens of earlier ones are void. */
  #begin(tokenKeys: readonly string[]): void {
    const { nodeId, name } = this.#options;
    this.do(() => {
      const steps = new Steps();
      const leader = { nodeId, name, epoch: this.epoch };
      steps.next.note('leader', leader);
      steps.next.tell('leader', leader);
      for (const key of tokenKeys) steps.next.remove(key);
      return steps;
    });
  }

  #stored({ events, messages }: Step): void {
    for (const event of events) this.#ring.add(event);
    if (events.length > 0) this.#wakeWatchers();
    for (const message of messages) void this.#send(message);
  }

  #wakeWatchers(): void {
    for (const wake of [...this.#watchers]) wake();
  }

  /** Says what is to be said; what fails is said again when it is due (ends), or not at all. */
  async #send(message: Message): Promise<void> {
    const { outbox, logger } = this.#options;
    const { to, kind } = message;
    try {
      if (kind === 'admit') return await this.admit(to, message.client, message.ttlMs);
      const { leaseIds, reason } = message;
      if (kind === 'ending') {
        await outbox.ask(to, 'manage.ending', { epoch: this.epoch, leaseIds, reason, endsInMs: 0 });
        return;
      }
      const { unknown } = await outbox.ask(to, 'manage.end', {
        epoch: this.epoch,
        leaseIds,
        reason,
      });
      this.unknownAt(to, unknown);
    } catch (error) {
      logger.debug({ to, kind, error: asMemcloudError(error).message }, 'a node was not told');
    }
  }

  /** A provider said that it does not have leases. */
  unknownAt(provider: NodeId, leaseIds: readonly string[]): void {
    if (this.#failure !== undefined) return;
    leasesUnknown(this.state, this.#options.clock.nowMs(), provider, leaseIds);
  }

  /** Tells a provider to let a client in. @throws MemcloudError when it did not say that it does */
  async admit(provider: NodeId, client: NodeId, ttlMs: number): Promise<void> {
    const { outbox, sessions } = this.#options;
    const member = this.state.members.get(client);
    const publicKey = sessions.get(client)?.publicKey ?? member?.publicKey ?? '';
    if (publicKey === '')
      throw new MemcloudError('ERR_PEER_UNKNOWN', 'the key of the client is unknown');
    const name = member?.name ?? '';
    await outbox.ask(provider, 'manage.admit', { epoch: this.epoch, publicKey, name, ttlMs });
  }

  #storeMeters(nowMs: number): void {
    this.#meterMs = nowMs;
    this.do((state) => {
      const steps = new Steps();
      for (const client of state.clientLeases.keys()) state.storeUsage(steps.next, client, nowMs);
      return steps;
    });
  }

  /** Tells of the zones in which something else is free than before. */
  #tellCapacities(nowMs: number): void {
    this.#capacityMs = nowMs;
    this.do((state) => {
      const steps = new Steps();
      const now = zoneCapacities(state);
      for (const [zone, capacity] of now) {
        if (JSON.stringify(this.#capacities.get(zone)) === JSON.stringify(capacity)) continue;
        steps.next.tell('capacity', { ...capacity });
      }
      this.#capacities = now;
      return steps;
    });
  }
}
