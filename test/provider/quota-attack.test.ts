/**
 * The holes in the quota of the MemCloud before this one (each letter is one of them), attacked with leases.
 * Those of them that are about objects only (f, g) are attacked where objects are kept.
 */
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { RamProvider, type RamProviderOptions } from '../../provider/service.ts';
import { pageBuffer, tmpfsBase } from '../helpers/tmpfs.ts';

const NODES = ['a', 'b', 'c', 'd'].map((digit) => digit.repeat(32));
const [A, B] = [NODES[0]!, NODES[1]!];
const SLAB_CHARGE = 4096 * 4112 + 512 + 1024;
const ask = { pageCount: 4096, ttlMs: 10_000 };
const refused = { code: 'ERR_LEASE_CAPACITY' };

function openProvider(t: Test, options: Partial<RamProviderOptions> = {}) {
  const clock = { ms: 1000, nowMs: () => clock.ms };
  const provider = RamProvider.open({
    offeredBytes: 4 * SLAB_CHARGE,
    directory: tmpfsBase(t),
    noswap: 'off',
    clock,
    reserveBytes: 0,
    ...options,
  });
  t.teardown(() => provider.close());
  return { provider, clock };
}

t.test('(a) as many peers as come share one offer; none gets the whole machine', async (t) => {
  const { provider } = openProvider(t);
  let granted = 0;
  for (const node of NODES) {
    for (const holder of [node, `${node}/m-1`, `${node}/direct/0123456789abcdef`]) {
      for (let more = true; more;) {
        try {
          provider.openAccess(holder).lease(ask);
          granted += 1;
        } catch {
          more = false;
        }
      }
    }
  }
  t.equal(granted, 4);
  t.equal(provider.usage().usedBytes, 4 * SLAB_CHARGE);
});

t.test(
  '(b) what is used falls with every way in which a lease ends, and with no other',
  async (t) => {
    const { provider, clock } = openProvider(t, { allowedBytes: () => SLAB_CHARGE });
    const first = provider.openAccess(A).lease(ask);
    provider.closeAccess(A);
    t.throws(() => provider.openAccess(A).lease(ask), refused, 'a new session has no new quota');
    t.equal(provider.usedBy(A), SLAB_CHARGE);
    provider.openAccess(A).release(first.leaseId);
    t.equal(provider.usedBy(A), 0, 'release');
    t.throws(() => provider.openAccess(A).release(first.leaseId), { code: 'ERR_LEASE_UNKNOWN' });
    t.equal(provider.usedBy(A), 0, 'a second release gives nothing');
    provider.openAccess(A).lease(ask);
    clock.ms += 10_000;
    provider.sweep();
    t.equal(provider.usedBy(A), 0, 'deadline');
    provider.openAccess(A).lease(ask);
    provider.revoke(A);
    t.equal(provider.usedBy(A), 0, 'revocation');
    t.ok(provider.openAccess(A).lease(ask));
  },
);

t.test('(c) leases of next to nothing are charged for their records, and run out', async (t) => {
  const { provider } = openProvider(t, { offeredBytes: 100 * 9220 });
  const access = provider.openAccess(A);
  t.throws(() => access.lease({ pageCount: 0, ttlMs: 10_000 }), { code: 'ERR_LEASE_INVALID' });
  for (let count = 0; count < 100; count += 1) access.lease({ pageCount: 1, ttlMs: 10_000 });
  t.throws(() => access.lease({ pageCount: 1, ttlMs: 10_000 }), refused);
  t.equal(provider.usage().usedBytes, 100 * 9220);
});

t.test('(d) a page that is written again and again is charged once', async (t) => {
  const { provider } = openProvider(t);
  const access = provider.openAccess(A);
  const { slabHandle } = access.lease(ask);
  const page = pageBuffer(t, 1);
  for (let count = 0; count < 1000; count += 1) {
    t.equal(access.writePages(slabHandle, 5, 1, page, 0) === 0, true);
  }
  t.equal(provider.usedBy(A), SLAB_CHARGE);
  t.equal(
    provider.usage().residentBytes,
    2 * 4096,
    'the two file pages that one sealed page is on',
  );
});

t.test('(e) nothing is taken before the quota was asked', async (t) => {
  const { provider } = openProvider(t, { allowedBytes: (node) => (node === A ? 0 : Infinity) });
  const access = provider.openAccess(A);
  t.throws(() => access.lease(ask), refused);
  const page = pageBuffer(t, 1);
  for (const handle of [0, 1, 2 ** 30, 2 ** 32 - 1]) {
    t.equal(access.writePages(handle, 0, 1, page, 0), 6, 'no lease, no byte');
  }
  t.same(provider.status().files, [], 'not even a file was made');
  t.match(provider.usage(), { usedBytes: 0, residentBytes: 0, leaseCount: 0 });
});

t.test('(f) a consumer is told what it can get, whoever leaves it least', async (t) => {
  let allowedBytes = 3 * SLAB_CHARGE;
  const { provider } = openProvider(t, {
    allowedBytes: (node) => (node === A ? allowedBytes : Infinity),
  });
  const [a, b] = [provider.openAccess(`${A}/m-1`), provider.openAccess(B)];
  const free = (access: typeof a): number => {
    const { offeredBytes, usedBytes } = access.usage();
    return (offeredBytes - usedBytes) / SLAB_CHARGE;
  };
  t.same([free(a), free(b)], [3, 4]);
  a.lease(ask);
  t.same([free(a), free(b)], [2, 3], 'its allowance leaves it least');
  b.lease(ask);
  b.lease(ask);
  t.same([free(a), free(b)], [1, 1], 'now the others do');
  allowedBytes = SLAB_CHARGE / 2;
  t.same([free(a), free(b)], [0, 1], 'an allowance below what it has leaves nothing');
  t.match(a.usage(), { offeredBytes: SLAB_CHARGE, usedBytes: SLAB_CHARGE, heldBytes: SLAB_CHARGE });
  for (const [access, slabs] of [
    [a, 0],
    [b, 1],
  ] as const) {
    t.throws(() => {
      for (let count = 0; count <= slabs; count += 1) access.lease(ask);
    }, refused);
    t.equal(free(access), 0, 'it got exactly what it was told');
  }
});

t.test('(h) of many that ask in one turn exactly as many get as there is room', async (t) => {
  const { provider } = openProvider(t, {
    allowedBytes: (node) => (node === A ? SLAB_CHARGE : Infinity),
  });
  const asked = await Promise.allSettled(
    Array.from({ length: 20 }, async (_, index) => {
      const node = NODES[index % 2]!;
      await turn();
      return provider.openAccess(`${node}/m-${index}`).lease(ask);
    }),
  );
  t.equal(asked.filter(({ status }) => status === 'fulfilled').length, 4);
  t.equal(provider.usedBy(A), SLAB_CHARGE);
  t.equal(provider.usedBy(B), 3 * SLAB_CHARGE);
});
