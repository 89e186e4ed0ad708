/**
 * Finds the leader among the control nodes of a node's configuration, and decides what becomes of the calls
 * to it. Each control node is asked who leads (`control.hello`): often while nobody does, else now and then,
 * and at once when its session is new. A call goes to the leader; it waits while there is none, and is made
 * again when the one that was asked leads no more, until its deadline.
 *
 * A call whose answer was lost may have been executed. Calls of which that can be told apart, or which
 * change nothing that the first one did not, are made again; those of {@link CALLS_MADE_ONCE} are not.
 * Pure: time comes as an argument, what is to be done goes back as actions.
 */
import type { MemcloudError } from '../common/errors.ts';
import type { MemberRole } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import type { ManagedCall, ManagedResult } from './schema.ts';

/** Calls that are never made twice: their caller has to see that the answer was lost. */
const CALLS_MADE_ONCE: ReadonlySet<ManagedCall> = new Set<ManagedCall>([
  // Comes in parts, all to one leader.
  'provider.register',
  // Answered with yes once for each token.
  'provider.redeem',
  // A second one would answer that there was nothing to do.
  'admin.member-remove',
  'admin.revoke',
]);

/** How often control nodes are asked while none leads, milliseconds. */
export const SEARCH_INTERVAL_MS = 500;
/** How often while one does, milliseconds. */
export const HELLO_INTERVAL_MS = 5_000;
/** Longest wait for the answer to a hello, milliseconds. */
export const HELLO_TIMEOUT_MS = 3_000;
/** A node that others name as the leader is asked sooner, but not more often than this, milliseconds. */
export const NAMED_INTERVAL_MS = 100;
/** First wait before a call is made again, milliseconds; it doubles. */
export const RETRY_MIN_MS = 50;
/** Longest, milliseconds. */
export const RETRY_MAX_MS = 500;
/** Calls that wait or are under way at most; beyond, one fails at once. */
export const CALL_COUNT_MAX = 1024;

/** A control node that is connected, or was. */
export interface SeenNode {
  readonly nodeId: NodeId;
  readonly name: string;
  readonly up: boolean;
}

/** The leader. */
export interface Leader {
  readonly nodeId: NodeId;
  readonly name: string;
  readonly epoch: number;
}

/** What is to be done. */
export type LinkAction =
  | { readonly do: 'hello'; readonly nodeId: NodeId; readonly attempt: number }
  | { readonly do: 'send'; readonly id: number; readonly nodeId: NodeId }
  /** The call ends; with `refusal`, what a control node said last of it or of this node. */
  | {
      readonly do: 'fail';
      readonly id: number;
      readonly why: CallEnd;
      readonly refusal?: MemcloudError;
    }
  /** There is a leader, another one, or its session is new. */
  | { readonly do: 'tell-leader' }
  /** A node answers for another control plane than the one that was heard of first. */
  | { readonly do: 'warn-cluster'; readonly nodeId: NodeId };

/** Why a call ends without an answer. */
export type CallEnd =
  /** No control node is connected, or none answers. */
  | 'unreachable'
  /** Some answer, and none of them leads. */
  | 'no-leader'
  /** It was sent once, and its answer was lost. */
  | 'lost'
  /** Too many others wait. */
  | 'full'
  /** Every control node that answers refuses this node. */
  | 'refused';

type Hello = ManagedResult<'control.hello'>;

interface Node {
  name: string;
  up: boolean;
  /** Counts the questions, so that a late answer is known as one. */
  attempt: number;
  /** When the question under way was asked. */
  askedAtMs: number | undefined;
  askAtMs: number;
  /** When it was asked last. */
  lastAskedAtMs: number;
  hello: Hello | undefined;
  refusal: MemcloudError | undefined;
  /** It answered for our control plane, on some session. */
  isProved: boolean;
  warned: boolean;
}

interface Call {
  readonly isOnce: boolean;
  readonly deadlineMs: number;
  /** Where it was sent; undefined while it waits. */
  sentTo: NodeId | undefined;
  sendAtMs: number;
  failures: number;
  refusal: MemcloudError | undefined;
}

/** See the top of the file. */
export class ControlLinkMachine {
  /** Names the control plane; empty until one answered. */
  cluster = '';
  /** When a leader answered anything last. */
  heardAtMs: number | undefined;
  readonly #nodes = new Map<NodeId, Node>();
  readonly #calls = new Map<number, Call>();
  #leader: Leader | undefined;
  #epochMax = 0;

  /** The leader, while one is known and connected. */
  get leader(): Leader | undefined {
    return this.#leader;
  }

  /** What this node is at the control plane, by the leader's word. */
  get roles(): readonly MemberRole[] {
    return this.#nodes.get(this.#leader?.nodeId ?? '')?.hello?.roles ?? [];
  }

  /** Calls that wait or are under way. */
  get callCount(): number {
    return this.#calls.size;
  }

  /** Whether a node answered for our control plane at an address that is still its. */
  isControlNode(nodeId: NodeId): boolean {
    return this.#nodes.get(nodeId)?.isProved ?? false;
  }

  // --- Control nodes -------------------------------------------------------------------------------

  /** The nodes at the configured addresses, as they are now. */
  observe(seen: readonly SeenNode[], nowMs: number): LinkAction[] {
    const ids = new Set(seen.map(({ nodeId }) => nodeId));
    for (const nodeId of [...this.#nodes.keys()]) {
      if (!ids.has(nodeId)) this.#drop(nodeId);
    }
    for (const { nodeId, name, up } of seen) {
      const node = this.#nodes.get(nodeId) ?? newNode(nowMs);
      this.#nodes.set(nodeId, node);
      node.name = name;
      if (node.up === up) continue;
      node.up = up;
      this.#forget(nodeId, node, nowMs);
    }
    return this.#advance(nowMs);
  }

  /** A session with a node has begun or ended: what it said belongs to the one before. */
  sessionChanged(nodeId: NodeId, nowMs: number): void {
    const node = this.#nodes.get(nodeId);
    if (node !== undefined) this.#forget(nodeId, node, nowMs);
  }

  /** A hello was answered. */
  onHello(nodeId: NodeId, attempt: number, hello: Hello, nowMs: number): LinkAction[] {
    const node = this.#answered(nodeId, attempt);
    if (node === undefined) return [];
    if (this.cluster !== '' && hello.cluster !== this.cluster) {
      this.#lose(nodeId);
      if (node.warned) return [];
      node.warned = true;
      return [{ do: 'warn-cluster', nodeId }];
    }
    this.cluster = hello.cluster;
    node.isProved = true;
    node.hello = hello;
    node.refusal = undefined;
    this.#epochMax = Math.max(this.#epochMax, hello.epoch);
    if (hello.leads) this.heardAtMs = nowMs;
    // Whoever is said to lead is asked itself, if it did not just answer.
    const named = hello.leader === null ? undefined : this.#nodes.get(hello.leader);
    if (named !== undefined && named !== node && named.hello?.leads !== true) {
      named.askAtMs = Math.min(named.askAtMs, named.lastAskedAtMs + NAMED_INTERVAL_MS);
    }
    return [...this.#elect(), ...this.#advance(nowMs)];
  }

  /** A hello was not answered, or with an error. */
  onHelloFailed(
    nodeId: NodeId,
    attempt: number,
    error: MemcloudError,
    nowMs: number,
  ): LinkAction[] {
    const node = this.#answered(nodeId, attempt);
    if (node === undefined) return [];
    node.hello = undefined;
    node.refusal = error.code === 'ERR_CONTROL_DENIED' ? error : undefined;
    this.#lose(nodeId);
    return this.#advance(nowMs);
  }

  // --- Calls ---------------------------------------------------------------------------------------

  /** A call that is to be made. @param id - never used before */
  add(id: number, call: ManagedCall, deadlineMs: number, nowMs: number): LinkAction[] {
    if (this.#calls.size >= CALL_COUNT_MAX) return [{ do: 'fail', id, why: 'full' }];
    const isOnce = CALLS_MADE_ONCE.has(call);
    const fresh = { sentTo: undefined, sendAtMs: nowMs, failures: 0, refusal: undefined };
    this.#calls.set(id, { isOnce, deadlineMs, ...fresh });
    return this.#advance(nowMs);
  }

  /** A call was answered. */
  onAnswered(id: number, nowMs: number): void {
    this.#calls.delete(id);
    this.heardAtMs = nowMs;
  }

  /** A call is over for its caller. */
  remove(id: number): void {
    this.#calls.delete(id);
  }

  /** No answer came to a call. */
  onLost(id: number, nowMs: number): LinkAction[] {
    const call = this.#calls.get(id);
    if (call?.sentTo === undefined) return [];
    this.#suspect(call.sentTo, nowMs);
    if (!call.isOnce) return this.#retry(call, undefined, nowMs);
    this.#calls.delete(id);
    return [{ do: 'fail', id, why: 'lost' }, ...this.#advance(nowMs)];
  }

  /**
   * A call was refused: because there is no leader where it came to, or no store, or for what it says.
   *
   * @returns undefined when that is its end, and the refusal its caller's
   */
  onRefused(id: number, refusal: MemcloudError, nowMs: number): LinkAction[] | undefined {
    const call = this.#calls.get(id);
    if (call?.sentTo === undefined) return [];
    if (refusal.code === 'ERR_CONTROL_NOT_LEADER') {
      this.#suspect(call.sentTo, nowMs);
      return this.#retry(call, undefined, nowMs);
    }
    this.heardAtMs = nowMs;
    // What it asked for may be in the store all the same.
    const mayRetry = refusal.code === 'ERR_CONTROL_STORE' && !call.isOnce;
    return mayRetry ? this.#retry(call, refusal, nowMs) : undefined;
  }

  #retry(call: Call, refusal: MemcloudError | undefined, nowMs: number): LinkAction[] {
    call.refusal = refusal;
    call.sentTo = undefined;
    call.sendAtMs = nowMs + Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** call.failures);
    call.failures += 1;
    return this.#advance(nowMs);
  }

  // --- Time ----------------------------------------------------------------------------------------

  /** To be called often. */
  tick(nowMs: number): LinkAction[] {
    for (const [nodeId, node] of this.#nodes) {
      if (node.askedAtMs === undefined || nowMs - node.askedAtMs < HELLO_TIMEOUT_MS) continue;
      node.askedAtMs = undefined;
      node.hello = undefined;
      this.#lose(nodeId);
    }
    return this.#advance(nowMs);
  }

  /** Asks, sends and gives up what is due. */
  #advance(nowMs: number): LinkAction[] {
    const actions: LinkAction[] = [];
    for (const [nodeId, node] of this.#nodes) {
      if (!node.up || node.askedAtMs !== undefined || node.askAtMs > nowMs) continue;
      node.askedAtMs = node.lastAskedAtMs = nowMs;
      node.attempt += 1;
      node.askAtMs = nowMs + (this.#leader === undefined ? SEARCH_INTERVAL_MS : HELLO_INTERVAL_MS);
      actions.push({ do: 'hello', nodeId, attempt: node.attempt });
    }
    const refusal = this.#refusedByAll();
    for (const [id, call] of this.#calls) {
      if (call.deadlineMs <= nowMs) {
        this.#calls.delete(id);
        const answered = [...this.#nodes.values()].some(({ hello }) => hello !== undefined);
        const why = answered ? 'no-leader' : 'unreachable';
        actions.push({ do: 'fail', id, why, ...(call.refusal && { refusal: call.refusal }) });
      } else if (call.sentTo === undefined && refusal !== undefined) {
        this.#calls.delete(id);
        actions.push({ do: 'fail', id, why: 'refused', refusal });
      } else if (call.sentTo === undefined && this.#leader && call.sendAtMs <= nowMs) {
        call.sentTo = this.#leader.nodeId;
        actions.push({ do: 'send', id, nodeId: this.#leader.nodeId });
      }
    }
    return actions;
  }

  // --- Who leads -----------------------------------------------------------------------------------

  #elect(): LinkAction[] {
    let best: Leader | undefined;
    for (const [nodeId, { name, up, hello }] of this.#nodes) {
      if (!up || hello?.leads !== true || hello.epoch < this.#epochMax) continue;
      if (best === undefined || hello.epoch > best.epoch) {
        best = { nodeId, name, epoch: hello.epoch };
      }
    }
    const before = this.#leader;
    this.#leader = best;
    if (best === undefined) {
      if (before !== undefined) this.#search();
      return [];
    }
    const isSame = before?.nodeId === best.nodeId && before.epoch === best.epoch;
    return isSame ? [] : [{ do: 'tell-leader' }];
  }

  /** Everybody is asked soon. */
  #search(): void {
    for (const node of this.#nodes.values()) node.askAtMs = Math.min(node.askAtMs, 0);
  }

  /** A node does not lead, as far as we know. */
  #lose(nodeId: NodeId): void {
    if (this.#leader?.nodeId !== nodeId) return;
    this.#leader = undefined;
    this.#search();
  }

  /** A call to a node failed: it is asked again, and led no more unless it says so then. */
  #suspect(nodeId: NodeId, nowMs: number): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined || this.#leader?.nodeId !== nodeId) return;
    this.#forget(nodeId, node, nowMs);
    // Not at once: who is deposed says so for a while, and a dead one is no faster for being asked.
    node.askAtMs = nowMs + RETRY_MIN_MS;
  }

  #forget(nodeId: NodeId, node: Node, nowMs: number): void {
    node.hello = undefined;
    node.refusal = undefined;
    node.askedAtMs = undefined;
    node.attempt += 1;
    node.askAtMs = nowMs;
    this.#lose(nodeId);
  }

  #drop(nodeId: NodeId): void {
    this.#nodes.delete(nodeId);
    this.#lose(nodeId);
  }

  #answered(nodeId: NodeId, attempt: number): Node | undefined {
    const node = this.#nodes.get(nodeId);
    if (node === undefined || node.attempt !== attempt || node.askedAtMs === undefined) return;
    node.askedAtMs = undefined;
    return node;
  }

  /** What all say that answer, if none of them takes this node for a member. */
  #refusedByAll(): MemcloudError | undefined {
    const up = [...this.#nodes.values()].filter((node) => node.up);
    const all = up.length > 0 && up.every(({ refusal }) => refusal !== undefined);
    return all ? up[0]?.refusal : undefined;
  }
}

function newNode(nowMs: number): Node {
  const nothing = { askedAtMs: undefined, hello: undefined, refusal: undefined };
  const node = { name: '', up: false, attempt: 0, askAtMs: nowMs, ...nothing };
  const never = { lastAskedAtMs: -Infinity };
  return { ...node, ...never, isProved: false, warned: false };
}
