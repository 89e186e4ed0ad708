/** What a provider does when its owner needs the RAM, or wants it drained: with real slabs, memory as told. */
import t, { type Test } from 'tap';
import type { SlabAccess, SlabGrant, SlabRecall } from '../../common/ports.ts';
import { RamProvider, type RamProviderOptions } from '../../provider/service.ts';
import { pageBuffer, tmpfsBase } from '../helpers/tmpfs.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);
const MIB = 2 ** 20;
/** Pages of the slabs here, and the RAM of one that is full. */
const PAGES = 256;
const SLAB_BYTES = 257 * 4096;

interface Holder {
  readonly access: SlabAccess;
  readonly recalls: SlabRecall[];
  readonly ended: string[];
  readonly accepting: boolean[];
  /** Leases a slab and fills it. */
  fill(): SlabGrant;
}

function setUp(t: Test, options: Partial<RamProviderOptions> = {}) {
  const clock = { ms: 1000, nowMs: () => clock.ms };
  const memory = { availableBytes: 1000 * MIB, stallTotalUs: undefined };
  const provider = RamProvider.open({
    offeredBytes: 64 * MIB,
    directory: tmpfsBase(t),
    noswap: 'off',
    clock,
    reserveBytes: 100 * MIB,
    readPressure: () => memory,
    ...options,
  });
  t.teardown(() => provider.close());
  const pages = pageBuffer(t, 64);
  const holder = (id: string): Holder => {
    const [recalls, ended, accepting]: [SlabRecall[], string[], boolean[]] = [[], [], []];
    const access = provider.openAccess(id, {
      onRecall: (recall) => recalls.push(recall),
      onLeasesEnded: (ids) => ended.push(...ids),
      onAccepting: (now) => accepting.push(now),
    });
    const fill = (): SlabGrant => {
      const grant = access.lease({ pageCount: PAGES, ttlMs: 60_000 });
      for (let at = 0; at < PAGES; at += 64) access.writePages(grant.slabHandle, at, 64, pages, 0);
      return grant;
    };
    return { access, recalls, ended, accepting, fill };
  };
  const pass = (ms: number): void => {
    clock.ms += ms;
    provider.watchMemory();
  };
  return { provider, memory, holder, pass, pages, clock };
}

t.test(
  'a holder that will not come again is told and asked until its last lease ends',
  async (t) => {
    const { provider, memory, holder, pass } = setUp(t);
    const [gone, empty, back] = [holder(`${A}/m-1`), holder(`${A}/m-2`), holder(`${A}/m-3`)];
    const { leaseId } = gone.fill();
    back.fill();
    for (const lane of ['m-1', 'm-2', 'm-3']) provider.closeAccess(`${A}/${lane}`);
    const again = holder(`${A}/m-3`);
    memory.availableBytes = 0;
    pass(100);
    t.equal(gone.recalls.length, 1, 'its leases can still be ended in an emergency');
    t.same(empty.accepting, [], 'one without leases is forgotten');
    t.same([back.recalls.length, again.recalls.length], [0, 1], 'one that came again is told anew');
    gone.access.release(leaseId);
    const told = gone.accepting.length;
    memory.availableBytes = 1000 * MIB;
    for (let at = 0; at < 100; at += 1) pass(1000);
    t.equal(again.accepting.at(-1), true);
    t.equal(gone.accepting.length, told, 'after its last lease it is forgotten too');
  },
);

t.test('under pressure the slab used longest ago is asked back, and none is granted', async (t) => {
  const { provider, memory, holder, pass, pages } = setUp(t);
  const [a, b] = [holder(A), holder(B)];
  const [first, second, third] = [a.fill(), b.fill(), a.fill()];
  pass(100);
  b.access.readPages(second.slabHandle, 0, 1, pages, 0);
  pass(100);
  a.access.readPages(first.slabHandle, 0, 1, pages, 0);
  pass(100);
  t.same([a.recalls, b.recalls], [[], []]);
  memory.availableBytes = 124.5 * MIB;
  provider.setReserve(124.6 * MIB);
  pass(100);
  // Wanted are 31 MiB more than are there, so all of them, the coldest first.
  t.same(a.recalls, [{ leaseIds: [third.leaseId, first.leaseId], endsInMs: Infinity }]);
  t.same(b.recalls, [{ leaseIds: [second.leaseId], endsInMs: Infinity }]);
  t.same(a.accepting, [false]);
  t.equal(provider.accepting, false);
  t.throws(() => a.fill(), { code: 'ERR_LEASE_CAPACITY', message: /short of memory/ });
  t.same(a.ended, [], 'nothing ends by itself');
});

t.test('what comes back is counted, and after two good seconds all is as before', async (t) => {
  const { provider, memory, holder, pass } = setUp(t);
  const a = holder(A);
  const { leaseId } = a.fill();
  memory.availableBytes = 99 * MIB;
  pass(100);
  t.match(provider.status().giveBack, { level: 'pressed', askedCount: 1, firstBackMs: null });
  pass(37);
  a.access.release(leaseId);
  t.match(provider.status().giveBack, {
    ...{ askedCount: 0, givenBackCount: 1, givenBackBytes: SLAB_BYTES, firstBackMs: 37 },
    ...{ endedCount: 0, pressureCount: 1, reserveBytes: 100 * MIB },
  });
  memory.availableBytes = 125 * MIB;
  pass(100);
  t.equal(provider.accepting, false);
  pass(2000);
  t.equal(provider.accepting, true);
  t.same(a.accepting, [false, true]);
  t.ok(a.fill());
});

t.test('in an emergency leases that do not come in time are ended, wiped and told', async (t) => {
  const { provider, memory, holder, pass, pages } = setUp(t, { recallGraceMs: 3000 });
  const a = holder(A);
  const { leaseId, slabHandle } = a.fill();
  memory.availableBytes = 24 * MIB;
  pass(100);
  t.same(a.recalls, [{ leaseIds: [leaseId], endsInMs: 3000 }]);
  pass(2999);
  t.equal(a.access.readPages(slabHandle, 0, 1, pages, 0), 0, 'it is served to the end');
  pass(1);
  t.equal(a.access.readPages(slabHandle, 0, 1, pages, 0), 6);
  t.same(a.ended, [leaseId]);
  t.match(provider.status().giveBack, { endedCount: 1, endedBytes: SLAB_BYTES, askedCount: 0 });
  t.match(provider.usage(), { usedBytes: 0, residentBytes: 0, leaseCount: 0 });
});

t.test('leases of which nobody can be told are left alone', async (t) => {
  const { provider, memory, pass, pages } = setUp(t, { recallGraceMs: 0 });
  const access = provider.openAccess(`${A}/direct/0123456789abcdef`);
  const { slabHandle } = access.lease({ pageCount: PAGES, ttlMs: 60_000 });
  access.writePages(slabHandle, 0, 64, pages, 0);
  memory.availableBytes = 0;
  pass(100);
  pass(100);
  provider.setDraining(true);
  t.match(provider.status().giveBack, { level: 'emergency', askedCount: 0, endedCount: 0 });
  t.equal(access.readPages(slabHandle, 0, 1, pages, 0), 0);
});

t.test('a drain asks for everything at once and grants nothing until it is over', async (t) => {
  const { provider, holder, pass } = setUp(t);
  const a = holder(A);
  const { leaseId } = a.access.lease({ pageCount: PAGES, ttlMs: 60_000 });
  provider.setDraining(true);
  provider.setDraining(true);
  t.same(a.recalls, [{ leaseIds: [leaseId], endsInMs: Infinity }], 'before any time has passed');
  t.same(a.accepting, [false]);
  t.throws(() => a.fill(), { code: 'ERR_LEASE_CAPACITY', message: /drained/ });
  const again = holder(A);
  pass(100);
  t.match(again.recalls, [{ leaseIds: [leaseId] }], 'a holder that came back is told again');
  again.access.release(leaseId);
  provider.setDraining(false);
  t.same(again.accepting, [true]);
  t.ok(again.fill());
});

t.test('leases that expire or are revoked are told to their holder, together', async (t) => {
  const { provider, holder, clock } = setUp(t);
  const a = holder(A);
  const ids = [a.fill().leaseId, a.fill().leaseId];
  clock.ms += 60_000;
  provider.sweep();
  t.same(a.ended, ids);
  const { leaseId } = a.fill();
  provider.revoke(A);
  t.same(a.ended, [...ids, leaseId]);
  a.access.release(a.fill().leaseId);
  t.equal(a.ended.length, 3, 'a release is its own doing');
});
