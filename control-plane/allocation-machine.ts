/**
 * How leases are granted and taken into use. A machine: decisions over `LedgerState`, time and randomness
 * as arguments.
 *
 *   request:  quota, placement -> leases `granted`, each with a token
 *   token:    one more token for a lease that was not presented
 *   redeem:   the provider asks whether a token counts -> `active`, once
 *   replace:  a provider did not take its client in -> another one, or the whole request is taken back
 */
import { MANAGED_TTL_MIN_MS, TOKEN_TTL_MAX_MS } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { formatSize } from '../common/units.ts';
import type { ErrorCode } from '../common/errors.ts';
import { decided, refused, Steps, type Decision, type Step } from './decision.ts';
import type { Lease, LedgerState } from './ledger-state.ts';
import { place } from './placement.ts';
import {
  PREFIX,
  type LeaseRecord,
  type MemberRecord,
  type ProviderRecord,
} from './record-codec.ts';
import type { ManagedParams } from './schema.ts';

/** Managed leases that one control plane keeps at most. */
export const LEASE_COUNT_MAX = 200_000;
/** Tokens of one lease that may be used at most; the oldest dies for one more. */
const TOKEN_COUNT_MAX = 4;

/** A lease that may be presented. */
export interface Grant {
  readonly lease: LeaseRecord;
  /** Of its new token. */
  readonly jti: string;
  readonly provider: ProviderRecord;
}

type Request = ManagedParams<'lease.request'>;

/** Records that a client was refused. */
function deny<T>(
  state: LedgerState,
  steps: Steps,
  nowMs: number,
  request: { readonly client: NodeId; readonly count: number; readonly sizeBytes: number },
  code: ErrorCode,
  message: string,
): Decision<T> {
  const { client, count, sizeBytes } = request;
  state.denied.add(nowMs, 1);
  state.meter(client, nowMs).leasesDenied += count;
  const step = steps.next;
  state.storeUsage(step, client, nowMs);
  const suppressed = state.denialLines.take(client, nowMs);
  if (suppressed !== undefined) {
    const detail = {
      client,
      clientName: state.nameOf(client),
      sizeBytes,
      count,
      code,
      why: message,
    };
    step.note('lease.denied', suppressed === 0 ? detail : { ...detail, suppressed });
  }
  return refused(steps, code, message);
}

function newToken(state: LedgerState, step: Step, nowMs: number, lease: Lease): Grant {
  const [oldest] = lease.tokens.keys();
  if (lease.tokens.size >= TOKEN_COUNT_MAX && oldest !== undefined) {
    lease.tokens.delete(oldest);
    state.tokens.delete(oldest);
    step.remove(PREFIX.token + oldest);
  }
  const jti = state.world.newId();
  lease.tokens.set(jti, nowMs + TOKEN_TTL_MAX_MS);
  state.tokens.set(jti, lease);
  const { leaseId, provider } = lease.record;
  step.put(PREFIX.token + jti, { leaseId, epoch: state.world.epoch });
  state.schedule(lease);
  return { lease: lease.record, jti, provider: state.provider(provider, nowMs).record };
}

function ttlTooShort(ttlMs: number): string {
  return `time to live: expected at least ${MANAGED_TTL_MIN_MS} ms, got ${ttlMs} ms`;
}

/** What the quota of a client does not allow, in a sentence. */
function overQuota(state: LedgerState, member: MemberRecord, request: Request): string | undefined {
  const meter = state.usage.get(member.nodeId);
  const { usedBytes = 0, usedLeases = 0 } = meter ?? {};
  const { quotaBytes, quotaLeases } = member;
  const askedBytes = request.sizeBytes * request.count;
  if (quotaBytes !== null && usedBytes + askedBytes > quotaBytes) {
    return (
      `asked for ${formatSize(askedBytes)}; of the quota of ${formatSize(quotaBytes)}, ` +
      `${formatSize(usedBytes)} are leased and ${formatSize(Math.max(0, quotaBytes - usedBytes))} ` +
      'are left; release leases, or ask an admin for more'
    );
  }
  if (quotaLeases !== null && usedLeases + request.count > quotaLeases) {
    return (
      `asked for ${request.count} leases; of the quota of ${quotaLeases}, ${usedLeases} are in ` +
      'use; release leases, or ask an admin for more'
    );
  }
  return undefined;
}

/** Chooses providers and enters a lease on each. */
function grant(
  state: LedgerState,
  steps: Steps,
  nowMs: number,
  client: NodeId,
  request: Request,
  kept: { readonly leaseIds: readonly string[]; readonly avoid: readonly NodeId[] },
): Decision<Grant[]> {
  const own = state.providers.get(client)?.record.hostId;
  const usedHostIds = kept.leaseIds.map((leaseId) => {
    const provider = state.leases.get(leaseId)?.record.provider ?? '';
    return state.providers.get(provider)?.record.hostId ?? '';
  });
  const candidates = [...state.providers.values()].map((provider) => {
    const { nodeId, hostId, zone, offeredBytes, draining } = provider.record;
    const { isUp, isAccepting, isDraining, load } = provider;
    const lends = isUp && isAccepting && !isDraining && !draining;
    const isOpen = lends && state.hasRole(nodeId, 'provider');
    return {
      nodeId,
      hostId,
      zone,
      isOpen,
      offeredBytes,
      freeBytes: state.freeBytes(provider),
      load,
    };
  });
  const placement = place(
    candidates,
    {
      sizeBytes: request.sizeBytes,
      count: request.count,
      zone: request.zone,
      include: request.include,
      exclude: [...(request.exclude ?? []), ...kept.avoid],
      ownHostId: request.hostId ?? own,
      usedHostIds,
    },
    state.world.random,
  );
  if ('why' in placement) {
    return deny(state, steps, nowMs, { ...request, client }, 'ERR_LEASE_CAPACITY', placement.why);
  }
  const step = steps.next;
  const { requestId, sizeBytes, ttlMs, purpose } = request;
  const grants = placement.nodeIds.map((provider) => {
    const leaseId = state.world.newId();
    const lease = state.addLease(step, nowMs, {
      ...{ leaseId, client, provider, sizeBytes, ttlMs, purpose, requestId },
      ...{ state: 'granted', reason: null },
    });
    const { name } = state.provider(provider, nowMs).record;
    const detail = {
      leaseId,
      client,
      clientName: state.nameOf(client),
      provider,
      sizeBytes,
      ttlMs,
    };
    step.note('lease.granted', { ...detail, providerName: name, purpose });
    step.tell('lease.granted', detail);
    return newToken(state, step, nowMs, lease);
  });
  const leaseIds = [...kept.leaseIds, ...grants.map(({ lease }) => lease.leaseId)];
  const record = { client, sizeBytes, ttlMs, leaseIds };
  state.requests.set(requestId, record);
  step.put(PREFIX.request + requestId, record);
  state.meter(client, nowMs).leasesGranted += grants.length;
  state.granted.add(nowMs, 1);
  state.storeUsage(step, client, nowMs);
  return decided(steps, grants);
}

/** A request that was granted before: its leases with fresh tokens. */
function grantAgain(
  state: LedgerState,
  steps: Steps,
  nowMs: number,
  client: NodeId,
  request: Request,
): Decision<Grant[]> | undefined {
  const known = state.requests.get(request.requestId);
  if (known === undefined) return undefined;
  if (known.client !== client) {
    return refused(steps, 'ERR_CONTROL_DENIED', 'this request id is taken; use random ones');
  }
  const { sizeBytes, ttlMs, leaseIds } = known;
  if (
    sizeBytes !== request.sizeBytes ||
    ttlMs !== request.ttlMs ||
    leaseIds.length !== request.count
  ) {
    return refused(
      steps,
      'ERR_LEASE_INVALID',
      'this request id was used for another size, time or count; use a new one for a new request',
    );
  }
  const leases = leaseIds.flatMap((id) => state.leases.get(id) ?? []);
  if (leases.length < leaseIds.length || leases.some(({ record }) => record.state !== 'granted')) {
    return refused(
      steps,
      'ERR_LEASE_INVALID',
      'the leases of this request are in use already, or ended; use a new request id for new ones',
    );
  }
  const step = steps.next;
  return decided(
    steps,
    leases.map((lease) => newToken(state, step, nowMs, lease)),
  );
}

/** Grants a request, all of it or nothing. Refusals: `ERR_CONTROL_QUOTA`, `ERR_LEASE_CAPACITY`, `ERR_LEASE_INVALID`. */
export function requestLeases(
  state: LedgerState,
  nowMs: number,
  client: NodeId,
  request: Request,
): Decision<Grant[]> {
  const steps = new Steps();
  const again = grantAgain(state, steps, nowMs, client, request);
  if (again !== undefined) return again;
  const asked = { ...request, client };
  if (request.ttlMs < MANAGED_TTL_MIN_MS) {
    return refused(steps, 'ERR_LEASE_INVALID', ttlTooShort(request.ttlMs));
  }
  const member = state.members.get(client);
  if (member?.roles.includes('client') !== true) {
    const why = 'this node is no client of this control plane';
    return deny(state, steps, nowMs, asked, 'ERR_CONTROL_DENIED', why);
  }
  const problem = overQuota(state, member, request);
  if (problem !== undefined) return deny(state, steps, nowMs, asked, 'ERR_CONTROL_QUOTA', problem);
  if (state.leases.size + request.count > LEASE_COUNT_MAX) {
    const why = `this control plane keeps ${LEASE_COUNT_MAX} leases at most; ${state.leases.size} live`;
    return deny(state, steps, nowMs, asked, 'ERR_LEASE_CAPACITY', why);
  }
  return grant(state, steps, nowMs, client, request, { leaseIds: [], avoid: [] });
}

/** Takes back leases that nobody has presented. */
function withdraw(
  state: LedgerState,
  step: Step,
  nowMs: number,
  leaseIds: readonly string[],
): void {
  for (const leaseId of leaseIds) {
    const lease = state.leases.get(leaseId);
    if (lease?.record.state !== 'granted') continue;
    const { client, provider } = lease.record;
    state.meter(client, nowMs).leasesGranted -= 1;
    state.dropLease(step, nowMs, lease);
    step.note('lease.withdrawn', { leaseId, client, provider, why: 'the provider did not answer' });
    step.tell('lease.ended', { leaseId, client, provider, reason: 'provider' });
  }
}

/**
 * Takes back those of a request's leases whose providers did not answer and grants others instead; takes
 * back all of the request when there are none.
 *
 * @param failed - the leases to take back
 * @param mayTryAgain - false: only take all back
 * @returns the leases that were granted instead
 */
export function replaceLeases(
  state: LedgerState,
  nowMs: number,
  client: NodeId,
  request: Request,
  failed: readonly string[],
  mayTryAgain: boolean,
): Decision<Grant[]> {
  const steps = new Steps();
  const step = steps.next;
  const known = state.requests.get(request.requestId);
  const avoid = failed.flatMap((id) => state.leases.get(id)?.record.provider ?? []);
  const kept = (known?.leaseIds ?? []).filter((id) => !failed.includes(id) && state.leases.has(id));
  withdraw(state, step, nowMs, failed);
  const isWhole = kept.length + failed.length === request.count;
  if (mayTryAgain && isWhole) {
    const missing = { ...request, count: failed.length };
    const instead = grant(state, steps, nowMs, client, missing, { leaseIds: kept, avoid });
    if ('value' in instead.answer) return instead;
    withdraw(state, step, nowMs, kept);
    return instead;
  }
  withdraw(state, step, nowMs, kept);
  const names = avoid.map((id) => state.providers.get(id)?.record.name ?? id.slice(0, 8));
  const why = `the provider that was chosen did not answer: ${names.join(', ')}; ask again`;
  return deny(state, steps, nowMs, { ...request, client }, 'ERR_LEASE_CAPACITY', why);
}

/** One more token for a lease that was not presented. Refusals: `ERR_LEASE_UNKNOWN`, `ERR_LEASE_INVALID`. */
export function freshToken(
  state: LedgerState,
  nowMs: number,
  client: NodeId,
  leaseId: string,
): Decision<Grant> {
  const steps = new Steps();
  const lease = state.leases.get(leaseId);
  if (lease?.record.client !== client) {
    return refused(steps, 'ERR_LEASE_UNKNOWN', `this node has no managed lease ${leaseId}`);
  }
  if (lease.record.state !== 'granted') {
    return refused(steps, 'ERR_LEASE_INVALID', `lease ${leaseId} was presented already`);
  }
  if (nowMs > lease.deadlineMs) {
    return refused(steps, 'ERR_LEASE_UNKNOWN', `lease ${leaseId} was never presented and is over`);
  }
  return decided(steps, newToken(state, steps.next, nowMs, lease));
}

/** Refuses a token, with a line in the audit log. @param why - has no part of the token */
export function refuseToken<T>(
  state: LedgerState,
  nowMs: number,
  provider: NodeId,
  client: NodeId,
  why: string,
): Decision<T> {
  const steps = new Steps();
  const suppressed = state.denialLines.take(provider, nowMs);
  if (suppressed !== undefined) {
    const detail = { provider, client, clientName: state.nameOf(client), why };
    steps.next.note('token.refused', suppressed === 0 ? detail : { ...detail, suppressed });
  }
  return refused(steps, 'ERR_TOKEN', why);
}

/**
 * Takes a lease into use: yes once for each token. Its signature, audience and client are checked by the
 * caller.
 */
export function redeemToken(
  state: LedgerState,
  nowMs: number,
  presented: {
    readonly provider: NodeId;
    readonly life: string;
    readonly client: NodeId;
    readonly jti: string;
    readonly leaseId: string;
  },
): Decision<LeaseRecord> {
  const { provider: providerId, life, client, jti, leaseId } = presented;
  const refuse = (why: string): Decision<LeaseRecord> =>
    refuseToken(state, nowMs, providerId, client, why);
  const provider = state.providers.get(providerId);
  if (provider?.isRegistered !== true || provider.record.life !== life) {
    return refuse('the provider has not registered with this leader; it is to register first');
  }
  const lease = state.tokens.get(jti);
  const diesMs = lease?.tokens.get(jti) ?? 0;
  if (lease?.record.leaseId !== leaseId) {
    return refuse('the token was used already, or its lease has ended');
  }
  if (diesMs <= nowMs) return refuse('the token is older than a minute');
  if (lease.record.provider !== providerId || lease.record.client !== client) {
    return refuse('the token is of another client or provider');
  }
  const steps = new Steps();
  const step = steps.next;
  state.dropTokens(step, lease);
  lease.record = { ...lease.record, state: 'active' };
  lease.deadlineMs = nowMs + lease.record.ttlMs;
  state.storeLease(step, lease);
  const detail = { leaseId, client, provider: providerId, sizeBytes: lease.record.sizeBytes };
  step.note('lease.active', { ...detail, ttlMs: lease.record.ttlMs });
  step.tell('lease.active', { ...detail, ttlMs: lease.record.ttlMs });
  return decided(steps, lease.record);
}
