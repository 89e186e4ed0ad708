/**
 * What a provider lends to a node and what the node knows of it are one number, over leases, lanes and direct
 * exports, reconnects and changed allowances: real sessions, a real provider, real direct exports.
 */
import t, { type Test } from 'tap';
import { monotonicClock } from '../../common/clock.ts';
import { silentLogger } from '../../common/log.ts';
import { DirectExports } from '../../direct/exports.ts';
import { Allowances } from '../../peer/allowances.ts';
import { Identity } from '../../peer/identity.ts';
import type { RemoteStore } from '../../peer/remote-store.ts';
import { RamProvider } from '../../provider/service.ts';
import { testNode, until, type TestNode } from '../helpers/peer-node.ts';
import { tmpfsBase } from '../helpers/tmpfs.ts';

const MIB = 2 ** 20;
/** What a lease of 4096 pages, and one of 65536 (a slab of a direct export), is charged, restated. */
const SLAB_CHARGE = 4096 * 4112 + 512 + 1024;
const ask = { pageCount: 4096, ttlMs: 10_000 };

interface Lender {
  readonly node: TestNode;
  readonly provider: RamProvider;
  readonly allowances: Allowances;
  readonly address: string;
}

async function lender(t: Test): Promise<Lender> {
  const identity = Identity.ephemeral();
  const allowances = Allowances.inMemory();
  const provider = RamProvider.open({
    offeredBytes: 512 * MIB,
    directory: tmpfsBase(t),
    noswap: 'off',
    reserveBytes: 0,
    allowedBytes: (node) =>
      node === identity.nodeId ? Infinity : (allowances.of(node) ?? Infinity),
  });
  const direct = new DirectExports({
    ...{ provider, clock: monotonicClock, port: () => 1, logger: silentLogger },
    serve: () => undefined,
  });
  const node = testNode(t, 'lender', { identity, provider, direct, allowances });
  t.teardown(() => {
    direct.close();
    provider.close();
  });
  return { node, provider, allowances, address: await node.listen() };
}

/** Waits until the borrower was told what is so, and says it. */
async function agreed(
  { provider }: Lender,
  store: RemoteStore,
  borrower: TestNode,
): Promise<number> {
  const { nodeId } = borrower.identity;
  await until(() => store.usage.heldBytes === provider.usedBy(nodeId), 'both ends agree');
  return provider.usedBy(nodeId);
}

function freeOf({ usage }: RemoteStore): number {
  return usage.offeredBytes - usage.usedBytes;
}

t.test('leases, lanes and direct exports are one number at both ends', async (t) => {
  const lends = await lender(t);
  const borrower = testNode(t, 'borrower');
  await borrower.peers.connect(lends.address).outcome();
  const store = borrower.peers.store('lender');
  t.equal(store.usage.heldBytes, 0);
  const { leaseId } = await store.lease(ask);
  t.equal(await agreed(lends, store, borrower), SLAB_CHARGE);

  const { identity, trust } = borrower;
  const lane = testNode(t, 'borrower', { identity, trust, lane: 'm-1' });
  await lane.peers.connect(lends.address).outcome();
  await lane.peers.store('lender').lease(ask);
  t.equal(await agreed(lends, store, borrower), 2 * SLAB_CHARGE, 'a lane of it');

  const { exportId } = await store.openDirect({ sizeBytes: 32 * MIB, ttlMs: 60_000 });
  const direct = (await agreed(lends, store, borrower)) - 2 * SLAB_CHARGE;
  t.ok(direct > 32 * MIB && direct < 33 * MIB, `a direct export: ${direct}`);

  await store.release(leaseId);
  await store.closeDirect(exportId);
  t.equal(await agreed(lends, store, borrower), SLAB_CHARGE, 'what is given back');
  t.equal(lends.provider.usage().usedBytes, SLAB_CHARGE);
});

t.test('an allowance that changes is seen at the other end within a second', async (t) => {
  const lends = await lender(t);
  const borrower = testNode(t, 'borrower');
  const { nodeId } = borrower.identity;
  await borrower.peers.connect(lends.address).outcome();
  const store = borrower.peers.store('lender');
  t.equal(store.usage.offeredBytes, 512 * MIB, 'without one: as much as is offered to all');
  for (const allowedBytes of [100 * MIB, 0, 600 * MIB, null]) {
    const offered = Math.min(512 * MIB, allowedBytes ?? Infinity);
    const beganMs = performance.now();
    lends.allowances.set(nodeId, allowedBytes);
    await until(() => store.usage.offeredBytes === offered, `${allowedBytes}`);
    t.comment(`${allowedBytes}: seen after ${(performance.now() - beganMs).toFixed(0)} ms`);
    t.equal(freeOf(store), offered);
  }
});

t.test('an allowance of a dialled address counts before the first lease', async (t) => {
  const borrower = testNode(t, 'borrower');
  const address = await borrower.listen();
  const lends = await lender(t);
  lends.allowances.expect(address, 0);
  await lends.node.peers.connect(address).outcome();
  await until(() => borrower.peers.list().length === 1);
  const store = borrower.peers.store('lender');
  t.same([store.usage.offeredBytes, freeOf(store)], [0, 0], 'HELLO says it already');
  await t.rejects(store.lease(ask), {
    code: 'ERR_LEASE_CAPACITY',
    message: /free 0 B of the 0 B that this node is allowed/,
  });
  await t.rejects(store.openDirect({ sizeBytes: 4096, ttlMs: 60_000 }), {
    code: 'ERR_LEASE_CAPACITY',
  });
  t.ok(
    await lends.node.peers.store('borrower').lease({ pageCount: 1, ttlMs: 5000 }),
    'and we borrow',
  );
});

t.test('of two sessions of a node that ask at once one gets the last slab', async (t) => {
  const lends = await lender(t);
  const borrower = testNode(t, 'borrower');
  const { identity, trust } = borrower;
  const lane = testNode(t, 'borrower', { identity, trust, lane: 'm-1' });
  lends.allowances.set(identity.nodeId, SLAB_CHARGE);
  for (const { peers } of [borrower, lane]) await peers.connect(lends.address).outcome();
  const asked = await Promise.allSettled(
    [borrower, lane, borrower, lane].map(({ peers }) => peers.store('lender').lease(ask)),
  );
  t.equal(asked.filter(({ status }) => status === 'fulfilled').length, 1);
  t.equal(lends.provider.usedBy(identity.nodeId), SLAB_CHARGE);
});

t.test('a direct export beyond the allowance is refused whole, and leaves nothing', async (t) => {
  const lends = await lender(t);
  const borrower = testNode(t, 'borrower');
  const { nodeId } = borrower.identity;
  lends.allowances.set(nodeId, 300 * MIB);
  await borrower.peers.connect(lends.address).outcome();
  const store = borrower.peers.store('lender');
  // The size alone would fit, what it costs would not: the second of its slabs is refused.
  for (const sizeBytes of [400 * MIB, 300 * MIB]) {
    await t.rejects(store.openDirect({ sizeBytes, ttlMs: 60_000 }), { code: 'ERR_LEASE_CAPACITY' });
    t.equal(await agreed(lends, store, borrower), 0);
  }
  t.ok(await store.openDirect({ sizeBytes: 256 * MIB, ttlMs: 60_000 }));
});

t.test('a reconnect and a smaller allowance take nothing and give nothing', async (t) => {
  const lends = await lender(t);
  const borrower = testNode(t, 'borrower');
  const { nodeId } = borrower.identity;
  lends.allowances.set(nodeId, 2 * SLAB_CHARGE);
  await borrower.peers.connect(lends.address).outcome();
  const store = borrower.peers.store('lender');
  const first = await store.lease(ask);
  const second = await store.lease(ask);
  lends.allowances.set(nodeId, SLAB_CHARGE);
  borrower.peers.disconnect('lender');
  await borrower.peers.connect(lends.address).outcome();
  t.equal(await agreed(lends, store, borrower), 2 * SLAB_CHARGE, 'it has what it had');
  t.same(await store.renew([first.leaseId, second.leaseId], 10_000), [], 'and keeps it');
  t.equal(freeOf(store), 0);
  await t.rejects(store.lease({ pageCount: 1, ttlMs: 5000 }), { code: 'ERR_LEASE_CAPACITY' });
  await store.release(first.leaseId);
  await t.rejects(store.lease(ask), { code: 'ERR_LEASE_CAPACITY' }, 'still at its allowance');
  await store.release(second.leaseId);
  t.ok(await store.lease(ask));
});

t.test('who loses its trust loses its allowance', async (t) => {
  const lends = await lender(t);
  const borrower = testNode(t, 'borrower');
  const { nodeId } = borrower.identity;
  lends.allowances.set(nodeId, 5);
  await borrower.peers.connect(lends.address).outcome();
  lends.node.trust.remove(nodeId);
  t.equal(lends.allowances.of(nodeId), null);
});
