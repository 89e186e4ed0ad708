/**
 * The client's half of managed mode in memnode: leases of the control plane, and on them volumes, mounts
 * and direct devices. The other half, what this node lends, is in wire-managed.ts.
 */
import { monotonicClock } from '../common/clock.ts';
import type { ControlTarget } from '../common/control-target.ts';
import { MemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { MANAGED_TTL_DEFAULT_MS } from '../common/managed.ts';
import type { NodeId, SlabSource } from '../common/ports.ts';
import type { ManagedStatus } from '../common/rpc-managed.ts';
import { everyTick, type Tick } from '../common/ticker.ts';
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import type { ClientLease } from '../control-plane/client-leases-machine.ts';
import { ClientLeases } from '../control-plane/client-leases.ts';
import type { LeaseControl } from '../control-plane/lease-presenter.ts';
import { MANAGED_CALLS, type ManagedCall } from '../control-plane/schema.ts';
import { DIRECT_SLAB_PAGE_COUNT } from '../direct/constants.ts';
import { leaseChargeBytes } from '../provider/quota.ts';
import type { DaemonParts } from './wire-parts.ts';
import { LeasePool } from './managed/lease-pool.ts';
import { GuestDoor, type DoorPeers } from './managed/provider-door.ts';
import { ManagedSources } from './managed/sources.ts';
import type {
  ManagedMount,
  ManagedNode,
  ManagedVolume,
  ManagedVolumeWish,
} from './managed/node.ts';
import type { DirectLease, DirectLeases, DirectLeaseWish } from './managed/direct-leases.ts';

/** How often pools look after their leases, milliseconds. */
const TICK_MS = 500;
const COPIES_DEFAULT = 2;

/** What it needs of the peers of the node. */
export interface ClientPeers extends DoorPeers {
  /** Every node that is trusted. */
  list(): readonly SlabSource[];
  /** The memory of a node, guest or not, whether it was ever here or not. */
  remember(nodeId: NodeId, name: string): SlabSource;
}

/** The way to the leader, and what is known of it. */
export interface ClientControl extends LeaseControl {
  readonly leader: { readonly name: string } | undefined;
  readonly cluster: string;
  readonly roles: readonly string[];
  readonly heardMsAgo: number | null;
}

/** What it takes. */
export interface ManagedClientParts {
  readonly control: ClientControl;
  readonly peers: ClientPeers;
  /** The control nodes, as the configuration has them. */
  readonly targets: readonly ControlTarget[];
  /** Why none of them leads, while none does. */
  readonly whyApart: () => string;
  /** What this node lends by the same word, and why it does not. */
  readonly provider: () => { readonly status: ManagedStatus['provider']; readonly problem: string };
  /** Names this machine to the control plane. */
  readonly hostId: string;
  readonly logger: Logger;
}

/**
 * Joins the client's half with the rest of a node, once that has a way to its control plane.
 *
 * @returns undefined for a node without a control plane
 */
export function joinControlPlane(
  {
    managed,
    peers,
    provider,
    hostId,
  }: Pick<DaemonParts, 'managed' | 'peers' | 'provider' | 'hostId'>,
  logger: Logger,
): ManagedClient | undefined {
  const { control, targets } = managed;
  if (control === undefined) return undefined;
  const client = new ManagedClient({
    ...{ control, peers, targets, hostId, logger },
    whyApart: () => managed.whyApart,
    provider: () => ({ status: managed.providerStatus(provider), problem: managed.problem }),
  });
  managed.onEnding = (params) => client.leases.onEnding(params);
  managed.borrowsFrom = (nodeId) => client.door.has(nodeId);
  client.door.lendsTo = (nodeId) => managed.lendsTo(nodeId);
  return client;
}

interface Kept {
  readonly pool: LeasePool;
  readonly tick: () => void;
}

/** See the top of the file. */
export class ManagedClient implements ManagedNode, DirectLeases {
  readonly leases: ClientLeases;
  readonly door: GuestDoor;
  readonly #parts: ManagedClientParts;
  readonly #kept = new Set<Kept>();
  readonly #timer: Tick;

  constructor(parts: ManagedClientParts) {
    this.#parts = parts;
    const { control, peers, hostId, logger } = parts;
    this.door = new GuestDoor(peers);
    this.leases = new ClientLeases({
      ...{ control, hostId, logger },
      links: peers.managedLinks,
      door: this.door,
      clock: monotonicClock,
    });
    this.#timer = everyTick(TICK_MS, () => this.#tick());
  }

  /** {@link ManagedNode.status} */
  status(): ManagedStatus {
    const { control, targets, whyApart } = this.#parts;
    const { status: provider, problem } = this.#parts.provider();
    const { leader, cluster, roles, heardMsAgo } = control;
    const connected = leader !== undefined;
    return {
      addresses: targets.map(({ address }) => address),
      unpinned: targets.filter(({ fits }) => fits === undefined).map(({ address }) => address),
      ...{ connected, leader: leader?.name ?? '', cluster, roles, heardMsAgo, provider },
      problem: connected ? problem : whyApart(),
    };
  }

  /** {@link ManagedNode.call} */
  async call(call: string, params: unknown, signal: AbortSignal): Promise<unknown> {
    const known = Object.keys(MANAGED_CALLS).find((name) => name === call);
    if (known === undefined) throw new MemcloudError('ERR_USAGE', `there is no call "${call}"`);
    // The leader checks what is asked, as it has to.
    return this.#parts.control.call(known as ManagedCall, params as never, { signal });
  }

  /** Bytes in use under a lease, as far as this process knows. */
  usedBytes(leaseId: string): number {
    for (const { pool } of this.#kept) {
      const usedBytes = pool.usedBytes(leaseId);
      if (usedBytes !== undefined) return usedBytes;
    }
    return 0;
  }

  /** {@link ManagedNode.isUp} */
  isUp(provider: NodeId): boolean {
    return this.#parts.peers.managedLinks.find(provider)?.up === true;
  }

  /**
   * The ids of providers by name or id.
   *
   * @throws MemcloudError `ERR_PEER_UNKNOWN`
   */
  providerIds(names: readonly string[] | undefined): NodeId[] | undefined {
    return names?.map((name) => {
      const wanted = name.toLowerCase();
      if (/^[0-9a-f]{32}$/.test(wanted)) return wanted;
      const peer = this.#parts.peers.list().find((each) => each.nodeName.toLowerCase() === wanted);
      const lent = this.leases.list().find((lease) => lease.provider.name.toLowerCase() === wanted);
      const nodeId = peer?.nodeId ?? lent?.provider.nodeId;
      if (nodeId !== undefined) return nodeId;
      const text = `no provider "${name}" is known here; name it by its node id`;
      throw new MemcloudError('ERR_PEER_UNKNOWN', text);
    });
  }

  /** Leases all that a volume needs. @throws MemcloudError as `ClientLeases.request` */
  async openVolume(wish: ManagedVolumeWish, cancel?: AbortSignal): Promise<ManagedVolume> {
    const pool = await this.#openPool(wish, cancel);
    const sources = new ManagedSources({
      sourceOf: ({ nodeId, name }) => this.#parts.peers.remember(nodeId, name),
      chargeBytes: leaseChargeBytes,
      clock: monotonicClock,
    });
    sources.follow(pool.list());
    const tick = (): void => {
      pool.tick(sources.use());
      sources.follow(pool.list());
    };
    const kept: Kept = { pool, tick };
    this.#kept.add(kept);
    return {
      ...{ sources, copies: pool.copies },
      close: async () => {
        this.#kept.delete(kept);
        await pool.close();
        sources.close();
      },
    };
  }

  /** Leases all that a mount needs, whose process holds its pages. @throws MemcloudError as `ClientLeases.request` */
  async openMount(wish: ManagedVolumeWish, cancel?: AbortSignal): Promise<ManagedMount> {
    const pool = await this.#openPool(wish, cancel);
    const kept: Kept = { pool, tick: () => undefined };
    this.#kept.add(kept);
    return {
      copies: pool.copies,
      list: () => pool.list(),
      onUse: (use) => pool.tick(use),
      close: async () => {
        this.#kept.delete(kept);
        await pool.close();
      },
    };
  }

  // --- DirectLeases --------------------------------------------------------------------------------

  /** {@link DirectLeases.leaseDirect} */
  async leaseDirect(wish: DirectLeaseWish): Promise<DirectLease[]> {
    const { sizeBytes, copies, providers, avoid, managed } = wish;
    const include = this.providerIds(providers);
    const exclude = this.providerIds(avoid) ?? [];
    const { ttlMs = MANAGED_TTL_DEFAULT_MS, zone } = managed;
    const base = { ttlMs, zone, include, exclude, renews: true, outlives: true, purpose: 'swap' };
    const charged = chargeOf(sizeBytes, DIRECT_SLAB_PAGE_COUNT);
    const tries = copies === undefined ? [COPIES_DEFAULT, 1] : [copies];
    for (const count of tries) {
      try {
        return await this.leases.request({ ...base, sizeBytes: charged, count });
      } catch (error) {
        const full = error instanceof MemcloudError && error.code === 'ERR_LEASE_CAPACITY';
        if (!full || count === tries.at(-1)) throw error;
      }
    }
    return [];
  }

  /** {@link DirectLeases.adopt} */
  adopt(lease: DirectLease): void {
    this.leases.adopt({ ...lease, renews: true, outlives: true });
  }

  /** {@link DirectLeases.setPurpose} */
  setPurpose(leaseIds: readonly string[], purpose: string): void {
    this.leases.setPurpose(leaseIds, purpose);
  }

  /** {@link DirectLeases.release} */
  release(leaseIds: readonly string[]): Promise<void> {
    return this.leases.release(leaseIds);
  }

  // --- The end -------------------------------------------------------------------------------------

  /** Gives back what ends with this process; in bounded time. */
  async close(): Promise<void> {
    this.#timer.stop();
    await this.leases.close();
    this.door.end();
  }

  /** Stops at once: a successor goes on. */
  abandon(): void {
    this.#timer.stop();
    this.leases.abandon();
    this.door.end();
  }

  /** Leases of this process that a successor could not go on with, for people; those of direct devices it can. */
  get boundCount(): number {
    return this.leases.list().filter(isBound).length;
  }

  #tick(): void {
    for (const { tick } of this.#kept) tick();
  }

  #openPool(wish: ManagedVolumeWish, cancel?: AbortSignal): Promise<LeasePool> {
    const { purpose, sizeBytes, copies, providers, ttlMs = MANAGED_TTL_DEFAULT_MS, zone } = wish;
    const slabCount = Math.ceil(sizeBytes / PAGE_SIZE_BYTES / SLAB_PAGE_COUNT);
    return LeasePool.open(
      {
        ...{ purpose, slabCount, copies, ttlMs, zone },
        slabChargeBytes: leaseChargeBytes(SLAB_PAGE_COUNT),
        include: this.providerIds(providers),
      },
      { leases: this.leases, clock: monotonicClock, logger: this.#parts.logger },
      cancel,
    );
  }
}

function isBound({ state, outlives = false }: ClientLease): boolean {
  return state !== 'ended' && !outlives;
}

/** What a provider charges for `sizeBytes` in slabs of so many pages. */
function chargeOf(sizeBytes: number, slabPageCount: number): number {
  const pageCount = Math.ceil(sizeBytes / PAGE_SIZE_BYTES);
  const rest = pageCount % slabPageCount;
  const whole = Math.floor(pageCount / slabPageCount) * leaseChargeBytes(slabPageCount);
  return whole + (rest === 0 ? 0 : leaseChargeBytes(rest));
}
