/**
 * All that the leader knows: members, providers, leases and their tokens, requests and meters. This file
 * holds the one place where leases come and go (`addLease`, `dropLease`), so that the reserved bytes of a
 * provider and the used bytes of a client are at all times the sums of their leases; the machines beside it
 * decide which.
 *
 * Parts are *stored* (records of `record-codec.ts`) or *soft*: heard again from providers by whoever
 * leads next. Times are of this process's monotonic clock and never stored.
 */
import { fingerprintOf } from '../common/fingerprint.ts';
import type { MemberRole } from '../common/managed.ts';
import { TOKEN_TTL_MAX_MS } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { Deadlines } from './deadlines.ts';
import type { Step } from './decision.ts';
import { DenialLines } from './denial-lines.ts';
import { MinuteCount, UsageMeter, type UsageRecord } from './metering.ts';
import {
  PREFIX,
  type LeaseRecord,
  type MemberRecord,
  type ProviderRecord,
  type RequestRecord,
} from './record-codec.ts';

/** A lease that may still be presented: its tokens, and when each dies. */
export type TokenTimes = Map<string, number>;

/** A managed lease. */
export interface Lease {
  record: LeaseRecord;
  /** Its end; of a granted one, the last moment at which a token may be made. */
  deadlineMs: number;
  readonly tokens: TokenTimes;
  /** The deadline has passed, or the provider does not know it; told as `ending`, never renewed. Soft. */
  isOver: boolean;
  /** When it is dropped without a word of its provider. */
  dropMs: number;
  /** When the provider is told (again) to end it. */
  endMs: number;
}

/** A provider. */
export interface Provider {
  record: ProviderRecord;
  /** Registered in this term and heard of since. */
  isUp: boolean;
  /** Registered in the session that lives. */
  isRegistered: boolean;
  otherBytes: number;
  isAccepting: boolean;
  /** By its own word. */
  isDraining: boolean;
  load: number;
  seenMs: number;
  reservedBytes: number;
  readonly leases: Set<Lease>;
  /** A registration that comes in parts: its life, and the leases told of so far. */
  partial: { readonly life: string; readonly leaseIds: Set<string> } | undefined;
}

/** The entries of a store, read. */
export interface StoredState {
  readonly members: readonly MemberRecord[];
  readonly providers: readonly ProviderRecord[];
  readonly leases: readonly LeaseRecord[];
  /** Keys of tokens: of earlier terms, all void. */
  readonly tokenKeys: readonly string[];
  readonly requests: readonly { readonly requestId: string; readonly record: RequestRecord }[];
  readonly usage: readonly UsageRecord[];
}

/** What the machines need of the world. */
export interface LedgerWorld {
  /** The term. */
  readonly epoch: number;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  /** 32 random hex digits. */
  readonly newId: () => string;
}

const NO_PROVIDER: Omit<ProviderRecord, 'nodeId'> = {
  publicKey: '',
  name: '',
  address: '',
  hostId: '',
  zone: '',
  life: '',
  draining: false,
  offeredBytes: 0,
};

/** See the top of the file. */
export class LedgerState {
  readonly world: LedgerWorld;
  /** By the id of the record. */
  readonly members = new Map<string, MemberRecord>();
  readonly providers = new Map<NodeId, Provider>();
  readonly leases = new Map<string, Lease>();
  readonly clientLeases = new Map<NodeId, Set<Lease>>();
  /** Lease of each token that may still be used. */
  readonly tokens = new Map<string, Lease>();
  readonly requests = new Map<string, RequestRecord>();
  readonly usage = new Map<NodeId, UsageMeter>();
  /** When to look at which lease. */
  readonly due = new Deadlines();
  readonly denialLines = new DenialLines();
  readonly granted = new MinuteCount();
  readonly denied = new MinuteCount();
  reservedBytes = 0;

  constructor(world: LedgerWorld) {
    this.world = world;
  }

  /**
   * The state of a store. Every lease counts as whole until its provider tells; one that was not presented
   * gets the time of a token to be asked for again.
   */
  static restore(world: LedgerWorld, nowMs: number, stored: StoredState): LedgerState {
    const state = new LedgerState(world);
    for (const member of stored.members) state.members.set(member.id, member);
    for (const record of stored.usage) {
      state.usage.set(record.client, new UsageMeter(record.client, nowMs, record));
    }
    for (const record of stored.providers) state.#addProvider(record, nowMs);
    for (const { requestId, record } of stored.requests) state.requests.set(requestId, record);
    for (const record of stored.leases) state.#hold(nowMs, state.#leaseOf(record, nowMs));
    return state;
  }

  #leaseOf(record: LeaseRecord, nowMs: number): Lease {
    return {
      record,
      deadlineMs: nowMs + (record.state === 'granted' ? TOKEN_TTL_MAX_MS : record.ttlMs),
      tokens: new Map(),
      isOver: false,
      dropMs: Infinity,
      endMs: nowMs,
    };
  }

  // --- Members ------------------------------------------------------------------------------------

  /** The member that a node is, also while only its fingerprint was entered. */
  memberOf(nodeId: NodeId): MemberRecord | undefined {
    return this.members.get(nodeId) ?? this.members.get(fingerprintOf(nodeId));
  }

  /** Whether a node has a role. */
  hasRole(nodeId: NodeId, role: MemberRole): boolean {
    return this.memberOf(nodeId)?.roles.includes(role) === true;
  }

  /** What people call a member. */
  nameOf(nodeId: NodeId): string {
    return this.members.get(nodeId)?.name ?? '';
  }

  // --- Providers ----------------------------------------------------------------------------------

  /** The provider of a node, known or new. */
  provider(nodeId: NodeId, nowMs: number): Provider {
    return this.providers.get(nodeId) ?? this.#addProvider({ ...NO_PROVIDER, nodeId }, nowMs);
  }

  #addProvider(record: ProviderRecord, nowMs: number): Provider {
    const provider: Provider = {
      record,
      isUp: false,
      isRegistered: false,
      otherBytes: 0,
      isAccepting: false,
      isDraining: false,
      load: 0,
      seenMs: nowMs,
      reservedBytes: 0,
      leases: new Set(),
      partial: undefined,
    };
    this.providers.set(record.nodeId, provider);
    return provider;
  }

  /** Bytes that a provider could still lease. */
  freeBytes({ record, otherBytes, reservedBytes }: Provider): number {
    return Math.max(0, record.offeredBytes - otherBytes - reservedBytes);
  }

  /** Stores a provider, or takes one out that is no member any more and has no leases. */
  storeProvider(step: Step, provider: Provider): void {
    const { nodeId } = provider.record;
    if (provider.leases.size > 0 || this.hasRole(nodeId, 'provider')) {
      step.put(PREFIX.provider + nodeId, provider.record);
      return;
    }
    this.providers.delete(nodeId);
    step.remove(PREFIX.provider + nodeId);
  }

  // --- Leases -------------------------------------------------------------------------------------

  /** The meter of a client, known or new. */
  meter(client: NodeId, nowMs: number): UsageMeter {
    const known = this.usage.get(client);
    if (known !== undefined) return known;
    const meter = new UsageMeter(client, nowMs);
    this.usage.set(client, meter);
    return meter;
  }

  /** Stores what a client has used. */
  storeUsage(step: Step, client: NodeId, nowMs: number): void {
    step.put(PREFIX.usage + client, this.meter(client, nowMs).record(nowMs));
  }

  /** Enters a lease that was granted. */
  addLease(step: Step, nowMs: number, record: LeaseRecord): Lease {
    const lease = this.#leaseOf(record, nowMs);
    lease.deadlineMs = nowMs + Math.max(record.ttlMs, TOKEN_TTL_MAX_MS);
    this.#hold(nowMs, lease);
    this.storeLease(step, lease);
    return lease;
  }

  #hold(nowMs: number, lease: Lease): void {
    const { leaseId, client, provider: nodeId, sizeBytes } = lease.record;
    const provider = this.provider(nodeId, nowMs);
    provider.leases.add(lease);
    provider.reservedBytes += sizeBytes;
    this.reservedBytes += sizeBytes;
    this.meter(client, nowMs).change(nowMs, sizeBytes, 1);
    const ofClient = this.clientLeases.get(client) ?? new Set();
    this.clientLeases.set(client, ofClient.add(lease));
    this.leases.set(leaseId, lease);
    this.schedule(lease);
  }

  /** Stores a lease, and what it changed for its client, and looks at it when it is due. */
  storeLease(step: Step, lease: Lease): void {
    step.put(PREFIX.lease + lease.record.leaseId, lease.record);
    this.schedule(lease);
  }

  /** Takes a lease out, with its tokens and, as the last of its request, the request. */
  dropLease(step: Step, nowMs: number, lease: Lease): void {
    const { leaseId, client, provider: nodeId, sizeBytes, requestId } = lease.record;
    if (!this.leases.delete(leaseId)) return;
    this.dropTokens(step, lease);
    step.remove(PREFIX.lease + leaseId);
    this.due.remove(leaseId);
    this.meter(client, nowMs).change(nowMs, sizeBytes, -1);
    this.storeUsage(step, client, nowMs);
    const ofClient = this.clientLeases.get(client);
    ofClient?.delete(lease);
    if (ofClient?.size === 0) this.clientLeases.delete(client);
    const request = this.requests.get(requestId);
    if (request?.leaseIds.every((id) => !this.leases.has(id)) === true) {
      this.requests.delete(requestId);
      step.remove(PREFIX.request + requestId);
    }
    const provider = this.provider(nodeId, nowMs);
    provider.leases.delete(lease);
    provider.reservedBytes -= sizeBytes;
    this.reservedBytes -= sizeBytes;
    if (provider.leases.size === 0 && !this.hasRole(nodeId, 'provider')) {
      this.storeProvider(step, provider);
    }
  }

  /** Voids the tokens of a lease. */
  dropTokens(step: Step, lease: Lease): void {
    for (const jti of lease.tokens.keys()) {
      this.tokens.delete(jti);
      step.remove(PREFIX.token + jti);
    }
    lease.tokens.clear();
  }

  /** Sets when a lease is looked at next. */
  schedule(lease: Lease): void {
    const { leaseId, state, provider } = lease.record;
    const isUp = this.providers.get(provider)?.isUp === true;
    let dueMs = lease.deadlineMs;
    if (lease.dropMs !== Infinity) dueMs = lease.dropMs;
    else if (state === 'granted' && lease.tokens.size > 0)
      dueMs = Math.max(...lease.tokens.values());
    else if ((state === 'ending' || lease.isOver) && isUp) dueMs = lease.endMs;
    this.due.set(leaseId, dueMs);
  }
}
