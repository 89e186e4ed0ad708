/** Times of a peer: of real sessions on loopback, and of peers that lend nothing, lie, are slow or go. */
import t, { type Test } from 'tap';
import type { SlabAccess, SlabProvider } from '../../../common/ports.ts';
import type { Percentiles } from '../../../common/rpc-nodes.ts';
import { pingSource } from '../../../daemon/peers/ping.ts';
import { MemorySlabs } from '../../helpers/memory-slabs.ts';
import { testNode, until, type TestNode } from '../../helpers/peer-node.ts';
import { TcpProxy } from '../../helpers/tcp-proxy.ts';

function isOrdered(t: Test, times: Percentiles | null, count: number): void {
  t.match(times, { count });
  if (times === null) return;
  const { min, p50, p90, p99, max } = times;
  const all = [min, p50, p90, p99, max];
  t.ok(min > 0);
  t.same(
    all,
    [...all].sort((a, b) => a - b),
  );
}

/** A provider whose read replies pass `change` first. */
function changed(
  slabs: MemorySlabs,
  change: (access: SlabAccess) => Partial<SlabAccess>,
): SlabProvider {
  return {
    openAccess: (holder, events) => {
      const access = slabs.openAccess(holder, events);
      return {
        lease: (request) => access.lease(request),
        renew: (ids, ttlMs) => access.renew(ids, ttlMs),
        release: (id) => access.release(id),
        readPages: (...args) => access.readPages(...args),
        writePages: (...args) => access.writePages(...args),
        trimPages: (...args) => access.trimPages(...args),
        usage: () => access.usage(),
        ...change(access),
      };
    },
    closeAccess: (holder) => slabs.closeAccess(holder),
    accepting: true,
    usage: () => slabs.usage(),
  };
}

async function pair(t: Test, provider?: SlabProvider): Promise<{ far: TestNode; near: TestNode }> {
  const far = testNode(t, 'far', provider === undefined ? {} : { provider });
  const near = testNode(t, 'near');
  await near.peers.connect(await far.listen()).outcome();
  return { far, near };
}

t.test('round trip, write and read each have their percentiles, and nothing stays', async (t) => {
  const { far, near } = await pair(t);
  const times = await pingSource(near.peers.store('far'), 25);
  isOrdered(t, times.roundTrip, 25);
  isOrdered(t, times.write, 25);
  isOrdered(t, times.read, 25);
  t.equal(far.slabs.usage().leaseCount, 0, 'the lease was given back');
});

t.test('a peer that lends nothing has a round trip only', async (t) => {
  const full = new MemorySlabs(0);
  t.teardown(() => full.free());
  const { near } = await pair(t, full);
  const times = await pingSource(near.peers.store('far'), 5);
  isOrdered(t, times.roundTrip, 5);
  t.same([times.write, times.read], [null, null]);
});

t.test('a peer that gives other bytes back is found out', async (t) => {
  const slabs = new MemorySlabs(2 ** 20);
  t.teardown(() => slabs.free());
  const liar = changed(slabs, (access) => ({
    readPages: (handle, first, count, into, offset) => {
      const status = access.readPages(handle, first, count, into, offset);
      into.bytes[offset + 4111] = (into.bytes[offset + 4111] ?? 0) ^ 1;
      return status;
    },
  }));
  const { near } = await pair(t, liar);
  await t.rejects(pingSource(near.peers.store('far'), 5), {
    code: 'ERR_DATA_LOST',
    message: 'node "far" gave other bytes back than it got',
  });
  await until(() => slabs.usage().leaseCount === 0, 'the lease was given back all the same');
});

t.test('a peer that answers nonsense is an error, not a time', async (t) => {
  const slabs = new MemorySlabs(2 ** 20);
  t.teardown(() => slabs.free());
  const { near } = await pair(
    t,
    changed(slabs, () => ({ trimPages: () => 0 })),
  );
  await t.rejects(pingSource(near.peers.store('far'), 5), { code: 'ERR_PEER_PROTOCOL' });
});

t.test('a slow way is seen as it is', async (t) => {
  const far = testNode(t, 'far');
  const near = testNode(t, 'near');
  const proxy = await TcpProxy.before(t, await far.listen());
  proxy.delayMs = 20;
  await near.peers.connect(proxy.address).outcome();
  const { roundTrip, write, read } = await pingSource(near.peers.store('far'), 3);
  for (const times of [roundTrip, write, read]) t.ok((times?.min ?? 0) >= 40_000, `${times?.min}`);
});

t.test('a peer that goes ends the measurement', async (t) => {
  const { far, near } = await pair(t);
  const store = near.peers.store('far');
  const measured = pingSource(store, 10_000_000);
  const ended = t.rejects(measured, { code: 'ERR_PEER_UNREACHABLE' });
  await until(() => far.slabs.callCount > 100);
  await far.peers.close();
  await ended;
  await t.rejects(pingSource(store, 1), { code: 'ERR_PEER_UNREACHABLE' }, 'and is down then');
});
