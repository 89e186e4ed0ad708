/** Reads of a volume: where the bytes come from, forged pages, copies, and when a page is lost. */
import t from 'tap';
import { IoStatus } from '../../common/ports.ts';
import { NO_FAULTS } from '../helpers/sim-world.ts';
import { VolumeRig, contentOf } from '../helpers/volume-rig.ts';

/** A volume with two copies of pages 0 to 63, content 1 to 64, all drained. */
async function mirrored(seed = 1): Promise<VolumeRig> {
  const rig = new VolumeRig({ offers: [2 ** 30, 2 ** 30], copies: 2, seed });
  rig.write(0, 64, 1);
  await rig.advance(500);
  return rig;
}

/** Which provider answers first reads. */
async function primaryOf(rig: VolumeRig): Promise<number> {
  const before = rig.source(0).readCalls;
  await rig.contentAt(0);
  return rig.source(0).readCalls > before ? 0 : 1;
}

t.test('holes and filled pages are read without asking anybody', async (t) => {
  const rig = new VolumeRig();
  const outcome = rig.read(0, 64);
  t.equal(outcome.status, IoStatus.OK, 'at once');
  t.ok(outcome.buffer.bytes.every((byte) => byte === 0));
  t.equal(rig.source(0).readCalls, 0);
  await rig.close();
});

t.test('a pending page is read from the ring, at once', async (t) => {
  const rig = new VolumeRig();
  rig.write(0, 1, 1);
  await rig.advance(100);
  rig.source(0).goDown();
  rig.write(9, 2, 700);
  const outcome = rig.read(9, 2);
  t.equal(outcome.status, IoStatus.OK);
  t.same([contentOf(outcome.buffer, 0), contentOf(outcome.buffer, 1)], [700, 701]);
  t.equal(rig.volume.counters.ringHits, 2);
  await rig.close();
});

t.test(
  'a run of pages is fetched with one call, a run over 64 pages or a slab border with two',
  async (t) => {
    const cases = [
      { page: 10, count: 64, calls: 1 },
      { page: 10, count: 65, calls: 2 },
      { page: 4090, count: 12, calls: 2 },
    ];
    for (const { page, count, calls } of cases) {
      const rig = new VolumeRig({ pages: 8192, ringSizeBytes: 2 ** 20 });
      rig.write(page, count, 1);
      await rig.advance(500);
      const outcome = rig.read(page, count);
      await rig.advance(100);
      t.equal(outcome.status, IoStatus.OK);
      for (let index = 0; index < count; index += 1) {
        if (contentOf(outcome.buffer, index) !== index + 1) t.fail(`page ${index} of ${page}`);
      }
      t.equal(rig.source(0).readCalls, calls, `${count} pages from ${page}`);
      await rig.close();
    }
  },
);

t.test('a forged page is counted and read from the other provider', async (t) => {
  for (const fault of ['flip', 'swap'] as const) {
    const rig = await mirrored();
    const primary = await primaryOf(rig);
    rig.source(primary).faults = { ...NO_FAULTS, [fault]: 1 };
    t.equal(await rig.contentAt(7), 8, fault);
    t.equal(rig.volume.counters.forgedPages, 1);
    await rig.close();
  }
});

t.test('a page that its only provider forges is lost, never other bytes', async (t) => {
  const rig = new VolumeRig();
  rig.write(0, 8, 1);
  await rig.advance(200);
  rig.source(0).faults = { ...NO_FAULTS, swap: 1 };
  t.equal(await rig.contentAt(3), -IoStatus.LOST);
  rig.source(0).faults = NO_FAULTS;
  t.equal(await rig.contentAt(3), 4, 'the provider is asked anew each time');
  await rig.close();
});

t.test('a page that both providers forge is lost', async (t) => {
  const rig = await mirrored();
  for (const source of rig.world.sources) source.faults = { ...NO_FAULTS, flip: 1 };
  t.equal(await rig.contentAt(3), -IoStatus.LOST);
  t.equal(rig.volume.counters.forgedPages, 2);
  await rig.close();
});

t.test('a page that one provider forges is not lost while the other may come back', async (t) => {
  const rig = await mirrored();
  const primary = await primaryOf(rig);
  const other = 1 - primary;
  rig.source(primary).faults = { ...NO_FAULTS, flip: 1 };
  rig.source(other).goDown();
  const late = rig.read(5);
  await rig.advance(3_000);
  t.equal(late.status, undefined, 'it waits for the other provider');
  rig.source(other).comeBack(false);
  await rig.advance(1_000);
  t.equal(late.status, IoStatus.OK);
  t.equal(contentOf(late.buffer, 0), 6);
  rig.source(other).goDown();
  const never = rig.read(5);
  await rig.advance(6_000);
  t.equal(never.status, IoStatus.UNREACHABLE, 'at its deadline');
  await rig.close();
});

t.test('a liar and a provider that cuts its answers off do not make a page lost', async (t) => {
  const rig = await mirrored();
  const primary = await primaryOf(rig);
  rig.source(primary).faults = { ...NO_FAULTS, flip: 1 };
  rig.source(1 - primary).faults = { ...NO_FAULTS, cut: 2 };
  const read = rig.read(5);
  await rig.advance(1_000);
  t.equal(read.status, undefined);
  rig.source(1 - primary).faults = NO_FAULTS;
  await rig.advance(1_000);
  t.equal(read.status, IoStatus.OK);
  await rig.close();
});

t.test('a read that waits for a provider that goes down moves to the other one', async (t) => {
  const rig = await mirrored();
  const primary = await primaryOf(rig);
  rig.source(primary).faults = { ...NO_FAULTS, noCredit: 1 };
  const read = rig.read(5);
  await rig.advance(5);
  rig.source(primary).goDown();
  await rig.advance(600);
  t.equal(read.status, IoStatus.OK);
  await rig.close();
});

t.test('a read with both providers down is served by the first that comes back', async (t) => {
  for (const first of [0, 1]) {
    const rig = await mirrored();
    for (const source of rig.world.sources) source.goDown();
    const read = rig.read(5);
    await rig.advance(600);
    t.equal(read.status, undefined);
    rig.source(first).comeBack(false);
    await rig.advance(600);
    t.equal(read.status, IoStatus.OK, `provider ${first} first`);
    await rig.close();
  }
});

t.test('a read fails at its deadline when no provider of the page comes back', async (t) => {
  const rig = await mirrored();
  for (const source of rig.world.sources) source.goDown();
  const read = rig.read(5);
  await rig.advance(4_900);
  t.equal(read.status, undefined);
  await rig.advance(600);
  t.equal(read.status, IoStatus.UNREACHABLE);
  await rig.close();
});

t.test(
  'a page that is rewritten and drained while its read is on the way is read anew',
  async (t) => {
    const rig = new VolumeRig();
    rig.write(0, 2, 1);
    await rig.advance(100);
    for (let round = 0; round < 20; round += 1) {
      const read = rig.read(0, 2);
      rig.write(0, 2, 100 + round);
      await rig.advance(50);
      t.equal(read.status, IoStatus.OK);
      const content = contentOf(read.buffer, 0);
      t.ok(
        content === 100 + round || content === (round === 0 ? 1 : 99 + round),
        `read ${content}`,
      );
    }
    t.equal(rig.volume.counters.forgedPages, 0, 'and nobody is called a forger');
    await rig.close();
  },
);

t.test(
  'a page that is trimmed while its read is on the way reads as zeroes or as it was',
  async (t) => {
    const rig = new VolumeRig();
    rig.write(0, 8, 1);
    await rig.advance(100);
    const read = rig.read(0, 4);
    rig.volume.trim(0, 8);
    await rig.advance(100);
    t.equal(read.status, IoStatus.OK);
    for (let page = 0; page < 4; page += 1) {
      t.ok([0, page + 1].includes(contentOf(read.buffer, page)));
    }
    await rig.close();
  },
);

t.test('reads in flight end with SHUTDOWN as soon as the volume closes', async (t) => {
  const rig = new VolumeRig();
  rig.write(0, 8, 1);
  await rig.advance(100);
  rig.source(0).latencyMs = 2_000;
  const read = rig.read(0, 4);
  const closing = rig.volume.close();
  await rig.advance(10);
  t.equal(read.status, IoStatus.SHUTDOWN);
  await rig.advance(10_000);
  await closing;
  const after = rig.read(0, 1);
  t.equal(after.status, IoStatus.SHUTDOWN);
  t.equal(rig.openCount, 0);
});
