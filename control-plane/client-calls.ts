/** The calls of clients (`lease.*`), answered by the leader. */
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import {
  MANAGED_LEASE_COUNT_MAX,
  MANAGED_TTL_MAX_MS,
  TOKEN_TTL_MAX_MS,
} from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { freshToken, replaceLeases, requestLeases, type Grant } from './allocation-machine.ts';
import { decideFor, type CallContext, type Handler } from './call-context.ts';
import { releaseLeases, renewLeases } from './lease-machine.ts';
import { leaseRow, pageOf } from './rows.ts';
import type { ManagedParams, ManagedResult } from './schema.ts';
import { signToken } from './tokens.ts';

type GrantRow = ManagedResult<'lease.token'>['lease'];

/** A grant as its client gets it, with a signed token. */
async function grantRow(context: CallContext, client: NodeId, grant: Grant): Promise<GrantRow> {
  const { leader, key, sessions } = context;
  const { leaseId, sizeBytes, ttlMs, provider } = grant.lease;
  const clientKey = sessions.get(client)?.publicKey;
  if (clientKey === undefined) {
    throw new MemcloudError('ERR_PEER_UNREACHABLE', 'the session of the client ended; ask again');
  }
  const { epoch } = leader;
  const { jti } = grant;
  const claims = { jti, leaseId, provider, client, clientKey, sizeBytes, ttlMs, epoch };
  const { publicKey, name, address, hostId, zone } = grant.provider;
  return {
    leaseId,
    sizeBytes,
    ttlMs,
    token: await signToken(key, claims, TOKEN_TTL_MAX_MS),
    provider: { nodeId: provider, publicKey, name, address, hostId, zone },
  };
}

/** Tells the providers of grants to let the client in. @returns the leases of those that did not say yes */
async function admitAll(
  { leader }: CallContext,
  client: NodeId,
  grants: readonly Grant[],
): Promise<string[]> {
  const failed: string[] = [];
  await Promise.all(
    grants.map(async ({ lease }) => {
      const ttlMs = Math.min(MANAGED_TTL_MAX_MS, lease.ttlMs + TOKEN_TTL_MAX_MS);
      try {
        await leader.admit(lease.provider, client, ttlMs);
      } catch {
        failed.push(lease.leaseId);
      }
    }),
  );
  return failed;
}

/** Grants, has the client let in, and where a provider does not, grants once elsewhere. */
async function grantLeases(
  context: CallContext,
  client: NodeId,
  request: ManagedParams<'lease.request'>,
): Promise<ManagedResult<'lease.request'>> {
  let grants = await decideFor(context, client, (state, nowMs) =>
    requestLeases(state, nowMs, client, request),
  );
  for (let mayTryAgain = true; ; mayTryAgain = false) {
    const failed = await admitAll(context, client, grants);
    if (failed.length === 0) break;
    const instead = await context.leader.decide((state, nowMs) =>
      replaceLeases(state, nowMs, client, request, failed, mayTryAgain),
    );
    const kept = grants.filter(({ lease }) => !failed.includes(lease.leaseId));
    grants = [...kept, ...instead];
  }
  const leases = await Promise.all(grants.map((grant) => grantRow(context, client, grant)));
  return { leases, epoch: context.leader.epoch };
}

const request: Handler<'lease.request'> = async (context, from, params) => {
  const { granting } = context;
  // The same request asked again while the first one is under way comes after it.
  for (let before; (before = granting.get(params.requestId)) !== undefined;) {
    await before.catch(() => undefined);
  }
  const answer = grantLeases(context, from, params);
  granting.set(params.requestId, answer);
  try {
    return await answer;
  } finally {
    granting.delete(params.requestId);
  }
};

const token: Handler<'lease.token'> = async (context, from, { leaseId }) => {
  const grant = await decideFor(context, from, (state, nowMs) =>
    freshToken(state, nowMs, from, leaseId),
  );
  const [failed] = await admitAll(context, from, [grant]);
  if (failed === undefined) return { lease: await grantRow(context, from, grant) };
  const { name } = grant.provider;
  throw new MemcloudError(
    'ERR_PEER_UNREACHABLE',
    `its provider ${name} does not answer; ask again`,
  );
};

const renew: Handler<'lease.renew'> = async (context, from, params) => {
  const { leader, outbox } = context;
  const { extend, refused } = await decideFor(context, from, (state, nowMs) =>
    renewLeases(state, nowMs, from, params),
  );
  const renewed: ManagedResult<'lease.renew'>['renewed'] = [];
  const all = [...refused];
  const { epoch } = leader;
  const { ttlMs } = params;
  const tell = async (provider: NodeId, leaseIds: readonly string[]): Promise<void> => {
    try {
      const leases = leaseIds.map((leaseId) => ({ leaseId, ttlMs }));
      const { unknown } = await outbox.ask(provider, 'manage.extend', { epoch, leases });
      for (const leaseId of leaseIds) {
        if (unknown.includes(leaseId)) all.push({ leaseId, why: 'its provider has it no more' });
        else renewed.push({ leaseId, ttlMs });
      }
      leader.unknownAt(provider, unknown);
    } catch (error) {
      const why = `its provider was not told: ${asMemcloudError(error).message}`.slice(0, 256);
      for (const leaseId of leaseIds) all.push({ leaseId, why });
    }
  };
  const parts = [...extend].flatMap(([provider, leaseIds]) =>
    Array.from({ length: Math.ceil(leaseIds.length / MANAGED_LEASE_COUNT_MAX) }, (_, part) => {
      const first = part * MANAGED_LEASE_COUNT_MAX;
      return { provider, leaseIds: leaseIds.slice(first, first + MANAGED_LEASE_COUNT_MAX) };
    }),
  );
  await Promise.all(parts.map(({ provider, leaseIds }) => tell(provider, leaseIds)));
  return { renewed, refused: all };
};

const release: Handler<'lease.release'> = async (context, from, { leaseIds }) => ({
  unknown: await decideFor(context, from, (state, nowMs) =>
    releaseLeases(state, nowMs, from, leaseIds),
  ),
});

const list: Handler<'lease.list'> = ({ leader, key }, from, { all, ...wish }) =>
  leader.read((state, nowMs) => {
    // This node itself asks as an admin, through its own socket.
    if (all === true && from !== key.nodeId && !state.hasRole(from, 'admin')) {
      throw new MemcloudError('ERR_CONTROL_DENIED', 'only an admin sees the leases of others');
    }
    const leases = all === true ? state.leases.values() : (state.clientLeases.get(from) ?? []);
    return pageOf(
      leases,
      ({ record }) => record.leaseId,
      (lease) => leaseRow(state, nowMs, lease),
      wish,
    );
  });

/** The calls of clients. */
export const clientCalls = {
  'lease.request': request,
  'lease.token': token,
  'lease.renew': renew,
  'lease.release': release,
  'lease.list': list,
};
