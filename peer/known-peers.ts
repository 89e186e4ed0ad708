/**
 * What is kept of the nodes that were ever let in. A trusted node stays until the process ends; of a guest
 * (guests.ts) nothing is left when its time is over, it is gone and no volume has a way in there. Guests
 * never take the last places, and stay apart: where memory is chosen that no control plane manages, nobody
 * sees them.
 */
import type { NodeId } from '../common/ports.ts';
import { GUEST_PEER_COUNT_MAX, PEER_COUNT_MAX } from './constants.ts';
import type { Guests } from './guests.ts';
import type { KeepaliveLimits } from './keepalive-machine.ts';
import { ManagedPeer } from './managed-peers.ts';
import { ObjectPeer } from './object-peer.ts';
import { Patience } from './patience.ts';
import type { KnownPeer } from './peer-info.ts';
import type { Quarantines } from './quarantines.ts';
import { RemoteStore } from './remote-store.ts';
import type { TrustStore } from './trust.ts';

/** What it is made of. */
export interface KnownPeersParts {
  /** Whom we trust. */
  readonly trust: TrustStore;
  /** Who is a guest now. */
  readonly guests: Pick<Guests, 'isGuest'>;
  /** Whose pages are not believed. */
  readonly quarantines: Quarantines;
  /** When a silent peer is given up. */
  readonly keepalive: KeepaliveLimits;
  /** Whether we are on a lane. */
  readonly isLane: boolean;
}

/** See the top of the file. */
export class KnownPeers {
  readonly #parts: KnownPeersParts;
  readonly #records = new Map<NodeId, KnownPeer>();

  constructor(parts: KnownPeersParts) {
    this.#parts = parts;
  }

  /** By node id, guests included. */
  get all(): ReadonlyMap<NodeId, KnownPeer> {
    return this.#records;
  }

  /** All but guests. */
  withoutGuests(): KnownPeer[] {
    return [...this.#records.values()].filter(({ store }) => !store.isGuest);
  }

  /** The guests. */
  guests(): KnownPeer[] {
    return [...this.#records.values()].filter(({ store }) => store.isGuest);
  }

  /** By node id, without guests of whom nothing is left. */
  shown(): ReadonlyMap<NodeId, KnownPeer> {
    return new Map([...this.#records].filter(([, record]) => !this.#isGone(record)));
  }

  /**
   * The record of a node, made when there is none.
   *
   * @param guest - whether a new one is a guest's
   * @returns undefined when there are too many
   */
  open(nodeId: NodeId, name: string, guest = false): KnownPeer | undefined {
    const known = this.#records.get(nodeId);
    if (known !== undefined || !this.#makeRoom(guest)) return known;
    const { quarantines, keepalive, isLane } = this.#parts;
    const store = new RemoteStore(nodeId, name, quarantines, () => this.#isGuest(record));
    const patience = new Patience(keepalive);
    const nothing = { session: undefined, lastError: undefined, reach: undefined };
    const objects = new ObjectPeer(store);
    const managed = new ManagedPeer(store, isLane);
    const record: KnownPeer = { store, patience, objects, managed, guest, address: '', ...nothing };
    this.#records.set(nodeId, record);
    return record;
  }

  /** A session has ended: forgets a guest of whom nothing is left. */
  forgetGuest(record: KnownPeer): void {
    if (this.#isGone(record)) this.#records.delete(record.store.nodeId);
  }

  /** Also one whose time is over: it was let in as nothing more. */
  #isGuest({ guest, store: { nodeId } }: KnownPeer): boolean {
    if (this.#parts.guests.isGuest(nodeId)) return true;
    return guest && this.#parts.trust.decisionOf(nodeId) !== 'trusted';
  }

  #isGone({ store, session, guest }: KnownPeer): boolean {
    if (!guest || session !== undefined || store.inUse) return false;
    return !this.#parts.guests.isGuest(store.nodeId);
  }

  #makeRoom(isGuest: boolean): boolean {
    const guests = [...this.#records.values()].filter(({ guest }) => guest);
    const isFull = this.#records.size >= PEER_COUNT_MAX;
    if (!isFull && !(isGuest && guests.length >= GUEST_PEER_COUNT_MAX)) return true;
    const idle = guests.find(({ session, store }) => session === undefined && !store.inUse);
    return idle !== undefined && this.#records.delete(idle.store.nodeId);
  }
}
