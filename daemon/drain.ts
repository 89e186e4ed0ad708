/**
 * Drain: a provider is to become empty while what it holds stays in use. There are two orders of it.
 *
 * *Drain this node*: as a provider it grants nothing more and asks every lease back (provider/give-back.ts);
 * its consumers move their slabs. Whether they can, only they know, since only they see the other
 * providers: each is asked for the numbers first (control method `recall-room`).
 *
 * *Drain a peer*: an order to this node's own volumes and mounts, to leave that peer; the peer need not know, and
 * other consumers stay there.
 *
 * Objects have one place each and do not leave it by themselves: they are told, and a drain of this node is refused
 * while others have some here that were to stay.
 *
 * Both refuse beforehand what the rest cannot take, and both last until undrain or a restart: whoever
 * restarts a machine that was drained wants it back.
 */
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import { holderParts } from '../common/holder.ts';
import type { NodeId } from '../common/ports.ts';
import type { DrainHolder, DrainInfo } from '../common/rpc-nodes.ts';
import type { DirectDeviceInfo, DirectExportInfo } from '../common/rpc-schema.ts';
import { formatSize } from '../common/units.ts';
import { drainRoom, type DrainHolding, type DrainRoom } from './drain-room.ts';

/** A lease of this node's provider. */
interface LentLease {
  readonly holder: string;
  readonly chargedBytes: number;
}

/** A peer as drain sees it. */
export interface DrainPeer {
  readonly nodeId: NodeId;
  readonly nodeName: string;
  /** True while it is drained from here. */
  readonly avoided: boolean;
  /** Whether to take no new slabs there. */
  setAvoided(avoided: boolean): void;
}

/** What drain works on. */
export interface DrainParts {
  /** This node. */
  readonly nodeId: NodeId;
  /** What it is called. */
  readonly name: string;
  /** Its provider. */
  readonly provider: {
    /** Asks for everything, or grants again. */
    setDraining(draining: boolean): void;
    /** What it has lent. */
    status(): { readonly leases: readonly LentLease[]; readonly giveBack: { draining: boolean } };
  };
  /** Its peers. */
  readonly peers: {
    /** Those that were ever let in. */
    list(): readonly DrainPeer[];
    /** @throws MemcloudError `ERR_PEER_UNKNOWN` */
    store(nodeIdOrName: string): DrainPeer;
    /** @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_UNSUPPORTED` */
    askRecallRoom(holder: string): Promise<DrainRoom>;
  };
  /** Its volumes. */
  readonly volumes: {
    /** What each has on a provider. */
    holdingsOn(nodeId: NodeId): DrainHolding[];
    /** Makes them leave it. */
    evacuate(nodeId: NodeId): void;
  };
  /** Its mounts; that they are to leave a peer they hear by themselves. */
  readonly mounts: {
    /** What each has on a provider. */
    holdingsOn(provider: DrainPeer): Promise<DrainHolding[]>;
  };
  /** The objects here; they have no other place. */
  readonly objects: {
    /** By owner. */
    list(): readonly {
      readonly owner: NodeId;
      readonly objectCount: number;
      readonly valueBytes: number;
    }[];
    /** Those of an owner that are not to be evicted; looks at each. */
    pinnedCountOf(owner: NodeId): number;
  };
  /** What other machines have here directly. */
  readonly directExports: () => readonly DirectExportInfo[];
  /** What this machine has elsewhere directly. */
  readonly directDevices: () => readonly DirectDeviceInfo[];
}

/** Drains providers. */
export class Drain {
  readonly #parts: DrainParts;

  /** @param parts - what it works on */
  constructor(parts: DrainParts) {
    this.#parts = parts;
  }

  /**
   * Begins.
   *
   * @param node - id or name; this node as a provider without
   * @param force - although the rest cannot take it
   * @throws MemcloudError `ERR_DRAIN_ROOM` with the numbers, `ERR_PEER_UNKNOWN`
   */
  async start(node: string | undefined, force: boolean): Promise<DrainInfo> {
    const peer = this.#peerOf(node);
    const { provider, volumes } = this.#parts;
    const before = await this.status(node);
    if (!force) refuseProblems(before);
    if (!force && peer === undefined) this.#refuseObjects(before);
    if (peer === undefined) {
      provider.setDraining(true);
    } else {
      peer.setAvoided(true);
      volumes.evacuate(peer.nodeId);
    }
    return { ...before, draining: true };
  }

  /** @throws MemcloudError `ERR_DRAIN_ROOM` when other nodes would lose objects that were to stay */
  #refuseObjects({ name, objects }: DrainInfo): void {
    const pinned = objects
      .filter(({ nodeId }) => nodeId !== this.#parts.nodeId)
      .map((row) => ({ ...row, pinnedCount: this.#parts.objects.pinnedCountOf(row.nodeId) }))
      .filter(({ pinnedCount }) => pinnedCount > 0);
    if (pinned.length === 0) return;
    const whose = pinned.map(
      ({ name: owner, pinnedCount, objectCount, valueBytes }) =>
        `${owner} has ${pinnedCount} pinned of ${objectCount} objects there, ${formatSize(valueBytes)}`,
    );
    throw new MemcloudError(
      'ERR_DRAIN_ROOM',
      `objects do not leave ${name} by themselves and would be lost with it: ${whose.join('; ')}. ` +
        'Their owners can copy them elsewhere; --force begins all the same, and they stay until this node ends',
    );
  }

  /** Ends it: what has not left stays. Errors as {@link Drain.start}. */
  async stop(node: string | undefined): Promise<DrainInfo> {
    const peer = this.#peerOf(node);
    if (peer === undefined) this.#parts.provider.setDraining(false);
    else peer.setAvoided(false);
    return this.status(node);
  }

  /** How far it is, or would have to go. Errors as {@link Drain.start}. */
  async status(node: string | undefined): Promise<DrainInfo> {
    const peer = this.#peerOf(node);
    return peer === undefined ? this.#providerStatus() : this.#peerStatus(peer);
  }

  #peerOf(node: string | undefined): DrainPeer | undefined {
    const { nodeId, name, peers } = this.#parts;
    if (node === undefined || node === nodeId || node.toLowerCase() === name.toLowerCase()) {
      return undefined;
    }
    return peers.store(node);
  }

  async #providerStatus(): Promise<DrainInfo> {
    const { nodeId, name, provider, directExports } = this.#parts;
    const { leases, giveBack } = provider.status();
    const held = new Map<string, number>();
    for (const { holder, chargedBytes } of leases) {
      // Those of direct exports are told below.
      if (holderParts(holder).direct) continue;
      held.set(holder, (held.get(holder) ?? 0) + chargedBytes);
    }
    const holders = byNode(
      await Promise.all([...held].map(([holder, heldBytes]) => this.#holder(holder, heldBytes))),
    );
    const direct = directExports().map(({ exportId, holder, sizeBytes }) => ({
      ...{ what: `direct export ${exportId}`, sizeBytes },
      mover: this.#nameOf(holder),
    }));
    const objects = this.#parts.objects.list().map(({ owner, objectCount, valueBytes }) => ({
      ...{ nodeId: owner, name: this.#nameOf(owner), objectCount, valueBytes },
    }));
    const place = { nodeId, name, side: 'provider' as const, draining: giveBack.draining };
    return { ...place, ...summed(holders), holders, objects, direct };
  }

  /** @param holder - a node, or a lane of one: then it is that process that knows */
  async #holder(holder: string, heldBytes: number): Promise<DrainHolder> {
    const { nodeId: self, peers, volumes } = this.#parts;
    const { nodeId } = holderParts(holder);
    const name = this.#nameOf(nodeId);
    try {
      const { roomBytes, problem } = await (holder === self
        ? drainRoom(volumes.holdingsOn(self))
        : peers.askRecallRoom(holder));
      return { nodeId, name, heldBytes, roomBytes, problem };
    } catch (error) {
      const { message } = asMemcloudError(error);
      return { nodeId, name, heldBytes, roomBytes: 0, problem: message };
    }
  }

  async #peerStatus(peer: DrainPeer): Promise<DrainInfo> {
    const { nodeId, nodeName, avoided } = peer;
    const { name, volumes, mounts, directDevices } = this.#parts;
    const holdings = [...volumes.holdingsOn(nodeId), ...(await mounts.holdingsOn(peer))].filter(
      (holding) => holding.heldBytes > 0,
    );
    const { heldBytes, roomBytes, problem } = drainRoom(holdings);
    const self = { nodeId: this.#parts.nodeId, name, heldBytes, roomBytes, problem };
    const holders = heldBytes > 0 ? [self] : [];
    const direct = directDevices()
      .filter(({ legs }) => legs.some((leg) => leg.nodeId === nodeId))
      .map(({ device, sizeBytes }) => ({
        what: `direct device ${device}`,
        sizeBytes,
        mover: name,
      }));
    const place = { nodeId, name: nodeName, side: 'consumer' as const, draining: avoided };
    return { ...place, ...summed(holders), holders, objects: [], direct };
  }

  #nameOf(nodeId: NodeId): string {
    if (nodeId === this.#parts.nodeId) return this.#parts.name;
    return this.#parts.peers.list().find((peer) => peer.nodeId === nodeId)?.nodeName ?? nodeId;
  }
}

/** What a node and its lanes hold, together: people know machines. Their rooms are the same bytes. */
function byNode(holders: readonly DrainHolder[]): DrainHolder[] {
  const rows = new Map<NodeId, DrainHolder>();
  for (const one of holders) {
    const row = rows.get(one.nodeId) ?? { ...one, heldBytes: 0, problem: '' };
    const problems = [row.problem, one.problem].filter((problem) => problem !== '');
    rows.set(one.nodeId, {
      ...row,
      heldBytes: row.heldBytes + one.heldBytes,
      roomBytes: Math.max(row.roomBytes, one.roomBytes),
      problem: problems.join('; '),
    });
  }
  return [...rows.values()];
}

function summed(holders: readonly DrainHolder[]): { heldBytes: number } {
  return { heldBytes: holders.reduce((sum, { heldBytes }) => sum + heldBytes, 0) };
}

/** Holders count the same room, so together they have as much as the one that sees most of it. */
function refuseProblems({ name, heldBytes, holders }: DrainInfo): void {
  const problems = holders
    .filter(({ problem }) => problem !== '')
    .map(
      ({ name: holder, heldBytes: held, roomBytes, problem }) =>
        `${holder} has ${formatSize(held)} there and ${formatSize(roomBytes)} free elsewhere (${problem})`,
    );
  const roomBytes = Math.max(0, ...holders.map((holder) => holder.roomBytes));
  if (problems.length === 0 && heldBytes > roomBytes) {
    problems.push(
      `together ${formatSize(heldBytes)} are there and ${formatSize(roomBytes)} free elsewhere`,
    );
  }
  if (problems.length === 0) return;
  throw new MemcloudError(
    'ERR_DRAIN_ROOM',
    `the rest of the pool cannot take what is on ${name}: ${problems.join('; ')}. ` +
      'Add providers or remove volumes; --force begins all the same, and what has no place stays',
  );
}
