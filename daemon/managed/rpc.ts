/** The RPC methods of managed mode: what a client of the control plane asks of its own memnode. */
import { MemcloudError } from '../../common/errors.ts';
import { MANAGED_TTL_DEFAULT_MS } from '../../common/managed.ts';
import type { NodeId } from '../../common/ports.ts';
import type {
  MANAGED_RPC_PARAMS,
  ManagedLeaseInfo,
  ManagedStatus,
} from '../../common/rpc-managed.ts';
import type { ClientLease } from '../../control-plane/client-leases-machine.ts';
import type { ClientLeases } from '../../control-plane/client-leases.ts';
import type { RpcHandlers } from '../rpc-server.ts';

/** What a lease that no volume, mount or device needs is for. */
const RESERVE = 'reserve';

/** What the methods work on. */
export interface ManagedContext {
  readonly leases: Pick<
    ClientLeases,
    'list' | 'get' | 'endsInMs' | 'request' | 'renew' | 'release'
  >;
  /** How this node stands with its control plane. */
  readonly status: () => ManagedStatus;
  /** Bytes in use under a lease. */
  readonly usedBytes: (leaseId: string) => number;
  /** Whether a provider answers: a session with it is there. */
  readonly isUp: (provider: NodeId) => boolean;
  /** Ids of providers by name or id. @throws `ERR_PEER_UNKNOWN` */
  readonly providerIds: (names: readonly string[] | undefined) => NodeId[] | undefined;
  /** One call to the leader, as this node. @throws `ERR_USAGE` when there is no such call, and as the leader says */
  readonly call: (call: string, params: unknown, signal: AbortSignal) => Promise<unknown>;
}

type ManagedHandlers = Pick<RpcHandlers, keyof typeof MANAGED_RPC_PARAMS>;

/** Refuses what needs a control plane. */
export function refuseUnmanaged(): never {
  throw new MemcloudError(
    'ERR_CONTROL_UNREACHABLE',
    'this node has no control plane: set control-plane in its configuration',
  );
}

/** How a node without a control plane stands. */
const UNMANAGED: ManagedStatus = {
  addresses: [],
  unpinned: [],
  connected: false,
  ...{ leader: '', cluster: '', roles: [], heardMsAgo: null, provider: null, problem: '' },
};

/** The leases of this node, as people see them. */
export function describeLeases(
  context: Pick<ManagedContext, 'leases' | 'usedBytes' | 'isUp'>,
  leases: readonly ClientLease[] = context.leases.list(),
): ManagedLeaseInfo[] {
  return leases.map((lease) => ({
    leaseId: lease.leaseId,
    provider: lease.provider.nodeId,
    providerName: lease.provider.name,
    sizeBytes: lease.sizeBytes,
    usedBytes: context.usedBytes(lease.leaseId),
    state: lease.state,
    endsInMs: Math.round(context.leases.endsInMs(lease)),
    ttlMs: lease.ttlMs,
    warnedMs: lease.warnedMs,
    renews: lease.renews && !lease.final,
    purpose: lease.purpose,
    reason: lease.reason ?? '',
    problem: lease.problem || awayOf(context, lease),
  }));
}

/** What is said of a lease whose provider is gone, long before its renewal fails. */
function awayOf(context: Pick<ManagedContext, 'isUp'>, { state, provider }: ClientLease): string {
  return state === 'ended' || context.isUp(provider.nodeId) ? '' : 'its provider does not answer';
}

/**
 * The handlers.
 *
 * @param find - what they work on; undefined for a node without a control plane
 */
export function managedHandlers(find: () => ManagedContext | undefined): ManagedHandlers {
  const require = (): ManagedContext => find() ?? refuseUnmanaged();
  return {
    'managed.status': () => find()?.status() ?? UNMANAGED,
    'managed.request': async (params, { signal }) => {
      const context = require();
      const { sizeBytes, ttlMs = MANAGED_TTL_DEFAULT_MS, count = 1, zone, renew = true } = params;
      const include = context.providerIds(params.providers);
      const wish = { sizeBytes, ttlMs, count, zone, include, purpose: RESERVE, renews: renew };
      return describeLeases(context, await context.leases.request(wish, signal));
    },
    'managed.list': () => {
      const context = find();
      return context === undefined ? [] : describeLeases(context);
    },
    'managed.renew': async ({ leaseIds, ttlMs }) => {
      const context = require();
      return describeLeases(context, await context.leases.renew(leaseIds, ttlMs));
    },
    'managed.release': async ({ leaseIds, force = false }) => {
      const { leases } = require();
      for (const leaseId of leaseIds) refuseUsed(leases.get(leaseId), leaseId, force);
      await leases.release(leaseIds);
      return null;
    },
    'control.call': ({ call, params }, { signal }) => require().call(call, params ?? {}, signal),
  };
}

function refuseUsed(lease: ClientLease | undefined, leaseId: string, force: boolean): void {
  if (lease === undefined) {
    const text = `this node holds no managed lease ${leaseId}: memcloud lease ls`;
    throw new MemcloudError('ERR_LEASE_UNKNOWN', text);
  }
  if (force || lease.purpose === RESERVE) return;
  throw new MemcloudError(
    'ERR_VOLUME_BUSY',
    `managed lease ${leaseId} is under ${lease.purpose}, whose pages would be wiped: remove that, or use --force`,
  );
}
