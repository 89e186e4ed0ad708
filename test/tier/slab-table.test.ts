/** Leases of a volume: asked for at the first write, renewed, lost, given back. */
import t from 'tap';
import { IoStatus } from '../../common/ports.ts';
import { VolumeRig } from '../helpers/volume-rig.ts';

t.test('nothing is leased until the first write, and then one slab', async (t) => {
  const rig = new VolumeRig({ pages: 4096 * 4 });
  await rig.advance(1_000);
  t.equal(rig.source(0).slabs.size, 0);
  rig.write(4096 + 5, 2, 1);
  await rig.advance(1_000);
  t.equal(rig.source(0).slabs.size, 1);
  t.equal(rig.volume.status().leasedSlabs, 1);
  await rig.close();
  t.equal(rig.source(0).slabs.size, 0);
});

t.test('the last slab of a volume is leased no longer than the volume is', async (t) => {
  const rig = new VolumeRig({ pages: 4096 + 10 });
  rig.write(4096, 10, 1);
  await rig.advance(200);
  t.same(
    [...rig.source(0).slabs.values()].map((slab) => slab.pageCount),
    [10],
  );
  t.equal(await rig.contentAt(4105), 10);
  await rig.close();
});

t.test(
  'leases are renewed as often as the shortest time to live that was granted needs',
  async (t) => {
    const rig = new VolumeRig({ leaseTtlMs: 20_000 });
    rig.source(0).leaseTtlMaxMs = 2_000;
    rig.write(3, 1, 77);
    await rig.advance(30_000);
    t.equal(await rig.contentAt(3), 77);
    t.equal(rig.volume.counters.lostPages, 0);
    await rig.close();
  },
);

t.test('the end of the leases is known, and comes nearer only while renewals fail', async (t) => {
  const rig = new VolumeRig({ leaseTtlMs: 20_000 });
  const endsInMs = (): number => rig.volume.status().providers[0]?.leaseEndsInMs ?? NaN;
  t.strictSame(rig.volume.status().providers, [], 'no lease, no end');
  rig.write(0, 1, 7);
  await rig.advance(1_000);
  t.equal(rig.volume.status().providers[0]?.leaseTtlMs, 20_000);
  for (let look = 0; look < 20; look += 1) {
    await rig.advance(1_000);
    // Renewed at a quarter of the time; a tick of 100 ms and the reply come on top.
    t.ok(endsInMs() > 14_000 && endsInMs() <= 20_000, `${endsInMs()} ms`);
  }
  rig.source(0).goDown();
  await rig.advance(12_000);
  t.ok(endsInMs() < 9_000, `${endsInMs()} ms after 12 s without an answer`);
  rig.source(0).comeBack(false);
  await rig.advance(6_000);
  t.ok(endsInMs() > 13_000, `${endsInMs()} ms: renewed`);
  rig.source(0).goDown();
  await rig.advance(21_000);
  t.ok(endsInMs() <= 0, 'over');
  rig.source(0).comeBack(false);
  rig.volume.trim(0, 1);
  await rig.advance(30_000);
  t.strictSame(rig.volume.status().providers, []);
  rig.write(0, 1, 8);
  await rig.advance(1_000);
  t.ok(endsInMs() > 18_000, 'a new lease has its whole time');
  await rig.close();
});

t.test(
  'a volume that closes while a provider thinks about a lease gives that lease back',
  async (t) => {
    const rig = new VolumeRig();
    rig.source(0).latencyMs = 500;
    const write = rig.write(0, 1, 1);
    await rig.advance(100);
    await rig.close();
    await rig.advance(2_000);
    t.equal(write.status, IoStatus.SHUTDOWN);
    t.equal(rig.source(0).slabs.size, 0);
    t.equal(rig.source(0).openQueueCount, 0);
  },
);

t.test(
  'a slab goes back when its last page is trimmed, and comes again with the next write',
  async (t) => {
    const rig = new VolumeRig();
    rig.write(10, 3, 1);
    await rig.advance(100);
    rig.volume.trim(10, 2);
    await rig.advance(100);
    t.equal(rig.source(0).slabs.size, 1);
    t.equal(rig.source(0).usage.residentBytes, 4112);
    rig.volume.trim(12, 1);
    await rig.advance(100);
    t.equal(rig.source(0).slabs.size, 0);
    t.equal(await rig.contentAt(12), 0);
    rig.write(12, 1, 9);
    await rig.advance(100);
    t.equal(rig.source(0).slabs.size, 1);
    t.equal(await rig.contentAt(12), 9);
    await rig.close();
  },
);

t.test('when the only provider forgets a slab, its pages are lost and say so', async (t) => {
  const rig = new VolumeRig();
  rig.write(0, 4, 50);
  await rig.advance(100);
  rig.source(0).goDown();
  rig.source(0).comeBack(true);
  await rig.advance(10);
  t.equal(await rig.contentAt(1), -IoStatus.LOST);
  t.equal(await rig.contentAt(2), -IoStatus.LOST);
  t.equal(rig.volume.counters.lostPages, 4);
  t.equal(await rig.contentAt(9), 0, 'a page that was never written is still a hole');
  rig.write(1, 1, 60);
  rig.volume.trim(2, 1);
  await rig.advance(500);
  t.equal(await rig.contentAt(1), 60, 'a new write makes a lost page good');
  t.equal(await rig.contentAt(2), 0, 'a trim makes a lost page a hole');
  t.equal(await rig.contentAt(3), -IoStatus.LOST);
  await rig.close();
});

t.test('a renewal that finds the lease gone loses the slab before anybody reads', async (t) => {
  const rig = new VolumeRig({ leaseTtlMs: 4_000 });
  rig.write(0, 4, 50);
  await rig.advance(100);
  rig.source(0).slabs.clear();
  await rig.advance(2_000);
  t.equal(rig.volume.counters.lostPages, 4);
  t.equal(rig.volume.status().leasedSlabs, 0);
  await rig.close();
});
