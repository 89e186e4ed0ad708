/** A managed lease of a volume, as the process that holds the volume's pages is told of it. */
import type { NodeId } from '../../common/ports.ts';

/** See the top of the file. JSON: it travels to the process of a mount. */
export interface PoolLease {
  /** 32 hex digits. */
  readonly leaseId: string;
  /** Which copy of the volume it is for: leases of different columns are on different machines. */
  readonly column: number;
  /** Bytes set aside, with all metadata of the slabs in it. */
  readonly sizeBytes: number;
  /** Nothing new is placed there, and what is there leaves. */
  readonly leaving: boolean;
  /** Until its end, when that is certain; null while it is renewed. Milliseconds. */
  readonly endsInMs: number | null;
  /** Who lends. */
  readonly provider: {
    readonly nodeId: NodeId;
    readonly name: string;
    /** `HOST:PORT`. */
    readonly address: string;
    /** 64 hex digits. */
    readonly publicKey: string;
  };
}

/** What the holder of the pages tells back. JSON as well. */
export interface PoolUse {
  /** Bytes in use as slabs, by lease. */
  readonly leases: readonly { readonly leaseId: string; readonly usedBytes: number }[];
  /** Providers that are connected, take slabs and are believed. */
  readonly sound: readonly NodeId[];
  /** Leases of which the provider has asked slabs back. */
  readonly recalled: readonly string[];
}
