/** The ledger is exact at its edges, and a charge covers what a lease costs. */
import t from 'tap';
import { Quota, leaseChargeBytes } from '../../provider/quota.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);

t.test('a slab is charged its pages, tags, bit map and record', async (t) => {
  t.equal(leaseChargeBytes(4096), 4096 * 4112 + 512 + 1024);
  t.equal(leaseChargeBytes(1), 2 * 4096 + 4 + 1024);
});

t.test('grants at n, refuses at n + 1', async (t) => {
  const quota = new Quota(1000);
  t.equal(quota.refusal(A, 1000, Infinity), undefined);
  t.equal(quota.refusal(A, 1001, Infinity), 'asked 1001 B, free 1000 B of 1000 B offered');
  quota.charge(A, 600);
  t.equal(quota.refusal(B, 400, Infinity), undefined);
  t.equal(quota.refusal(B, 401, Infinity), 'asked 401 B, free 400 B of 1000 B offered');
  t.equal(quota.refusal(A, 100, 700), undefined);
  t.equal(
    quota.refusal(A, 101, 700),
    'asked 101 B, free 100 B of the 700 B that this node is allowed',
  );
  t.equal(quota.refusal(A, 1, 500), 'asked 1 B, free 0 B of the 500 B that this node is allowed');
  quota.charge(B, 400);
  t.equal(quota.usedBytes, 1000);
  quota.refund(A, 600);
  t.equal(quota.usedBytes, 400);
  t.equal(quota.usedBy(A), 0);
  t.equal(quota.usedBy(B), 400);
  t.equal(quota.refusal(A, 600, Infinity), undefined, 'what came back is lent again');
});

t.test('an offer changes around what is lent', async (t) => {
  const quota = new Quota(1000);
  quota.charge(A, 600);
  quota.setOffer(2000);
  t.equal(quota.offeredBytes, 2000);
  t.equal(quota.refusal(A, 1400, Infinity), undefined, 'grows at once');
  quota.setOffer(500);
  t.equal(quota.offeredBytes, 600, 'never below what is lent');
  t.equal(quota.refusal(B, 1, Infinity), 'asked 1 B, free 0 B of 600 B offered');
  quota.refund(A, 50);
  t.equal(quota.offeredBytes, 550, 'and shrinks with it');
  t.equal(quota.refusal(B, 1, Infinity), 'asked 1 B, free 0 B of 550 B offered');
  quota.refund(A, 250);
  t.equal(quota.offeredBytes, 500);
  t.equal(quota.refusal(B, 200, Infinity), undefined);
  t.equal(quota.refusal(B, 201, Infinity), 'asked 201 B, free 200 B of 500 B offered');
  quota.setOffer(0);
  t.equal(quota.offeredBytes, 300);
});

t.test('what is offered to a node and not used is what it could still get', async (t) => {
  const cases: [
    { offer: number; others: number; held: number; allowed: number },
    [offered: number, used: number],
  ][] = [
    [{ offer: 1000, others: 300, held: 0, allowed: Infinity }, [1000, 300]],
    [{ offer: 1000, others: 300, held: 200, allowed: Infinity }, [1000, 500]],
    [{ offer: 1000, others: 0, held: 100, allowed: 400 }, [400, 100]],
    [{ offer: 1000, others: 600, held: 100, allowed: 400 }, [400, 100]],
    [{ offer: 1000, others: 700, held: 100, allowed: 400 }, [400, 200]],
    [{ offer: 1000, others: 900, held: 100, allowed: 400 }, [400, 400]],
    [{ offer: 1000, others: 0, held: 100, allowed: 100 }, [100, 100]],
    [{ offer: 1000, others: 0, held: 100, allowed: 50 }, [100, 100]],
    [{ offer: 1000, others: 0, held: 0, allowed: 0 }, [0, 0]],
    [{ offer: 1000, others: 0, held: 0, allowed: 5000 }, [1000, 0]],
    [{ offer: 0, others: 0, held: 0, allowed: Infinity }, [0, 0]],
  ];
  for (const [{ offer, others, held, allowed }, [offeredBytes, usedBytes]] of cases) {
    const quota = new Quota(offer);
    if (others > 0) quota.charge(B, others);
    if (held > 0) quota.charge(A, held);
    const what = `${offer} ${others} ${held} ${allowed}`;
    t.same(quota.roomOf(A, allowed), { offeredBytes, usedBytes, heldBytes: held }, what);
    const free = offeredBytes - usedBytes;
    if (free > 0) t.equal(quota.refusal(A, free, allowed), undefined, `${what}: all of it`);
    t.type(quota.refusal(A, free + 1, allowed), 'string', `${what}: and no more`);
  }
});

t.test('a node is the sum of its holders and its objects', async (t) => {
  const quota = new Quota(1000);
  quota.chargeLease(A, 100);
  quota.chargeLease(`${A}/m-1`, 200);
  quota.chargeLease(`${A}/direct/0123456789abcdef`, 300);
  quota.charge(A, 50);
  t.equal(quota.usedBy(A), 650);
  t.same([quota.leasedBy(A), quota.leasedBy(`${A}/m-1`), quota.leasedBy(B)], [100, 200, 0]);
  t.match(quota.refusal(A, 51, 700), /free 50 B of the 700 B/);
  t.equal(quota.refusal(B, 51, 700), undefined);
  quota.refundLease(`${A}/m-1`, 200);
  quota.refund(A, 20);
  t.same([quota.usedBy(A), quota.leasedBy(`${A}/m-1`), quota.usedBytes], [430, 0, 430]);
});

t.test('what was never charged cannot be refunded, from any ledger', async (t) => {
  const quota = new Quota(1000);
  quota.charge(A, 10);
  t.throws(() => quota.refund(A, 11), { code: 'ERR_ASSERTION' });
  t.throws(() => quota.refund(B, 1), { code: 'ERR_ASSERTION' });
  t.throws(() => quota.refundLease(A, 1), { code: 'ERR_ASSERTION' });
  t.same([quota.usedBytes, quota.usedBy(A)], [10, 10]);
});

t.test('an offer of nothing lends nothing', async (t) => {
  t.match(new Quota(0).refusal(A, 1, Infinity), /free 0 B of 0 B offered/);
});

t.test('what is set aside is lent and counts for no allowance', async (t) => {
  const quota = new Quota(1000);
  quota.reserve(A, 600);
  t.strictSame([quota.usedBytes, quota.reservedBytes, quota.reservedBy(A)], [600, 600, 600]);
  t.equal(quota.usedBy(A), 0);
  t.equal(quota.refusal(A, 100, 100), undefined, 'its allowance is whole');
  t.match(quota.refusal(A, 401, Infinity), /free 400 B of 1000 B offered/);
  t.strictSame(quota.roomOf(A, 500), { offeredBytes: 500, usedBytes: 100, heldBytes: 0 });
  quota.noteLease(`${A}/m-1`, 200);
  t.strictSame([quota.usedBytes, quota.leasedBy(`${A}/m-1`)], [600, 200]);
  quota.noteLease(`${A}/m-1`, -200);
  t.equal(quota.leasedBy(`${A}/m-1`), 0);
  quota.setOffer(0);
  t.equal(quota.offeredBytes, 600, 'it stays lent');
  quota.unreserve(A, 600);
  t.strictSame([quota.usedBytes, quota.reservedBytes, quota.reservedBy(A)], [0, 0, 0]);
  t.throws(() => quota.unreserve(A, 1));
});
