/** A managed lease as memnode tells of it, for tests of what is said about it. */
import type { ManagedLeaseInfo } from '../../common/rpc-managed.ts';

/** A lease in use by a volume, renewed; with 500 s of its 10 min left. */
export function managedLease(change: Partial<ManagedLeaseInfo> = {}): ManagedLeaseInfo {
  return {
    ...{
      leaseId: 'ab'.repeat(16),
      provider: '',
      providerName: 'alpha',
      sizeBytes: 1,
      usedBytes: 0,
    },
    ...{ state: 'active', endsInMs: 500_000, ttlMs: 600_000, warnedMs: null, renews: true },
    ...{ purpose: 'volume disk', reason: '', problem: '' },
    ...change,
  };
}
