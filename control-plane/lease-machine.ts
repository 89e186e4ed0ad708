/**
 * How leases live on and end. A machine: decisions over `LedgerState`, time as an argument.
 *
 * | state     | means                                              | left by                                     |
 * | --------- | -------------------------------------------------- | ------------------------------------------- |
 * | `granted` | its bytes are kept free, nobody presented it       | redeem; its last token died; release, revoke |
 * | `active`  | the provider set its bytes aside                   | release, revoke, the provider's word        |
 * | `ending`  | to be ended; the provider has not said it is wiped | its word; the deadline, while it is down    |
 *
 * The provider keeps the deadline. The leader only stops to count a lease: when the provider says that it
 * is wiped, or when it is over and the provider is not there to say.
 */
import { MANAGED_TTL_MIN_MS, type ManagedEndReason } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { decided, Steps, type Decision, type Step } from './decision.ts';
import type { Lease, LedgerState } from './ledger-state.ts';
import type { ManagedParams } from './schema.ts';

/** What a provider says of leases that ended. */
export type Endings = ManagedParams<'provider.ended'>['endings'];

/** A provider that does not say that a lease is wiped is asked again, milliseconds. */
export const END_RETRY_MS = 5_000;
/** The provider's own word of an end is waited for so long before it is asked, milliseconds. */
export const ENDED_GRACE_MS = 2_000;
/** Leases that a tick deals with at most; the rest is due at the next. */
const TICK_LEASE_COUNT_MAX = 2_000;

/** Takes a lease out and tells of it. */
export function finishLease(
  state: LedgerState,
  step: Step,
  nowMs: number,
  lease: Lease,
  reason: ManagedEndReason,
  why: string,
): void {
  const { leaseId, client, provider, sizeBytes } = lease.record;
  const wasTold = lease.record.state === 'ending';
  state.dropLease(step, nowMs, lease);
  const detail = { leaseId, client, provider, sizeBytes, reason };
  step.note('lease.ended', { ...detail, why });
  step.tell('lease.ended', detail);
  if (!wasTold && reason !== 'released') step.send('ending', client, leaseId, reason);
}

/** Ends a lease: at once when nobody presented it, else by its provider. */
export function endLease(
  state: LedgerState,
  step: Step,
  nowMs: number,
  lease: Lease,
  reason: 'released' | 'revoked',
): void {
  const { leaseId, client, provider, sizeBytes } = lease.record;
  if (lease.record.state === 'granted') {
    finishLease(state, step, nowMs, lease, reason, 'it was not presented yet');
    return;
  }
  const isUp = state.providers.get(provider)?.isUp === true;
  if (isUp) step.send('end', provider, leaseId, reason);
  lease.endMs = nowMs + END_RETRY_MS;
  if (lease.record.state === 'active') {
    lease.record = { ...lease.record, state: 'ending', reason };
    step.note(`lease.${reason}`, { leaseId, client, provider, sizeBytes });
    if (reason === 'revoked') step.send('ending', client, leaseId, reason);
  }
  state.storeLease(step, lease);
}

/** Gives leases of a client back. @returns ids of none of its leases */
export function releaseLeases(
  state: LedgerState,
  nowMs: number,
  client: NodeId,
  leaseIds: readonly string[],
): Decision<string[]> {
  const steps = new Steps();
  const unknown: string[] = [];
  for (const leaseId of leaseIds) {
    const lease = state.leases.get(leaseId);
    if (lease?.record.client !== client) unknown.push(leaseId);
    else endLease(state, steps.next, nowMs, lease, 'released');
  }
  return decided(steps, unknown);
}

/** Ends leases at once. @returns how many */
export function revokeLeases(
  state: LedgerState,
  nowMs: number,
  leases: Iterable<Lease>,
  steps = new Steps(),
): Decision<number> {
  let count = 0;
  for (const lease of [...leases]) {
    endLease(state, steps.next, nowMs, lease, 'revoked');
    count += 1;
  }
  return decided(steps, count);
}

/** What came of a renewal before the providers were told. */
export interface Renewal {
  /** Leases to extend, by provider. */
  readonly extend: ReadonlyMap<NodeId, readonly string[]>;
  readonly refused: readonly { readonly leaseId: string; readonly why: string }[];
}

/** Stores a renewal; the providers are told before it is answered. */
export function renewLeases(
  state: LedgerState,
  nowMs: number,
  client: NodeId,
  { leaseIds, ttlMs }: ManagedParams<'lease.renew'>,
): Decision<Renewal> {
  const steps = new Steps();
  const extend = new Map<NodeId, string[]>();
  const refused: { leaseId: string; why: string }[] = [];
  for (const leaseId of new Set(leaseIds)) {
    const lease = state.leases.get(leaseId);
    const tooShort = `expected at least ${MANAGED_TTL_MIN_MS} ms, got ${ttlMs} ms`;
    const isShort = ttlMs < MANAGED_TTL_MIN_MS;
    const why = isShort ? tooShort : whyNotRenewed(state, client, lease);
    if (lease === undefined || why !== undefined) {
      refused.push({ leaseId, why: why ?? 'unknown' });
      continue;
    }
    const { provider } = lease.record;
    lease.record = { ...lease.record, ttlMs };
    // Whether or not the provider hears of it, it does not end before the earlier deadline.
    lease.deadlineMs = Math.max(lease.deadlineMs, nowMs + ttlMs);
    state.storeLease(steps.next, lease);
    steps.next.tell('lease.renewed', { leaseId, client, provider, ttlMs });
    extend.set(provider, [...(extend.get(provider) ?? []), leaseId]);
  }
  return decided(steps, { extend, refused });
}

function whyNotRenewed(
  state: LedgerState,
  client: NodeId,
  lease: Lease | undefined,
): string | undefined {
  if (lease?.record.client !== client) return 'unknown';
  if (lease.record.state === 'granted') return 'it was not presented yet';
  if (lease.record.state === 'ending' || lease.isOver) return 'it is ending';
  if (!state.hasRole(client, 'client')) return 'this node is no client any more';
  const provider = state.providers.get(lease.record.provider);
  if (provider?.isUp === true) return undefined;
  return `its provider ${provider?.record.name ?? ''} is down`;
}

/** The provider does not know leases that it was told of: they are over, if it says nothing else in a moment. */
export function leasesUnknown(
  state: LedgerState,
  nowMs: number,
  provider: NodeId,
  leaseIds: readonly string[],
): void {
  for (const leaseId of leaseIds) {
    const lease = state.leases.get(leaseId);
    if (lease?.record.provider !== provider || lease.record.state === 'granted') continue;
    lease.isOver = true;
    lease.dropMs = Math.min(lease.dropMs, nowMs + ENDED_GRACE_MS);
    state.schedule(lease);
  }
}

/** Leases that ended at their provider, wiped. @param isValid - whether the receipt of each verifies */
export function leasesEnded(
  state: LedgerState,
  nowMs: number,
  provider: NodeId,
  endings: Endings,
  isValid: readonly boolean[],
): Decision<Record<string, never>> {
  const steps = new Steps();
  endings.forEach((ending, index) => {
    const { leaseId, reason, wipedBytes, wipeMs, receipt } = ending;
    const lease = state.leases.get(leaseId);
    const isKnown = lease?.record.provider === provider;
    // Told again, or of a lease that is no longer counted; its receipt is kept as long as that is no flood.
    if (!isKnown && state.denialLines.take(provider, nowMs) === undefined) return;
    const step = steps.next;
    const { client, sizeBytes } = isKnown ? lease.record : ending;
    const receiptValid = isValid[index] === true;
    step.note('lease.wiped', {
      ...{ leaseId, client, provider, sizeBytes, reason, wipedBytes, wipeMs },
      ...{ receipt, receiptValid, ...(isKnown ? {} : { late: true }) },
    });
    if (!isKnown) return;
    if (lease.record.state !== 'ending' && reason !== 'released') {
      step.send('ending', client, leaseId, reason);
    }
    state.dropLease(step, nowMs, lease);
    step.tell('lease.ended', { leaseId, client, provider, sizeBytes, reason });
  });
  return decided(steps, {});
}

/** Deals with the leases that are due. */
export function tickLeases(state: LedgerState, nowMs: number): Steps {
  const steps = new Steps();
  for (const leaseId of state.due.take(nowMs, TICK_LEASE_COUNT_MAX)) {
    const lease = state.leases.get(leaseId);
    if (lease !== undefined) leaseDue(state, steps.next, nowMs, lease);
  }
  return steps;
}

function leaseDue(state: LedgerState, step: Step, nowMs: number, lease: Lease): void {
  const { leaseId, provider, state: phase, reason } = lease.record;
  if (phase === 'granted') {
    finishLease(state, step, nowMs, lease, 'unused', 'its last token died');
    return;
  }
  const isPast = lease.deadlineMs <= nowMs;
  const byTime = isPast ? 'expired' : 'provider';
  if (lease.dropMs <= nowMs) {
    finishLease(state, step, nowMs, lease, reason ?? byTime, 'the provider does not know it');
    return;
  }
  if (state.providers.get(provider)?.isUp !== true) {
    if (isPast) finishLease(state, step, nowMs, lease, reason ?? byTime, 'the provider is down');
    else state.schedule(lease);
    return;
  }
  if (phase === 'active' && !lease.isOver) {
    // The provider's deadline is later than ours by the way of a message: its word is on the way.
    lease.isOver = true;
    lease.endMs = nowMs + ENDED_GRACE_MS;
  } else {
    step.send('end', provider, leaseId, reason ?? 'expired');
    lease.endMs = nowMs + END_RETRY_MS;
  }
  state.schedule(lease);
}
