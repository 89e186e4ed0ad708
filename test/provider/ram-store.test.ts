/** The page path answers any numbers from the wire with a status, and guards our own buffers. */
import t, { type Test } from 'tap';
import { LeaseTable } from '../../provider/leases.ts';
import { RamStore } from '../../provider/ram-store.ts';
import { SlabPool } from '../../provider/slab-pool.ts';
import type { Slab } from '../../provider/slab.ts';
import { SEALED, isZero, pageBuffer, tmpfsBase } from '../helpers/tmpfs.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);
const OK = 0;
const INVALID = 1;
const NO_LEASE = 6;

function openStore(t: Test) {
  const pool = new SlabPool(tmpfsBase(t));
  t.teardown(() => pool.close());
  const leases = new LeaseTable<Slab>(0, 40);
  const clock = { ms: 0, nowMs: () => clock.ms };
  const slab = pool.take(128);
  leases.grant({ id: 'x', holder: A, chargedBytes: 0, ttlMs: 1000, slab }, 0);
  return { store: new RamStore(leases, clock), clock };
}

t.test('a handle that is unknown, foreign or expired is NO_LEASE for every call', async (t) => {
  const { store, clock } = openStore(t);
  const buffer = pageBuffer(t, 1);
  const all = (holder: string, handle: number): number[] => [
    store.writePages(holder, handle, 0, 1, buffer, 0),
    store.readPages(holder, handle, 0, 1, buffer, 0),
    store.trimPages(holder, handle, 0, 1),
  ];
  t.strictSame(all(A, 40), [OK, OK, OK]);
  t.strictSame(all(B, 40), [NO_LEASE, NO_LEASE, NO_LEASE]);
  for (const handle of [0, 39, 41, 4_294_967_295, -1, NaN]) {
    t.strictSame(all(A, handle), [NO_LEASE, NO_LEASE, NO_LEASE], `handle ${handle}`);
  }
  t.equal(store.readPages(B, 40, 9999, 1, buffer, 0), NO_LEASE, 'a stranger learns no range');
  clock.ms = 999;
  t.strictSame(all(A, 40), [OK, OK, OK]);
  clock.ms = 1000;
  t.strictSame(all(A, 40), [NO_LEASE, NO_LEASE, NO_LEASE], 'expired, though nobody swept');
});

t.test('a range outside the slab is INVALID', async (t) => {
  const { store } = openStore(t);
  const buffer = pageBuffer(t, 128);
  for (const [first, count, status] of [
    [0, 128, OK],
    [127, 1, OK],
    [128, 1, INVALID],
    [127, 2, INVALID],
    [0, 129, INVALID],
    [0, 0, INVALID],
    [-1, 1, INVALID],
    [0, -1, INVALID],
    [4_294_967_295, 1, INVALID],
    [1, 4_294_967_295, INVALID],
    [0.5, 1, INVALID],
    [0, NaN, INVALID],
    [NaN, 1, INVALID],
    [0, Infinity, INVALID],
  ] as const) {
    const name = `${first}+${count}`;
    t.equal(store.writePages(A, 40, first, count, buffer, 0), status, `write ${name}`);
    t.equal(store.readPages(A, 40, first, count, buffer, 0), status, `read ${name}`);
    t.equal(store.trimPages(A, 40, first, count), status, `trim ${name}`);
  }
});

t.test('a buffer without room throws before a byte moves', async (t) => {
  const { store } = openStore(t);
  const buffer = pageBuffer(t, 2);
  const sizeBytes = buffer.bytes.length;
  for (const offset of [-1, sizeBytes - SEALED + 1, sizeBytes]) {
    t.throws(() => store.readPages(A, 40, 0, 1, buffer, offset), RangeError);
    t.throws(() => store.writePages(A, 40, 0, 1, buffer, offset), RangeError);
  }
  t.equal(store.writePages(A, 40, 0, 1, buffer, sizeBytes - SEALED), OK, 'the last place');
});

t.test('offsets into buffers are used on both sides', async (t) => {
  const { store } = openStore(t);
  const buffer = pageBuffer(t, 4);
  buffer.bytes.fill(0x42, 100, 100 + SEALED);
  t.equal(store.writePages(A, 40, 7, 1, buffer, 100), OK);
  buffer.bytes.fill(0xff);
  t.equal(store.readPages(A, 40, 6, 3, buffer, 200), OK);
  t.ok(isZero(buffer.bytes.subarray(200, 200 + SEALED)));
  t.ok(buffer.bytes.subarray(200 + SEALED, 200 + 2 * SEALED).equals(Buffer.alloc(SEALED, 0x42)));
  t.ok(isZero(buffer.bytes.subarray(200 + 2 * SEALED, 200 + 3 * SEALED)));
  t.equal(buffer.bytes[199], 0xff, 'nothing before');
  t.equal(buffer.bytes[200 + 3 * SEALED], 0xff, 'nothing after');
});
