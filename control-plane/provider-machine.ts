/**
 * Providers as the leader sees them: there or gone, and with which leases. A machine: decisions over
 * `LedgerState`, time as an argument.
 *
 * A provider *registers* in each session with every leader: its life (another one means that all leases of
 * before are gone with its memory) and the leases that it keeps. Then both books are made equal: what the
 * leader does not count is ended, what the provider does not keep is not counted any longer, and deadlines
 * are the provider's. After that it sends heartbeats; without them, or without a session, it is down.
 */
import { MANAGED_TTL_MAX_MS, TOKEN_TTL_MAX_MS } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { formatAddress } from '../common/units.ts';
import { decided, refused, Steps, type Decision, type Step } from './decision.ts';
import { END_RETRY_MS, ENDED_GRACE_MS, finishLease } from './lease-machine.ts';
import type { LedgerState, Provider } from './ledger-state.ts';
import { PREFIX, type ProviderRecord } from './record-codec.ts';
import { providerRow, providerState } from './rows.ts';
import type { ManagedParams, ManagedResult } from './schema.ts';

/** How often a provider says that it is there, milliseconds. */
export const HEARTBEAT_MS = 1_000;
/** A provider that said nothing for so long is down, milliseconds. */
export const HEARTBEAT_LIMIT_MS = 3_000;
/** Leases that a provider may tell of in one registration. */
const REPORTED_LEASE_COUNT_MAX = 100_000;

/** Who registers, as its session proves it. */
export interface ProviderSession {
  readonly nodeId: NodeId;
  /** 64 hex digits. */
  readonly publicKey: string;
  readonly name: string;
  /** The host that its session comes from. */
  readonly host: string;
}

type Registration = ManagedParams<'provider.register'>;

/** What is stored of a provider, as its registration says. */
function recordOf(
  session: ProviderSession,
  known: ProviderRecord,
  registration: Registration,
): ProviderRecord {
  const { nodeId, publicKey, name } = session;
  const { life, hostId, zone, host, port, offeredBytes } = registration;
  const address = formatAddress(host ?? session.host, port);
  const { draining } = known;
  return { nodeId, publicKey, name, address, hostId, zone, life, draining, offeredBytes };
}

/** All leases that an earlier life of a provider kept are gone with it. */
function endLife(state: LedgerState, steps: Steps, nowMs: number, provider: Provider): void {
  for (const lease of [...provider.leases]) {
    const { state: phase, reason } = lease.record;
    if (phase === 'granted') continue;
    const why = 'the provider began anew, and its memory went with the old process';
    finishLease(state, steps.next, nowMs, lease, reason ?? 'provider', why);
  }
}

/** The leases that one part of a registration tells of. @returns those to end */
function reconcilePart(
  state: LedgerState,
  nowMs: number,
  provider: Provider,
  registration: Registration,
  reported: Set<string>,
): string[] {
  const end: string[] = [];
  for (const { leaseId, client, ttlMs } of registration.leases) {
    const lease = state.leases.get(leaseId);
    const isOurs = lease?.record.provider === provider.record.nodeId;
    if (!isOurs || lease.record.client !== client || lease.record.state === 'granted') {
      end.push(leaseId);
      continue;
    }
    reported.add(leaseId);
    lease.isOver = false;
    lease.dropMs = Infinity;
    lease.deadlineMs = nowMs + ttlMs;
    lease.endMs = nowMs + END_RETRY_MS;
    if (lease.record.state === 'ending') end.push(leaseId);
    state.schedule(lease);
  }
  return end;
}

/** What the last part of a registration leaves: leases that the provider does not keep, clients to let in. */
function reconcileRest(
  state: LedgerState,
  step: Step,
  nowMs: number,
  provider: Provider,
  reported: ReadonlySet<string>,
): void {
  const { nodeId } = provider.record;
  for (const lease of provider.leases) {
    const { leaseId, client, state: phase, reason, ttlMs } = lease.record;
    if (phase === 'granted') {
      const admitMs = Math.min(MANAGED_TTL_MAX_MS, ttlMs + TOKEN_TTL_MAX_MS);
      step.messages.push({ kind: 'admit', to: nodeId, client, ttlMs: admitMs });
    } else if (!reported.has(leaseId)) {
      // A yes to its token may still be on the way there: it is told to end what it may yet begin.
      lease.isOver = true;
      lease.dropMs = nowMs + ENDED_GRACE_MS;
      step.send('end', nodeId, leaseId, reason ?? 'provider');
      state.schedule(lease);
    }
  }
}

function setUp(
  state: LedgerState,
  step: Step,
  nowMs: number,
  provider: Provider,
  isUp: boolean,
): void {
  if (provider.isUp === isUp) return;
  provider.isUp = isUp;
  const { nodeId, name, offeredBytes, zone, address } = provider.record;
  const detail = { provider: nodeId, name, zone, offeredBytes, address };
  step.note(isUp ? 'provider.up' : 'provider.down', detail);
  step.tell(isUp ? 'provider.up' : 'provider.down', providerRow(state, nowMs, provider));
  for (const lease of provider.leases) {
    const { leaseId, reason, state: phase } = lease.record;
    // What ended while it was away and its session lived on; a registration is answered with the same.
    if (isUp && phase === 'ending') step.send('end', nodeId, leaseId, reason ?? 'revoked');
    state.schedule(lease);
  }
}

/** One part of a registration. Refusal: `ERR_LEASE_INVALID` when it tells of too many leases. */
export function registerProvider(
  state: LedgerState,
  nowMs: number,
  session: ProviderSession,
  registration: Registration,
): Decision<ManagedResult<'provider.register'>> {
  const steps = new Steps();
  const { life, leases, more, otherBytes, accepting, draining } = registration;
  const provider = state.provider(session.nodeId, nowMs);
  const before = provider.record;
  if (before.life !== life) endLife(state, steps, nowMs, provider);
  const record = recordOf(session, before, registration);
  if (JSON.stringify(record) !== JSON.stringify(before)) {
    provider.record = record;
    steps.next.put(PREFIX.provider + session.nodeId, record);
  }
  if (provider.partial?.life !== life) provider.partial = { life, leaseIds: new Set() };
  const reported = provider.partial.leaseIds;
  if (reported.size + leases.length > REPORTED_LEASE_COUNT_MAX) {
    provider.partial = undefined;
    const why = `expected at most ${REPORTED_LEASE_COUNT_MAX} leases of one provider`;
    return refused(steps, 'ERR_LEASE_INVALID', why);
  }
  const end = reconcilePart(state, nowMs, provider, registration, reported);
  Object.assign(provider, { otherBytes, isAccepting: accepting, isDraining: draining });
  provider.seenMs = nowMs;
  if (more !== true) {
    provider.partial = undefined;
    provider.isRegistered = true;
    reconcileRest(state, steps.next, nowMs, provider, reported);
    setUp(state, steps.next, nowMs, provider, true);
  }
  return decided(steps, { epoch: state.world.epoch, end, heartbeatMs: HEARTBEAT_MS });
}

/** "I am there." */
export function heartbeat(
  state: LedgerState,
  nowMs: number,
  nodeId: NodeId,
  beat: ManagedParams<'provider.heartbeat'>,
): Decision<ManagedResult<'provider.heartbeat'>> {
  const steps = new Steps();
  const { epoch } = state.world;
  const provider = state.providers.get(nodeId);
  if (provider?.isRegistered !== true || provider.record.life !== beat.life) {
    return decided(steps, { epoch, register: true });
  }
  const before = providerState(state, provider);
  const { offeredBytes, otherBytes, accepting, draining, load } = beat;
  provider.seenMs = nowMs;
  const isOther = offeredBytes !== provider.record.offeredBytes;
  Object.assign(provider, { otherBytes, isAccepting: accepting, isDraining: draining, load });
  if (isOther) {
    provider.record = { ...provider.record, offeredBytes };
    steps.next.put(PREFIX.provider + nodeId, provider.record);
  }
  const wasUp = provider.isUp;
  setUp(state, steps.next, nowMs, provider, true);
  const after = providerState(state, provider);
  if (wasUp && (isOther || after !== before)) {
    steps.next.tell('provider.changed', providerRow(state, nowMs, provider));
  }
  return decided(steps, { epoch });
}

/** The session of a provider ended: it is down, and registers when it comes again. */
export function providerLost(state: LedgerState, nowMs: number, nodeId: NodeId): Steps {
  const steps = new Steps();
  const provider = state.providers.get(nodeId);
  if (provider === undefined) return steps;
  provider.isRegistered = false;
  provider.partial = undefined;
  setUp(state, steps.next, nowMs, provider, false);
  return steps;
}

/** Marks providers down that said nothing for too long. */
export function tickProviders(state: LedgerState, nowMs: number): Steps {
  const steps = new Steps();
  for (const provider of state.providers.values()) {
    if (!provider.isUp || nowMs - provider.seenMs <= HEARTBEAT_LIMIT_MS) continue;
    setUp(state, steps.next, nowMs, provider, false);
  }
  return steps;
}

/** Nothing more is placed on a provider, or again. */
export function drainProvider(
  state: LedgerState,
  nowMs: number,
  provider: Provider,
  draining: boolean,
): Decision<Provider> {
  const steps = new Steps();
  if (provider.record.draining === draining) return decided(steps, provider);
  const { nodeId, name } = provider.record;
  provider.record = { ...provider.record, draining };
  const step = steps.next;
  step.put(PREFIX.provider + nodeId, provider.record);
  step.note('provider.drain', { provider: nodeId, name, draining });
  step.tell('provider.changed', providerRow(state, nowMs, provider));
  return decided(steps, provider);
}
