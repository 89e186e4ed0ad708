/** Damaged slabs are made whole: by the provider that comes back, or by another; never with other bytes. */
import t, { type Test } from 'tap';
import { IoStatus } from '../../common/ports.ts';
import { NO_FAULTS } from '../helpers/sim-world.ts';
import { SLAB_SIZE_BYTES, VolumeRig } from '../helpers/volume-rig.ts';

const ROOM = 2 ** 30;

/** A volume with two copies of pages 0 to 63, content 1 to 64, and who has them. */
async function mirrored(
  providers: number,
): Promise<{ rig: VolumeRig; holders: number[]; spare: number }> {
  const offers = Array.from({ length: providers }, () => ROOM);
  const rig = new VolumeRig({ offers, copies: 2, pages: 4096, ringSizeBytes: 2 ** 20 });
  rig.write(0, 64, 1);
  await rig.advance(500);
  const holders = offers
    .map((_, index) => index)
    .filter((index) => rig.source(index).slabs.size > 0);
  const spare = offers.findIndex((_, index) => !holders.includes(index));
  return { rig, holders, spare };
}

async function expectContents(t: Test, rig: VolumeRig, first: number): Promise<void> {
  let wrong = 0;
  for (let page = 0; page < 64; page += 1) {
    if ((await rig.contentAt(page)) !== first + page) wrong += 1;
  }
  t.equal(wrong, 0, 'every page is right');
}

t.test('a provider that dies is replaced, and the new copy is right by itself', async (t) => {
  const { rig, holders, spare } = await mirrored(3);
  const [first = 0, second = 1] = holders;
  rig.source(first).goDown();
  await rig.advance(1_000);
  t.equal(rig.volume.status().degradedSlabs, 1);
  t.equal(rig.source(spare).slabs.size, 0, 'it may still come back');
  await rig.advance(4_000);
  t.equal(rig.source(spare).slabs.size, 1);
  t.equal(rig.volume.status().degradedSlabs, 0);
  t.equal(rig.volume.status().repair.slabs, 0);
  t.equal(rig.volume.counters.repairedPages, 64);
  rig.source(second).goDown();
  await expectContents(t, rig, 1);
  await rig.close();
});

t.test('a provider that comes back gets what it missed, and nothing more', async (t) => {
  const { rig, holders } = await mirrored(2);
  const [first = 0, second = 1] = holders;
  rig.source(first).goDown();
  rig.write(10, 4, 500);
  await rig.advance(1_500);
  t.equal(rig.volume.status().ringUsedPages, 0, 'the other copy is enough to free the ring');
  t.equal(rig.volume.status().degradedSlabs, 1);
  const before = rig.source(first).pagesWritten;
  rig.source(first).comeBack(false);
  await rig.advance(1_500);
  t.equal(rig.volume.status().degradedSlabs, 0);
  t.equal(rig.source(first).pagesWritten - before, 4);
  rig.source(second).goDown();
  t.equal(await rig.contentAt(12), 502);
  t.equal(await rig.contentAt(9), 10);
  t.equal(rig.volume.counters.forgedPages, 0, 'no stale page was taken for a lie');
  await rig.close();
});

t.test('a provider that comes back without its leases begins anew', async (t) => {
  const { rig, holders } = await mirrored(2);
  const [first = 0, second = 1] = holders;
  rig.source(first).goDown();
  await rig.advance(500);
  rig.source(first).comeBack(true);
  await rig.advance(4_000);
  t.equal(rig.volume.status().degradedSlabs, 0);
  t.equal(rig.volume.counters.repairedPages, 64);
  rig.source(second).goDown();
  await expectContents(t, rig, 1);
  await rig.close();
});

t.test('a slab begun while one machine is away gets its second copy later', async (t) => {
  const rig = new VolumeRig({ offers: [ROOM, ROOM], copies: 2 });
  rig.source(1).goDown();
  const write = rig.write(0, 8, 100);
  await rig.advance(500);
  t.equal(write.status, IoStatus.OK, 'page-outs go on with one copy');
  t.equal(rig.volume.status().degradedSlabs, 1);
  rig.source(1).comeBack(false);
  await rig.advance(3_000);
  t.equal(rig.volume.status().degradedSlabs, 0);
  rig.source(0).goDown();
  t.equal(await rig.contentAt(5), 105);
  await rig.close();
});

t.test('pages written while a copy is made are in it as they were written last', async (t) => {
  const { rig, holders } = await mirrored(3);
  const [first = 0, second = 1] = holders;
  for (const source of rig.world.sources) source.latencyMs = 30;
  rig.source(first).goDown();
  await rig.advance(2_200);
  for (let round = 0; round < 30; round += 1) {
    rig.write((round * 7) % 60, 4, 10_000 + round * 10);
    await rig.advance(20);
  }
  rig.write(0, 64, 5_000);
  await rig.advance(5_000);
  t.equal(rig.volume.status().degradedSlabs, 0);
  rig.source(second).goDown();
  await expectContents(t, rig, 5_000);
  await rig.close();
});

t.test('a provider that lies is left, counted, and its place is taken by another', async (t) => {
  const { rig, holders, spare } = await mirrored(3);
  const [first = 0, second = 1] = holders;
  for (const holder of holders) rig.source(holder).faults = NO_FAULTS;
  rig.source(first).faults = { ...NO_FAULTS, flip: 1 };
  rig.source(second).goDown();
  const read = rig.read(3);
  await rig.advance(100);
  rig.source(second).comeBack(false);
  await rig.advance(5_000);
  t.equal(read.status, IoStatus.OK);
  t.match(rig.source(first).quarantineReason, /page 3 of volume rig was not what was written/);
  t.equal(rig.source(first).slabs.size, 0, 'its lease was given back');
  t.equal(rig.source(spare).slabs.size, 1);
  t.equal(rig.volume.status().degradedSlabs, 0);
  await expectContents(t, rig, 1);
  await rig.close();
});

t.test('leases that are asked back are moved, then released, with the volume live', async (t) => {
  const { rig, holders, spare } = await mirrored(3);
  const [first = 0] = holders;
  const [handle = 0] = rig.source(first).slabs.keys();
  rig.source(first).accepting = false;
  rig.source(first).recall(handle, 5_000);
  await rig.advance(1_500);
  t.equal(rig.source(first).slabs.size, 0);
  t.equal(rig.source(spare).slabs.size, 1);
  t.equal(rig.volume.status().degradedSlabs, 0);
  t.equal(rig.volume.counters.lostPages, 0);
  await expectContents(t, rig, 1);
  await rig.close();
});

t.test('what nobody else can take goes back all the same, while a copy is left', async (t) => {
  const { rig, holders } = await mirrored(2);
  const [first = 0] = holders;
  const [handle = 0] = rig.source(first).slabs.keys();
  rig.source(first).accepting = false;
  rig.source(first).recall(handle, 5_000);
  await rig.advance(1_000);
  t.equal(rig.source(first).slabs.size, 0, 'the owner of the memory comes first');
  t.equal(rig.volume.status().degradedSlabs, 1);
  t.equal(rig.volume.counters.lostPages, 0);
  await expectContents(t, rig, 1);
  await rig.close();
});

t.test('a drain without a deadline waits for a place', async (t) => {
  const { rig, holders } = await mirrored(2);
  const [first = 0] = holders;
  rig.source(first).accepting = false;
  rig.volume.evacuate(rig.source(first));
  await rig.advance(5_000);
  t.equal(rig.source(first).slabs.size, 1);
  t.equal(rig.volume.counters.lostPages, 0);
  t.equal(rig.volume.status().repair.slabs, 1);
  rig.source(first).accepting = true;
  await rig.advance(500);
  t.equal(rig.volume.status().repair.slabs, 0, 'drained no more, it keeps its copy');
  t.equal(rig.source(first).slabs.size, 1);
  await rig.close();
});

t.test('two copies are never on one machine', async (t) => {
  const rig = new VolumeRig({ offers: [ROOM, ROOM, ROOM], copies: 2 });
  for (const index of [0, 1]) rig.source(index).hostId = 'machine';
  for (let slab = 0; slab < 8; slab += 1) rig.write(slab, 1, slab + 1);
  await rig.advance(500);
  t.equal(rig.source(2).slabs.size, 1);
  t.equal(rig.source(0).slabs.size + rig.source(1).slabs.size, 1);
  rig.source(2).goDown();
  await rig.advance(5_000);
  t.equal(rig.source(0).slabs.size + rig.source(1).slabs.size, 1, 'not even for repair');
  await rig.close();
});

t.test('a provider that stands still is passed by: reads and flushes hardly wait', async (t) => {
  const { rig, holders } = await mirrored(2);
  const [first = 0, second = 1] = holders;
  for (const stopped of [first, second]) {
    rig.source(stopped).stop();
    rig.write(20, 8, 900);
    const reads = Array.from({ length: 16 }, (_, page) => rig.read(page));
    const flush = rig.flush();
    await rig.advance(500);
    t.ok(
      reads.every(({ status }) => status === IoStatus.OK),
      'reads ended within half a second',
    );
    t.equal(flush.status, IoStatus.OK, 'and so did the flush');
    rig.source(stopped).resume();
    await rig.advance(6_000);
    t.equal(rig.volume.status().degradedSlabs, 0, 'it has caught up');
  }
  t.ok(rig.volume.counters.suspicions >= 2);
  await rig.close();
});

t.test('with a single copy nobody is passed by: what is asked waits for it', async (t) => {
  const rig = new VolumeRig({ offers: [ROOM], copies: 1 });
  rig.write(0, 8, 1);
  await rig.advance(200);
  rig.source(0).stop();
  rig.write(8, 8, 50);
  const read = rig.read(3);
  await rig.advance(2_000);
  t.equal(read.status, undefined);
  rig.source(0).resume();
  await rig.advance(500);
  t.equal(read.status, IoStatus.OK);
  t.equal(rig.volume.status().ringUsedPages, 0);
  t.equal(await rig.contentAt(10), 52);
  await rig.close();
});

t.test('repair keeps within its bytes a second', async (t) => {
  const pages = 4096;
  const rig = new VolumeRig({
    offers: [ROOM, ROOM, ROOM],
    copies: 2,
    pages,
    ringSizeBytes: 2 ** 24,
    repairBytesPerS: 4 * 2 ** 20,
  });
  for (let page = 0; page < pages; page += 64) rig.write(page, 64, page + 1);
  await rig.advance(2_000);
  const dead = rig.world.sources.findIndex(({ slabs }) => slabs.size > 0);
  rig.source(dead).goDown();
  await rig.advance(4_000);
  const { slabs, bytesLeft } = rig.volume.status().repair;
  t.equal(slabs, 1);
  t.ok(bytesLeft > 2 * 2 ** 20, `${bytesLeft} bytes left after 2 s`);
  await rig.advance(5_000);
  t.same(rig.volume.status().repair, { slabs: 0, bytesLeft: 0 });
  await rig.close();
});

t.test(
  'what no provider can take goes to the spill file, and from there to one that can',
  async (t) => {
    const rig = new VolumeRig({ offers: [ROOM, ROOM], copies: 2, spillBytes: ROOM });
    rig.write(0, 64, 1);
    await rig.advance(500);
    t.equal(rig.world.spill?.slabs.size, 0, 'not while providers can');
    for (const source of rig.world.sources) source.goDown();
    for (let round = 0; round < 4; round += 1) {
      const write = rig.write(64, 60, 2_000 + round);
      await rig.advance(2_500);
      t.equal(write.status, IoStatus.OK);
    }
    t.equal(rig.world.spill?.slabs.size, 1);
    t.equal(rig.volume.status().ringUsedPages, 0, 'the ring has drained');
    t.equal(await rig.contentAt(70), 2_009, 'the spill answers');
    t.equal(await rig.contentAt(5), -IoStatus.UNREACHABLE, 'the rest waits for its providers');
    for (const source of rig.world.sources) source.comeBack(false);
    await rig.advance(6_000);
    t.equal(rig.world.spill?.slabs.size, 0, 'its room is free again');
    t.equal(rig.volume.status().degradedSlabs, 0);
    rig.source(0).goDown();
    t.equal(await rig.contentAt(70), 2_009);
    t.equal(await rig.contentAt(5), 6);
    await rig.close();
  },
);

t.test('a pool without room spills whole slabs, within the bound', async (t) => {
  const rig = new VolumeRig({
    offers: [SLAB_SIZE_BYTES],
    copies: 1,
    pages: 3 * 4096,
    spillBytes: SLAB_SIZE_BYTES,
    requestDeadlineMs: 1_000,
  });
  for (const slab of [0, 1]) rig.write(slab * 4096, 4, 10 * (slab + 1));
  await rig.advance(500);
  const beyond = rig.write(2 * 4096, 4, 30);
  await rig.advance(3_000);
  t.equal(rig.source(0).slabs.size, 1);
  t.equal(rig.world.spill?.slabs.size, 1);
  t.equal(beyond.status, IoStatus.NO_SPACE);
  t.equal(await rig.contentAt(1), 11);
  t.equal(await rig.contentAt(4097), 21);
  await rig.close();
  t.equal(rig.world.spill?.slabs.size, 0);
});

t.test(
  'a slab begins with fewer copies where machines are away, not where they are full',
  async (t) => {
    const full = new VolumeRig({ offers: [ROOM, 1], copies: 2, requestDeadlineMs: 1_000 });
    const refused = full.write(0, 1, 1);
    await full.advance(2_000);
    t.equal(refused.status, IoStatus.NO_SPACE);
    t.equal(full.source(0).slabs.size, 0, 'what the other one granted went back');
    await full.close();

    const quarantined = new VolumeRig({ offers: [ROOM, ROOM], copies: 2 });
    quarantined.source(1).quarantine('it lied');
    const taken = quarantined.write(0, 1, 1);
    await quarantined.advance(500);
    t.equal(taken.status, IoStatus.OK);
    t.equal(quarantined.source(1).slabs.size, 0);
    t.equal(quarantined.volume.status().degradedSlabs, 1);
    await quarantined.close();
  },
);
