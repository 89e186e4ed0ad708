/** A node with a control plane, as the RPC methods see it. */
import type { SlabSources } from '../../common/ports.ts';
import type { ManagedSummary } from '../../common/rpc-managed.ts';
import type { MountLeases } from '../mounts/mounts.ts';
import type { ManagedContext } from './rpc.ts';

/** What a volume or a mount is to be. */
export interface ManagedVolumeWish {
  /** For people: `volume disk`. */
  readonly purpose: string;
  /** Of the volume. */
  readonly sizeBytes: number;
  /** Without, two where the control plane has room for two, else one. */
  readonly copies: number | undefined;
  /** Names or ids of the only providers to use. */
  readonly providers: readonly string[] | undefined;
  /** Of its leases, milliseconds. */
  readonly ttlMs?: number | undefined;
  /** Only providers of this zone. */
  readonly zone?: string | undefined;
}

/** The leases under a volume of this process. */
export interface ManagedVolume {
  /** Their providers. */
  readonly sources: SlabSources;
  readonly copies: number;
  /** Gives them back. Never throws. */
  close(): Promise<void>;
}

/** The leases under a volume of another process. */
export interface ManagedMount extends MountLeases {
  readonly copies: number;
}

/** What a node does on managed leases. */
export interface ManagedNode extends ManagedContext {
  /** Leases all that a volume needs. @throws MemcloudError as `ClientLeases.request` */
  openVolume(wish: ManagedVolumeWish, cancel?: AbortSignal): Promise<ManagedVolume>;
  /** The same for a mount, whose process holds its pages. */
  openMount(wish: ManagedVolumeWish, cancel?: AbortSignal): Promise<ManagedMount>;
}

/** What `status` says of it; null without a control plane. */
export function summary(node: ManagedNode | undefined): ManagedSummary | null {
  if (node === undefined) return null;
  const { leases } = node;
  const live = leases.list().filter(({ state }) => state !== 'ended');
  return {
    ...node.status(),
    leaseCount: live.length,
    leasedBytes: live.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    endsInMs:
      live.length === 0
        ? null
        : Math.round(Math.min(...live.map((lease) => leases.endsInMs(lease)))),
  };
}
