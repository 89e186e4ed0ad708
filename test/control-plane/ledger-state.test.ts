/**
 * The leader's books through random histories: at every moment the reserved bytes of each provider and the
 * used bytes of each client are the sums of their leases, quotas and offers hold, the integral of a meter
 * is that of a naive one, and what is stored is what is in memory, so that another leader goes on with it.
 */
import fc from 'fast-check';
import t from 'tap';
import {
  freshToken,
  redeemToken,
  replaceLeases,
  requestLeases,
} from '../../control-plane/allocation-machine.ts';
import type { Decision, Steps } from '../../control-plane/decision.ts';
import {
  leasesEnded,
  leasesUnknown,
  releaseLeases,
  renewLeases,
  revokeLeases,
  tickLeases,
} from '../../control-plane/lease-machine.ts';
import { LedgerState, type Lease } from '../../control-plane/ledger-state.ts';
import { putMember, removeMember } from '../../control-plane/member-machine.ts';
import {
  heartbeat,
  providerLost,
  registerProvider,
  tickProviders,
} from '../../control-plane/provider-machine.ts';
import { PREFIX, readRecord } from '../../control-plane/record-codec.ts';
import { Random } from '../helpers/fuzz.ts';

const id = (kind: string, n: number): string => `${kind}${n}`.padEnd(32, '0');
const CLIENTS = [0, 1, 2].map((n) => id('c', n));
const PROVIDERS = [0, 1, 2, 3].map((n) => id('e', n));
const OFFER = 1000;
const QUOTA = 1500;

/** A provider as it is: what it really keeps, whatever the leader believes. */
interface RealProvider {
  life: number;
  up: boolean;
  readonly leases: Map<string, { client: string; sizeBytes: number; endMs: number }>;
}

/** A leader, what it stored, and the world around it. */
class History {
  readonly random: Random;
  readonly stored = new Map<string, string>();
  readonly real = new Map<string, RealProvider>();
  readonly naive = new Map<string, number>();
  readonly tokens: { jti: string; leaseId: string; client: string; provider: string }[] = [];
  readonly redeemed = new Set<string>();
  nowMs = 1000;
  epoch = 1;
  state: LedgerState;
  #ids = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
    this.state = new LedgerState(this.world());
    for (const node of CLIENTS) this.join(node, 'client', { quotaBytes: QUOTA, quotaLeases: 12 });
    for (const node of PROVIDERS) {
      this.join(node, 'provider', {});
      this.real.set(node, { life: 1, up: true, leases: new Map() });
      this.register(node);
    }
  }

  join(key: string, role: 'client' | 'provider', quota: object): void {
    this.take(putMember(this.state, this.nowMs, { key, roles: [role], ...quota }));
  }

  world(): { epoch: number; random: () => number; newId: () => string } {
    return {
      epoch: this.epoch,
      random: () => this.random.below(2 ** 20) / 2 ** 20,
      newId: () => (this.#ids++).toString(16).padStart(32, '0'),
    };
  }

  store(steps: Steps): void {
    for (const step of steps.list) {
      if (step.changeCount + 1 > 100) throw new Error(`${step.changeCount} changes in one step`);
      for (const op of step.ops.values()) {
        if ('put' in op) this.stored.set(op.put, op.value);
        else this.stored.delete(op.remove);
      }
      for (const message of step.messages) {
        if (message.kind !== 'end') continue;
        const real = this.real.get(message.to);
        if (real?.up !== true || this.random.below(5) === 0) continue;
        const unknown = message.leaseIds.filter((leaseId) => !real.leases.has(leaseId));
        for (const leaseId of message.leaseIds) this.wipe(message.to, leaseId);
        leasesUnknown(this.state, this.nowMs, message.to, unknown);
      }
    }
  }

  take<T>({ steps, answer }: Decision<T>): T | undefined {
    this.store(steps);
    return 'value' in answer ? answer.value : undefined;
  }

  advance(ms: number): void {
    for (const [client, leases] of this.state.clientLeases) {
      const bytes = [...leases].reduce((sum, { record }) => sum + record.sizeBytes, 0);
      this.naive.set(client, (this.naive.get(client) ?? 0) + (bytes * ms) / 1000);
    }
    this.nowMs += ms;
    for (const [node, real] of this.real) {
      for (const [leaseId, { endMs }] of real.leases) {
        if (endMs <= this.nowMs) this.wipe(node, leaseId);
      }
    }
    this.store(tickProviders(this.state, this.nowMs));
    this.store(tickLeases(this.state, this.nowMs));
  }

  /** The provider wipes a lease, and says so if it is heard. */
  wipe(node: string, leaseId: string): void {
    const real = this.real.get(node)!;
    const lease = real.leases.get(leaseId);
    if (lease === undefined) return;
    real.leases.delete(leaseId);
    if (!real.up || this.random.below(8) === 0) return;
    const { client, sizeBytes } = lease;
    const ending = {
      leaseId,
      client,
      sizeBytes,
      reason: 'expired' as const,
      wipedBytes: 1,
      wipeMs: 1,
    };
    this.take(leasesEnded(this.state, this.nowMs, node, [{ ...ending, receipt: 'r' }], [true]));
  }

  register(node: string): void {
    const real = this.real.get(node)!;
    real.up = true;
    const leases = [...real.leases].map(([leaseId, { client, sizeBytes, endMs }]) => ({
      ...{ leaseId, client, sizeBytes },
      ttlMs: Math.max(0, endMs - this.nowMs),
    }));
    const half = this.random.below(leases.length + 1);
    const parts = half === 0 ? [leases] : [leases.slice(0, half), leases.slice(half)];
    parts.forEach((part, index) => {
      const answer = this.take(
        registerProvider(
          this.state,
          this.nowMs,
          { nodeId: node, publicKey: 'ab'.repeat(32), name: node.slice(0, 2), host: '10.0.0.1' },
          {
            ...{ life: real.life.toString(16).padStart(32, '0'), hostId: `host-${node}`, zone: '' },
            ...{ port: 7070, offeredBytes: OFFER, otherBytes: 0, accepting: true, draining: false },
            ...{ leases: part, more: index < parts.length - 1 },
          },
        ),
      );
      for (const leaseId of answer?.end ?? []) this.wipe(node, leaseId);
    });
  }

  beat(): void {
    for (const [node, real] of this.real) {
      if (!real.up) continue;
      const life = real.life.toString(16).padStart(32, '0');
      const beat = { life, offeredBytes: OFFER, otherBytes: 0, accepting: true, draining: false };
      const answer = this.take(heartbeat(this.state, this.nowMs, node, { ...beat, load: 0.1 }));
      if (answer?.register === true) this.register(node);
    }
  }

  request(): void {
    const client = this.random.pick(CLIENTS);
    const count = 1 + this.random.below(3);
    const request = {
      requestId: this.world().newId(),
      sizeBytes: 1 + this.random.below(400),
      ttlMs: 5000 + this.random.below(20_000),
      count,
      purpose: 'test',
    };
    let grants = this.take(requestLeases(this.state, this.nowMs, client, request)) ?? [];
    if (grants.length > 0 && this.random.below(6) === 0) {
      const failed = grants
        .slice(0, 1 + this.random.below(count))
        .map(({ lease }) => lease.leaseId);
      const again = this.random.below(2) === 0;
      const instead = this.take(
        replaceLeases(this.state, this.nowMs, client, request, failed, again),
      );
      grants = instead === undefined ? [] : [...grants, ...instead];
      grants = grants.filter(({ lease }) => !failed.includes(lease.leaseId));
      const live = [...this.state.leases.values()].filter(
        ({ record }) => record.requestId === request.requestId,
      );
      if (live.length !== (instead === undefined ? 0 : count)) throw new Error('not all or none');
    }
    for (const { lease, jti } of grants) {
      this.tokens.push({ jti, leaseId: lease.leaseId, client, provider: lease.provider });
    }
  }

  present(): void {
    if (this.tokens.length === 0) return;
    const { jti, leaseId, client, provider } = this.random.pick(this.tokens);
    const real = this.real.get(provider)!;
    if (!real.up) return;
    const life = real.life.toString(16).padStart(32, '0');
    const presented = { jti, leaseId, client, provider, life };
    const lease = this.take(redeemToken(this.state, this.nowMs, presented));
    if (lease === undefined) return;
    if (this.redeemed.has(leaseId)) throw new Error('a lease was redeemed twice');
    this.redeemed.add(leaseId);
    // Now and then the answer is lost on its way.
    if (this.random.below(8) === 0) return;
    real.leases.set(leaseId, {
      client,
      sizeBytes: lease.sizeBytes,
      endMs: this.nowMs + lease.ttlMs,
    });
  }

  someLease(): Lease | undefined {
    const leases = [...this.state.leases.values()];
    return leases.length === 0 ? undefined : this.random.pick(leases);
  }

  onLease(what: 'release' | 'revoke' | 'renew' | 'token'): void {
    const lease = this.someLease();
    if (lease === undefined) return;
    const { leaseId, client, provider } = lease.record;
    if (what === 'release') this.take(releaseLeases(this.state, this.nowMs, client, [leaseId]));
    else if (what === 'revoke') this.take(revokeLeases(this.state, this.nowMs, [lease]));
    else if (what === 'token') {
      const grant = this.take(freshToken(this.state, this.nowMs, client, leaseId));
      if (grant !== undefined) this.tokens.push({ jti: grant.jti, leaseId, client, provider });
    } else {
      const ttlMs = 5000 + this.random.below(20_000);
      const renewal = this.take(
        renewLeases(this.state, this.nowMs, client, { leaseIds: [leaseId], ttlMs }),
      );
      const real = this.real.get(provider)!;
      const kept = real.leases.get(leaseId);
      if (renewal?.extend.size !== 1) return;
      if (kept === undefined) leasesUnknown(this.state, this.nowMs, provider, [leaseId]);
      else kept.endMs = Math.max(kept.endMs, this.nowMs + ttlMs);
    }
  }

  providerEvent(what: 'lost' | 'die' | 'return'): void {
    const node = this.random.pick(PROVIDERS);
    const real = this.real.get(node)!;
    if (what === 'return') {
      if (!real.up) this.register(node);
      return;
    }
    real.up = false;
    if (what === 'die') {
      real.life += 1;
      real.leases.clear();
    }
    if (this.random.below(2) === 0) this.store(providerLost(this.state, this.nowMs, node));
  }

  /** Another leader takes over, with nothing but what is stored. */
  takeOver(): void {
    const read = <T>(prefix: string, reader: (value: string) => T): T[] =>
      [...this.stored].filter(([key]) => key.startsWith(prefix)).map(([, value]) => reader(value));
    const before = this.snapshot();
    this.epoch += 1;
    const tokenKeys = [...this.stored.keys()].filter((key) => key.startsWith(PREFIX.token));
    this.state = LedgerState.restore(this.world(), this.nowMs, {
      members: read(PREFIX.member, readRecord.member),
      providers: read(PREFIX.provider, readRecord.provider),
      leases: read(PREFIX.lease, readRecord.lease),
      tokenKeys,
      requests: [...this.stored]
        .filter(([key]) => key.startsWith(PREFIX.request))
        .map(([key, value]) => ({
          requestId: key.slice(PREFIX.request.length),
          record: readRecord.request(value),
        })),
      usage: read(PREFIX.usage, readRecord.usage),
    });
    for (const key of tokenKeys) this.stored.delete(key);
    if (this.snapshot() !== before) {
      throw new Error(`another leader reads another state: ${before} ${this.snapshot()}`);
    }
    this.naive.clear();
    for (const client of CLIENTS) {
      this.naive.set(client, this.state.meter(client, this.nowMs).byteSeconds(this.nowMs));
    }
  }

  /** What must be the same for whoever leads. */
  snapshot(): string {
    const { leases, members, requests, providers } = this.state;
    const sorted = (entries: Iterable<readonly [string, unknown]>): unknown[] =>
      [...entries]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, record]) => [key, Object.entries(record as object).sort()]);
    return JSON.stringify([
      sorted([...leases].map(([key, { record }]) => [key, record] as const)),
      sorted(members),
      sorted(requests),
      sorted([...providers].map(([key, { record }]) => [key, record] as const)),
    ]);
  }

  check(): void {
    const all = [...this.state.leases.values()];
    const sum = (leases: readonly Lease[]): number =>
      leases.reduce((total, { record }) => total + record.sizeBytes, 0);
    const equal = (got: unknown, wanted: unknown, what: string): void => {
      if (got !== wanted) throw new Error(`${what}: ${String(got)}, expected ${String(wanted)}`);
    };
    for (const node of PROVIDERS) {
      const provider = this.state.providers.get(node)!;
      const own = all.filter(({ record }) => record.provider === node);
      equal(provider.reservedBytes, sum(own), 'reserved');
      equal(provider.leases.size, own.length, 'leases of a provider');
      if (sum(own) > OFFER) throw new Error('more than the offer');
    }
    for (const client of CLIENTS) {
      const own = all.filter(({ record }) => record.client === client);
      const meter = this.state.meter(client, this.nowMs);
      equal(meter.usedBytes, sum(own), 'used');
      equal(meter.usedLeases, own.length, 'leases of a client');
      equal(this.state.clientLeases.get(client)?.size ?? 0, own.length, 'leases of a client');
      if (sum(own) > QUOTA || own.length > 12) throw new Error('more than the quota');
      const off = Math.abs(meter.byteSeconds(this.nowMs) - (this.naive.get(client) ?? 0));
      if (off > 1e-3) throw new Error(`byte seconds are off by ${off}`);
    }
    equal(this.state.reservedBytes, sum(all), 'reserved in all');
    equal(this.state.due.size, all.length, 'every lease is looked at some time');
    const tokens = all.reduce((total, lease) => total + lease.tokens.size, 0);
    equal(this.state.tokens.size, tokens, 'tokens');
    const storedLeases = [...this.stored.keys()].filter((key) => key.startsWith(PREFIX.lease));
    equal(storedLeases.length, all.length, 'stored leases');
  }

  step(): void {
    const events: (() => void)[] = [
      ...Array<() => void>(6).fill(() => this.request()),
      ...Array<() => void>(8).fill(() => this.present()),
      ...Array<() => void>(3).fill(() => this.onLease('renew')),
      ...Array<() => void>(6).fill(() => this.advance(this.random.below(1500))),
      ...Array<() => void>(4).fill(() => this.beat()),
      () => this.onLease('release'),
      () => this.onLease('revoke'),
      () => this.onLease('token'),
      () => this.providerEvent('lost'),
      () => this.providerEvent('die'),
      ...Array<() => void>(3).fill(() => this.providerEvent('return')),
      () => this.advance(this.random.below(70_000)),
      () => {
        if (this.random.below(10) === 0) this.takeOver();
      },
      () => {
        if (this.random.below(20) > 0) return;
        const client = this.random.pick(CLIENTS);
        this.take(removeMember(this.state, this.nowMs, client));
        this.join(client, 'client', { quotaBytes: QUOTA, quotaLeases: 12 });
      },
    ];
    this.random.pick(events)();
    this.check();
  }
}

t.test('random histories keep exact books', (t) => {
  let leases = 0;
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const history = new History(seed);
      for (let step = 0; step < 600; step += 1) history.step();
      leases += history.redeemed.size;
      // In the end nothing is left: everything that is not renewed ends.
      for (const real of history.real.values()) real.up = true;
      for (let round = 0; round < 80; round += 1) {
        history.beat();
        history.advance(1000);
        history.check();
      }
      t.equal(history.state.leases.size, 0, 'every lease ended');
      t.equal(history.state.requests.size, 0);
      const left = [...history.stored.keys()].filter((key) => /(lease|token|request)\//.test(key));
      t.same(left, []);
    }),
    { numRuns: Number(process.env['RUNS'] ?? 40) },
  );
  t.ok(leases > 500, `${leases} leases were presented`);
  t.end();
});
