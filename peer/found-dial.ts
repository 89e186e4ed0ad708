/**
 * One attempt to reach a node that was found, by whatever means. It is made once: who found the node
 * knows whether it is still there, and says when to try again. It never lifts a disconnect that an
 * operator asked for; only an operator does.
 */
import type { MemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';
import type { DialState } from './dialer.ts';

/** How such an attempt ended. */
export type FoundDialEnd =
  /** A session with the node lives, whoever dialled. */
  | 'up'
  /** Another key answered than that of the node, or what answered is no node. */
  | 'impostor'
  /** One side does not trust the other, or nobody said so in time. */
  | 'refused'
  /** Nobody answered, or not to the end. */
  | 'unreachable';

/** Whom to dial. */
export interface FoundNode {
  /** `HOST:PORT`. */
  readonly address: string;
  /** The node that is said to be there: another key does not count; undefined when nobody said. */
  readonly nodeId: NodeId | undefined;
}

/** How this node stands with another one. */
export type Standing =
  /** A session lives. */
  | 'up'
  /** A human, here or there, is being asked. */
  | 'pending'
  /** A connection is being made. */
  | 'connecting'
  /** Denied here, or disconnected by an operator. */
  | 'barred'
  /** None of these. */
  | 'down';

const IMPOSTOR_CODES: readonly string[] = [
  ...['ERR_PEER_KEY_CHANGED', 'ERR_PEER_HANDSHAKE'],
  ...['ERR_PEER_AUTHENTICATION', 'ERR_PEER_PROTOCOL'],
];

/** How an attempt ended that failed so. */
export function foundDialEnd({ code }: MemcloudError): FoundDialEnd {
  if (IMPOSTOR_CODES.includes(code)) return 'impostor';
  return code === 'ERR_PEER_UNTRUSTED' ? 'refused' : 'unreachable';
}

/** One attempt. */
export class FoundDial implements FoundNode {
  readonly address: string;
  /** The node that is expected, or that answered. */
  nodeId: NodeId | undefined;
  /** Why it failed. */
  lastError: MemcloudError | undefined;
  /** It is made once: nobody waits to dial again. */
  readonly waitMs = undefined;
  readonly #onEnded: (end: FoundDialEnd, nodeId: NodeId | undefined) => void;
  #state: DialState = 'connecting';

  /** @param onEnded - called once, with the node that answered if one did */
  constructor(
    { address, nodeId }: FoundNode,
    onEnded: (end: FoundDialEnd, nodeId: NodeId | undefined) => void,
  ) {
    this.address = address;
    this.nodeId = nodeId;
    this.#onEnded = onEnded;
  }

  /** Where it stands. */
  get state(): DialState {
    return this.#state;
  }

  /** The connection waits for a human. */
  onPending(): void {
    if (this.#state === 'connecting') this.#state = 'pending';
  }

  /** It became a session, or the node has one already. */
  onUp(nodeId: NodeId): void {
    this.nodeId = nodeId;
    this.#end('up', 'up');
  }

  /** The connection failed before it was a session. */
  onFailed(error: MemcloudError): void {
    this.lastError = error;
    this.#end('stopped', foundDialEnd(error));
  }

  #end(state: 'up' | 'stopped', end: FoundDialEnd): void {
    if (this.#state === 'up' || this.#state === 'stopped') return;
    this.#state = state;
    this.#onEnded(end, this.nodeId);
  }
}
