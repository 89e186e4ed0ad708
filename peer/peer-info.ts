/**
 * Every peer as people see it: the nodes that were let in, each with the dialler that leads there if
 * there is one, and the addresses where nobody has answered yet. A view; it keeps nothing.
 */
import { MemcloudError } from '../common/errors.ts';
import type { NodeId, ProviderUsage } from '../common/ports.ts';
import { formatAddress } from '../common/units.ts';
import type { Established } from './connection-context.ts';
import { Feature } from './constants.ts';
import type { Dialer, DialState } from './dialer.ts';
import type { ManagedPeer } from './managed-peers.ts';
import type { ObjectPeer } from './object-peer.ts';
import type { Patience } from './patience.ts';
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

/** What the peers of a node keep of one. */
export interface KnownPeer extends PeerRecord {
  /** How long it may be silent. */
  readonly patience: Patience;
  /** Its objects. */
  readonly objects: ObjectPeer;
  /** Its managed calls. */
  readonly managed: ManagedPeer;
  /** Whether it was let in as a guest the last time. */
  guest: boolean;
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

/** Where a lane of ours reaches a node: where we dial it, or where by its own word it listens. */
export function reachOf(
  { stream, peer, features, port }: Established,
  dialler: Pick<Dialer, 'address'> | undefined,
  others: Iterable<Dialer>,
): Reach | undefined {
  if (!features.includes(Feature.LANES)) return undefined;
  const { publicKey, nodeId } = peer;
  const known = dialler ?? [...others].find((each) => each.nodeId === nodeId);
  if (known !== undefined) return { address: known.address, publicKey };
  return port === 0 ? undefined : { address: formatAddress(stream.remoteHost, port), publicKey };
}

/** The nodes that take lanes, and whose pages are believed; guests among them, which the caller leaves out. */
export function laneTargets(records: Iterable<PeerRecord>): LaneTarget[] {
  return [...records].flatMap(({ store, reach }) => {
    if (reach === undefined || store.quarantineReason !== undefined) return [];
    const { nodeId, nodeName: name, avoided } = store;
    return [{ nodeId, name, avoided, ...reach }];
  });
}

/** An attempt to reach a node, whoever makes it. */
export interface DialView {
  /** `HOST:PORT`. */
  readonly address: string;
  /** The node there; undefined while unknown. */
  readonly nodeId: NodeId | undefined;
  /** Where it stands. */
  readonly state: DialState;
  /** Why the last attempt failed. */
  readonly lastError: MemcloudError | undefined;
  /** Milliseconds until it dials again; undefined when it does not wait for that. */
  readonly waitMs: number | undefined;
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
  /** Milliseconds until it is dialled again; undefined unless that is waited for. */
  readonly nextDialMs: number | undefined;
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
  /** Whether it was let in only because a control plane says so. */
  readonly isGuest: boolean;
}

/** Describes every node of `records` and every address of `dialers` that leads to none of them. */
export function describePeers(
  records: ReadonlyMap<NodeId, PeerRecord>,
  dialers: readonly DialView[],
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
      nextDialMs: session === undefined ? dialer?.waitMs : undefined,
      usage: store.usage,
      roundTripMs: session?.roundTripMs ?? 0,
      error: session === undefined ? (dialer?.lastError ?? lastError) : undefined,
      hostId: store.hostId,
      zone: store.zone,
      accepting: store.accepting,
      quarantineReason: store.quarantineReason,
      isGuest: store.isGuest,
    };
  });
  const unknown = dialers
    .filter(({ nodeId }) => nodeId === undefined || !records.has(nodeId))
    .map(({ nodeId, address, state, lastError, waitMs }): PeerInfo => {
      const rest = {
        nextDialMs: waitMs,
        ...{ usage: undefined, roundTripMs: 0, error: lastError },
        ...{ hostId: '', zone: '', accepting: true, quarantineReason: undefined },
        isGuest: false,
      };
      return { nodeId, name: '', address, state, dialled: true, ...rest };
    });
  return [...known, ...unknown];
}

/** The node of an id, or of a name whatever its case. @throws MemcloudError `ERR_PEER_UNKNOWN` */
export function findPeer<R extends PeerRecord>(
  records: ReadonlyMap<NodeId, R>,
  nodeIdOrName: string,
): R {
  const byId = records.get(nodeIdOrName);
  if (byId !== undefined) return byId;
  const wanted = nodeIdOrName.toLowerCase();
  const found = [...records.values()].filter(
    ({ store }) => store.nodeName.toLowerCase() === wanted,
  );
  // Of several nodes that bore a name, the one that bears it now is meant, and a guest last.
  const known = found.filter(({ store }) => !store.isGuest);
  const meant = known.length > 0 ? known : found;
  const record = meant.find(({ session }) => session !== undefined) ?? meant[0];
  if (record === undefined) {
    throw new MemcloudError('ERR_PEER_UNKNOWN', `no peer is called "${nodeIdOrName}"`);
  }
  return record;
}
