/** What the calls of one term are answered with. */
import type { KeyObject } from 'node:crypto';
import type { NodeId } from '../common/ports.ts';
import type { SigningKey } from '../common/signatures.ts';
import type { Decision } from './decision.ts';
import type { FairQueue } from './fair-queue.ts';
import type { Leader, SessionPeer } from './leader.ts';
import type { LedgerState } from './ledger-state.ts';
import type { MetaStore } from './meta-store.ts';
import type { Outbox } from './outbox.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from './schema.ts';

/** See the top of the file. */
export interface CallContext {
  readonly leader: Leader;
  readonly store: MetaStore;
  readonly outbox: Outbox;
  /** Whose turn it is. */
  readonly queue: FairQueue;
  readonly sessions: ReadonlyMap<NodeId, SessionPeer>;
  /** Of this node. */
  readonly key: SigningKey;
  readonly publicKey: Uint8Array;
  readonly name: string;
  /** Where other nodes reach it. */
  readonly address: () => string;
  readonly cluster: string;
  /** Requests for leases that are being granted, by their id. */
  readonly granting: Map<string, Promise<unknown>>;
}

/** Answers one call of a node that may make it. */
export type Handler<C extends ManagedCall> = (
  context: CallContext,
  from: NodeId,
  params: ManagedParams<C>,
) => Promise<ManagedResult<C>>;

/** Decides when it is the node's turn. */
export function decideFor<T>(
  { queue, leader }: CallContext,
  from: NodeId,
  make: (state: LedgerState, nowMs: number) => Decision<T>,
): Promise<T> {
  return queue.run(from, () => leader.decide(make));
}

/** The raw public half of an Ed25519 key, 32 bytes. */
export function rawPublicKey(publicKey: KeyObject): Uint8Array {
  return Buffer.from(String(publicKey.export({ format: 'jwk' }).x), 'base64url');
}
