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
  t.equal(quota.refusal(A, 101, 700), "asked 101 B, free 100 B of this holder's quota of 700 B");
  t.equal(quota.refusal(A, 1, 500), "asked 1 B, free 0 B of this holder's quota of 500 B");
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

t.test('an offer of nothing lends nothing', async (t) => {
  t.match(new Quota(0).refusal(A, 1, Infinity), /free 0 B of 0 B offered/);
});
