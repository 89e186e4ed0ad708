/** Writes, elision, trims, back-pressure and flushes of a volume over simulated providers. */
import t from 'tap';
import { IoStatus } from '../../common/ports.ts';
import { VolumeRig } from '../helpers/volume-rig.ts';

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
