/** The lease table: ends to the millisecond, handles once, nobody else's lease. */
import t from 'tap';
import { LeaseTable, leaseEndsAtMs } from '../../provider/leases.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);

function grantOptions(id: string, holder = A, ttlMs = 1000) {
  return { id, holder, chargedBytes: 1, ttlMs, slab: `slab ${id}` };
}

t.test('a lease lives until its deadline and not at it', async (t) => {
  const table = new LeaseTable<string>(7, 100);
  const lease = table.grant(grantOptions('x'), 5000);
  t.match(lease, { id: 'x', handle: 100, holder: A, epoch: 7, slab: 'slab x', expiresAtMs: 6000 });
  for (const [nowMs, alive] of [
    [5000, true],
    [5999.9, true],
    [6000, false],
    [9000, false],
  ] as const) {
    t.equal(table.find(100, A, nowMs) === lease, alive, `at ${nowMs}`);
  }
  t.equal(table.renew('x', A, 1000, 6000), false, 'too late to renew');
  t.equal(table.release('x', A, 6000), undefined, 'too late to release');
  t.strictSame(table.takeExpired(5999), []);
  t.equal(table.count, 1, 'counts until it is taken');
  t.strictSame(table.takeExpired(6000), [lease]);
  t.equal(table.count, 0);
});

t.test('a lease under a limit ends with it, whatever it is renewed to', async (t) => {
  const table = new LeaseTable<string>(0, 1);
  const limit = { expiresAtMs: 3000 };
  const lease = table.grant({ ...grantOptions('x', A, 10_000), limit }, 0);
  t.equal(leaseEndsAtMs(lease), 3000);
  t.equal(table.find(1, A, 2999), lease);
  t.equal(table.find(1, A, 3000), undefined);
  t.equal(table.renew('x', A, 10_000, 3000), false);
  t.equal(table.release('x', A, 3000), undefined);
  limit.expiresAtMs = 20_000;
  t.equal(table.find(1, A, 3000), lease, 'the limit may move on');
  t.equal(leaseEndsAtMs(lease), 10_000);
  t.strictSame(table.takeExpired(9999), []);
  limit.expiresAtMs = 0;
  t.strictSame(table.takeExpired(9999), [], 'who keeps the limit takes it out');
  t.equal(table.byId('x'), lease);
  t.equal(table.takeById('x'), lease);
});

t.test('somebody else finds, renews and releases nothing', async (t) => {
  const table = new LeaseTable<string>(0, 1);
  table.grant(grantOptions('x'), 0);
  t.equal(table.find(1, B, 0), undefined);
  t.equal(table.renew('x', B, 1000, 0), false);
  t.equal(table.release('x', B, 0), undefined);
  t.equal(table.find(1, A, 0)?.id, 'x');
});

t.test('renewal counts from now, earlier or later', async (t) => {
  const table = new LeaseTable<string>(0, 1);
  table.grant(grantOptions('x', A, 10_000), 0);
  t.equal(table.renew('x', A, 1000, 100), true);
  t.equal(table.find(1, A, 1100), undefined, 'shortened');
  t.equal(table.takeExpired(1099).length, 0);
  t.equal(table.takeExpired(1100).length, 1, 'the sweep knows the earlier deadline');
  table.grant(grantOptions('y', A, 1000), 2000);
  t.equal(table.renew('y', A, 5000, 2500), true);
  t.equal(table.takeExpired(3000).length, 0, 'the old deadline does not count');
  t.equal(table.find(2, A, 7499)?.id, 'y');
  t.equal(table.takeExpired(7500).length, 1);
});

t.test('handles are never used again and run out at 2^32', async (t) => {
  const table = new LeaseTable<string>(0, 4_294_967_294);
  t.equal(table.grant(grantOptions('x'), 0).handle, 4_294_967_294);
  t.equal(table.release('x', A, 0)?.id, 'x');
  t.equal(table.hasRoom, true);
  t.equal(table.grant(grantOptions('y'), 0).handle, 4_294_967_295);
  t.equal(table.hasRoom, false);
});

t.test('the table is bounded', async (t) => {
  const table = new LeaseTable<string>(0, 1);
  for (let index = 0; index < 65_536; index += 1) {
    if (!table.hasRoom) t.fail(`no room at ${index}`);
    table.grant(grantOptions(String(index)), 0);
  }
  t.equal(table.hasRoom, false);
  t.equal(table.takeAll().length, 65_536);
  t.equal(table.hasRoom, true);
});

t.test('takeAll takes one holder or everything', async (t) => {
  const table = new LeaseTable<string>(0, 1);
  for (const [id, holder] of [
    ['x', A],
    ['y', B],
    ['z', A],
  ] as const)
    table.grant(grantOptions(id, holder), 0);
  t.strictSame(
    table.takeAll(A).map((lease) => lease.id),
    ['x', 'z'],
  );
  t.equal(table.hasId('x'), false);
  t.equal(table.hasId('y'), true);
  t.strictSame(
    table.takeAll().map((lease) => lease.id),
    ['y'],
  );
});
