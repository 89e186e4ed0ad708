/** Writes, elision, trims, back-pressure and flushes of a volume over simulated providers. */
import t from 'tap';
import { IoStatus } from '../../common/ports.ts';
import { SLAB_SIZE_BYTES, VolumeRig } from '../helpers/volume-rig.ts';

t.test('a client that writes from inside the end of its flush overruns no ring', async (t) => {
  const rig = new VolumeRig({ pages: 512 });
  rig.write(0, 1, 1);
  await rig.advance(100);
  // One page is on its way, and the flush waits for it.
  rig.write(7, 1, 100);
  await rig.world.settle();
  const flush = rig.flush();
  const inside: { status: number | undefined; contents: number }[] = [];
  rig.onEnd = () => {
    rig.onEnd = undefined;
    for (let page = 100; page < 180; page += 1) {
      inside.push({ ...rig.write(page, 1, page), contents: page });
    }
  };
  // The rewrite makes the pending slot stale, which ends the flush while the page is being sealed.
  const fillRing = rig.write(200, 62, 1000);
  t.equal(fillRing.status, IoStatus.OK);
  rig.write(7, 1, 101);
  await rig.advance(5_000);
  t.equal(flush.status, IoStatus.OK);
  t.equal(inside.length, 80);
  t.equal(await rig.contentAt(7), 101);
  for (let page = 100; page < 180; page += 1) t.equal(await rig.contentAt(page), page);
  for (let page = 200; page < 262; page += 1) t.equal(await rig.contentAt(page), 800 + page);
  t.equal(rig.volume.status().ringUsedPages, 0);
  await rig.close();
});

t.test('a client that trims from inside the end of its flush loses no write', async (t) => {
  const rig = new VolumeRig();
  rig.write(0, 1, 1);
  await rig.advance(100);
  rig.source(0).goDown();
  rig.write(7, 1, 100);
  const flush = rig.flush();
  rig.onEnd = () => {
    rig.onEnd = undefined;
    rig.volume.trim(7, 1);
  };
  // In place: the slot was not sent yet. The trim comes while this write runs, or after it.
  rig.write(7, 1, 101);
  await rig.world.settle();
  rig.source(0).comeBack(false);
  await rig.advance(2_000);
  t.equal(flush.status, IoStatus.OK);
  const content = await rig.contentAt(7);
  t.ok(content === 0 || content === 101, `read ${content}`);
  t.equal(rig.volume.status().ringUsedPages, 0);
  await rig.close();
});

t.test('writes to many slabs while no provider is up end at their deadline', async (t) => {
  const rig = new VolumeRig({ pages: 4096 * 40 });
  rig.source(0).up = false;
  const outcomes = Array.from({ length: 40 }, (_, slab) => rig.write(slab * 4096, 1, slab + 1));
  await rig.advance(4_000);
  t.equal(rig.openCount, 40);
  await rig.advance(2_000);
  for (const { status } of outcomes) t.equal(status, IoStatus.UNREACHABLE);
  await rig.close();
});

t.test('writes that wait for a provider go on when one comes up', async (t) => {
  const rig = new VolumeRig({ pages: 4096 * 20 });
  rig.source(0).up = false;
  const outcomes = Array.from({ length: 20 }, (_, slab) => rig.write(slab * 4096, 1, slab + 1));
  await rig.advance(2_000);
  rig.source(0).comeBack(false);
  await rig.advance(1_000);
  for (const { status } of outcomes) t.equal(status, IoStatus.OK);
  await rig.close();
});

t.test('a write that finds no provider with room ends at once with NO_SPACE', async (t) => {
  const cases = [
    { name: 'the provider says that it is full', offers: [SLAB_SIZE_BYTES - 1], copies: 1 },
    { name: 'one provider of two has room', offers: [2 ** 30, 0], copies: 2 },
    { name: 'the provider has room for one slab only', offers: [SLAB_SIZE_BYTES], copies: 1 },
  ];
  for (const { name, offers, copies } of cases) {
    const rig = new VolumeRig({ pages: 4096 * 2, offers, copies });
    const first = rig.write(0, 1, 1);
    await rig.advance(100);
    const second = rig.write(4096, 1, 1);
    await rig.advance(100);
    t.ok([first.status, second.status].includes(IoStatus.NO_SPACE), name);
    t.equal(rig.openCount, 0, name);
    await rig.close();
    for (const source of rig.world.sources) t.equal(source.slabs.size, 0, name);
  }
});

t.test('a lease that fails for another reason than room is asked for again', async (t) => {
  const rig = new VolumeRig();
  rig.source(0).leaseFailures = 3;
  const write = rig.write(0, 1, 1);
  await rig.advance(2_000);
  t.equal(write.status, IoStatus.OK);
  await rig.close();
});
