/**
 * How long it takes from the shortage until RAM is back, with a real provider under real timers, a real
 * session, and a consumer that gives back at once: what the machinery costs without the moving of pages.
 */
import t from 'tap';
import { RamProvider } from '../../provider/service.ts';
import { testNode, until } from '../helpers/peer-node.ts';
import { pageBuffer, tmpfsBase } from '../helpers/tmpfs.ts';

const MIB = 2 ** 20;
const SLAB_COUNT = 8;

t.test('the first slab is back after one look and one round trip', async (t) => {
  const memory = { availableBytes: 1000 * MIB, stallTotalUs: undefined };
  let looks = 0;
  const provider = RamProvider.open({
    ...{ offeredBytes: 256 * MIB, directory: tmpfsBase(t), noswap: 'off' },
    ...{ reserveBytes: 500 * MIB, readPressure: () => ((looks += 1), memory) },
  });
  t.teardown(() => provider.close());
  const lender = testNode(t, 'lender', { provider });
  const consumer = testNode(t, 'consumer');
  await consumer.peers.connect(await lender.listen()).outcome();
  const store = consumer.peers.store('lender');
  const grants = [];
  for (let count = 0; count < SLAB_COUNT; count += 1) {
    grants.push(await store.lease({ pageCount: 4096, ttlMs: 60_000 }));
  }
  const pages = pageBuffer(t, 64);
  const own = provider.openAccess(consumer.identity.nodeId);
  for (const { slabHandle } of grants) {
    for (let at = 0; at < 4096; at += 64) own.writePages(slabHandle, at, 64, pages, 0);
  }
  t.ok(provider.usage().residentBytes > 128 * MIB);
  const releases: Promise<void>[] = [];
  store.onRecall(({ leaseIds }) => {
    releases.push(...leaseIds.map((leaseId) => store.release(leaseId)));
  });
  let firstMs = Infinity;
  let firstLooks = 0;
  provider.onLeaseEnded(({ residentBytes }) => {
    firstLooks ||= looks - looksBefore;
    firstMs = Math.min(firstMs, performance.now());
    memory.availableBytes += residentBytes;
  });
  const looksBefore = looks;
  const beganMs = performance.now();
  memory.availableBytes = 499 * MIB;
  await until(() => provider.usage().leaseCount === 0);
  await Promise.all(releases);
  const [first, all] = [firstMs - beganMs, performance.now() - beganMs].map(Math.round);
  t.comment(`first slab after ${first} ms, ${SLAB_COUNT} slabs after ${all} ms`);
  // Ten looks a second: a second one comes only where this process stood still for so long.
  t.ok(firstLooks === 1 || firstLooks === 2, `the first slab after ${firstLooks} looks`);
  const { giveBack } = provider.status();
  t.match(giveBack, { givenBackCount: SLAB_COUNT, endedCount: 0, pressureCount: 1 });
  t.ok(giveBack.firstBackMs !== null && giveBack.firstBackMs <= first! + 1);
});
