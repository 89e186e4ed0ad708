/**
 * One leader among the control nodes of a store: the shell around `leadership-machine.ts`, and the entry
 * `control/ID` by which each node is known to the others.
 *
 * A term is begun in one transaction: `epoch` is one greater, `leader` names the node under its store
 * lease. Every transaction of the term compares the revision that `leader` got there, its *fence*: when
 * the entry is gone, or another one is there, the store refuses. On the embedded store nobody else can
 * have the entry, so its node leads at once.
 */
import type { Clock } from '../common/clock.ts';
import { asMemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { NodeId } from '../common/ports.ts';
import { ControlEntry } from './control-entry.ts';
import {
  LeadershipMachine,
  type LeadershipAction,
  type LeadershipEvent,
} from './leadership-machine.ts';
import { storeError } from './meta-checks.ts';
import type { MetaChange, MetaCompare, MetaEntry, MetaLease, MetaStore } from './meta-store.ts';

/** What all keys of a control plane begin with. */
export const CONTROL_KEY_PREFIX = '/memcloud/v1/';
/** The entry of the leader, under its store lease: JSON of {@link LeaderRecord}. */
export const LEADER_KEY = `${CONTROL_KEY_PREFIX}leader`;
/** The number of the last term, decimal. */
export const EPOCH_KEY = `${CONTROL_KEY_PREFIX}epoch`;

/** Of the store lease, milliseconds: another node leads at most 5 s after the leader was killed. */
const TTL_DEFAULT_MS = 3000;
/** How long the end waits for the store to take the lease back, milliseconds. */
const END_TIMEOUT_MS = 2000;

/** A term that this node leads. */
export interface Term {
  /** Its number; each term of a store has one that is one greater. */
  readonly epoch: number;
  /** Put into every transaction of the term: it holds while the term does. */
  readonly fence: MetaCompare;
}

/** Who leads. */
export interface LeaderRecord {
  readonly nodeId: NodeId;
  readonly name: string;
  readonly epoch: number;
}

/** What a node is told of its terms. */
export interface LeadershipEvents {
  /** A term begins. */
  onElected(term: Term): void;
  /** It is over: nothing is to be promised any more. */
  onDeposed(): void;
}

/** What leadership needs. */
export interface LeadershipOptions {
  readonly store: MetaStore;
  readonly nodeId: NodeId;
  readonly name: string;
  /** Where other nodes reach this one, for its entry `control/ID`; without it there is no such entry. */
  readonly address?: () => string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of the store lease, milliseconds. */
  readonly ttlMs?: number;
}

/** What a node knows of the entry `leader`. */
interface Sight {
  /** Of the store, when it was so. */
  readonly revision: number;
  /** Of the entry; 0: there is none. */
  readonly entryRevision: number;
  readonly leader: LeaderRecord | undefined;
}

function parseLeader(value: string): LeaderRecord | undefined {
  try {
    const record = JSON.parse(value) as Partial<LeaderRecord>;
    const { nodeId, name, epoch } = record;
    if (typeof nodeId !== 'string' || typeof name !== 'string') return undefined;
    return typeof epoch === 'number' ? { nodeId, name, epoch } : undefined;
  } catch {
    return undefined;
  }
}

function parseEpoch(entry: MetaEntry | undefined): number {
  if (entry === undefined) return 0;
  const epoch = /^\d{1,15}$/.test(entry.value) ? Number(entry.value) : 0;
  if (epoch >= 1) return epoch;
  throw storeError(`the store is damaged: ${EPOCH_KEY} is no number of a term`);
}

/** See the top of the file. */
export class Leadership {
  readonly #options: LeadershipOptions;
  readonly #ttlMs: number;
  readonly #machine: LeadershipMachine;
  readonly #control: ControlEntry | undefined;
  #events: LeadershipEvents | undefined;
  #timer: NodeJS.Timeout | undefined;
  #unwatch: (() => void) | undefined;
  /** The entry as it was seen last. */
  #seen: Sight = { revision: 0, entryRevision: 0, leader: undefined };
  #lease: MetaLease | undefined;
  #term: Term | undefined;
  /** What is under way and has to end before the end. */
  readonly #running = new Set<Promise<void>>();
  #closed = false;
  #failure = '';

  constructor(options: LeadershipOptions) {
    this.#options = options;
    this.#ttlMs = options.ttlMs ?? TTL_DEFAULT_MS;
    this.#machine = new LeadershipMachine({ ttlMs: this.#ttlMs });
    const { address, nodeId, name, store, logger } = options;
    if (address === undefined) return;
    const value = (): string => JSON.stringify({ nodeId, name, address: address() });
    const key = `${CONTROL_KEY_PREFIX}control/${nodeId}`;
    this.#control = new ControlEntry({ store, logger, key, value, ttlMs: 3 * this.#ttlMs });
  }

  /** Begins to look for a leader, and to be one. To be called once. */
  start(events: LeadershipEvents): void {
    this.#events = events;
    this.#control?.start();
    this.#tick();
  }

  /** Who leads, as last seen; this node only while its term holds. */
  get leader(): LeaderRecord | undefined {
    const { leader } = this.#seen;
    if (leader?.nodeId !== this.#options.nodeId) return leader;
    return this.#machine.leadsAt(this.#options.clock.nowMs()) ? leader : undefined;
  }

  /** The term that this node leads now. */
  get term(): Term | undefined {
    return this.#machine.leadsAt(this.#options.clock.nowMs()) ? this.#term : undefined;
  }

  /** Hands over at once, if this node leads; it takes no part for the time of a store lease. */
  async resign(): Promise<void> {
    this.#do(this.#machine.handle({ on: 'resign' }, this.#options.clock.nowMs()));
    await this.#settle();
  }

  /** Hands over at once and ends; the store stays open. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#do(this.#machine.handle({ on: 'close' }, this.#options.clock.nowMs()));
    clearTimeout(this.#timer);
    this.#unwatch?.();
    await Promise.all([this.#settle(), this.#control?.close()]);
  }

  #tick(): void {
    this.#do(this.#machine.handle({ on: 'tick' }, this.#options.clock.nowMs()));
  }

  #do(actions: readonly LeadershipAction[]): void {
    for (const action of actions) this.#act(action);
    clearTimeout(this.#timer);
    const waitMs = this.#machine.wakeAtMs - this.#options.clock.nowMs();
    if (waitMs === Infinity) return;
    this.#timer = setTimeout(
      () => {
        this.#tick();
      },
      Math.max(0, Math.ceil(waitMs)),
    );
  }

  #act(action: LeadershipAction): void {
    const { logger } = this.#options;
    switch (action.do) {
      case 'look':
        this.#run(this.#look());
        return;
      case 'campaign':
        this.#run(this.#campaign());
        return;
      case 'keep':
        this.#run(this.#keep());
        return;
      case 'elected':
        logger.info({ epoch: this.#term?.epoch }, 'this control node leads');
        if (this.#term !== undefined) this.#events?.onElected(this.#term);
        return;
      case 'deposed':
        logger.warn(
          { epoch: this.#term?.epoch, why: action.why },
          'this control node leads no more',
        );
        this.#term = undefined;
        this.#events?.onDeposed();
        return;
      case 'revoke':
        this.#run(this.#revoke());
        return;
    }
  }

  #report(event: LeadershipEvent): void {
    this.#do(this.#machine.handle(event, this.#options.clock.nowMs()));
  }

  /** `task` never rejects. */
  #run(task: Promise<void>): void {
    this.#running.add(task);
    void task.finally(() => this.#running.delete(task));
  }

  /** Waits for what is under way, a bounded time. */
  async #settle(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => {
        resolve('late');
      }, END_TIMEOUT_MS);
    });
    while (this.#running.size > 0) {
      if ((await Promise.race([Promise.all(this.#running), late])) === 'late') break;
    }
    clearTimeout(timer);
  }

  /** Says a failure of the store once, not with each try. */
  #failed(error: unknown): void {
    const { message } = asMemcloudError(error);
    if (message === this.#failure) return;
    this.#failure = message;
    this.#options.logger.warn({ error: message }, 'the store of the control plane does not answer');
  }

  async #look(): Promise<void> {
    let found;
    try {
      found = await this.#options.store.list(LEADER_KEY, { countMax: 1 });
      this.#failure = '';
    } catch (error) {
      this.#failed(error);
      this.#report({ on: 'look-failed' });
      return;
    }
    if (this.#closed) return;
    this.#follow(found.revision);
    this.#saw(
      found.revision,
      found.entries.find(({ key }) => key === LEADER_KEY),
    );
  }

  /** Follows the entry from `revision` on, unless that is done already. */
  #follow(revision: number): void {
    this.#unwatch ??= this.#options.store.watch(LEADER_KEY, revision, {
      onChanges: (changes) => {
        const last = changes.findLast(({ key }) => key === LEADER_KEY);
        if (last !== undefined) this.#saw(last.revision, last);
      },
      onLost: () => {
        this.#unwatch = undefined;
      },
    });
  }

  /** @param revision - of the store, when the entry was `entry`; what is told late changes nothing */
  #saw(revision: number, entry: MetaEntry | MetaChange | undefined): void {
    if (revision >= this.#seen.revision) {
      const value = entry?.value;
      this.#seen =
        entry === undefined || value === undefined
          ? { revision, entryRevision: 0, leader: undefined }
          : { revision, entryRevision: entry.revision, leader: parseLeader(value) };
    }
    this.#report({ on: 'seen', revision: this.#seen.entryRevision });
  }

  async #campaign(): Promise<void> {
    const sentAtMs = this.#options.clock.nowMs();
    const won = await this.#put().catch((error: unknown) => {
      this.#failed(error);
      return undefined;
    });
    if (won === undefined) {
      // Also when the entry may be there, and the answer was lost: it goes with the lease.
      await this.#revoke();
      this.#report({ on: 'not-won' });
      return;
    }
    const { leader, revision, ttlMs } = won;
    this.#seen = { revision, entryRevision: revision, leader };
    this.#term = { epoch: leader.epoch, fence: { key: LEADER_KEY, revision } };
    this.#report({ on: 'won', revision, sentAtMs, ttlMs });
  }

  /** @returns undefined when another node was first */
  async #put(): Promise<{ leader: LeaderRecord; revision: number; ttlMs: number } | undefined> {
    const { store, nodeId, name } = this.#options;
    const lease = await store.grant(this.#ttlMs);
    this.#lease = lease;
    const last = await store.get(EPOCH_KEY);
    const leader: LeaderRecord = { nodeId, name, epoch: parseEpoch(last) + 1 };
    const revision = await store.transact(
      [
        { key: LEADER_KEY, revision: 0 },
        { key: EPOCH_KEY, revision: last?.revision ?? 0 },
      ],
      [
        { put: EPOCH_KEY, value: String(leader.epoch) },
        { put: LEADER_KEY, value: JSON.stringify(leader), lease },
      ],
    );
    return revision === undefined ? undefined : { leader, revision, ttlMs: lease.ttlMs };
  }

  async #keep(): Promise<void> {
    const { store, clock } = this.#options;
    const lease = this.#lease;
    const sentAtMs = clock.nowMs();
    let event: LeadershipEvent;
    try {
      const kept = lease !== undefined && (await store.keepalive(lease));
      event = kept ? { on: 'kept', sentAtMs } : { on: 'lease-over' };
    } catch (error) {
      this.#failed(error);
      event = { on: 'keep-failed' };
    }
    // An answer that comes in a later term says nothing of that.
    if (lease === this.#lease) this.#report(event);
  }

  async #revoke(): Promise<void> {
    const lease = this.#lease;
    this.#lease = undefined;
    if (lease === undefined) return;
    try {
      await this.#options.store.revoke(lease);
    } catch {
      // It ends by itself.
    }
  }
}
