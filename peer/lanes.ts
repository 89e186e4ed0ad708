/**
 * The sessions of other nodes' lanes (docs/peer-protocol.md section 8): processes with the identity of a
 * node that borrow for themselves, such as a mount. To them this node is a provider and nothing else: it
 * serves each as a holder of its own and asks it for nothing but `recall-room`. A lane comes and goes
 * without touching the session of its node, and ends with its node's trust.
 */
import type { Clock } from '../common/clock.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import { sessionHolder } from '../common/holder.ts';
import type { Logger } from '../common/log.ts';
import type { NodeId, SlabProvider } from '../common/ports.ts';
import type { MemcloudError } from '../common/errors.ts';
import type { Established } from './connection-context.ts';
import { ByeReason, LANE_COUNT_MAX, type ByeReasonValue } from './constants.ts';
import type { KeepaliveLimits } from './keepalive-machine.ts';
import { Session, type SessionClient } from './session.ts';

/** A lane lends nothing: there is nobody to tell of its pages and its room. */
const NO_CLIENT: SessionClient = {
  onPagesRead: () => undefined,
  onPagesDone: () => undefined,
  onCredit: () => undefined,
  onUsage: () => undefined,
  onLeasesEnded: () => undefined,
  onLeasesRecalled: () => undefined,
  onAccepting: () => undefined,
};

/** What lanes are served with. */
export interface LanesOptions {
  /** What we lend; undefined for nothing. */
  readonly provider: SlabProvider | undefined;
  /** The clock of deadlines. */
  readonly clock: Clock;
  /** When to ping and to give up. */
  readonly keepalive: KeepaliveLimits;
  /** Longest wait for a reply, milliseconds. */
  readonly requestTimeoutMs: number;
  /** Keeps the event loop awake between requests and replies. */
  readonly spin: EventLoopSpin | undefined;
  /** Where events are noted. */
  readonly logger: Logger;
  /** A session is over. */
  readonly onEnded: (session: Session) => void;
  /** The node broke the protocol. */
  readonly onBreach: (session: Session, error: MemcloudError) => void;
}

/** The lanes of all nodes. */
export class Lanes {
  readonly #options: LanesOptions;
  readonly #sessions = new Map<NodeId, Map<string, Session>>();

  constructor(options: LanesOptions) {
    this.#options = options;
  }

  /**
   * Takes a connection on a lane that both sides accepted. A newer one of a lane replaces the older.
   *
   * @returns its session; undefined when the node has {@link LANE_COUNT_MAX} others
   */
  take(established: Established): Session | undefined {
    const { provider, clock, keepalive, requestTimeoutMs, spin, logger } = this.#options;
    const { peer, lane } = established;
    const { nodeId, name } = peer;
    const lanes = this.#sessions.get(nodeId) ?? new Map<string, Session>();
    const old = lanes.get(lane);
    if (old === undefined && lanes.size >= LANE_COUNT_MAX) {
      logger.warn({ nodeId, name, lane }, `a mount was refused: ${LANE_COUNT_MAX} others are here`);
      return undefined;
    }
    // Before the new one: requests that it repeats must not be executed after it.
    old?.close(ByeReason.DUPLICATE);
    const session = new Session(established, {
      ...{ provider, clock, keepalive, requestTimeoutMs, spin },
      direct: undefined,
      client: NO_CLIENT,
      recallRoom: undefined,
      onEnded: (ended, error) => this.#onEnded(ended, error),
    });
    lanes.set(lane, session);
    this.#sessions.set(nodeId, lanes);
    logger.info({ nodeId, name, lane, address: session.address }, 'lane up');
    return session;
  }

  /** The session of a lane. */
  find(nodeId: NodeId, lane: string): Session | undefined {
    return this.#sessions.get(nodeId)?.get(lane);
  }

  /** How many lanes a node has here. */
  count(nodeId: NodeId): number {
    return this.#sessions.get(nodeId)?.size ?? 0;
  }

  /** Ends every lane of a node. */
  cut(nodeId: NodeId, reason: ByeReasonValue): void {
    for (const session of [...(this.#sessions.get(nodeId)?.values() ?? [])]) session.close(reason);
  }

  #onEnded(session: Session, error: MemcloudError | undefined): void {
    const { onEnded, onBreach, provider, logger } = this.#options;
    onEnded(session);
    const { lane } = session;
    const { nodeId, name } = session.peer;
    const lanes = this.#sessions.get(nodeId);
    if (lanes?.get(lane) === session) {
      lanes.delete(lane);
      if (lanes.size === 0) this.#sessions.delete(nodeId);
      provider?.closeAccess(sessionHolder(nodeId, lane));
    }
    logger.info({ nodeId, name, lane, code: error?.code, bye: session.byeReason }, 'lane down');
    if (error?.code === 'ERR_PEER_PROTOCOL') onBreach(session, error);
  }
}
