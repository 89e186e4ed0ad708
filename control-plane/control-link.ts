/**
 * This node's way to its control plane, whichever control node leads: it keeps looking for the leader
 * among those that answer at the configured addresses, and calls it (control-link-machine.ts decides; here
 * are the links, the timer and the promises). Who answers at an address proved the key that is configured
 * for it; where none is, a key that this node trusts, and it shows that it is a control node by answering
 * for the same control plane as the one heard of first.
 *
 * A call whose answer was lost is made again, and may be executed twice: `lease.request` has its
 * `requestId` for that, all others but those that are made only once say what is to be, not by how much to change it.
 */
import type { Clock } from '../common/clock.ts';
import type { ControlTarget } from '../common/control-target.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { ManagedLink, ManagedLinks, MemberRole } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { everyTick, type Tick } from '../common/ticker.ts';
import {
  ControlLinkMachine,
  type CallEnd,
  type Leader,
  type LinkAction,
} from './control-link-machine.ts';
import { decodeManagedReply, encodeManagedCall } from './messages.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from './schema.ts';

/** Longest time of a call unless its caller says otherwise, milliseconds. */
export const CALL_TIMEOUT_MS = 8_000;
const TICK_MS = 100;

/** What it is made of. */
export interface ControlLinkOptions {
  /** The ways to ask peers; its owner keeps the addresses connected. */
  readonly links: ManagedLinks;
  /** Every control node. */
  readonly targets: readonly ControlTarget[];
  /** The clock of deadlines. */
  readonly clock: Clock;
  /** Where events are noted. */
  readonly logger: Logger;
}

interface Waiting {
  readonly body: Uint8Array;
  readonly abort: AbortController;
  readonly settle: (reply: Buffer) => void;
  readonly reject: (error: MemcloudError) => void;
}

/** See the top of the file. */
export class ControlLink {
  readonly #options: ControlLinkOptions;
  readonly #machine = new ControlLinkMachine();
  readonly #calls = new Map<number, Waiting>();
  readonly #listeners = new Set<() => void>();
  readonly #timer: Tick;
  readonly #stopListening: () => void;
  #nextId = 1;
  #closed = false;

  constructor(options: ControlLinkOptions) {
    this.#options = options;
    this.#stopListening = options.links.onChange(({ nodeId }) => {
      this.#machine.sessionChanged(nodeId, this.#nowMs());
      this.#look();
    });
    this.#timer = everyTick(TICK_MS, () => this.#look());
    this.#look();
  }

  /** The leader, while one is known and connected. */
  get leader(): Leader | undefined {
    return this.#machine.leader;
  }

  /** Names the control plane; empty until it was heard of. */
  get cluster(): string {
    return this.#machine.cluster;
  }

  /** What this node is there, by the leader's word. */
  get roles(): readonly MemberRole[] {
    return this.#machine.roles;
  }

  /** Milliseconds since a leader answered last; null: never. */
  get heardMsAgo(): number | null {
    const { heardAtMs } = this.#machine;
    return heardAtMs === undefined ? null : Math.max(0, this.#nowMs() - heardAtMs);
  }

  /** Whether a node answered at one of the configured addresses, for the control plane of this node. */
  isControlNode(nodeId: NodeId): boolean {
    return this.#machine.isControlNode(nodeId);
  }

  /**
   * Calls `listener` when a leader answers after none did, or another one, or over a new session.
   *
   * @returns a function that ends it
   */
  onLeader(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Makes a call to the leader.
   *
   * @param options - `timeoutMs`: longest time in all, by default 8 s
   * @throws MemcloudError the leader's refusal; `ERR_CONTROL_UNREACHABLE` when none answers in time, or an
   *   answer was lost of a call that is made once; `ERR_CONTROL_PROTOCOL`, `ERR_CANCELLED`
   */
  async call<C extends ManagedCall>(
    call: C,
    params: ManagedParams<C>,
    options: { signal?: AbortSignal; timeoutMs?: number } = {},
  ): Promise<ManagedResult<C>> {
    const { signal, timeoutMs = CALL_TIMEOUT_MS } = options;
    const body = encodeManagedCall(call, params);
    if (this.#closed || signal?.aborted === true) throw cancelled(call);
    const id = this.#nextId;
    this.#nextId += 1;
    const abort = new AbortController();
    const cancel = (): void => {
      this.#end(id)?.reject(cancelled(call));
    };
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        const settle = (reply: Buffer): void => resolve(decodeManagedReply(call, reply));
        this.#calls.set(id, { body, abort, settle, reject });
        const nowMs = this.#nowMs();
        this.#run(this.#machine.add(id, call, nowMs + timeoutMs, nowMs));
      });
    } finally {
      signal?.removeEventListener('abort', cancel);
      this.#end(id);
    }
  }

  /** Ends it: calls that wait are cancelled. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer.stop();
    this.#stopListening();
    this.#listeners.clear();
    for (const id of [...this.#calls.keys()]) this.#end(id)?.reject(cancelled('a call'));
  }

  // --- Links ---------------------------------------------------------------------------------------

  #nowMs(): number {
    return this.#options.clock.nowMs();
  }

  /** Looks who is connected, and does what is due. */
  #look(): void {
    const links = new Map<NodeId, ManagedLink>();
    for (const { address, fits } of this.#options.targets) {
      const link = this.#options.links.at(address);
      if (link !== undefined && (fits?.(link.nodeId) ?? true)) links.set(link.nodeId, link);
    }
    const seen = [...links.values()].map(({ nodeId, name, up }) => ({ nodeId, name, up }));
    const nowMs = this.#nowMs();
    this.#run(this.#machine.observe(seen, nowMs));
    this.#run(this.#machine.tick(nowMs));
  }

  #run(actions: readonly LinkAction[]): void {
    for (const action of actions) {
      if (this.#closed) return;
      switch (action.do) {
        case 'hello':
          void this.#hello(action.nodeId, action.attempt);
          break;
        case 'send':
          void this.#send(action.id, action.nodeId);
          break;
        case 'fail':
          this.#end(action.id)?.reject(this.#failure(action.why, action.refusal));
          break;
        case 'tell-leader':
          this.#tellLeader();
          break;
        case 'warn-cluster':
          this.#options.logger.error(
            { nodeId: action.nodeId },
            'a control node answers for another control plane than before, and is not listened to; if it ' +
              'was made anew, restart memnode',
          );
          break;
      }
    }
  }

  async #hello(nodeId: NodeId, attempt: number): Promise<void> {
    const machine = this.#machine;
    try {
      const reply = await this.#request(nodeId, encodeManagedCall('control.hello', {}));
      const hello = decodeManagedReply('control.hello', reply);
      this.#run(machine.onHello(nodeId, attempt, hello, this.#nowMs()));
    } catch (error) {
      const failure = asMemcloudError(error);
      this.#run(machine.onHelloFailed(nodeId, attempt, failure, this.#nowMs()));
    }
  }

  async #send(id: number, nodeId: NodeId): Promise<void> {
    const call = this.#calls.get(id);
    if (call === undefined) return;
    let reply: Buffer;
    try {
      reply = await this.#request(nodeId, call.body, call.abort.signal);
    } catch {
      return this.#run(this.#machine.onLost(id, this.#nowMs()));
    }
    try {
      call.settle(reply);
      this.#machine.onAnswered(id, this.#nowMs());
    } catch (error) {
      const refusal = asMemcloudError(error);
      const actions = this.#machine.onRefused(id, refusal, this.#nowMs());
      if (actions === undefined) this.#end(id)?.reject(refusal);
      else this.#run(actions);
    }
  }

  #request(nodeId: NodeId, body: Uint8Array, signal?: AbortSignal): Promise<Buffer> {
    const link = this.#options.links.find(nodeId);
    if (link !== undefined) return link.request(body, signal);
    return Promise.reject(new MemcloudError('ERR_PEER_UNREACHABLE', 'it is not connected'));
  }

  // --- Ends ----------------------------------------------------------------------------------------

  /** Takes a call off the books: what comes of it is dropped. */
  #end(id: number): Waiting | undefined {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    this.#machine.remove(id);
    call?.abort.abort();
    return call;
  }

  #tellLeader(): void {
    const { leader } = this;
    if (leader === undefined) return;
    this.#options.logger.info({ ...leader }, 'a control node leads');
    for (const listener of [...this.#listeners]) listener();
  }

  #failure(why: CallEnd, refusal: MemcloudError | undefined): MemcloudError {
    if (refusal !== undefined) return refusal;
    const at = this.#options.targets.map(({ address }) => address).join(', ');
    const goOn = 'leases that run go on to their end';
    const texts: Readonly<Record<CallEnd, string>> = {
      unreachable: `no control node answers at ${at}; ${goOn}`,
      'no-leader': `the control nodes at ${at} answer, and none of them leads; ${goOn}`,
      lost: 'the control node that leads was lost before it answered; whether it did what was asked is not known',
      full: 'too many calls to the control plane wait already; try again later',
      refused: `the control nodes at ${at} refuse this node`,
    };
    return new MemcloudError('ERR_CONTROL_UNREACHABLE', texts[why]);
  }
}

function cancelled(what: string): MemcloudError {
  return new MemcloudError('ERR_CANCELLED', `${what}: cancelled`);
}
