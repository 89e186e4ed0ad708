/** How the ring drains: second tries, providers that fail, and what may never be waited for. */
import t from 'tap';
import { IoStatus } from '../../common/ports.ts';
import { NO_FAULTS } from '../helpers/sim-world.ts';
import { VolumeRig } from '../helpers/volume-rig.ts';

t.test(
  'acknowledged pages that were still in the ring survive the loss of their slab',
  async (t) => {
    const rig = new VolumeRig({ offers: [2 ** 30, 2 ** 30] });
    rig.write(0, 1, 1);
    await rig.advance(100);
    const [holder, other] = rig.world.sources[0]?.slabs.size === 1 ? [0, 1] : [1, 0];
    // The holder has restarted; a read finds out while two runs of writes wait for credit. Then it dies.
    rig.source(holder).slabs.clear();
    const read = rig.read(0);
    rig.source(holder).faults = { ...NO_FAULTS, noCredit: 1 };
    rig.write(8, 16, 100);
    await rig.world.settle();
    rig.write(40, 4, 500);
    await rig.world.settle();
    await rig.advance(3.5);
    t.equal(read.status, IoStatus.LOST);
    rig.source(holder).goDown();
    await rig.advance(3_000);
    t.equal(rig.volume.status().ringUsedPages, 0, 'the ring has drained to the other provider');
    t.equal(rig.source(other).slabs.size, 1);
    for (let page = 0; page < 16; page += 1) t.equal(await rig.contentAt(8 + page), 100 + page);
    for (let page = 0; page < 4; page += 1) t.equal(await rig.contentAt(40 + page), 500 + page);
    await rig.close();
  },
);

/** A volume with two copies of slab 0 that holds pages 0 to 15, content 1 to 16. */
async function mirrored(): Promise<VolumeRig> {
  const rig = new VolumeRig({ offers: [2 ** 30, 2 ** 30], copies: 2 });
  rig.write(0, 16, 1);
  await rig.advance(200);
  return rig;
}

t.test('writes go on when one provider of two goes down with nothing in flight', async (t) => {
  for (const down of [0, 1]) {
    const rig = await mirrored();
    rig.source(down).goDown();
    for (let round = 0; round < 10; round += 1) {
      rig.write(16, 64, 1000 + round);
      await rig.advance(400);
    }
    t.equal(rig.openCount, 0);
    t.equal(rig.volume.status().ringUsedPages, 0, `provider ${down} down: the ring drains`);
    t.equal(rig.volume.counters.failedRequests, 0);
    const flush = rig.flush();
    await rig.advance(1_000);
    t.equal(flush.status, IoStatus.OK);
    t.equal(await rig.contentAt(3), 4);
    t.equal(await rig.contentAt(20), 1013);
    await rig.close();
  }
});

t.test(
  'writes that wait for credit of a provider that goes down do not hold their slots',
  async (t) => {
    const rig = await mirrored();
    rig.source(1).faults = { ...NO_FAULTS, noCredit: 1 };
    rig.write(16, 8, 1000);
    await rig.advance(20);
    rig.source(1).goDown();
    await rig.advance(1_000);
    t.equal(rig.volume.status().ringUsedPages, 0);
    t.equal(await rig.contentAt(17), 1001);
    await rig.close();
  },
);

t.test('a cut of all links at once costs no copy', async (t) => {
  const rig = await mirrored();
  rig.write(16, 8, 1000);
  await rig.world.settle();
  rig.source(0).goDown();
  rig.source(1).goDown();
  await rig.advance(600);
  rig.source(0).comeBack(false);
  rig.source(1).comeBack(false);
  await rig.advance(1_000);
  t.equal(rig.volume.status().ringUsedPages, 0);
  t.equal(rig.volume.status().degradedSlabs, 0);
  rig.source(0).goDown();
  t.equal(await rig.contentAt(17), 1001);
  await rig.close();
});

t.test('a page that one provider failed to take is sent again until it is there', async (t) => {
  const rig = new VolumeRig();
  rig.write(0, 1, 1);
  await rig.advance(100);
  rig.source(0).faults = { ...NO_FAULTS, cut: 2 };
  rig.write(1, 8, 500);
  await rig.advance(2_000);
  t.equal(rig.volume.status().ringUsedPages, 8);
  t.equal(await rig.contentAt(2), 501, 'the ring answers');
  rig.source(0).faults = NO_FAULTS;
  await rig.advance(1_000);
  t.equal(rig.volume.status().ringUsedPages, 0);
  t.equal(await rig.contentAt(2), 501, 'the provider answers');
  await rig.close();
});

t.test('trims for a provider that is down are bounded', async (t) => {
  const rig = new VolumeRig({ pages: 4096, requestDeadlineMs: 60_000, leaseTtlMs: 600_000 });
  rig.write(0, 64, 1);
  await rig.advance(200);
  rig.source(0).goDown();
  for (let round = 0; round < 6_000; round += 1) {
    const page = 100 + (round % 32);
    rig.write(page, 1, round + 1);
    rig.volume.trim(page, 1);
    if (round % 32 === 31) await rig.advance(250);
  }
  t.ok(rig.source(0).trimCalls === 0);
  rig.source(0).comeBack(false);
  await rig.advance(3_000);
  t.ok(rig.source(0).trimCalls <= 4_200, `${rig.source(0).trimCalls} trims waited`);
  t.equal(rig.volume.status().ringUsedPages, 0);
  t.equal(await rig.contentAt(5), 6);
  await rig.close();
});
