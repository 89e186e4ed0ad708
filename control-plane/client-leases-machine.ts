/**
 * The managed leases that a client holds, as time passes over them. A machine: what happened goes in with
 * the time at which it did, what is to be done comes out.
 *
 *   active --(a third of the ttl)--> renewed, or again and again until it works or the deadline comes
 *     |  ^                             |
 *     |  `----- renewed after all -----'   refused, but perhaps not for ever
 *     v                                v
 *   ending (it will not be renewed, or was refused) --> ended (its deadline passed, its memory is wiped)
 *
 * A deadline counts from when a renewal was asked for, not from its answer: the provider can only have
 * begun later, so what is left here is never more than what is left there. Whoever holds a lease is warned
 * at a half, at a quarter, a minute and ten seconds before its end.
 */
import { MANAGED_LEASE_COUNT_MAX, type ManagedEndReason } from '../common/managed.ts';
import type { ManagedResult } from './schema.ts';

/** Who lends, and how it is reached. */
export type LeaseProvider = ManagedResult<'lease.token'>['lease']['provider'];

/** Leases that a client holds at once at most. */
export const CLIENT_LEASE_COUNT_MAX = 4096;
/** A lease that ended is shown for so long, milliseconds. */
export const ENDED_SHOWN_MS = 60_000;
/** Times before the end at which everybody warns, besides shares of the ttl, milliseconds. */
const WARNINGS_MS = [60_000, 10_000];
/** Shares of the ttl at which it is renewed, tried again after a failure, and warned of. */
const RENEW_SHARE = 1 / 3;
const RETRY_SHARE = 1 / 20;
const WARNING_SHARES = [1 / 2, 1 / 4];
/** Bounds of the time between two tries. */
const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 5_000;

/** A lease as it is taken up. */
export interface NewClientLease {
  /** 32 hex digits. */
  readonly leaseId: string;
  /** Who lends. */
  readonly provider: LeaseProvider;
  /** Bytes. */
  readonly sizeBytes: number;
  /** What is asked for at each renewal, milliseconds. */
  readonly ttlMs: number;
  /** Whether it is renewed. */
  readonly renews: boolean;
  /** What it is for, for people. */
  readonly purpose: string;
  /** It goes on without this process (a direct device does): it is not given back at the end. */
  readonly outlives?: boolean;
}

/** A lease as it is. */
export interface ClientLease extends NewClientLease {
  /** See the top of the file. */
  readonly state: 'active' | 'ending' | 'ended';
  /** On the clock of the machine, milliseconds. */
  readonly endsAtMs: number;
  /** Nothing can renew it any more. */
  readonly final: boolean;
  /** Why it ends; undefined while it does not, or nobody says. */
  readonly reason: ManagedEndReason | undefined;
  /** Why the last renewal failed; empty when it did not. */
  readonly problem: string;
  /** What was left of it at the last warning: a half or a quarter of its ttl, a minute, ten seconds; null: none. */
  readonly warnedMs: number | null;
}

/** What is to be done. */
export type LeaseAction =
  /** To be asked of the control plane; each id is told of again by one of the `on...` methods. */
  | { readonly type: 'renew'; readonly ttlMs: number; readonly leaseIds: string[] }
  /** People are to know that it ends. */
  | { readonly type: 'warn'; readonly lease: ClientLease; readonly endsInMs: number }
  /** It has entered another state, or is as it was before it ended. */
  | { readonly type: 'changed'; readonly lease: ClientLease };

interface Held {
  lease: ClientLease;
  renewAtMs: number;
  renewing: boolean;
  /** The next warning comes when less than this is left. */
  warnBelowMs: number;
}

/** See the top of the file. */
export class ClientLeasesMachine {
  readonly #held = new Map<string, Held>();

  /** Every lease, with those that ended a moment ago. */
  list(): ClientLease[] {
    return [...this.#held.values()].map(({ lease }) => lease);
  }

  /** One lease. */
  get(leaseId: string): ClientLease | undefined {
    return this.#held.get(leaseId)?.lease;
  }

  /** Leases that have not ended. */
  get liveCount(): number {
    return [...this.#held.values()].filter(({ lease }) => lease.state !== 'ended').length;
  }

  /**
   * Takes a lease up.
   *
   * @param endsAtMs - its deadline
   * @param renewAtMs - when it is to be renewed first; a third of its life from its beginning without
   */
  add(lease: NewClientLease, endsAtMs: number, renewAtMs?: number): ClientLease {
    const { leaseId, ttlMs } = lease;
    const held: Held = {
      lease: {
        ...lease,
        ...{ state: 'active', endsAtMs, final: false, reason: undefined, problem: '' },
        warnedMs: null,
      },
      renewAtMs: renewAtMs ?? endsAtMs - ttlMs + renewAfterMs(ttlMs),
      renewing: false,
      warnBelowMs: nextWarning(ttlMs, Infinity),
    };
    this.#held.set(leaseId, held);
    return held.lease;
  }

  /** It was given back, or is nobody's business any more. */
  remove(leaseId: string): void {
    this.#held.delete(leaseId);
  }

  /** Sets what is asked for from now on. */
  setTtl(leaseId: string, ttlMs: number): void {
    const held = this.#held.get(leaseId);
    if (held !== undefined) held.lease = { ...held.lease, ttlMs };
  }

  /** Sets what it is for. */
  setPurpose(leaseId: string, purpose: string): void {
    const held = this.#held.get(leaseId);
    if (held !== undefined) held.lease = { ...held.lease, purpose };
  }

  /**
   * A renewal worked.
   *
   * @param ttlMs - what was granted
   * @param askedAtMs - when it was asked for
   */
  onRenewed(leaseId: string, ttlMs: number, askedAtMs: number): LeaseAction[] {
    const held = this.#held.get(leaseId);
    if (held === undefined || held.lease.final || held.lease.state === 'ended') return [];
    const before = held.lease;
    const endsAtMs = Math.max(before.endsAtMs, askedAtMs + ttlMs);
    held.renewing = false;
    held.renewAtMs = askedAtMs + renewAfterMs(Math.min(ttlMs, before.ttlMs));
    held.warnBelowMs = nextWarning(before.ttlMs, Infinity);
    return this.#change(held, {
      endsAtMs,
      state: 'active',
      reason: undefined,
      problem: '',
      warnedMs: null,
    });
  }

  /**
   * The control plane does not renew it.
   *
   * @param why - a sentence, or `unknown`, after which nothing can be hoped for
   */
  onRefused(leaseId: string, why: string, nowMs: number): LeaseAction[] {
    const held = this.#held.get(leaseId);
    if (held === undefined || held.lease.state === 'ended') return [];
    held.renewing = false;
    held.renewAtMs = nowMs + retryAfterMs(held.lease.ttlMs);
    const final = held.lease.final || why === 'unknown';
    const problem = final ? 'the control plane knows it no more' : why;
    return this.#change(held, { state: 'ending', final, problem });
  }

  /** Nobody answered. */
  onUnanswered(leaseIds: readonly string[], why: string, nowMs: number): void {
    for (const leaseId of leaseIds) {
      const held = this.#held.get(leaseId);
      if (held === undefined) continue;
      held.renewing = false;
      held.renewAtMs = nowMs + retryAfterMs(held.lease.ttlMs);
      held.lease = { ...held.lease, problem: why };
    }
  }

  /** The control plane says that leases end, or have ended. */
  onEnding(
    leaseIds: readonly string[],
    reason: ManagedEndReason,
    endsInMs: number,
    nowMs: number,
  ): LeaseAction[] {
    return leaseIds.flatMap((leaseId) => {
      const held = this.#held.get(leaseId);
      if (held === undefined || held.lease.state === 'ended') return [];
      const endsAtMs = Math.min(held.lease.endsAtMs, nowMs + endsInMs);
      return this.#change(held, { state: 'ending', final: true, reason, endsAtMs });
    });
  }

  /** Somebody answers again: what waits for its next try is tried at once. */
  hasten(nowMs: number): void {
    for (const held of this.#held.values()) {
      if (held.lease.problem !== '' && !held.renewing) held.renewAtMs = nowMs;
    }
  }

  /** Lets time pass. */
  tick(nowMs: number): LeaseAction[] {
    const actions: LeaseAction[] = [];
    const due = new Map<number, string[]>();
    for (const [leaseId, held] of [...this.#held]) {
      const { lease } = held;
      const endsInMs = lease.endsAtMs - nowMs;
      if (lease.state === 'ended') {
        if (-endsInMs >= ENDED_SHOWN_MS) this.#held.delete(leaseId);
        continue;
      }
      if (endsInMs <= 0) {
        const reason = lease.reason ?? 'expired';
        actions.push(...this.#change(held, { state: 'ended', final: true, reason }));
        continue;
      }
      if (endsInMs <= held.warnBelowMs) {
        const nextMs = nextWarning(lease.ttlMs, endsInMs);
        held.lease = { ...lease, warnedMs: lastWarning(lease.ttlMs, endsInMs) };
        held.warnBelowMs = nextMs;
        actions.push({ type: 'warn', lease: held.lease, endsInMs });
      }
      if (!lease.renews || lease.final || held.renewing || nowMs < held.renewAtMs) continue;
      held.renewing = true;
      due.set(lease.ttlMs, [...(due.get(lease.ttlMs) ?? []), leaseId]);
    }
    for (const [ttlMs, leaseIds] of due) {
      for (let at = 0; at < leaseIds.length; at += MANAGED_LEASE_COUNT_MAX) {
        const part = leaseIds.slice(at, at + MANAGED_LEASE_COUNT_MAX);
        actions.push({ type: 'renew', ttlMs, leaseIds: part });
      }
    }
    return actions;
  }

  /** Milliseconds until {@link ClientLeasesMachine.tick} has something to do; Infinity without leases. */
  nextTickMs(nowMs: number): number {
    let next = Infinity;
    for (const { lease, renewAtMs, renewing, warnBelowMs } of this.#held.values()) {
      const { state, endsAtMs, renews, final } = lease;
      if (state === 'ended') next = Math.min(next, endsAtMs + ENDED_SHOWN_MS);
      else {
        next = Math.min(next, endsAtMs, endsAtMs - warnBelowMs);
        if (renews && !final && !renewing) next = Math.min(next, renewAtMs);
      }
    }
    return Math.max(0, next - nowMs);
  }

  #change(held: Held, to: Partial<ClientLease>): LeaseAction[] {
    const before = held.lease;
    held.lease = { ...before, ...to };
    const { state, final, endsAtMs } = held.lease;
    const same = state === before.state && final === before.final;
    if (same && (state === 'active' || endsAtMs === before.endsAtMs)) return [];
    return [{ type: 'changed', lease: held.lease }];
  }
}

function renewAfterMs(ttlMs: number): number {
  return Math.floor(ttlMs * RENEW_SHARE);
}

function retryAfterMs(ttlMs: number): number {
  return Math.min(RETRY_MAX_MS, Math.max(RETRY_MIN_MS, ttlMs * RETRY_SHARE));
}

function warnings(ttlMs: number): number[] {
  const all = [...WARNING_SHARES.map((share) => ttlMs * share), ...WARNINGS_MS];
  return all.filter((each) => each < ttlMs);
}

/** The largest time before the end at which is warned, below `endsInMs`; 0 when none is left. */
function nextWarning(ttlMs: number, endsInMs: number): number {
  return Math.max(0, ...warnings(ttlMs).filter((each) => each < endsInMs));
}

/** The least time before the end at which is warned that has come. */
function lastWarning(ttlMs: number, endsInMs: number): number {
  return Math.min(...warnings(ttlMs).filter((each) => each >= endsInMs));
}
