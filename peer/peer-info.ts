/**
 * Every peer as people see it: the nodes that were let in, each with the dialler that leads there if
 * there is one, and the addresses where nobody has answered yet. A view; it keeps nothing.
 */
import type { MemcloudError } from '../common/errors.ts';
import type { NodeId, ProviderUsage } from '../common/ports.ts';
import type { Dialer, DialState } from './dialer.ts';
import type { RemoteStore } from './remote-store.ts';
import type { Session } from './session.ts';

/** What is known of a node that was let in. */
export interface PeerRecord {
  /** Its memory, as volumes and direct exports use it. */
  readonly store: RemoteStore;
  /** The session that lives. */
  session: Session | undefined;
  /** `HOST:PORT` of the other side of the last session. */
  address: string;
  /** Why the last session ended. */
  lastError: MemcloudError | undefined;
  /** How a lane of this node reaches it, as of the last session; undefined when it takes none. */
  reach: Reach | undefined;
}

/** How a lane of this node reaches another node. */
export interface Reach {
  /** `HOST:PORT` where it takes peers. */
  readonly address: string;
  /** Its key, 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** A node that takes lanes of this one. */
export interface LaneTarget extends Reach {
  readonly nodeId: NodeId;
  /** What people call it. */
  readonly name: string;
  /** True while it is drained from here. */
  readonly avoided: boolean;
}

/** The nodes that take lanes, and whose pages are believed. */
export function laneTargets(records: Iterable<PeerRecord>): LaneTarget[] {
  return [...records].flatMap(({ store, reach }) => {
    if (reach === undefined || store.quarantineReason !== undefined) return [];
    const { nodeId, nodeName: name, avoided } = store;
    return [{ nodeId, name, avoided, ...reach }];
  });
}

/** A peer as people see it. */
export interface PeerInfo {
  /** Its id; undefined while nobody answered at the address yet. */
  readonly nodeId: NodeId | undefined;
  /** Its name; empty while unknown. */
  readonly name: string;
  /** Where it is, `HOST:PORT`. */
  readonly address: string;
  /** `down` when only it dials us; else as {@link DialState}. */
  readonly state: DialState | 'down';
  /** True when we dial it. */
  readonly dialled: boolean;
  /** Its room, as it said last. */
  readonly usage: ProviderUsage | undefined;
  /** Smoothed round trip, milliseconds; 0 while unknown. */
  readonly roundTripMs: number;
  /** Why it is not up, if we know. */
  readonly error: MemcloudError | undefined;
  /** The machine that it runs on, by its own word; empty while unknown. */
  readonly hostId: string;
  /** Its zone, by its own word; empty for none. */
  readonly zone: string;
  /** False while it grants no leases, or is drained from here. */
  readonly accepting: boolean;
  /** Why its pages are not believed any more; undefined while they are. */
  readonly quarantineReason: string | undefined;
}

/** Describes every node of `records` and every address of `dialers` that leads to none of them. */
export function describePeers(
  records: ReadonlyMap<NodeId, PeerRecord>,
  dialers: readonly Dialer[],
): PeerInfo[] {
  const known = [...records.values()].map((record): PeerInfo => {
    const { store, session, address, lastError } = record;
    const dialer = dialers.find(({ nodeId }) => nodeId === store.nodeId);
    return {
      nodeId: store.nodeId,
      name: store.nodeName,
      address: dialer?.address ?? address,
      state: session === undefined ? (dialer?.state ?? 'down') : 'up',
      dialled: dialer !== undefined,
      usage: store.usage,
      roundTripMs: session?.roundTripMs ?? 0,
      error: session === undefined ? (dialer?.lastError ?? lastError) : undefined,
      hostId: store.hostId,
      zone: store.zone,
      accepting: store.accepting,
      quarantineReason: store.quarantineReason,
    };
  });
  const unknown = dialers
    .filter(({ nodeId }) => nodeId === undefined || !records.has(nodeId))
    .map(({ nodeId, address, state, lastError }): PeerInfo => {
      const rest = {
        ...{ usage: undefined, roundTripMs: 0, error: lastError },
        ...{ hostId: '', zone: '', accepting: true, quarantineReason: undefined },
      };
      return { nodeId, name: '', address, state, dialled: true, ...rest };
    });
  return [...known, ...unknown];
}
