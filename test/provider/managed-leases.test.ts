/** Managed leases as a machine: bounds, deadlines, bytes, endings, warnings; time is an argument. */
import t from 'tap';
import { ManagedLeases } from '../../provider/managed-leases.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);
const MIB = 2 ** 20;

function id(n: number): string {
  return n.toString(16).padStart(32, '0');
}

function reservation(n: number, ttlMs: number, client = A) {
  return { leaseId: id(n), client, sizeBytes: MIB, ttlMs };
}

function addSlab(leases: ManagedLeases, n: number, slabId: string, bytes: number, nowMs: number) {
  const lease = leases.room(id(n), A, bytes, nowMs);
  leases.addSlab(lease, slabId, bytes);
  return lease;
}

t.test('a malformed reservation, one that is here, and one too many are refused', async (t) => {
  const leases = new ManagedLeases();
  for (const wrong of [
    { leaseId: 'x' },
    { leaseId: 'A'.repeat(32) },
    { sizeBytes: 0 },
    { sizeBytes: 1.5 },
    { sizeBytes: 2 ** 53 },
    { ttlMs: 0 },
    { ttlMs: NaN },
    { ttlMs: 86_400_001 },
  ]) {
    const asked = { ...reservation(1, 5000), ...wrong };
    t.throws(() => leases.check(asked), { code: 'ERR_LEASE_INVALID' }, JSON.stringify(wrong));
  }
  for (let n = 0; n < 16_384; n += 1) leases.reserve(reservation(n, 5000), 0);
  t.throws(() => leases.check(reservation(3, 5000)), { code: 'ERR_LEASE_INVALID' });
  t.throws(() => leases.check(reservation(16_384, 5000)), { code: 'ERR_LEASE_CAPACITY' });
  leases.end(id(7), 'released', 1);
  t.doesNotThrow(() => leases.check(reservation(16_384, 5000)));
});

t.test('room is its client’s, until its deadline, to the byte', async (t) => {
  const leases = new ManagedLeases();
  leases.reserve(reservation(1, 5000), 100);
  t.throws(() => leases.room(id(1), B, 1, 100), { code: 'ERR_LEASE_UNKNOWN' });
  t.throws(() => leases.room(id(2), A, 1, 100), { code: 'ERR_LEASE_UNKNOWN' });
  addSlab(leases, 1, 's1', MIB - 10, 100);
  t.throws(() => leases.room(id(1), A, 11, 100), {
    code: 'ERR_LEASE_CAPACITY',
    message: 'lease: asked 11 B, free 10 B of the 1 MiB of the managed lease',
  });
  addSlab(leases, 1, 's2', 10, 5099);
  t.strictSame(leases.list(5099), [
    { leaseId: id(1), client: A, sizeBytes: MIB, usedBytes: MIB, ttlMs: 1 },
  ]);
  t.throws(() => leases.room(id(1), A, 0, 5100), { code: 'ERR_LEASE_UNKNOWN' });
  t.strictSame(leases.list(5100), []);
});

t.test('a deadline moves on and never back', async (t) => {
  const leases = new ManagedLeases();
  leases.reserve(reservation(1, 5000), 0);
  t.equal(leases.extend(id(1), 1000, 0), true, 'less is no change');
  t.equal(leases.list(0)[0]?.ttlMs, 5000);
  t.equal(leases.extend(id(1), 5000, 4999), true);
  t.equal(leases.list(4999)[0]?.ttlMs, 5000);
  t.strictSame(leases.endExpired(5000), []);
  t.equal(leases.extend(id(1), 5000, 9999), false, 'too late');
  t.equal(leases.extend(id(2), 5000, 0), false);
  t.equal(leases.end(id(1), 'revoked', 9999), undefined);
  t.equal(leases.endExpired(9998).length, 0);
  t.strictSame(leases.endExpired(10_020)[0]?.ending, {
    ...{ leaseId: id(1), client: A, sizeBytes: MIB, reason: 'expired', wipedBytes: 0 },
    wipeMs: 21,
  });
  t.equal(leases.count, 0);
});

t.test(
  'it is over when its last slab is wiped, and says what came back since its end',
  async (t) => {
    const leases = new ManagedLeases();
    leases.reserve(reservation(1, 5000), 0);
    const lease = addSlab(leases, 1, 's1', 100, 0);
    addSlab(leases, 1, 's2', 100, 0);
    addSlab(leases, 1, 's3', 100, 0);
    const wiped = (slabId: string, nowMs: number) =>
      leases.removeSlab(lease, { id: slabId, bytes: 100, residentBytes: 4096 }, nowMs);
    t.equal(wiped('s1', 10), undefined, 'a slab that was released before');
    t.equal(lease.usedBytes, 200);
    t.strictSame([...(leases.end(id(1), 'revoked', 1000)?.lease.slabs ?? [])], ['s2', 's3']);
    t.equal(lease.expiresAtMs, 1000, 'the limit of its slabs');
    t.throws(() => leases.room(id(1), A, 0, 999), { code: 'ERR_LEASE_UNKNOWN' });
    t.equal(leases.end(id(1), 'expired', 1001), undefined, 'it ends once');
    t.strictSame(leases.endExpired(9000), []);
    t.equal(wiped('s3', 1003), undefined);
    t.throws(() => leases.check(reservation(1, 1000)), { code: 'ERR_LEASE_INVALID' }, 'not yet');
    t.strictSame(wiped('s2', 1005), {
      ...{ leaseId: id(1), client: A, sizeBytes: MIB, reason: 'revoked' },
      ...{ wipedBytes: 8192, wipeMs: 5 },
    });
    t.equal(leases.count, 0);
  },
);

t.test('slabs are asked back ahead of the end, again and again, unless it moves on', async (t) => {
  for (const [ttlMs, beforeMs] of [
    [5000, 2500],
    [60_000, 30_000],
    [120_000, 30_000],
    [600_000, 150_000],
  ] as const) {
    const leases = new ManagedLeases();
    leases.reserve(reservation(1, ttlMs), 0);
    const at = ttlMs - beforeMs;
    t.strictSame(leases.warnings(at - 1), [], `${ttlMs}: not yet`);
    addSlab(leases, 1, 's1', 100, 0);
    t.match(leases.warnings(at), [{ endsInMs: beforeMs }], `${ttlMs}: now`);
    t.strictSame(leases.warnings(at + 1), [], 'once');
    t.equal(leases.extend(id(1), ttlMs, at + 2), true);
    t.strictSame(leases.warnings(at + 2), [], 'it moved on');
    const again = at + 2 + ttlMs - beforeMs;
    t.strictSame(leases.warnings(again - 1), []);
    t.equal(leases.warnings(again).length, 1);
    if (beforeMs <= 10_000) continue;
    t.strictSame(leases.warnings(again + 9999), []);
    t.match(leases.warnings(again + 10_000), [{ endsInMs: beforeMs - 10_000 }], 'again');
    leases.untell(B);
    t.strictSame(leases.warnings(again + 10_001), []);
    leases.untell(A);
    t.equal(leases.warnings(again + 10_002).length, 1, 'a new connection has to be told');
  }
});

t.test('one that holds no slab is not warned of, and one that ended neither', async (t) => {
  const leases = new ManagedLeases();
  leases.reserve(reservation(1, 5000), 0);
  leases.reserve(reservation(2, 5000), 0);
  addSlab(leases, 2, 's', 1, 0);
  leases.end(id(2), 'revoked', 1);
  t.strictSame(leases.warnings(4000), []);
});

t.test('all are ended when the provider is, those whose time was over as such', async (t) => {
  const leases = new ManagedLeases();
  leases.reserve(reservation(1, 1000), 0);
  leases.reserve(reservation(2, 3000), 0);
  leases.reserve(reservation(3, 3000), 0);
  addSlab(leases, 3, 's', 1, 0);
  const ended = leases.endAll(2000);
  t.strictSame(
    ended.map(({ lease, ending }) => [lease.id, ending?.reason]),
    [
      [id(1), 'expired'],
      [id(2), 'provider'],
      [id(3), undefined],
    ],
  );
  t.equal(leases.count, 1);
});
