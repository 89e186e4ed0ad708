/**
 * A control plane and its providers for tests of what only borrows: calls are answered in process, from a
 * table of leases, and each can be made to fail. Nothing expires by itself.
 */
import { randomBytes } from 'node:crypto';
import { MemcloudError, type ErrorCode } from '../../common/errors.ts';
import type { ManagedLink, ManagedLinks } from '../../common/managed.ts';
import type { LeaseProvider } from '../../control-plane/client-leases-machine.ts';
import type {
  LeaseControl,
  LeaseGrant,
  ProviderDoor,
} from '../../control-plane/lease-presenter.ts';
import {
  decodeManagedCall,
  encodeManagedError,
  encodeManagedResult,
  type DecodedCall,
} from '../../control-plane/messages.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from '../../control-plane/schema.ts';

/** A lease of the double. */
export interface DoubleLease {
  readonly leaseId: string;
  readonly provider: DoubleProvider;
  readonly sizeBytes: number;
  ttlMs: number;
  token: string;
  state: 'granted' | 'active';
}

/** A provider of the double. */
export class DoubleProvider implements ManagedLink {
  readonly name: string;
  readonly nodeId: string;
  readonly hostId: string;
  up = false;
  freeBytes: number;
  /** Calls that came, by name. */
  readonly calls: string[] = [];
  /** Errors of the next calls; an answer that is lost is made all the same. */
  readonly failures: { readonly code: ErrorCode; readonly done: boolean }[] = [];
  readonly #double: LeaseDouble;

  constructor(double: LeaseDouble, name: string, freeBytes: number, hostId = `host of ${name}`) {
    this.#double = double;
    this.name = name;
    this.nodeId = Buffer.from(name).toString('hex').padEnd(32, '0').slice(0, 32);
    this.hostId = hostId;
    this.freeBytes = freeBytes;
  }

  /** Also true: a session on which it answers no MANAGE. */
  isPlain = false;

  get connected(): boolean {
    return this.up || this.isPlain;
  }

  get identity(): LeaseProvider {
    const { nodeId, name, hostId } = this;
    const address = `${name}:7070`;
    return { nodeId, name, hostId, address, publicKey: nodeId + nodeId, zone: '' };
  }

  async request(body: Uint8Array): Promise<Buffer> {
    await Promise.resolve();
    if (!this.up) throw new MemcloudError('ERR_PEER_UNREACHABLE', 'it is not connected');
    const decoded = decodeManagedCall(Buffer.from(body));
    this.calls.push(decoded.call);
    const failure = this.failures.shift();
    if (failure?.done === false) return Buffer.from(encodeManagedError(this.#error(failure.code)));
    const answer = this.#answer(decoded);
    if (failure !== undefined) throw this.#error(failure.code);
    return Buffer.from(answer);
  }

  #error(code: ErrorCode): MemcloudError {
    return new MemcloudError(code, `${this.name}: as the test wants it`);
  }

  #answer({ call, params }: DecodedCall): Uint8Array {
    if (call === 'lease.return') {
      for (const leaseId of params.leaseIds) this.#double.end(leaseId);
      return encodeManagedResult(call, { unknown: [] });
    }
    if (call !== 'lease.present') return encodeManagedError(this.#error('ERR_UNSUPPORTED'));
    const lease = [...this.#double.leases.values()].find(({ token }) => token === params.token);
    if (lease?.provider !== this || lease.state !== 'granted') {
      return encodeManagedError(this.#error('ERR_TOKEN'));
    }
    lease.state = 'active';
    const { leaseId, sizeBytes, ttlMs } = lease;
    return encodeManagedResult(call, { leaseId, sizeBytes, ttlMs });
  }
}

/** See the top of the file. */
export class LeaseDouble implements LeaseControl, ManagedLinks, ProviderDoor {
  readonly providers: DoubleProvider[] = [];
  readonly leases = new Map<string, DoubleLease>();
  /** Every call to the leader. */
  readonly calls: { readonly call: ManagedCall; readonly params: unknown }[] = [];
  /** Names of providers whose door is open. */
  readonly openDoors = new Set<string>();
  /** False: no leader answers. */
  leads = true;
  /** Providers come up when their door is opened. */
  answering = true;
  /** Why renewals are refused. */
  refusal = '';
  readonly #leaderListeners = new Set<() => void>();
  readonly #linkListeners = new Set<(link: ManagedLink) => void>();
  readonly #requests = new Map<string, string[]>();

  /** Adds a provider. */
  provider(name: string, freeBytes = 2 ** 40, hostId?: string): DoubleProvider {
    const provider = new DoubleProvider(this, name, freeBytes, hostId);
    this.providers.push(provider);
    return provider;
  }

  /** A lease that is there already. */
  lease(provider: DoubleProvider, sizeBytes: number): DoubleLease {
    const leaseId = randomBytes(16).toString('hex');
    const lease: DoubleLease = {
      ...{ leaseId, provider, sizeBytes, ttlMs: 60_000 },
      ...{ token: leaseId, state: 'active' },
    };
    this.leases.set(leaseId, lease);
    return lease;
  }

  /** It is over. */
  end(leaseId: string): void {
    const lease = this.leases.get(leaseId);
    if (lease === undefined) return;
    lease.provider.freeBytes += lease.sizeBytes;
    this.leases.delete(leaseId);
  }

  /** A leader answers anew. */
  elect(): void {
    this.leads = true;
    for (const listener of this.#leaderListeners) listener();
  }

  /** A session comes or goes. */
  setUp(provider: DoubleProvider, up: boolean): void {
    provider.up = up;
    for (const listener of this.#linkListeners) listener(provider);
  }

  // --- ManagedLinks --------------------------------------------------------------------------------

  find(nodeId: string): ManagedLink | undefined {
    return this.providers.find((each) => each.nodeId === nodeId);
  }

  at(): undefined {
    return undefined;
  }

  onChange(listener: (link: ManagedLink) => void): () => void {
    this.#linkListeners.add(listener);
    return () => this.#linkListeners.delete(listener);
  }

  // --- ProviderDoor --------------------------------------------------------------------------------

  open({ nodeId, name }: LeaseProvider): void {
    this.openDoors.add(name);
    const provider = this.providers.find((each) => each.nodeId === nodeId);
    if (provider?.up === false && this.answering) {
      setImmediate(() => {
        if (this.openDoors.has(name)) this.setUp(provider, true);
      });
    }
  }

  close({ name, nodeId }: LeaseProvider): void {
    this.openDoors.delete(name);
    const provider = this.providers.find((each) => each.nodeId === nodeId);
    if (provider !== undefined) this.setUp(provider, false);
  }

  // --- LeaseControl --------------------------------------------------------------------------------

  onLeader(listener: () => void): () => void {
    this.#leaderListeners.add(listener);
    return () => this.#leaderListeners.delete(listener);
  }

  async call<C extends ManagedCall>(call: C, params: ManagedParams<C>): Promise<ManagedResult<C>> {
    await Promise.resolve();
    this.calls.push({ call, params });
    if (!this.leads) throw new MemcloudError('ERR_CONTROL_UNREACHABLE', 'no control node answers');
    return this.#answer({ call, params } as unknown as DecodedCall) as ManagedResult<C>;
  }

  #answer({ call, params }: DecodedCall): unknown {
    switch (call) {
      case 'lease.request':
        return { leases: this.#request(params), epoch: 1 };
      case 'lease.token': {
        const lease = this.leases.get(params.leaseId);
        if (lease?.state !== 'granted') {
          throw new MemcloudError('ERR_LEASE_UNKNOWN', 'it is no lease that waits for its client');
        }
        lease.token = randomBytes(8).toString('hex');
        return { lease: grantOf(lease) };
      }
      case 'lease.renew': {
        const { leaseIds, ttlMs } = params;
        const known = leaseIds.filter((leaseId) => this.leases.has(leaseId) && this.refusal === '');
        return {
          renewed: known.map((leaseId) => ({ leaseId, ttlMs })),
          refused: leaseIds
            .filter((leaseId) => !known.includes(leaseId))
            .map((leaseId) => ({ leaseId, why: this.refusal || 'unknown' })),
        };
      }
      case 'lease.release':
        for (const leaseId of params.leaseIds) this.end(leaseId);
        return { unknown: [] };
      case 'lease.list':
        return {
          rows: [...this.leases.values()].map(({ leaseId, provider, sizeBytes, ttlMs, state }) => ({
            ...{ leaseId, client: '', clientName: '', provider: provider.nodeId },
            ...{ providerName: provider.name, sizeBytes, state, endsInMs: ttlMs, purpose: '' },
          })),
          cursor: null,
        };
      default:
        throw new MemcloudError('ERR_UNSUPPORTED', `the double does not answer ${call}`);
    }
  }

  #request(params: ManagedParams<'lease.request'>): LeaseGrant[] {
    const { requestId, sizeBytes, ttlMs, count, include, exclude = [] } = params;
    const before = this.#requests.get(requestId);
    if (before !== undefined) {
      return before.flatMap((leaseId) => {
        const lease = this.leases.get(leaseId);
        return lease === undefined ? [] : [grantOf(lease)];
      });
    }
    const hosts = new Set<string>();
    const chosen: DoubleProvider[] = [];
    for (const provider of this.providers) {
      const { nodeId, hostId, freeBytes } = provider;
      if (exclude.includes(nodeId) || include?.includes(nodeId) === false) continue;
      if (freeBytes < sizeBytes || hosts.has(hostId) || chosen.length === count) continue;
      hosts.add(hostId);
      chosen.push(provider);
    }
    if (chosen.length < count) {
      throw new MemcloudError(
        'ERR_LEASE_CAPACITY',
        `${count} times ${sizeBytes} bytes are not free`,
      );
    }
    const leases = chosen.map((provider) => {
      provider.freeBytes -= sizeBytes;
      const lease = this.lease(provider, sizeBytes);
      lease.state = 'granted';
      lease.ttlMs = ttlMs;
      return lease;
    });
    this.#requests.set(
      requestId,
      leases.map(({ leaseId }) => leaseId),
    );
    return leases.map(grantOf);
  }
}

function grantOf({ leaseId, provider, sizeBytes, ttlMs, token }: DoubleLease): LeaseGrant {
  return { leaseId, sizeBytes, ttlMs, token, provider: provider.identity };
}
