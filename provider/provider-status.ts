/** A provider as `memcloud status` and `memcloud doctor` show it. */
import type { ManagedLeaseState } from '../common/managed.ts';
import type { NodeId, ProviderUsage } from '../common/ports.ts';
import type { GiveBackStatus } from './give-back.ts';
import type { SwapExposure } from './tmpfs-directory.ts';

/** A lease as `memcloud status` shows it. */
export interface LeaseStatus {
  readonly leaseId: string;
  readonly slabHandle: number;
  readonly holder: NodeId;
  /** The provider's life in which it was granted. */
  readonly epoch: number;
  readonly pageCount: number;
  /** Bytes charged against the offer. */
  readonly chargedBytes: number;
  /** Of those, resident in RAM. */
  readonly residentBytes: number;
  /** Time to its deadline, 0 when it has passed and the wipe is due. */
  readonly expiresInMs: number;
}

/** A provider as `memcloud status` and `memcloud doctor` show it. */
export interface ProviderStatus {
  readonly usage: ProviderUsage;
  /** Where the backing files are. */
  readonly directory: string;
  /** The backing files. */
  readonly files: readonly string[];
  /** Whether the kernel may write lent pages to a swap device of this machine. */
  readonly swap: SwapExposure;
  /** Why there is no private `noswap` mount; empty when there is one. */
  readonly noMountReason: string;
  /** RAM that new leases leave to the host, bytes. */
  readonly reserveBytes: number;
  /** Pressure of memory, drain, and what is asked back for them. */
  readonly giveBack: GiveBackStatus;
  /** The managed leases, oldest first; slabs in them are leases as well. */
  readonly managed: readonly ManagedLeaseState[];
  /** The leases, oldest first. */
  readonly leases: readonly LeaseStatus[];
}
