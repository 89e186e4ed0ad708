/**
 * Clients of the benchmark `control-plane`: they ask, present and give back over real sessions, and take the
 * time of each step. `allocate` prints one line of JSON (`Allocated`) and ends; `hold` prints one (`Filled`)
 * when its leases are there, renews them for a while, and then lets them expire.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicClock } from '../../common/clock.ts';
import { parseControlTarget } from '../../common/control-target.ts';
import { silentLogger } from '../../common/log.ts';
import { MANAGED_LEASE_COUNT_MAX } from '../../common/managed.ts';
import { ControlLink } from '../../control-plane/control-link.ts';
import { decodeManagedReply, encodeManagedCall } from '../../control-plane/messages.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from '../../control-plane/schema.ts';
import { waitFor } from '../stage.ts';
import { median, quantile } from '../statistics.ts';
import { benchNode, linkTo, type BenchNode } from './node.ts';
import type { Allocated, ClientsPlan, StepTimes } from './plans.ts';

const ADMITTED_MS = 3_600_000;
const LEADER_TIMEOUT_MS = 30_000;

type Grant = ManagedResult<'lease.request'>['leases'][number];

const plan = JSON.parse(process.argv[2] ?? '') as ClientsPlan;

/** A client and its way to everybody. */
class Client {
  readonly #node: BenchNode;
  readonly #control: ControlLink;

  constructor(directory: string) {
    // A member has a session for managed calls only if it takes some itself; of these it answers none.
    const serveManaged = (): Promise<Uint8Array> => Promise.resolve(new Uint8Array());
    this.#node = benchNode(directory, plan.control, { serveManaged });
    const { peers } = this.#node;
    peers.connect(plan.control.address);
    this.#control = new ControlLink({
      ...{ links: peers.managedLinks, targets: [parseControlTarget(plan.control.address)] },
      ...{ clock: monotonicClock, logger: silentLogger },
    });
  }

  /** Waits for the leader, and makes a session with every provider. */
  async start(): Promise<void> {
    await waitFor('a leader', LEADER_TIMEOUT_MS, () => this.#control.leader !== undefined);
    for (const nodeId of plan.providers) {
      const lease = await this.request([nodeId]);
      await this.present(lease);
      await this.release(lease);
    }
  }

  async request(include?: string[]): Promise<Grant> {
    const { sizeBytes, ttlMs } = plan;
    const requestId = randomBytes(16).toString('hex');
    const { leases } = await this.#control.call('lease.request', {
      ...{ requestId, sizeBytes, ttlMs, count: 1, purpose: 'bench' },
      ...(include === undefined ? {} : { include }),
    });
    const [lease] = leases;
    if (lease === undefined) throw new Error('a grant without a lease');
    return lease;
  }

  async present({ provider, token }: Grant): Promise<void> {
    const { peers } = this.#node;
    const publicKey = Buffer.from(provider.publicKey, 'hex');
    if (peers.managedLinks.find(provider.nodeId)?.up !== true) {
      peers.admissions.admit(publicKey, ADMITTED_MS);
      const pin = (peer: { readonly publicKey: Uint8Array }): boolean =>
        publicKey.equals(peer.publicKey);
      peers.connect(provider.address, { pin, asGuest: true });
    }
    await this.#ask(provider.nodeId, 'lease.present', { token });
  }

  async release({ leaseId, provider }: Grant): Promise<void> {
    await this.#ask(provider.nodeId, 'lease.return', { leaseIds: [leaseId] });
  }

  async renew(leaseIds: readonly string[]): Promise<void> {
    for (let at = 0; at < leaseIds.length; at += MANAGED_LEASE_COUNT_MAX) {
      const part = leaseIds.slice(at, at + MANAGED_LEASE_COUNT_MAX);
      const params = { leaseIds: part, ttlMs: plan.ttlMs };
      const { refused } = await this.#control.call('lease.renew', params);
      if (refused.length > 0) throw new Error(`not renewed: ${refused[0]?.why}`);
    }
  }

  async #ask<C extends ManagedCall>(
    nodeId: string,
    call: C,
    params: ManagedParams<C>,
  ): Promise<ManagedResult<C>> {
    const link = await linkTo(this.#node, nodeId);
    return decodeManagedReply(call, await link.request(encodeManagedCall(call, params)));
  }
}

function timesOf(sample: readonly number[]): StepTimes {
  return { p50Ms: median(sample), p99Ms: quantile(sample, 0.99) };
}

/** Whole allocations, each step timed. */
async function allocate(clients: readonly Client[]): Promise<Allocated> {
  const steps = { request: [], present: [], release: [], whole: [] } as Record<string, number[]>;
  const timed = async <T>(name: string, work: Promise<T>): Promise<T> => {
    const beganMs = performance.now();
    const result = await work;
    steps[name]?.push(performance.now() - beganMs);
    return result;
  };
  const one = async (client: Client): Promise<void> => {
    const lease = await timed('request', client.request());
    await timed('present', client.present(lease));
    await timed('release', client.release(lease));
  };
  const [first] = clients;
  if (first === undefined) throw new Error('expected a client');
  for (let count = 0; count < plan.sequentialCount; count += 1) await timed('whole', one(first));
  const [request, present, release, whole] = ['request', 'present', 'release', 'whole'].map(
    (name) => timesOf(steps[name] ?? []),
  ) as [StepTimes, StepTimes, StepTimes, StepTimes];
  const beganMs = performance.now();
  let count = 0;
  const worker = async (_: unknown, index: number): Promise<void> => {
    while (performance.now() - beganMs < plan.seconds * 1000) {
      await one(clients[index % clients.length] ?? first);
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: plan.inFlight }, worker));
  const perSecond = (count * 1000) / (performance.now() - beganMs);
  return { request, present, release, whole, perSecond };
}

/** Many leases, renewed in time. */
async function hold(clients: readonly Client[]): Promise<void> {
  const held = clients.map((): string[] => []);
  const beganMs = performance.now();
  let wanted = plan.holdCount;
  const worker = async (_: unknown, index: number): Promise<void> => {
    const at = index % clients.length;
    while (wanted > 0) {
      wanted -= 1;
      const lease = await clients[at]!.request();
      await clients[at]!.present(lease);
      held[at]?.push(lease.leaseId);
    }
  };
  const ended = new AbortController();
  process.once('SIGUSR2', () => ended.abort());
  const renewing = (async () => {
    while (!ended.signal.aborted) {
      await Promise.all(clients.map((client, index) => client.renew([...(held[index] ?? [])])));
      await sleep(plan.ttlMs / 4, undefined, { signal: ended.signal }).catch(() => undefined);
    }
  })();
  await Promise.all(Array.from({ length: plan.inFlight }, worker));
  const perSecond = (plan.holdCount * 1000) / (performance.now() - beganMs);
  process.stdout.write(`${JSON.stringify({ count: plan.holdCount, perSecond })}\n`);
  await renewing;
}

const clients = plan.directories.map((directory) => new Client(directory));
for (const client of clients) await client.start();
if (plan.work === 'allocate') {
  process.stdout.write(`${JSON.stringify(await allocate(clients))}\n`);
  process.exit(0);
}
await hold(clients);
// Sessions stay: how leases end without their client is another matter.
setInterval(() => undefined, 60_000);
