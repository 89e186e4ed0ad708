/**
 * Control nodes on a store in memory, without sockets: sessions are calls, time is moved by the test, and
 * providers are simulated ones that speak the real messages (`SimProvider`).
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { Test } from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { nodeIdOf } from '../../common/fingerprint.ts';
import { silentLogger } from '../../common/log.ts';
import type { ManagedLink, MemberRole } from '../../common/managed.ts';
import type {
  Leadership,
  LeadershipEvents,
  LeaderRecord,
  Term,
} from '../../control-plane/leadership.ts';
import {
  decodeManagedCall,
  decodeManagedReply,
  encodeManagedCall,
  encodeManagedError,
  encodeManagedResult,
} from '../../control-plane/messages.ts';
import type { MetaStore } from '../../control-plane/meta-store.ts';
import { signReceipt } from '../../common/receipts.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from '../../control-plane/schema.ts';
import { ControlService } from '../../control-plane/service.ts';
import { Random } from './fuzz.ts';
import { MemoryMetaStore } from './memory-meta-store.ts';

/** A node: its key. */
export interface KeyedNode {
  readonly nodeId: string;
  readonly publicKey: Buffer;
  readonly privateKey: KeyObject;
}

/** Makes a node. */
export function makeNode(): KeyedNode {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = Buffer.from(publicKey.export({ format: 'jwk' }).x!, 'base64url');
  return { nodeId: nodeIdOf(raw), publicKey: raw, privateKey };
}

/** Leadership by the word of the test, with the entry in the store that fences it. */
export class TestLeadership {
  leader: LeaderRecord | undefined;
  term: Term | undefined;
  #events: LeadershipEvents | undefined;
  readonly #store: MetaStore;
  readonly #nodeId: string;

  constructor(store: MetaStore, nodeId: string) {
    this.#store = store;
    this.#nodeId = nodeId;
  }

  start(events: LeadershipEvents): void {
    this.#events = events;
  }

  /** Elects this node, as a transaction of the store. */
  async elect(epoch: number): Promise<void> {
    this.leader = { nodeId: this.#nodeId, name: 'control', epoch };
    const key = '/memcloud/v1/leader';
    const revision = await this.#store.put(key, JSON.stringify(this.leader));
    this.term = { epoch, fence: { key, revision } };
    this.#events?.onElected(this.term);
  }

  /** Tells the node that its term is over. */
  depose(leader?: LeaderRecord): void {
    this.leader = leader;
    this.term = undefined;
    this.#events?.onDeposed();
  }
}

/** Time that stands still until the test moves it, with what is to be done then. */
export class TestTime {
  nowMs = 1_000_000;
  #timers: { readonly atMs: number; readonly task: () => void }[] = [];

  readonly after = (delayMs: number, task: () => void): (() => void) => {
    const timer = { atMs: this.nowMs + delayMs, task };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  };

  /** Moves time and does what is due. */
  advance(ms: number): void {
    this.nowMs += ms;
    const due = this.#timers.filter(({ atMs }) => atMs <= this.nowMs);
    this.#timers = this.#timers.filter(({ atMs }) => atMs > this.nowMs);
    for (const { task } of due) task();
  }
}

/** Lets everything that waits for nothing but its turn be done. */
export async function turns(count = 30): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** A provider that keeps leases as it is told, by the rig's time. */
export class SimProvider {
  readonly node = makeNode();
  readonly name: string;
  rig: ControlRig;
  life = '1'.repeat(32);
  offeredBytes = 1 << 30;
  hostId: string;
  zone = '';
  readonly leases = new Map<string, { client: string; sizeBytes: number; endMs: number }>();
  readonly admitted: string[] = [];
  readonly calls: string[] = [];
  /** What it does with calls of the leader: answer, refuse, or say nothing at all. */
  mood: 'well' | 'refuses' | 'silent' = 'well';
  /** Whether its endings reach the leader. */
  tells = true;

  constructor(rig: ControlRig, name: string) {
    this.rig = rig;
    this.name = name;
    this.hostId = `host-${name}`;
  }

  get nodeId(): string {
    return this.node.nodeId;
  }

  /** Comes with a session and registers. */
  async come(): Promise<ManagedResult<'provider.register'>> {
    this.rig.connect(this.node, this.name);
    return this.register();
  }

  async register(): Promise<ManagedResult<'provider.register'>> {
    const { life, hostId, zone, offeredBytes } = this;
    const leases = [...this.leases].map(([leaseId, { client, sizeBytes, endMs }]) => ({
      ...{ leaseId, client, sizeBytes },
      ttlMs: Math.max(0, endMs - this.rig.time.nowMs),
    }));
    const answer = await this.rig.ask(this.node, 'provider.register', {
      ...{ life, hostId, zone, offeredBytes, leases, port: 7070, otherBytes: 0 },
      ...{ accepting: true, draining: false },
    });
    for (const leaseId of answer.end) await this.wipe(leaseId, 'revoked');
    return answer;
  }

  beat(): Promise<ManagedResult<'provider.heartbeat'>> {
    const { life, offeredBytes } = this;
    return this.rig.ask(this.node, 'provider.heartbeat', {
      ...{ life, offeredBytes, otherBytes: 0, accepting: true, draining: false, load: 0 },
    });
  }

  /** Takes a token into use. */
  async redeem(token: string, client: string): Promise<ManagedResult<'provider.redeem'>> {
    const lease = await this.rig.ask(this.node, 'provider.redeem', {
      life: this.life,
      token,
      client,
    });
    const { leaseId, sizeBytes, ttlMs } = lease;
    this.leases.set(leaseId, { client, sizeBytes, endMs: this.rig.time.nowMs + ttlMs });
    return lease;
  }

  /** Wipes a lease and says so. */
  async wipe(
    leaseId: string,
    reason: 'revoked' | 'expired' | 'released' | 'provider',
  ): Promise<void> {
    const lease = this.leases.get(leaseId);
    if (lease === undefined) return;
    this.leases.delete(leaseId);
    if (!this.tells) return;
    const { client, sizeBytes } = lease;
    const ending = { leaseId, client, sizeBytes, reason, wipedBytes: sizeBytes, wipeMs: 1.5 };
    const receipt = await signReceipt(this.node, ending);
    const { life } = this;
    await this.rig.ask(this.node, 'provider.ended', { life, endings: [{ ...ending, receipt }] });
  }

  /** Wipes what is over. */
  async expire(): Promise<void> {
    for (const [leaseId, { endMs }] of this.leases) {
      if (endMs <= this.rig.time.nowMs) await this.wipe(leaseId, 'expired');
    }
  }

  /** Answers a call of the leader. */
  serve(body: Uint8Array): Promise<Buffer> {
    const { call, params } = decodeManagedCall(Buffer.from(body));
    this.calls.push(call);
    if (this.mood === 'silent') return new Promise(() => undefined);
    if (this.mood === 'refuses') {
      const error = new MemcloudError('ERR_CONTROL_NOT_LEADER', 'another one leads');
      return Promise.resolve(Buffer.from(encodeManagedError(error)));
    }
    if (call === 'manage.admit') {
      this.admitted.push(params.publicKey);
      return Promise.resolve(Buffer.from(encodeManagedResult(call, {})));
    }
    if (call === 'manage.extend') {
      const unknown: string[] = [];
      for (const { leaseId, ttlMs } of params.leases) {
        const lease = this.leases.get(leaseId);
        if (lease === undefined) unknown.push(leaseId);
        else lease.endMs = Math.max(lease.endMs, this.rig.time.nowMs + ttlMs);
      }
      return Promise.resolve(Buffer.from(encodeManagedResult(call, { unknown })));
    }
    if (call === 'manage.end') {
      const unknown = params.leaseIds.filter((leaseId) => !this.leases.has(leaseId));
      const reason = params.reason === 'unused' ? 'provider' : params.reason;
      for (const leaseId of params.leaseIds) void this.wipe(leaseId, reason).catch(() => undefined);
      return Promise.resolve(Buffer.from(encodeManagedResult(call, { unknown })));
    }
    throw new Error(`a provider does not answer ${call}`);
  }
}

/** One control node. */
export interface TestControl {
  readonly node: KeyedNode;
  readonly service: ControlService;
  readonly leadership: TestLeadership | Leadership;
}

/** See the top of the file. */
export class ControlRig {
  readonly time = new TestTime();
  readonly random: Random;
  readonly store: MetaStore;
  readonly #elections: ((node: KeyedNode) => Leadership) | undefined;
  readonly controls: TestControl[] = [];
  /** The one that is asked. */
  control: TestControl;
  readonly providers = new Map<string, SimProvider>();
  /** Who has a session with the control nodes. */
  readonly connected = new Map<string, { readonly node: KeyedNode; readonly name: string }>();
  /** What clients were told: `manage.ending`. */
  readonly told: { to: string; leaseIds: string[]; reason: string }[] = [];

  /** @param elections - other ones than those by the word of the test */
  constructor(
    store: MetaStore = new MemoryMetaStore(),
    seed = 1,
    elections?: (node: KeyedNode) => Leadership,
  ) {
    this.store = store;
    this.#elections = elections;
    this.random = new Random(seed);
    this.control = this.addControl();
  }

  /** A rig whose node leads, ended with the test. */
  static async start(t: Test, store?: MetaStore, seed?: number): Promise<ControlRig> {
    const rig = new ControlRig(store, seed);
    t.teardown(() => rig.close());
    await rig.lead();
    return rig;
  }

  /** The elections by the word of the test. */
  get elections(): TestLeadership {
    return this.control.leadership as TestLeadership;
  }

  get memory(): MemoryMetaStore {
    return this.store as MemoryMetaStore;
  }

  addControl(name = `control-${this.controls.length}`): TestControl {
    const node = makeNode();
    const leadership = this.#elections?.(node) ?? new TestLeadership(this.store, node.nodeId);
    const service = new ControlService({
      store: this.store,
      leadership,
      nodeId: node.nodeId,
      name,
      address: () => '10.0.0.1:7071',
      signingKey: node.privateKey,
      links: { find: (nodeId) => this.#link(nodeId) },
      clock: { nowMs: () => this.time.nowMs },
      random: () => this.random.below(2 ** 30) / 2 ** 30,
      logger: silentLogger,
      after: this.time.after,
    });
    service.start();
    const control = { node, service, leadership };
    this.controls.push(control);
    return control;
  }

  /** Elects the node that is asked. */
  async lead(epoch = 1): Promise<void> {
    await this.elections.elect(epoch);
    await this.until(async () => (await this.local('control.hello', {})).leads);
  }

  async until(holds: () => Promise<boolean>): Promise<void> {
    for (let tries = 0; tries < 1000; tries += 1) {
      if (await holds()) return;
      await turns(2);
    }
    throw new Error('it did not come to pass');
  }

  async close(): Promise<void> {
    for (const { service } of this.controls) await service.close();
  }

  connect(node: KeyedNode, name: string): void {
    this.connected.set(node.nodeId, { node, name });
    for (const { service } of this.controls) {
      service.peerUp(node.nodeId, node.publicKey, name, '10.0.0.9:50000');
    }
  }

  disconnect(nodeId: string): void {
    this.connected.delete(nodeId);
    for (const { service } of this.controls) service.peerDown(nodeId);
  }

  /** Asks the control node as a node does. */
  async ask<C extends ManagedCall>(
    from: KeyedNode,
    call: C,
    params: ManagedParams<C>,
    control = this.control,
  ): Promise<ManagedResult<C>> {
    const body = Buffer.from(encodeManagedCall(call, params));
    return decodeManagedReply(call, await control.service.serveManaged(from.nodeId, body));
  }

  /** Asks it as an admin on its machine, and holds the answer to the schema. */
  async local<C extends ManagedCall>(call: C, params: ManagedParams<C>): Promise<ManagedResult<C>> {
    const result = await this.control.service.call(call, params);
    return decodeManagedReply(call, encodeManagedResult(call, result));
  }

  /** A member with a session. */
  async client(
    name = 'client',
    limits: object = {},
    roles: MemberRole[] = ['client'],
  ): Promise<KeyedNode> {
    const node = makeNode();
    await this.local('admin.member-put', { key: node.nodeId, name, roles, ...limits });
    this.connect(node, name);
    return node;
  }

  /** A provider that is a member and registered. */
  async provider(name: string, changes: Partial<SimProvider> = {}): Promise<SimProvider> {
    const provider = Object.assign(new SimProvider(this, name), changes);
    this.providers.set(provider.nodeId, provider);
    await this.local('admin.member-put', { key: provider.nodeId, name, roles: ['provider'] });
    await provider.come();
    return provider;
  }

  /** Asks for leases. */
  request(
    client: KeyedNode,
    wish: Partial<ManagedParams<'lease.request'>> = {},
  ): Promise<ManagedResult<'lease.request'>> {
    const requestId = this.random.bytes(16).toString('hex');
    return this.ask(client, 'lease.request', {
      ...{ requestId, sizeBytes: 1 << 20, ttlMs: 60_000, count: 1, purpose: 'test' },
      ...wish,
    });
  }

  /** Asks for one lease and has it redeemed. */
  async lease(
    client: KeyedNode,
    wish: Partial<ManagedParams<'lease.request'>> = {},
  ): Promise<{ leaseId: string; provider: SimProvider }> {
    const { leases } = await this.request(client, wish);
    const [grant] = leases;
    const provider = this.providers.get(grant!.provider.nodeId)!;
    await provider.redeem(grant!.token, client.nodeId);
    return { leaseId: grant!.leaseId, provider };
  }

  /** Lets time pass in steps of a heartbeat, with all providers that are connected beating. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 500) {
      this.time.advance(Math.min(left, 500));
      for (const provider of this.providers.values()) {
        if (!this.connected.has(provider.nodeId) || provider.mood === 'silent') continue;
        await provider.expire();
        const { register } = await provider.beat();
        if (register === true) await provider.register();
      }
      for (const { service } of this.controls) service.tick();
      await turns(4);
    }
  }

  /** Every line of the audit log. */
  async audit(): Promise<ManagedResult<'admin.audit'>['rows']> {
    const lines: ManagedResult<'admin.audit'>['rows'] = [];
    for (;;) {
      const after = lines.at(-1)?.sequence ?? 0;
      const { rows } = await this.local('admin.audit', { after, countMax: 500 });
      if (rows.length === 0) return lines;
      lines.push(...rows);
    }
  }

  #link(nodeId: string): ManagedLink | undefined {
    const known = this.connected.get(nodeId);
    const provider = this.providers.get(nodeId);
    if (known === undefined) return undefined;
    return {
      nodeId,
      name: known.name,
      up: true,
      connected: true,
      request: (body) => {
        if (provider !== undefined) return provider.serve(body);
        const { call, params } = decodeManagedCall(Buffer.from(body));
        if (call !== 'manage.ending') throw new Error(`a client does not answer ${call}`);
        this.told.push({ to: nodeId, leaseIds: params.leaseIds, reason: params.reason });
        return Promise.resolve(Buffer.from(encodeManagedResult(call, {})));
      },
    };
  }
}
