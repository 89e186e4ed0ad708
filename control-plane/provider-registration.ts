/**
 * What a provider says to the leader: who it is and which leases it has, when a leader answers; how it is,
 * again and again; and which leases ended. A registration lasts until another leader answers, the session
 * with it is made anew, or a call fails; then everything is said again.
 *
 * ```
 * nobody leads -(leader)-> registering -(all said)-> registered -(call failed)-> registering
 *      ^                        |                        |
 *      `------------------------`-----(no leader)--------'
 * ```
 *
 * Calls that were made in one registration are over with it: whatever they would bring counts no more.
 *
 * Whoever leads has a term, its epoch. The highest that was heard of counts.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../common/clock.ts';
import { MemcloudError, asMemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import {
  MANAGED_LEASE_COUNT_MAX,
  MANAGED_TTL_MAX_MS,
  type ManagedLeaseState,
} from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { EndingsQueue, type SignedEnding } from './endings-queue.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from './schema.ts';

/** An answer of the leader is waited for so long unless told otherwise, milliseconds. */
const CALL_TIMEOUT_MS = 5_000;
/** After a call that failed, milliseconds. */
const RETRY_MS = 1_000;
/** After the leader said that this node is no provider, milliseconds. */
const DENIED_RETRY_MS = 3_000;

/** The way to the leader (`ControlLink`), as far as it is needed. */
export interface LeaderLink {
  /** Errors as `ControlLink.call`. */
  call<C extends ManagedCall>(
    call: C,
    params: ManagedParams<C>,
    options?: { signal?: AbortSignal; timeoutMs?: number },
  ): Promise<ManagedResult<C>>;
  /** Who leads; undefined while nobody answers. */
  readonly leader: { readonly epoch: number } | undefined;
  /** Whether a node answered at an address of a control node. */
  isControlNode(nodeId: NodeId): boolean;
  /** Calls `listener` when a leader answers, another one, or anew. */
  onLeader(listener: () => void): () => void;
}

/** The room of a provider, as the leader is told. */
export interface ProviderRoom {
  readonly offeredBytes: number;
  /** Of the offer, what others than managed clients have. */
  readonly otherBytes: number;
  readonly accepting: boolean;
  readonly draining: boolean;
  /** 0 (idle) to 1 (cannot take more). */
  readonly load: number;
}

/** What a registration is made of. */
export interface ProviderRegistrationOptions {
  readonly link: LeaderLink;
  /** The managed leases here. */
  readonly leases: () => readonly ManagedLeaseState[];
  /** The leader knows these no more. */
  readonly onDisowned: (leaseIds: readonly string[]) => void;
  /** What there is to lend now. */
  readonly usage: () => ProviderRoom;
  /** TCP port for clients. */
  readonly port: () => number;
  readonly hostId: string;
  readonly zone: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** See the top of the file. */
export class ProviderRegistration {
  /** Names the life of this process. */
  readonly life = randomBytes(16).toString('hex');
  readonly #options: ProviderRegistrationOptions;
  readonly #endings = new EndingsQueue();
  readonly #stopListening: () => void;
  #epoch = 0;
  #registered = false;
  #current = new AbortController();
  #isRegistering = false;
  #isBeating = false;
  #telling: Promise<boolean> | undefined;
  #heartbeatMs = RETRY_MS;
  #nextBeatMs = -Infinity;
  #nextRegisterMs = -Infinity;
  #nextTellMs = -Infinity;
  /** What the leader was told last of what it is to know at once. */
  #told = '';
  #problem = '';
  #closed = false;

  constructor(options: ProviderRegistrationOptions) {
    this.#options = options;
    this.#stopListening = options.link.onLeader(() => this.#onLeader());
  }

  /** Whether the leader knows of this provider and all its leases. */
  get registered(): boolean {
    return this.#registered && this.#options.link.leader !== undefined;
  }

  /** Aborted when this registration is over. */
  get signal(): AbortSignal {
    return this.#current.signal;
  }

  /** The highest term that was heard of. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Why the leader does not take this node as a provider; empty when it does, or nobody leads. */
  get problem(): string {
    return this.#problem;
  }

  /** Endings that no leader has taken yet. */
  get untoldCount(): number {
    return this.#endings.length;
  }

  /** Somebody speaks for a term. @throws MemcloudError `ERR_CONTROL_NOT_LEADER` when a later one has begun */
  hear(epoch: number): void {
    if (epoch < this.#epoch) {
      throw new MemcloudError(
        'ERR_CONTROL_NOT_LEADER',
        `term ${epoch} is over: this provider has heard of term ${this.#epoch}`,
      );
    }
    this.#epoch = epoch;
  }

  /** Asks the leader, until this registration is over. Errors as `ControlLink.call`. */
  call<C extends ManagedCall>(
    call: C,
    params: ManagedParams<C>,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<ManagedResult<C>> {
    return this.#options.link.call(call, params, { signal: this.signal, timeoutMs });
  }

  /** A lease is over: the leader is told, now or when there is one, until it has taken it. */
  tellEnded(ending: SignedEnding): void {
    const { droppedCount } = this.#endings;
    this.#endings.push(ending);
    if (this.#endings.droppedCount > droppedCount) {
      const text = 'too many endings of managed leases wait for a leader: the oldest is dropped';
      this.#options.logger.warn({}, text);
    }
    if (this.#options.clock.nowMs() >= this.#nextTellMs) void this.tellEndings();
  }

  /** Tells what waits. @returns false when something still does: nobody is there, or a call failed */
  tellEndings(): Promise<boolean> {
    this.#telling ??= this.#tellAll().finally(() => (this.#telling = undefined));
    return this.#telling;
  }

  /** Does what is due. To be called often. */
  tick(): void {
    const nowMs = this.#options.clock.nowMs();
    if (!this.#registered) return this.#registerIfDue();
    if (nowMs >= this.#nextBeatMs || this.#told !== stateOf(this.#options.usage())) this.#beat();
    if (nowMs >= this.#nextTellMs) void this.tellEndings();
  }

  /** Says nothing more. */
  close(): void {
    this.#closed = true;
    this.#stopListening();
    this.#end(Infinity);
  }

  #onLeader(): void {
    this.#end(-Infinity);
    this.#problem = '';
    this.#registerIfDue();
  }

  /** The registration is over; another is tried from `retryAtMs` on. */
  #end(retryAtMs: number): void {
    this.#registered = false;
    this.#current.abort();
    this.#current = new AbortController();
    this.#nextRegisterMs = retryAtMs;
  }

  #registerIfDue(): void {
    const { link, clock } = this.#options;
    if (this.#registered || this.#closed || this.#isRegistering) return;
    if (link.leader === undefined) return;
    if (clock.nowMs() < this.#nextRegisterMs) return;
    this.#isRegistering = true;
    void this.#register(this.signal).finally(() => {
      this.#isRegistering = false;
      // Another leader may have answered meanwhile.
      this.#registerIfDue();
    });
  }

  async #register(signal: AbortSignal): Promise<void> {
    try {
      await this.#sayAll(signal);
    } catch (error) {
      this.#onFailed(asMemcloudError(error), signal);
      return;
    }
    if (signal.aborted) return;
    this.#registered = true;
    this.#problem = '';
    this.#options.logger.info({ epoch: this.#epoch }, 'registered at the control plane');
    void this.tellEndings();
  }

  async #sayAll(signal: AbortSignal): Promise<void> {
    const { hostId, zone, port, clock } = this.#options;
    const all = this.#options.leases();
    let more = true;
    for (let at = 0; more && !signal.aborted; at += MANAGED_LEASE_COUNT_MAX) {
      more = at + MANAGED_LEASE_COUNT_MAX < all.length;
      const room = this.#options.usage();
      const { offeredBytes, otherBytes, accepting, draining } = room;
      const answer = await this.call('provider.register', {
        ...{ life: this.life, hostId, zone, port: port() },
        ...{ offeredBytes, otherBytes, accepting, draining },
        leases: all.slice(at, at + MANAGED_LEASE_COUNT_MAX).map(leaseRow),
        ...(more ? { more } : {}),
      });
      if (signal.aborted) return;
      this.hear(answer.epoch);
      this.#heartbeatMs = answer.heartbeatMs;
      this.#nextBeatMs = clock.nowMs() + answer.heartbeatMs;
      this.#told = stateOf(room);
      this.#options.onDisowned(answer.end);
    }
  }

  #beat(): void {
    if (this.#isBeating) return;
    const { signal } = this;
    const room = this.#options.usage();
    this.#isBeating = true;
    this.#nextBeatMs = this.#options.clock.nowMs() + this.#heartbeatMs;
    this.#told = stateOf(room);
    void this.call('provider.heartbeat', { life: this.life, ...room })
      .then(({ epoch, register }) => {
        this.hear(epoch);
        // It forgot this provider, which it took for dead.
        if (register === true && !signal.aborted) this.#end(-Infinity);
      })
      .catch((error: unknown) => this.#onFailed(asMemcloudError(error), signal))
      .finally(() => {
        this.#isBeating = false;
        this.#registerIfDue();
      });
  }

  /** The leader could not be told, or does not know this provider: it is told everything again. */
  #onFailed({ code, message }: MemcloudError, signal: AbortSignal): void {
    if (signal.aborted) return;
    const { clock, logger } = this.#options;
    const isDenied = code === 'ERR_CONTROL_DENIED';
    if (this.#registered || (isDenied && this.#problem === '')) {
      logger.warn({ code }, `not registered at the control plane: ${message}`);
    }
    this.#problem = isDenied ? message : '';
    this.#end(clock.nowMs() + (isDenied ? DENIED_RETRY_MS : RETRY_MS));
  }

  async #tellAll(): Promise<boolean> {
    const { clock, logger } = this.#options;
    while (this.#endings.length > 0 && this.#registered) {
      const endings = this.#endings.batch();
      try {
        await this.call('provider.ended', { life: this.life, endings });
        this.#endings.acknowledge(endings);
      } catch (error) {
        const { code, message } = asMemcloudError(error);
        if (code !== 'ERR_CONTROL_PROTOCOL') {
          this.#nextTellMs = clock.nowMs() + RETRY_MS;
          return false;
        }
        logger.error({ code, endings: endings.length }, `the leader takes no endings: ${message}`);
        this.#endings.acknowledge(endings);
      }
    }
    return this.#endings.length === 0;
  }
}

function leaseRow({ leaseId, client, sizeBytes, ttlMs }: ManagedLeaseState): {
  leaseId: string;
  client: NodeId;
  sizeBytes: number;
  ttlMs: number;
} {
  return { leaseId, client, sizeBytes, ttlMs: Math.min(Math.floor(ttlMs), MANAGED_TTL_MAX_MS) };
}

/** What the leader is told at once when it changes. */
function stateOf({ offeredBytes, accepting, draining }: ProviderRoom): string {
  return `${offeredBytes} ${accepting} ${draining}`;
}
