/**
 * The objects of one other node as the daemon reaches them (ObjectLink): the same object whatever
 * sessions come and go beneath it. A request goes over the session of its moment and ends with it; the
 * reply is that session's, so no other node can give it.
 */
import type { ObjectLink } from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { ask } from './asked-session.ts';
import { Feature, MESSAGE_BODY_SIZE_MAX } from './constants.ts';
import type { RemoteStore } from './remote-store.ts';
import type { Session } from './session.ts';

const keepsObjects = (session: Session): boolean => session.features.includes(Feature.OBJECTS);

/** The way to the objects on one node. */
export class ObjectPeer implements ObjectLink {
  readonly #store: RemoteStore;

  /** @param store - the same node's memory, which knows its session and its room */
  constructor(store: RemoteStore) {
    this.#store = store;
  }

  /** Who it is. */
  get nodeId(): NodeId {
    return this.#store.nodeId;
  }

  /** What people call it. */
  get nodeName(): string {
    return this.#store.nodeName;
  }

  /** False also for a node that is not believed any more: it is asked only by its name. */
  get up(): boolean {
    const { session, up, quarantineReason } = this.#store;
    if (!up || session === undefined || quarantineReason !== undefined) return false;
    return keepsObjects(session);
  }

  /** By its last word; 0 while it takes nothing new. */
  get freeBytes(): number {
    const { usage, accepting } = this.#store;
    return accepting ? Math.max(0, usage.offeredBytes - usage.usedBytes) : 0;
  }

  /** Sends a request. */
  request(
    body: Uint8Array,
    signal?: AbortSignal,
    replySizeMax = MESSAGE_BODY_SIZE_MAX,
  ): Promise<Buffer> {
    const lack = 'keeps no objects; it may need a newer memnode';
    return ask(this.#store, keepsObjects, lack, (session) =>
      session.object(body, replySizeMax, signal),
    );
  }
}
