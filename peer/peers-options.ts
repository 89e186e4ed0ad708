/** What the peers of a node (peers.ts) are made of. */
import type { Clock } from '../common/clock.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import type { Logger } from '../common/log.ts';
import type { ManagedService } from '../common/managed.ts';
import type { ObjectService } from '../common/objects.ts';
import type { DirectProvider, NodeId, ProviderUsage, SlabProvider } from '../common/ports.ts';
import type { Allowances } from './allowances.ts';
import type { ConsentQueue } from './consent.ts';
import type { RecallRoom } from './control.ts';
import type { Joined } from './gatekeeper.ts';
import type { Identity } from './identity.ts';
import type { Invites } from './invites.ts';
import type { KeepaliveLimits } from './keepalive-machine.ts';
import type { Quarantines } from './quarantines.ts';
import type { Revocations } from './revocations.ts';
import type { TrustStore } from './trust.ts';

/** What a node's peering is made of. */
export interface PeersOptions {
  /** Who we are. */
  readonly identity: Identity;
  /** What people call us: 1 to 64 letters, digits, spaces, `.`, `_`, `-`. */
  readonly name: string;
  /** Whom we trust. */
  readonly trust: TrustStore;
  /** Where questions wait. */
  readonly consent: ConsentQueue;
  /** The invitations that are open; by default none ever is. */
  readonly invites?: Invites;
  /** Who lost whose trust; by default it is told and shown, and not obeyed. */
  readonly revocations?: Revocations;
  /** A machine has joined by an invitation that grants it so many bytes here. */
  readonly onJoined?: (nodeId: NodeId, allowedBytes: number | undefined, joined: Joined) => void;
  /** What we lend; undefined for nothing. */
  readonly provider?: SlabProvider | undefined;
  /** Our direct exports; undefined for none. Its owner closes it, after the peers. */
  readonly direct?: DirectProvider | undefined;
  /** Answers about our objects; undefined for none. */
  readonly objects?: ObjectService | undefined;
  /** Answers managed calls; undefined for none: then nobody leases here under a managed lease. */
  readonly managed?: ManagedService | undefined;
  /** Whose pages are not believed any more; by default kept for the life of the process. */
  readonly quarantines?: Quarantines;
  /** What each node may use here, as the provider asks it; by default everybody as much as is offered. */
  readonly allowances?: Allowances;
  /** Names the machine that we run on; default: empty, which says nothing. */
  readonly hostId?: string;
  /** Our wider failure domain; default: none. */
  readonly zone?: string;
  /** The lane that we are on (`isLaneName`): we dial only, and lend nothing. Default: the node itself. */
  readonly lane?: string;
  /** Whether trusted peers are told of each other; default: no. */
  readonly exchangesPeers?: boolean;
  /** Where events are noted. */
  readonly logger?: Logger;
  /** The clock of deadlines. */
  readonly clock?: Clock;
  /** Jitter: a number from 0 to 1, below 1. */
  readonly random?: () => number;
  /** Keeps the event loop awake between requests and replies; none by default. */
  readonly spin?: EventLoopSpin;
  /** When to ping and to give up. */
  readonly keepalive?: KeepaliveLimits;
  /** Longest wait for a reply, milliseconds. */
  readonly requestTimeoutMs?: number;
  /** Longest time of one handshake step, milliseconds. */
  readonly handshakeStepTimeoutMs?: number;
}

/** Of a node that lends nothing. */
export const NO_USAGE: ProviderUsage = {
  offeredBytes: 0,
  usedBytes: 0,
  residentBytes: 0,
  leaseCount: 0,
};

/** Of a node that has leased nothing. */
export const NOTHING_HELD: RecallRoom = { heldBytes: 0, roomBytes: 0, problem: '' };
