/**
 * The providers of a mount's process: exactly those that its daemon names, by their keys. Who is on the
 * list is trusted and dialled; who is on it no more is neither, from that moment on, and a session with
 * it ends. The daemon has asked its human about each; here nobody is asked anything.
 */
import { asMemcloudError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { SlabSource } from '../../common/ports.ts';
import type { PeerIdentity } from '../../peer/credentials.ts';
import type { Dialer } from '../../peer/dialer.ts';
import type { Peers } from '../../peer/peers.ts';
import type { RemoteStore } from '../../peer/remote-store.ts';
import type { TrustStore } from '../../peer/trust.ts';
import type { MountPeer } from './protocol.ts';

const KEY_SIZE_BYTES = 32;
/** A provider that somebody waits for is dialled again within this, milliseconds. */
const HURRIED_WAIT_MAX_MS = 500;

interface Followed {
  readonly peer: MountPeer;
  readonly dialer: Dialer;
}

/** See the top of the file. */
export class LanePeers {
  readonly #peers: Peers;
  readonly #trust: TrustStore;
  readonly #logger: Logger;
  readonly #evacuate: (source: SlabSource) => void;
  /** By public key, as it is named. */
  readonly #followed = new Map<string, Followed>();

  /**
   * @param peers - on a lane
   * @param trust - theirs; nobody else changes it
   * @param evacuate - makes the volume leave a provider that takes nothing more
   */
  constructor(
    peers: Peers,
    trust: TrustStore,
    logger: Logger,
    evacuate: (source: SlabSource) => void,
  ) {
    this.#evacuate = evacuate;
    this.#peers = peers;
    this.#trust = trust;
    this.#logger = logger;
  }

  /** True when every provider has been reached, or could not be at the first try. */
  get settled(): boolean {
    return [...this.#followed.values()].every(({ dialer }) => dialer.state !== 'connecting');
  }

  /** Dials again soon who was not reached: somebody waits. */
  hurry(): void {
    for (const { dialer } of this.#followed.values()) {
      if ((dialer.waitMs ?? 0) > HURRIED_WAIT_MAX_MS) dialer.start();
    }
  }

  /** Takes the whole list in place of the one before. */
  follow(list: readonly MountPeer[]): void {
    const named = new Set(list.map(({ publicKey }) => publicKey));
    for (const key of [...this.#followed.keys()]) if (!named.has(key)) this.#drop(key);
    for (const peer of list) {
      try {
        this.#take(peer);
      } catch (error) {
        const { code, message } = asMemcloudError(error);
        this.#logger.warn({ name: peer.name, code }, `a provider is not used: ${message}`);
      }
    }
  }

  /** The provider of an id or name, whatever its case; undefined when none is on the list. */
  find(nodeIdOrName: string): MountPeer | undefined {
    const wanted = nodeIdOrName.toLowerCase();
    const all = [...this.#followed.values()].map(({ peer }) => peer);
    return (
      all.find(({ nodeId }) => nodeId === wanted) ??
      all.find(({ name }) => name.toLowerCase() === wanted)
    );
  }

  #take(peer: MountPeer): void {
    const before = this.#followed.get(peer.publicKey);
    if (before?.peer.name !== peer.name) this.#trust.trust(identityOf(peer));
    // Known from now on, so that it can be waited for and named.
    const store = this.#peers.remember(peer.nodeId, peer.name);
    this.#avoid(store, peer.avoided === true);
    if (before?.peer.address === peer.address) {
      this.#followed.set(peer.publicKey, { ...before, peer });
      return;
    }
    if (before !== undefined) this.#peers.stopDialling(before.peer.address);
    this.#followed.set(peer.publicKey, { peer, dialer: this.#peers.connect(peer.address) });
  }

  #avoid(store: RemoteStore, avoided: boolean): void {
    if (store.avoided === avoided) return;
    store.setAvoided(avoided);
    if (avoided) this.#evacuate(store);
  }

  #drop(key: string): void {
    const followed = this.#followed.get(key);
    this.#followed.delete(key);
    if (followed === undefined) return;
    const { peer } = followed;
    this.#peers.stopDialling(peer.address);
    this.#trust.remove(Buffer.from(peer.publicKey, 'base64').toString('hex'));
    this.#logger.info({ name: peer.name }, 'a provider is used no more');
  }
}

function identityOf({ nodeId, name, publicKey }: MountPeer): PeerIdentity {
  const key = new Uint8Array(Buffer.from(publicKey, 'base64'));
  if (key.length !== KEY_SIZE_BYTES) throw new RangeError('expected a key of 32 bytes');
  return { publicKey: key, nodeId, name };
}
