/**
 * A control node: answers MANAGE calls of clients, providers and admins while it leads, and says who leads
 * while it does not. The shell around the machines beside it: elections, the store, sessions, time.
 *
 *   elected -> the store is read (`load-state.ts`) -> a `Leader` answers -> deposed, or a store that failed:
 *   everything in memory is dropped -> elected again, or while the term holds: read again
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import type { Clock } from '../common/clock.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import { fingerprintOf } from '../common/fingerprint.ts';
import type { Logger } from '../common/log.ts';
import type { ManagedLinks, ManagedService, MemberRole } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { hostOfAddress } from '../common/units.ts';
import { adminCalls } from './admin-calls.ts';
import { rawPublicKey, type CallContext, type Handler } from './call-context.ts';
import { clientCalls } from './client-calls.ts';
import { clusterId } from './cluster.ts';
import { FairQueue } from './fair-queue.ts';
import { Leader, type SessionPeer } from './leader.ts';
import type { Leadership, Term } from './leadership.ts';
import { loadState } from './load-state.ts';
import { bindMember } from './member-machine.ts';
import { MembersWatch } from './members-watch.ts';
import {
  decodeManagedCall,
  encodeManagedCall,
  encodeManagedError,
  encodeManagedResult,
  type DecodedCall,
} from './messages.ts';
import type { MetaStore } from './meta-store.ts';
import { afterTimer, Outbox, type After } from './outbox.ts';
import { providerCalls } from './provider-calls.ts';
import { providerLost } from './provider-machine.ts';
import type { MemberRecord } from './record-codec.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from './schema.ts';

/** How often the leader looks at what is due, milliseconds. */
const TICK_MS = 250;
/** After a failure of the store it is read again so much later, milliseconds. */
const RELOAD_MS = 500;
/** An admin on this machine waits so long for a leader, milliseconds: the next one leads within it. */
const LEADER_WAIT_MS = 5000;
const LEADER_LOOK_MS = 50;

/** A member, for whoever lets nodes in. */
export interface Member {
  /** 64 hex digits; empty while it is not known. */
  readonly publicKey: string;
  /** As it was entered: fingerprint words, node id or public key. */
  readonly pattern: string;
  /** Empty while only a fingerprint is known. */
  readonly nodeId: string;
  readonly name: string;
  readonly roles: readonly MemberRole[];
}

/** What a control node is made of. */
export interface ControlServiceOptions {
  readonly store: MetaStore;
  readonly leadership: Pick<Leadership, 'start' | 'leader'>;
  readonly nodeId: NodeId;
  readonly name: string;
  /** Where other nodes reach this one, `HOST:PORT`. */
  readonly address: () => string;
  /** Ed25519, of the node's identity. */
  readonly signingKey: KeyObject;
  readonly links: Pick<ManagedLinks, 'find'>;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly logger: Logger;
  /** The machine's timer, unless told otherwise. */
  readonly after?: After;
}

const LEADER_CALLS: { readonly [C in ManagedCall]?: Handler<C> } = {
  ...clientCalls,
  ...providerCalls,
  ...adminCalls,
};

/** Who may make a call of the leader, by the first word of its name; `lease.list` is also an admin's. */
function rolesOf(call: ManagedCall): readonly MemberRole[] {
  if (call === 'lease.list') return ['client', 'admin'];
  if (call.startsWith('lease.')) return ['client'];
  return call.startsWith('provider.') ? ['provider'] : ['admin'];
}

/** See the top of the file. */
export class ControlService implements ManagedService {
  readonly #options: ControlServiceOptions;
  readonly #after: After;
  readonly #outbox: Outbox;
  readonly #queue = new FairQueue();
  readonly #members: MembersWatch;
  readonly #sessions = new Map<NodeId, SessionPeer>();
  readonly #publicKey: Uint8Array;
  #cluster: string | undefined;
  #term: Term | undefined;
  #context: CallContext | undefined;
  #ticker: NodeJS.Timeout | undefined;
  #callOffReload = (): void => undefined;
  #closed = false;

  constructor(options: ControlServiceOptions) {
    this.#options = options;
    this.#after = options.after ?? afterTimer;
    this.#outbox = new Outbox(options.links, this.#after);
    this.#members = new MembersWatch(options.store, options.logger, this.#after);
    this.#publicKey = rawPublicKey(createPublicKey(options.signingKey));
  }

  /** Takes part in elections and answers. To be called once. */
  start(): void {
    this.#members.start();
    this.#options.leadership.start({
      onElected: (term) => {
        this.#term = term;
        void this.#load(term);
      },
      onDeposed: () => {
        this.#term = undefined;
        this.#drop(this.#notLeading());
      },
    });
    this.#ticker = setInterval(() => this.tick(), TICK_MS);
  }

  /** Ends it: what waits is refused. Leadership and store are the caller's to close. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#ticker);
    this.#callOffReload();
    this.#members.close();
    this.#drop(new MemcloudError('ERR_CANCELLED', 'this control node shuts down; ask again'));
    await Promise.resolve();
  }

  /** Deals with all that time brings; `start` has it called four times a second. */
  tick(): void {
    this.#context?.leader.tick();
  }

  /** Calls `listener` with all members, when they were read and on every change. @returns a function that ends it */
  onMembers(listener: (members: readonly Member[]) => void): () => void {
    return this.#members.onChange((members) => {
      listener(
        members.map(({ publicKey, pattern, nodeId, name, roles }) => ({
          ...{ publicKey, pattern, nodeId, name, roles },
        })),
      );
    });
  }

  // --- Sessions -----------------------------------------------------------------------------------

  /** A session with a node begins. @param address - `HOST:PORT` that it comes from */
  peerUp(nodeId: NodeId, publicKey: Uint8Array, name: string, address: string): void {
    const key = Buffer.from(publicKey).toString('hex');
    this.#sessions.set(nodeId, { publicKey: key, name, host: hostOfAddress(address) });
    this.#bind(nodeId);
  }

  /** The last session with a node has ended. */
  peerDown(nodeId: NodeId): void {
    this.#sessions.delete(nodeId);
    this.#context?.leader.do((state, nowMs) => providerLost(state, nowMs, nodeId));
  }

  #bind(nodeId: NodeId): void {
    const session = this.#sessions.get(nodeId);
    const leader = this.#context?.leader;
    if (session === undefined || leader === undefined) return;
    const member = leader.state.memberOf(nodeId);
    if (member === undefined || (member.nodeId !== '' && member.publicKey !== '')) return;
    leader.do((state) => bindMember(state, nodeId, session.publicKey, session.name));
  }

  // --- Calls --------------------------------------------------------------------------------------

  /** Answers a call of a member: `ManagedService` of `common/managed.ts`. */
  async serveManaged(from: NodeId, body: Buffer): Promise<Uint8Array> {
    try {
      const decoded = decodeManagedCall(body);
      const result = await this.#serve(from, decoded);
      return encodeManagedResult(decoded.call, result);
    } catch (error) {
      const problem = asMemcloudError(error);
      if (problem.code === 'ERR_INTERNAL') {
        this.#options.logger.error({ from, error: problem.message }, 'a managed call failed');
      }
      return encodeManagedError(problem);
    }
  }

  /**
   * Makes a call as an admin on this machine. Between two terms it waits for the next, 5 s at most.
   *
   * @throws MemcloudError the refusal
   */
  async call<C extends ManagedCall>(call: C, params: ManagedParams<C>): Promise<ManagedResult<C>> {
    // The same check of the parameters as for a call that comes from afar.
    const decoded = decodeManagedCall(encodeManagedCall(call, params));
    if (call !== 'control.hello') await this.#untilLed();
    const { nodeId } = this.#options;
    return this.#serve(nodeId, decoded, true);
  }

  /** Waits, a bounded time, while nobody is known to lead, or this node leads and has yet to read its store. */
  async #untilLed(): Promise<void> {
    const { leadership, nodeId, clock } = this.#options;
    const isUnsettled = (): boolean => {
      const leading = leadership.leader?.nodeId ?? nodeId;
      return !this.#closed && this.#context === undefined && leading === nodeId;
    };
    const untilMs = clock.nowMs() + LEADER_WAIT_MS;
    while (isUnsettled() && clock.nowMs() < untilMs) {
      await new Promise<void>((resolve) => this.#after(LEADER_LOOK_MS, resolve));
    }
  }

  async #serve(
    from: NodeId,
    { call, params }: DecodedCall,
    isLocal = false,
  ): Promise<ManagedResult<ManagedCall>> {
    if (call === 'control.hello') return this.#hello(from, isLocal);
    const handler = LEADER_CALLS[call] as Handler<ManagedCall> | undefined;
    if (handler === undefined) {
      throw new MemcloudError('ERR_UNSUPPORTED', `a control node does not answer ${call}`);
    }
    const context = this.#context;
    if (context === undefined) throw this.#notLeading();
    if (!isLocal) this.#bind(from);
    const wanted = rolesOf(call);
    const roles: readonly string[] = isLocal
      ? ['admin']
      : (context.leader.state.memberOf(from)?.roles ?? []);
    if (!wanted.some((role) => roles.includes(role))) {
      const is = roles.length === 0 ? 'no member here' : roles.join(' and ');
      throw new MemcloudError(
        'ERR_CONTROL_DENIED',
        `${call} is for the role ${wanted.join(' or ')}, and this node is ${is}; ask an admin`,
      );
    }
    return handler(context, from, params);
  }

  async #hello(from: NodeId, isLocal: boolean): Promise<ManagedResult<'control.hello'>> {
    const { store, nodeId, name, leadership } = this.#options;
    this.#cluster ??= await clusterId(store);
    const { leader } = leadership;
    const own = this.#context?.leader;
    const member = own === undefined ? this.#followed(from) : own.state.memberOf(from);
    return {
      cluster: this.#cluster,
      controlNode: nodeId,
      name,
      leads: own !== undefined,
      leader: leader?.nodeId ?? null,
      epoch: own?.epoch ?? leader?.epoch ?? 0,
      roles: isLocal ? ['admin'] : [...(member?.roles ?? [])],
      quotaBytes: member?.quotaBytes ?? null,
    };
  }

  /** A member as a follower knows it. */
  #followed(nodeId: NodeId): MemberRecord | undefined {
    const words = fingerprintOf(nodeId);
    return this.#members.list.find(({ id }) => id === nodeId || id === words);
  }

  #notLeading(): MemcloudError {
    const { leadership, nodeId, name } = this.#options;
    const { leader } = leadership;
    let why = 'no control node leads at the moment; ask again in a few seconds';
    if (leader?.nodeId === nodeId) why = `${name} leads and reads its store; ask again in a moment`;
    else if (leader !== undefined)
      why = `${name} does not lead; ${leader.name} (${leader.nodeId}) does`;
    return new MemcloudError('ERR_CONTROL_NOT_LEADER', why);
  }

  // --- Terms --------------------------------------------------------------------------------------

  #drop(error: MemcloudError): void {
    this.#context?.leader.close(error);
    this.#context = undefined;
  }

  async #load(term: Term): Promise<void> {
    const { store, logger, nodeId, name, address, clock, random, signingKey } = this.#options;
    const isOver = (): boolean => this.#closed || this.#term !== term;
    if (isOver()) return;
    try {
      this.#cluster ??= await clusterId(store);
      const loaded = await loadState(store);
      if (isOver()) return;
      const leader = new Leader({
        ...{ store, term, nodeId, name, loaded, clock, random, logger },
        outbox: this.#outbox,
        sessions: this.#sessions,
        after: this.#after,
        onFailed: (error) => this.#failed(term, error),
      });
      this.#context = {
        ...{ leader, store, name, address },
        outbox: this.#outbox,
        queue: this.#queue,
        sessions: this.#sessions,
        key: { nodeId, privateKey: signingKey },
        publicKey: this.#publicKey,
        cluster: this.#cluster,
        granting: new Map(),
      };
      for (const peer of this.#sessions.keys()) this.#bind(peer);
    } catch (error) {
      this.#failed(term, asMemcloudError(error));
    }
  }

  /** What is in memory is dropped; while the term holds the store is read again. */
  #failed(term: Term, error: MemcloudError): void {
    if (this.#term !== term || this.#closed) return;
    this.#options.logger.warn(
      { error: error.message },
      'the state of the control plane is read anew',
    );
    this.#drop(error);
    this.#callOffReload();
    this.#callOffReload = this.#after(RELOAD_MS, () => void this.#load(term));
  }
}
