/**
 * The way to providers that the control plane names and nobody here trusts: such a provider is let in as a
 * guest for as long as a lease of it lives, and dialled by its pinned key while no session with it is there.
 * One that is a peer anyway stays one.
 */
import type { Admissions, ManagedLinks } from '../../common/managed.ts';
import type { NodeId } from '../../common/ports.ts';
import type { LeaseProvider } from '../../control-plane/client-leases-machine.ts';
import type { ProviderDoor } from '../../control-plane/lease-presenter.ts';

/** What it needs of the peers of the node. */
export interface DoorPeers {
  readonly managedLinks: ManagedLinks;
  readonly admissions: Admissions;
  /** The addresses that are kept connected. */
  readonly dialled: readonly string[];
  /** As `Peers.connect`. */
  connect(
    address: string,
    expected: {
      readonly pin: (peer: { readonly publicKey: Uint8Array }) => boolean;
      readonly asGuest: true;
    },
  ): unknown;
  /** As `Peers.stopDialling`. */
  stopDialling(address: string): void;
}

/** A guest is let in for longer than its lease lives: the end of a lease is said over a session, too. */
const ADMISSION_SLACK_MS = 60_000;

/**
 * A session stays for so long after the last lease of its provider ended, milliseconds. By its answers the
 * holder of the pages learns that they are gone: without a session its reads would wait for one. Longer
 * than a volume takes to renew its slabs, which tells it of those that nobody reads.
 */
const LINGER_MS = 60_000;

/** Runs something later. @returns what takes that back */
export type Later = (run: () => void, delayMs: number) => () => void;

const byTimer: Later = (run, delayMs) => {
  const timer = setTimeout(run, delayMs).unref();
  return () => clearTimeout(timer);
};

interface Opened {
  readonly provider: LeaseProvider;
  /** We dial it, and did not before. */
  dials: boolean;
}

/** See the top of the file. */
export class GuestDoor implements ProviderDoor {
  /** Says whether a guest is to stay although no lease is there; the provider's half of the node sets it. */
  lendsTo: (nodeId: NodeId) => boolean = () => false;
  readonly #peers: DoorPeers;
  readonly #opened = new Map<NodeId, Opened>();
  readonly #later: Later;
  /** Providers whose last lease ended a moment ago, and what makes them stay. */
  readonly #lingering = new Map<NodeId, () => void>();
  readonly #stopListening: () => void;

  /** @param later - who waits; a timer that keeps no process alive */
  constructor(peers: DoorPeers, later: Later = byTimer) {
    this.#peers = peers;
    this.#later = later;
    this.#stopListening = peers.managedLinks.onChange(({ nodeId, up }) => {
      const opened = this.#opened.get(nodeId);
      if (opened !== undefined && !up) this.#dial(opened);
    });
  }

  /** Whether a lease of this provider is here, or was a moment ago. */
  has(nodeId: NodeId): boolean {
    return this.#opened.has(nodeId);
  }

  /** @throws MemcloudError `ERR_USAGE_ADDRESS`, `ERR_USAGE` beyond the addresses that can be dialled */
  open(provider: LeaseProvider, ttlMs: number): void {
    const { nodeId, publicKey } = provider;
    const key = new Uint8Array(Buffer.from(publicKey, 'hex'));
    this.#lingering.get(nodeId)?.();
    this.#lingering.delete(nodeId);
    this.#peers.admissions.admit(key, ttlMs + ADMISSION_SLACK_MS);
    let opened = this.#opened.get(nodeId);
    if (opened?.provider.address !== provider.address) {
      if (opened?.dials === true) this.#peers.stopDialling(opened.provider.address);
      opened = { provider, dials: false };
      this.#opened.set(nodeId, opened);
    }
    if (this.#peers.managedLinks.find(nodeId)?.up !== true) this.#dial(opened);
  }

  close({ nodeId }: LeaseProvider): void {
    if (!this.#opened.has(nodeId) || this.#lingering.has(nodeId)) return;
    this.#lingering.set(
      nodeId,
      this.#later(() => this.#shut(nodeId), LINGER_MS),
    );
  }

  #shut(nodeId: NodeId): void {
    this.#lingering.delete(nodeId);
    const opened = this.#opened.get(nodeId);
    if (opened === undefined) return;
    this.#opened.delete(nodeId);
    if (opened.dials) this.#peers.stopDialling(opened.provider.address);
    if (!this.lendsTo(nodeId)) this.#peers.admissions.dismiss(nodeId);
  }

  /** Looks after nobody any more; sessions go on. */
  end(): void {
    for (const stay of this.#lingering.values()) stay();
    this.#lingering.clear();
    this.#stopListening();
  }

  #dial(opened: Opened): void {
    const { address, publicKey } = opened.provider;
    if (opened.dials || this.#peers.dialled.includes(address)) return;
    opened.dials = true;
    const pin = (peer: { readonly publicKey: Uint8Array }): boolean =>
      Buffer.from(peer.publicKey).toString('hex') === publicKey;
    this.#peers.connect(address, { pin, asGuest: true });
  }
}
