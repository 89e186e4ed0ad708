import t from 'tap';
import { MemcloudError } from '../../../common/errors.ts';
import type { SlabGrant, SlabRecall, SlabRequest, SlabSource } from '../../../common/ports.ts';
import type { PoolLease } from '../../../daemon/managed/pool-lease.ts';
import { ManagedSources } from '../../../daemon/managed/sources.ts';

/** A provider that grants everything and notes what it was asked. */
class Provider {
  readonly asked: SlabRequest[] = [];
  readonly listeners = new Set<(recall: SlabRecall) => void>();
  readonly nodeId: string;
  readonly hostId = 'its own word';
  readonly zone = 'rack';
  readonly roundTripMs = 1;
  readonly quarantineReason = undefined;
  readonly usage = { offeredBytes: 0, usedBytes: 0, residentBytes: 7, leaseCount: 0 };
  up = true;
  accepting = true;
  unknown: string[] = [];
  refusing = false;
  #count = 0;

  constructor(nodeId: string) {
    this.nodeId = nodeId;
  }

  get nodeName(): string {
    return `guest ${this.nodeId}`;
  }

  async lease(request: SlabRequest): Promise<SlabGrant> {
    await Promise.resolve();
    if (this.refusing) throw new MemcloudError('ERR_PEER_UNREACHABLE', 'away');
    this.asked.push(request);
    this.#count += 1;
    return { leaseId: `slab ${this.#count}`, slabHandle: this.#count, ttlMs: request.ttlMs };
  }

  renew(): Promise<string[]> {
    return Promise.resolve(this.unknown);
  }

  release(): Promise<void> {
    return this.refusing
      ? Promise.reject(new MemcloudError('ERR_PEER_UNREACHABLE', 'away'))
      : Promise.resolve();
  }

  onRecall(listener: (recall: SlabRecall) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

const REQUEST: SlabRequest = { pageCount: 10, ttlMs: 1000 };

function lease(leaseId: string, nodeId: string, change: Partial<PoolLease> = {}): PoolLease {
  const provider = { nodeId, name: `name of ${nodeId}`, address: 'a:1', publicKey: '' };
  return { leaseId, column: 0, sizeBytes: 25, leaving: false, endsInMs: null, provider, ...change };
}

function scene(...leases: PoolLease[]): {
  sources: ManagedSources;
  providers: Map<string, Provider>;
  provider: (nodeId: string) => Provider;
  source: (nodeId: string) => SlabSource;
  clock: { now: number; nowMs(): number };
} {
  const providers = new Map<string, Provider>();
  const clock = { now: 0, nowMs: () => clock.now };
  const provider = (nodeId: string): Provider => {
    const known = providers.get(nodeId) ?? new Provider(nodeId);
    providers.set(nodeId, known);
    return known;
  };
  const sources = new ManagedSources({
    sourceOf: ({ nodeId }) => provider(nodeId) as unknown as SlabSource,
    chargeBytes: (pageCount) => pageCount,
    clock,
  });
  sources.follow(leases);
  const source = (nodeId: string): SlabSource => {
    const found = sources.list().find((each) => each.nodeId === nodeId);
    if (found === undefined) throw new Error(`no source ${nodeId}`);
    return found;
  };
  return { sources, providers, provider, source, clock };
}

t.test('slabs are taken from the leases, within their bytes', async (t) => {
  const { source, provider, sources } = scene(lease('a', 'p'), lease('b', 'p'));
  const p = source('p');
  t.match(p.usage, { offeredBytes: 50, usedBytes: 0 });
  const grants = await Promise.all([1, 2, 3, 4].map(() => p.lease(REQUEST)));
  t.same(
    provider('p').asked.map(({ under }) => under),
    ['a', 'a', 'b', 'b'],
    'also when they are asked for at once',
  );
  t.equal(p.usage.usedBytes, 40);
  await t.rejects(p.lease(REQUEST), { code: 'ERR_LEASE_CAPACITY' });
  await p.release(grants[0]?.leaseId ?? '');
  t.same(sources.use().leases, [
    { leaseId: 'a', usedBytes: 10 },
    { leaseId: 'b', usedBytes: 20 },
  ]);
  await p.lease(REQUEST);
  t.equal(provider('p').asked.at(-1)?.under, 'a');
});

t.test('a refusal takes nothing, and a release that is not heard gives all the same', async (t) => {
  const { source, provider } = scene(lease('a', 'p'));
  const p = source('p');
  const { leaseId } = await p.lease(REQUEST);
  provider('p').refusing = true;
  await t.rejects(p.lease(REQUEST), { code: 'ERR_PEER_UNREACHABLE' });
  t.equal(p.usage.usedBytes, 10);
  await t.rejects(p.release(leaseId), { code: 'ERR_PEER_UNREACHABLE' });
  t.equal(p.usage.usedBytes, 0);
});

t.test('slabs that nobody renews any more are forgotten, those on their way are not', async (t) => {
  const { source, provider } = scene(lease('a', 'p'));
  const p = source('p');
  const first = await p.lease(REQUEST);
  const second = await p.lease(REQUEST);
  for (let count = 0; count < 2; count += 1) await p.renew([first.leaseId], 1000);
  t.equal(p.usage.usedBytes, 20);
  await p.renew([first.leaseId, second.leaseId], 1000);
  for (let count = 0; count < 3; count += 1) await p.renew([first.leaseId], 1000);
  t.equal(p.usage.usedBytes, 10);
  provider('p').unknown = [first.leaseId];
  await p.renew([first.leaseId], 1000);
  t.equal(p.usage.usedBytes, 0);
});

t.test('to the volume a column is a machine, and what is not sound one of its own', (t) => {
  const { source, provider, sources } = scene(
    lease('a', 'p'),
    lease('b', 'q', { column: 1 }),
    lease('c', 'r', { column: 1 }),
  );
  const hosts = (): string[] => sources.list().map(({ hostId }) => hostId);
  t.same(hosts(), ['column 0', 'column 1', 'column 1']);
  provider('q').up = false;
  t.same(hosts(), ['column 0', 'q', 'column 1']);
  provider('q').up = true;
  provider('r').accepting = false;
  t.same(hosts(), ['column 0', 'column 1', 'r']);
  t.same(sources.use().sound, ['p', 'q']);
  t.equal(source('p').nodeName, 'name of p');
  t.match(source('p'), { zone: 'rack', roundTripMs: 1, up: true, accepting: true });
  t.end();
});

t.test('a lease that leaves takes nothing, and its slabs are asked back', async (t) => {
  const { source, sources } = scene(lease('a', 'p'), lease('b', 'q'));
  const p = source('p');
  const recalls: SlabRecall[] = [];
  p.onRecall((recall) => recalls.push(recall));
  const { leaseId } = await p.lease(REQUEST);
  sources.follow([lease('a', 'p', { leaving: true }), lease('b', 'q')]);
  t.same(recalls, [{ leaseIds: [leaseId], endsInMs: Infinity }]);
  t.equal(p.accepting, false);
  t.same(p.usage.offeredBytes, 0);
  await t.rejects(p.lease(REQUEST), { code: 'ERR_LEASE_CAPACITY' });
  sources.follow([lease('a', 'p', { leaving: true }), lease('b', 'q')]);
  t.equal(recalls.length, 1, 'once');
  sources.follow([lease('a', 'p', { leaving: true, endsInMs: 5000 }), lease('b', 'q')]);
  t.same(recalls[1], { leaseIds: [leaseId], endsInMs: 5000 }, 'again when its end is certain');
  sources.follow([lease('b', 'q')]);
  t.same(
    sources.list().map(({ nodeId }) => nodeId),
    ['q'],
  );
  t.equal(p.up, true, 'who still has slabs there is told by the provider that they are gone');
});

t.test(
  'what a provider asks back is passed on, and told of until it does not ask any more',
  async (t) => {
    const { source, provider, sources, clock } = scene(lease('a', 'p'));
    const p = source('p');
    const recalls: SlabRecall[] = [];
    const stop = p.onRecall((recall) => recalls.push(recall));
    const { leaseId } = await p.lease(REQUEST);
    for (const listener of provider('p').listeners)
      listener({ leaseIds: [leaseId], endsInMs: 900 });
    t.same(recalls, [{ leaseIds: [leaseId], endsInMs: Infinity }], 'never as urgent');
    t.same(sources.use().recalled, ['a']);
    clock.now += 15_001;
    t.same(sources.use().recalled, []);
    stop();
    sources.close();
    t.equal(provider('p').listeners.size, 0);
  },
);

t.test('a source stays the same for the life of its volume', (t) => {
  const { source, sources } = scene(lease('a', 'p'));
  const before = source('p');
  sources.follow([]);
  sources.follow([lease('b', 'p')]);
  t.equal(source('p'), before);
  t.end();
});
