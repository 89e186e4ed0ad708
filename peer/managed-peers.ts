/**
 * MANAGE of other nodes as the daemon reaches it (ManagedLinks): a link for each node that was ever let in,
 * the same object whatever sessions come and go beneath it, and the node that answers at an address. A
 * request goes over the session of its moment and ends with it.
 */
import type { ManagedLink, ManagedLinks } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { ask } from './asked-session.ts';
import { Feature } from './constants.ts';
import type { Dialer } from './dialer.ts';
import { dialTarget } from './dialer.ts';
import type { RemoteStore } from './remote-store.ts';
import type { Session } from './session.ts';

/** The way to ask one node. */
export class ManagedPeer implements ManagedLink {
  readonly #store: RemoteStore;
  readonly #isLane: boolean;

  /**
   * @param store - the same node's memory, which knows its session
   * @param isLane - whether we are on a lane ourselves: lanes ask nothing
   */
  constructor(store: RemoteStore, isLane: boolean) {
    this.#store = store;
    this.#isLane = isLane;
  }

  /** Who it is. */
  get nodeId(): NodeId {
    return this.#store.nodeId;
  }

  /** What people call it. */
  get name(): string {
    return this.#store.nodeName;
  }

  /** True while it would be asked. */
  get up(): boolean {
    const { session } = this.#store;
    return session?.ended === false && this.answers(session);
  }

  /** True while it answers anything. */
  get connected(): boolean {
    return this.#store.session?.ended === false;
  }

  /** Whether a session carries MANAGE. */
  answers(session: Session): boolean {
    return !this.#isLane && session.features.includes(Feature.MANAGED);
  }

  /** Sends a request. */
  request(body: Uint8Array, signal?: AbortSignal): Promise<Buffer> {
    const lack = 'takes part in no control plane, or needs a newer memnode';
    const serves = (session: Session): boolean => this.answers(session);
    return ask(this.#store, serves, lack, (session) => session.manage(body, signal));
  }
}

/** Who dials which address. */
export interface DialerTable {
  /** The dialer of an address, by its key. */
  find(key: string): Dialer | undefined;
}

/** What it needs of the peers. */
export interface ManagedPeersParts {
  /** The nodes that were ever let in. */
  readonly records: ReadonlyMap<NodeId, { readonly managed: ManagedPeer }>;
  /** The addresses that are kept connected. */
  readonly dialers: DialerTable;
  /** Whether a node is a guest: none speaks for an address of ours. */
  readonly isGuest: (nodeId: NodeId) => boolean;
}

/** The ways to ask every node. */
export class ManagedPeers implements ManagedLinks {
  readonly #parts: ManagedPeersParts;
  readonly #listeners = new Set<(link: ManagedLink) => void>();

  constructor(parts: ManagedPeersParts) {
    this.#parts = parts;
  }

  /** The link of a node. */
  find(nodeId: NodeId): ManagedPeer | undefined {
    return this.#parts.records.get(nodeId)?.managed;
  }

  /** The link of the node that answered at a dialled address. @throws MemcloudError `ERR_USAGE_ADDRESS` */
  at(address: string): ManagedPeer | undefined {
    const nodeId = this.#parts.dialers.find(dialTarget(address).key)?.nodeId;
    if (nodeId === undefined || this.#parts.isGuest(nodeId)) return undefined;
    return this.find(nodeId);
  }

  /** Listens for sessions that begin and end. */
  onChange(listener: (link: ManagedLink) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A session has begun or ended; told when the turn's work on it is done. */
  changed(link: ManagedPeer, session: Session): void {
    if (!link.answers(session)) return;
    queueMicrotask(() => {
      for (const listener of [...this.#listeners]) listener(link);
    });
  }
}
