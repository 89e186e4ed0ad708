/** What direct devices need of managed leases: one for each copy, renewed for as long as the device lives. */
import type { LeaseProvider } from '../../control-plane/client-leases-machine.ts';

/** A lease under one copy of a direct device, as its journal keeps it. */
export interface DirectLease {
  readonly leaseId: string;
  readonly provider: LeaseProvider;
  readonly sizeBytes: number;
  readonly ttlMs: number;
  readonly purpose: string;
}

/** What is wanted. */
export interface DirectLeaseWish {
  /** Of the device. */
  readonly sizeBytes: number;
  /** Without: two where the control plane has room for two, else one. */
  readonly copies: number | undefined;
  /** Names or ids of the only providers to use. */
  readonly providers: readonly string[] | undefined;
  /** Of providers not to use. */
  readonly avoid: readonly string[] | undefined;
  /** About the leases. */
  readonly managed: { readonly ttlMs?: number | undefined; readonly zone?: string | undefined };
}

/** See the top of the file. */
export interface DirectLeases {
  /**
   * Leases for each copy, on machines of their own; presented to their providers, which are connected.
   *
   * @throws MemcloudError `ERR_CONTROL_UNREACHABLE`, `ERR_CONTROL_QUOTA`, `ERR_LEASE_CAPACITY`, ...
   */
  leaseDirect(wish: DirectLeaseWish): Promise<DirectLease[]>;
  /** Goes on with a lease of a former process. */
  adopt(lease: DirectLease): void;
  /** Says what leases are for, for people. */
  setPurpose(leaseIds: readonly string[], purpose: string): void;
  /** Gives leases back. @throws MemcloudError `ERR_CONTROL_UNREACHABLE` when nobody takes them */
  release(leaseIds: readonly string[]): Promise<void>;
}
