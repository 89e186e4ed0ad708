/** Writes, elision, trims, back-pressure and flushes of a volume over simulated providers. */
import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { IoStatus } from '../../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../../common/units.ts';
import { SLAB_SIZE_BYTES, VolumeRig, fillContent } from '../helpers/volume-rig.ts';

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

t.test('zero and same-filled pages never travel', async (t) => {
  const rig = new VolumeRig();
  const buffer = new NativeMemory(4 * PAGE_SIZE_BYTES);
  // Zeroes, a word of 32 equal bits halves, a word of 64 bits, zeroes.
  buffer.bytes.fill(0xab, PAGE_SIZE_BYTES, 2 * PAGE_SIZE_BYTES);
  for (let at = 2 * PAGE_SIZE_BYTES; at < 3 * PAGE_SIZE_BYTES; at += 8) {
    buffer.bytes.writeUInt32LE(0x01020304, at);
    buffer.bytes.writeUInt32LE(0xfffefdfc, at + 4);
  }
  // The slab is leased by another page first.
  rig.write(50, 1, 9);
  await rig.advance(200);
  const source = rig.source(0);
  const before = source.pagesWritten;
  t.equal(rig.volume.tryWrite(10, 4, buffer, 0), true);
  await rig.advance(500);
  t.equal(source.pagesWritten, before);
  const outcome = rig.read(10, 4);
  t.equal(outcome.status, IoStatus.OK, 'read at once');
  t.ok(outcome.buffer.bytes.equals(buffer.bytes.subarray(0, 4 * PAGE_SIZE_BYTES)));
  t.equal(source.readCalls, 0);
  t.match(rig.volume.counters, { pagesWritten: 5, zeroPages: 2, filledPages: 2, pagesSent: 1 });
  await rig.close();
});

t.test('a stored page that becomes zero gives its RAM back', async (t) => {
  const ways: [string, (rig: VolumeRig) => void][] = [
    ['trim', (rig) => rig.volume.trim(10, 6)],
    ['write zeroes', (rig) => rig.volume.zero(10, 6)],
    ['a write of zeroes', (rig) => rig.write(10, 6, 0)],
  ];
  for (const [name, drop] of ways) {
    const rig = new VolumeRig();
    rig.write(8, 10, 1);
    await rig.advance(200);
    t.equal(rig.source(0).usage.residentBytes, 10 * 4112, name);
    drop(rig);
    await rig.advance(200);
    t.equal(rig.source(0).usage.residentBytes, 4 * 4112, name);
    t.equal(rig.source(0).trimCalls, 1, `${name}: one call for the run`);
    t.equal(await rig.contentAt(12), 0);
    t.equal(await rig.contentAt(9), 2);
    t.equal(await rig.contentAt(16), 9);
    rig.volume.trim(0, 256);
    await rig.advance(200);
    t.equal(rig.source(0).usage.usedBytes, 0, `${name}: the slab goes back`);
    await rig.close();
  }
});

t.test('a trim over slab borders drops the right pages of each slab', async (t) => {
  const rig = new VolumeRig({ pages: 3 * 4096, ringSizeBytes: 2 ** 24 });
  rig.write(4080, 32, 1);
  rig.write(8190, 4, 100);
  await rig.advance(500);
  t.equal(rig.source(0).slabs.size, 3);
  rig.volume.trim(4090, 4102);
  await rig.advance(500);
  // Slab 0 keeps 4080 to 4089, slab 1 loses all that it has, slab 2 keeps 8192 and 8193.
  t.equal(rig.source(0).slabs.size, 2);
  t.equal(rig.source(0).usage.residentBytes, 12 * 4112);
  t.equal(await rig.contentAt(4089), 10);
  t.equal(await rig.contentAt(4090), 0);
  t.equal(await rig.contentAt(8191), 0, 'its last page');
  t.equal(await rig.contentAt(8192), 102, 'just behind the range');
  t.equal(await rig.contentAt(8193), 103);
  await rig.close();
});

t.test('a page that is rewritten before it was sent travels once', async (t) => {
  const rig = new VolumeRig();
  rig.write(0, 1, 1);
  await rig.advance(200);
  const before = rig.source(0).pagesWritten;
  for (let round = 1; round <= 10; round += 1) rig.write(5, 3, 100 * round);
  await rig.advance(200);
  t.equal(rig.source(0).pagesWritten - before, 3);
  t.equal(rig.volume.counters.coalescedPages, 27);
  t.equal(await rig.contentAt(6), 1001);
  await rig.close();
});

t.test('a page that is rewritten while it is under way ends as the last one written', async (t) => {
  const rig = new VolumeRig();
  rig.write(0, 1, 1);
  await rig.advance(200);
  for (let round = 1; round <= 30; round += 1) {
    rig.write(5, 2, 10 * round);
    await rig.advance(0.3);
  }
  t.ok(rig.volume.counters.coalescedPages < 58, 'some were under way');
  await rig.advance(500);
  t.equal(rig.volume.status().ringUsedPages, 0);
  t.equal(await rig.contentAt(5), 300);
  t.equal(await rig.contentAt(6), 301);
  t.equal(rig.volume.counters.forgedPages, 0);
  await rig.close();
});

t.test('neighbours leave as one call, at most 64 pages, never over a slab border', async (t) => {
  const cases: { page: number; count: number; calls: number }[] = [
    { page: 10, count: 8, calls: 1 },
    { page: 10, count: 64, calls: 1 },
    { page: 10, count: 65, calls: 2 },
    { page: 4090, count: 12, calls: 2 },
  ];
  for (const { page, count, calls } of cases) {
    const rig = new VolumeRig({ pages: 8192, ringSizeBytes: 2 ** 24 });
    rig.write(0, 1, 1);
    rig.write(8191, 1, 1);
    await rig.advance(200);
    const before = rig.source(0).writeCalls;
    rig.write(page, count, 1);
    await rig.advance(200);
    t.equal(rig.source(0).writeCalls - before, calls, `${count} pages from ${page}`);
    await rig.close();
  }
});

t.test(
  'a flush waits for every copy of what was written before, and not for later writes',
  async (t) => {
    const rig = new VolumeRig({ offers: [2 ** 30, 2 ** 30], copies: 2 });
    rig.write(0, 1, 1);
    await rig.advance(200);
    rig.source(0).latencyMs = 40;
    rig.source(1).latencyMs = 5;
    rig.write(1, 1, 2);
    await rig.world.settle();
    const flush = rig.flush();
    await rig.advance(15);
    t.equal(flush.status, undefined, 'one copy of two is not enough');
    rig.source(0).latencyMs = 2_000;
    rig.write(2, 1, 3);
    await rig.advance(200);
    t.equal(flush.status, IoStatus.OK, 'the later write is still under way');
    t.ok(rig.volume.status().ringUsedPages > 0);
    await rig.close();
  },
);

t.test('a flush of nothing, or of zeroes and trims, ends at once', async (t) => {
  const rig = new VolumeRig();
  t.equal(rig.flush().status, IoStatus.OK);
  rig.write(0, 4, 1);
  await rig.advance(200);
  rig.volume.trim(0, 2);
  rig.volume.zero(2, 1);
  t.equal(rig.flush().status, IoStatus.OK);
  await rig.close();
});

t.test('a write with FUA ends when its bytes are on all copies', async (t) => {
  const rig = new VolumeRig({ offers: [2 ** 30, 2 ** 30], copies: 2 });
  rig.write(0, 1, 1);
  await rig.advance(200);
  rig.source(1).latencyMs = 100;
  const forced = rig.write(5, 3, 50, true);
  await rig.advance(50);
  t.equal(forced.status, undefined);
  t.equal(await rig.contentAt(5), 50, 'readable meanwhile');
  await rig.advance(300);
  t.equal(forced.status, IoStatus.OK);
  for (const source of rig.world.sources) {
    const pages = [...source.slabs.values()].reduce((sum, slab) => sum + slab.pages.size, 0);
    t.equal(pages, 4);
  }
  await rig.close();
});

t.test('a flush fails at its deadline when the provider stays away, and only then', async (t) => {
  const rig = new VolumeRig();
  rig.write(0, 1, 1);
  await rig.advance(200);
  rig.source(0).goDown();
  rig.write(1, 1, 2);
  const flush = rig.flush();
  await rig.advance(4_900);
  t.equal(flush.status, undefined);
  await rig.advance(600);
  t.equal(flush.status, IoStatus.UNREACHABLE);
  rig.source(0).comeBack(false);
  await rig.advance(600);
  t.equal(rig.flush().status, IoStatus.OK, 'the page was kept all the time');
  t.equal(await rig.contentAt(1), 2);
  await rig.close();
});

t.test('a full ring holds writes back, and they go on in order as it drains', async (t) => {
  const rig = new VolumeRig({ pages: 1024 });
  rig.write(0, 1, 1);
  await rig.advance(200);
  rig.source(0).goDown();
  t.equal(rig.write(100, 64, 1000).status, IoStatus.OK, 'exactly the ring');
  const blocked = [rig.write(200, 10, 2000), rig.write(300, 100, 3000), rig.write(205, 1, 4000)];
  await rig.advance(1_000);
  t.same(
    blocked.map(({ status }) => status),
    [undefined, undefined, undefined],
  );
  t.equal(await rig.contentAt(100), 1000);
  rig.source(0).comeBack(false);
  await rig.advance(2_000);
  t.same(
    blocked.map(({ status }) => status),
    [0, 0, 0],
  );
  t.equal(await rig.contentAt(205), 4000, 'the later write of a page wins');
  t.equal(await rig.contentAt(399), 3099, 'a write longer than the ring is whole');
  t.equal(rig.volume.status().ringUsedPages, 0);
  await rig.close();
});

t.test('a write that waited too long fails, and the ring is as it was', async (t) => {
  const rig = new VolumeRig({ pages: 1024 });
  rig.write(0, 1, 1);
  await rig.advance(200);
  rig.source(0).goDown();
  rig.write(100, 64, 1000);
  const blocked = rig.write(200, 10, 2000);
  await rig.advance(5_600);
  t.equal(blocked.status, IoStatus.UNREACHABLE);
  t.equal(rig.openCount, 0);
  rig.source(0).comeBack(false);
  await rig.advance(1_000);
  t.equal(await rig.contentAt(200), 0, 'nothing of it was taken');
  t.equal(await rig.contentAt(163), 1063);
  await rig.close();
});

t.test('versions go on beyond 2^32', async (t) => {
  const rig = new VolumeRig({ firstVersion: 2 ** 32 - 5 });
  for (let round = 0; round < 12; round += 1) {
    rig.write(7, 1, 100 + round);
    await rig.advance(20);
    t.equal(await rig.contentAt(7), 100 + round);
  }
  const read = rig.read(7);
  rig.write(7, 1, 500);
  await rig.advance(100);
  t.equal(read.status, IoStatus.OK);
  t.equal(rig.volume.counters.forgedPages, 0);
  t.equal(await rig.contentAt(7), 500);
  await rig.close();
});

t.test(
  'a page may be written in pieces of a buffer, and outside it nothing is touched',
  async (t) => {
    const rig = new VolumeRig();
    rig.write(0, 1, 1);
    await rig.advance(200);
    const buffer = new NativeMemory(4 * PAGE_SIZE_BYTES);
    buffer.bytes.fill(0xee);
    fillContent(buffer, 1, 42);
    t.equal(rig.volume.tryWrite(9, 1, buffer, PAGE_SIZE_BYTES), true);
    t.throws(() => rig.volume.tryWrite(9, 4, buffer, PAGE_SIZE_BYTES), RangeError);
    t.throws(() => rig.volume.tryWrite(9, 1, buffer, -1), RangeError);
    t.equal(await rig.contentAt(9), 42);
    t.ok(buffer.bytes.subarray(0, PAGE_SIZE_BYTES).every((byte) => byte === 0xee));
    await rig.close();
  },
);
