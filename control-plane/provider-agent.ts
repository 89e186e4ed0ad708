/**
 * A provider's half of managed mode: what is asked of it by control nodes and by clients.
 *
 *   control node -> admit a client, extend or end leases      manage.*
 *   client       -> present a token, give leases back         lease.*
 *
 * Two things are never left to the network. A lease that the leader has not confirmed in time is not given:
 * while nobody leads, or while this node registers (provider-registration.ts), nothing is reserved. And
 * memory is wiped at its deadline by the provider alone (provider/managed-memory.ts); the leader is only
 * told. A control node of an earlier term than the latest heard of changes nothing here.
 */
import type { KeyObject } from 'node:crypto';
import { MemcloudError, asMemcloudError } from '../common/errors.ts';
import { nodeIdOf } from '../common/fingerprint.ts';
import type { Admissions, ManagedEnding, ManagedMemory } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import type { DecodedCall } from './messages.ts';
import { DISMISS_AFTER_MS, ProviderClients } from './provider-clients-machine.ts';
import { ProviderRegistration, type ProviderRegistrationOptions } from './provider-registration.ts';
import { ReceiptSigner } from './receipt-signer.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from './schema.ts';
import { verifyToken, type TokenClaims } from './tokens.ts';

/** How often {@link ProviderAgent.tick} wants to be called, milliseconds. */
export const PROVIDER_TICK_MS = 250;
/** The leader's word on a token is waited for so long, milliseconds: a client waits 5 s for ours. */
const REDEEM_TIMEOUT_MS = 3_000;
/** Tokens that are being presented at once. */
const PRESENT_COUNT_MAX = 256;
/** Refused tokens that the leader is shown in a second, for its audit log. */
const REFUSALS_PER_SECOND_MAX = 10;
/** What the leader is told at the end of the process is waited for so long, milliseconds. */
const FAREWELL_TIMEOUT_MS = 1_500;

/** What an agent is made of. */
export interface ProviderAgentOptions extends Omit<
  ProviderRegistrationOptions,
  'leases' | 'onDisowned'
> {
  readonly memory: ManagedMemory;
  readonly admissions: Admissions;
  /** This node. */
  readonly identity: { readonly nodeId: NodeId; readonly signingKey: KeyObject };
  /** The public key of a node that is trusted here, 32 bytes: control nodes are. */
  readonly trustedKeyOf: (nodeId: NodeId) => Uint8Array | undefined;
  /** Whether a client that is done here must stay let in all the same, because this node borrows from it. */
  readonly isNeeded: (nodeId: NodeId) => boolean;
}

/** See the top of the file. Made and closed by the daemon, which calls {@link ProviderAgent.tick}. */
export class ProviderAgent {
  readonly #options: ProviderAgentOptions;
  readonly #registration: ProviderRegistration;
  readonly #clients = new ProviderClients();
  /** Leases whose token is at the leader. */
  readonly #presenting = new Set<string>();
  readonly #stopListening: () => void;
  readonly #receipts: ReceiptSigner;
  #refusals = { sinceMs: -Infinity, count: 0 };
  #closed = false;

  constructor(options: ProviderAgentOptions) {
    this.#options = options;
    const { memory, identity, logger } = options;
    this.#registration = new ProviderRegistration({
      ...options,
      leases: () => memory.list(),
      onDisowned: (leaseIds) => {
        for (const id of leaseIds) memory.end(id, 'revoked');
      },
    });
    this.#stopListening = memory.onEnded((ending) => this.#onEnded(ending));
    const key = { nodeId: identity.nodeId, privateKey: identity.signingKey };
    this.#receipts = new ReceiptSigner(key, {
      onSigned: (ending) => this.#registration.tellEnded(ending),
      onFailed: ({ leaseId }, error) => {
        logger.error(
          { leaseId, err: String(error) },
          'the end of a managed lease cannot be signed',
        );
      },
    });
  }

  /** Whether the leader knows of this provider. */
  get registered(): boolean {
    return this.#registration.registered;
  }

  /** Managed leases here. */
  get leaseCount(): number {
    return this.#clients.leaseCount;
  }

  /** Why the leader does not take this node as a provider; empty when it does, or nobody leads. */
  get problem(): string {
    return this.#registration.problem;
  }

  /** Whether a node has managed leases here: it is to be let in. */
  lendsTo(nodeId: NodeId): boolean {
    return this.#clients.hasLeases(nodeId);
  }

  /** Answers a call of the provider's half; undefined for any other. Refusals reject. */
  answer(from: NodeId, call: DecodedCall): Promise<ManagedResult<ManagedCall>> | undefined {
    switch (call.call) {
      case 'manage.admit':
      case 'manage.extend':
      case 'manage.end':
        return this.#manage(from, call);
      case 'lease.present':
        return this.#present(from, call.params.token);
      case 'lease.return':
        return this.#return(from, call.params);
      default:
        return undefined;
    }
  }

  /** Does what is due. To be called every {@link PROVIDER_TICK_MS}. */
  tick(): void {
    const { clock, admissions, isNeeded } = this.#options;
    for (const client of this.#clients.due(clock.nowMs())) {
      if (isNeeded(client)) continue;
      this.#clients.forget(client);
      admissions.dismiss(client);
    }
    this.#registration.tick();
  }

  /** Ends every managed lease, tells the leader if it answers in time, and takes no more. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { memory } = this.#options;
    for (const { leaseId } of memory.list()) memory.end(leaseId, 'provider');
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, FAREWELL_TIMEOUT_MS);
    });
    await Promise.race([this.#farewell(), deadline]);
    clearTimeout(timer);
    this.#stopListening();
    this.#registration.close();
  }

  // --- Control nodes ---------------------------------------------------------------------------------

  async #manage(
    from: NodeId,
    { call, params }: Extract<DecodedCall, { call: `manage.${'admit' | 'extend' | 'end'}` }>,
  ): Promise<ManagedResult<'manage.admit' | 'manage.extend' | 'manage.end'>> {
    if (!this.#options.link.isControlNode(from)) {
      const text = 'the node that asks is no control node of this provider';
      throw new MemcloudError('ERR_CONTROL_DENIED', text);
    }
    this.#registration.hear(params.epoch);
    switch (call) {
      case 'manage.admit':
        return Promise.resolve(this.#admit(params));
      case 'manage.extend':
        return this.#extend(params);
      case 'manage.end':
        return this.#end(params);
    }
  }

  #admit({ publicKey, ttlMs }: ManagedParams<'manage.admit'>): ManagedResult<'manage.admit'> {
    const { admissions, clock } = this.#options;
    const key = Buffer.from(publicKey, 'hex');
    if (!this.#clients.admit(nodeIdOf(key), key, ttlMs, clock.nowMs())) {
      const text = 'this provider has as many managed clients as it takes';
      throw new MemcloudError('ERR_LEASE_CAPACITY', text);
    }
    admissions.admit(key, Math.max(1, ttlMs));
    return {};
  }

  #extend({ leases }: ManagedParams<'manage.extend'>): ManagedResult<'manage.extend'> {
    const unknown: string[] = [];
    for (const { leaseId, ttlMs } of leases) {
      if (this.#options.memory.extend(leaseId, ttlMs)) this.#keepIn(leaseId, ttlMs);
      else unknown.push(leaseId);
    }
    return { unknown };
  }

  #end({ leaseIds, reason }: ManagedParams<'manage.end'>): ManagedResult<'manage.end'> {
    this.#options.logger.info({ leases: leaseIds.length, reason }, 'managed leases are ended');
    return { unknown: leaseIds.filter((id) => !this.#options.memory.end(id, reason)) };
  }

  /** A client stays let in for as long as its lease, and a while longer. */
  #keepIn(leaseId: string, ttlMs: number): void {
    const client = this.#clients.clientOf(leaseId);
    const key = client === undefined ? undefined : this.#clients.keyOf(client);
    if (key !== undefined) this.#options.admissions.admit(key, ttlMs + DISMISS_AFTER_MS);
  }

  // --- Clients: a token is checked, redeemed, and then bytes are set aside ----------------------------

  #return(
    from: NodeId,
    { leaseIds }: ManagedParams<'lease.return'>,
  ): Promise<ManagedResult<'lease.return'>> {
    const isGone = (id: string): boolean =>
      this.#clients.clientOf(id) !== from || !this.#options.memory.end(id, 'released');
    return Promise.resolve({ unknown: leaseIds.filter(isGone) });
  }

  async #present(from: NodeId, token: string): Promise<ManagedResult<'lease.present'>> {
    const clientKey = this.#clients.keyOf(from) ?? this.#options.trustedKeyOf(from);
    let claims: TokenClaims;
    try {
      claims = await this.#verify(from, token, clientKey);
    } catch (error) {
      this.#showRefused(from, token);
      throw error;
    }
    const { leaseId } = claims;
    // Not shown to the leader, who would take it for the one that is on its way there.
    if (this.#presenting.has(leaseId)) throw presentedAlready();
    if (!this.registered) throw unreachable('no control node that leads knows of it');
    if (this.#presenting.size >= PRESENT_COUNT_MAX) {
      const text = `${PRESENT_COUNT_MAX} tokens are presented to this provider at once, the most`;
      throw new MemcloudError('ERR_LEASE_CAPACITY', text);
    }
    this.#presenting.add(leaseId);
    try {
      const granted = await this.#redeem(from, token, claims);
      this.#reserve(from, granted, clientKey ?? NO_KEY);
      return granted;
    } finally {
      this.#presenting.delete(leaseId);
    }
  }

  /** @throws MemcloudError `ERR_TOKEN` */
  async #verify(
    from: NodeId,
    token: string,
    clientKey: Uint8Array | undefined,
  ): Promise<TokenClaims> {
    const { link, identity, trustedKeyOf } = this.#options;
    const claims = await verifyToken(token, {
      keyOf: (nodeId) => (link.isControlNode(nodeId) ? trustedKeyOf(nodeId) : undefined),
      provider: identity.nodeId,
      client: from,
      clientKey: clientKey ?? NO_KEY,
      epochMin: this.#registration.epoch,
    });
    if (this.#clients.clientOf(claims.leaseId) !== undefined) throw presentedAlready();
    return claims;
  }

  /** The audit log is the leader's: it is shown what is refused here, and refuses it as well. */
  #showRefused(client: NodeId, token: string): void {
    const nowMs = this.#options.clock.nowMs();
    if (nowMs - this.#refusals.sinceMs >= 1000) this.#refusals = { sinceMs: nowMs, count: 0 };
    this.#refusals.count += 1;
    if (!this.registered || this.#refusals.count > REFUSALS_PER_SECOND_MAX) return;
    const { life } = this.#registration;
    this.#registration.call('provider.redeem', { life, token, client }, REDEEM_TIMEOUT_MS).then(
      ({ leaseId, sizeBytes }) => this.#giveUp(leaseId, client, sizeBytes),
      () => undefined,
    );
  }

  async #redeem(
    client: NodeId,
    token: string,
    { leaseId, sizeBytes }: TokenClaims,
  ): Promise<ManagedResult<'lease.present'>> {
    const { signal, life } = this.#registration;
    try {
      const params = { life, token, client };
      const granted = await this.#registration.call('provider.redeem', params, REDEEM_TIMEOUT_MS);
      if (signal.aborted) throw unreachable('another control node leads since');
      this.#registration.hear(granted.epoch);
      if (granted.leaseId !== leaseId) {
        throw new MemcloudError('ERR_CONTROL_PROTOCOL', 'the leader spoke of another lease');
      }
      return { leaseId, sizeBytes: granted.sizeBytes, ttlMs: granted.ttlMs };
    } catch (thrown) {
      const error = asMemcloudError(thrown);
      const { code } = error;
      if (code === 'ERR_TOKEN' || code === 'ERR_CONTROL_DENIED') throw error;
      // No answer is none: the token may be used up, and nothing is set aside.
      this.#giveUp(leaseId, client, sizeBytes);
      if (code === 'ERR_CONTROL_PROTOCOL' || code === 'ERR_CONTROL_NOT_LEADER') throw error;
      throw code === 'ERR_CONTROL_UNREACHABLE' ? error : unreachable(error.message, error);
    }
  }

  #reserve(
    client: NodeId,
    { leaseId, sizeBytes, ttlMs }: ManagedResult<'lease.present'>,
    clientKey: Uint8Array,
  ): void {
    try {
      if (this.#closed) throw unreachable('it shuts down');
      this.#options.memory.reserve({ leaseId, client, sizeBytes, ttlMs });
    } catch (error) {
      this.#giveUp(leaseId, client, sizeBytes);
      throw error;
    }
    this.#clients.begin(leaseId, client, clientKey);
    this.#keepIn(leaseId, ttlMs);
    this.#options.logger.info({ leaseId, client, sizeBytes, ttlMs }, 'a managed lease begins');
  }

  // --- Endings -----------------------------------------------------------------------------------------

  /** A lease that the leader may count as begun, and that never was. */
  #giveUp(leaseId: string, client: NodeId, sizeBytes: number): void {
    if (this.#clients.clientOf(leaseId) !== undefined) return;
    const nothing = { wipedBytes: 0, wipeMs: 0, reason: 'provider' } as const;
    this.#onEnded({ leaseId, client, sizeBytes, ...nothing });
  }

  #onEnded(ending: ManagedEnding): void {
    const { clock, logger } = this.#options;
    const { leaseId, client, reason, wipedBytes, wipeMs } = ending;
    this.#clients.end(leaseId, clock.nowMs());
    logger.info({ leaseId, client, reason, wipedBytes, wipeMs }, 'a managed lease is over');
    this.#receipts.push(ending);
  }

  /** The leases are wiped slice by slice; each is told as it is. */
  async #farewell(): Promise<void> {
    const registration = this.#registration;
    const isTold = (): boolean =>
      this.leaseCount + this.#receipts.length + registration.untoldCount === 0;
    while (registration.registered && !isTold()) {
      await new Promise((resolve) => setImmediate(resolve));
      if (!(await registration.tellEndings())) return;
    }
  }
}

const NO_KEY = new Uint8Array();

function presentedAlready(): MemcloudError {
  const text = 'the allocation token is refused: it was presented already; ask for a new one';
  return new MemcloudError('ERR_TOKEN', text);
}

function unreachable(why: string, cause?: Error): MemcloudError {
  const text = `this provider grants nothing now: ${why}; ask again in a moment`;
  return new MemcloudError('ERR_CONTROL_UNREACHABLE', text, { cause });
}
