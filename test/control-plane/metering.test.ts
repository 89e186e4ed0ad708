/** Meters of clients. */
import t from 'tap';
import { MinuteCount, UsageMeter } from '../../control-plane/metering.ts';

t.test('the integral of bytes over time', async (t) => {
  const meter = new UsageMeter('c', 1000);
  meter.change(1000, 100, 1);
  meter.change(3000, 50, 1);
  meter.change(4000, 100, -1);
  t.equal(meter.byteSeconds(6000), 100 * 2 + 150 * 1 + 50 * 2);
  t.equal(meter.peakBytes, 150);
  t.same([meter.usedBytes, meter.usedLeases], [50, 1]);
  t.equal(meter.byteSeconds(3500), 350, 'time never runs backwards');
});

t.test('another leader goes on with what is stored', async (t) => {
  const meter = new UsageMeter('c', 0);
  meter.change(0, 10, 1);
  Object.assign(meter, { leasesGranted: 3, leasesDenied: 2 });
  const stored = meter.record(5000);
  t.same(stored, {
    client: 'c',
    byteSeconds: 50,
    leasesGranted: 3,
    leasesDenied: 2,
    peakBytes: 10,
  });
  const next = new UsageMeter('c', 777, stored);
  next.change(777, 10, 1);
  t.equal(next.byteSeconds(1777), 60);
  t.match(next, { leasesGranted: 3, leasesDenied: 2, peakBytes: 10, usedBytes: 10 });
});

t.test('counts of the last minute', async (t) => {
  const count = new MinuteCount();
  count.add(500, 2);
  count.add(59_000, 3);
  t.equal(count.sum(59_999), 5);
  t.equal(count.sum(60_000), 3, 'the first second is over');
  t.equal(count.sum(118_999), 3);
  t.equal(count.sum(119_000), 0);
  count.add(10_000_000, 1);
  t.equal(count.sum(10_000_000), 1);
});
