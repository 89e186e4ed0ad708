/** Which pages are handed out: in runs, near the hint, from the lower part of the volume, none twice. */
import t from 'tap';
import { PageAllocator } from '../../fuse-fs/page-allocator.ts';
import { seededRandom } from '../helpers/sim-world.ts';

t.test('a file that grows gets the pages behind its own, though another grows too', (t) => {
  const allocator = new PageAllocator(100_000);
  const first = allocator.find(-1);
  t.equal(allocator.take(first, 16), 16);
  const other = allocator.find(-1);
  t.equal(other, 16);
  allocator.take(other, 4);
  t.equal(allocator.find(first + 16), 20, 'the hint is taken: next fit');
  t.equal(allocator.find(20), 20, 'the hint is free');
  t.equal(allocator.find(100_000), 20, 'a hint behind the volume');
  t.end();
});

t.test('a run ends where pages are taken, and at the end of the volume', (t) => {
  const allocator = new PageAllocator(100);
  allocator.take(10, 5);
  t.equal(allocator.take(0, 50), 10);
  t.equal(allocator.take(90, 50), 10);
  t.equal(allocator.freeCount, 100 - 25);
  t.end();
});

t.test('files that come and go stay in the lower part of the volume', (t) => {
  const allocator = new PageAllocator(1_000_000);
  let highest = 0;
  for (let round = 0; round < 50_000; round += 1) {
    const page = allocator.find(-1);
    const count = allocator.take(page, 10);
    highest = Math.max(highest, page + count);
    allocator.give(page, count);
  }
  t.ok(highest <= 4096 + 10, `${highest}: a slab`);
  t.end();
});

t.test(
  'taken pages hold no bytes until they are written; free ones are stale until trimmed',
  (t) => {
    const allocator = new PageAllocator(100);
    allocator.take(0, 10);
    t.equal(allocator.isWritten(3), false);
    allocator.setWritten(2, 3);
    t.equal(allocator.isWritten(3), true);
    t.equal(allocator.writtenRunEnd(0, 10), 2);
    t.equal(allocator.writtenRunEnd(2, 10), 5);
    t.equal(allocator.nextStale(0, 100), 100, 'a taken page is not stale');
    allocator.give(0, 10);
    t.equal(allocator.nextStale(0, 100), 0, 'though it was never written: a write may have failed');
    t.equal(allocator.takeStale(0, 100), 10);
    t.equal(allocator.freeCount, 90, 'not handed out while it is trimmed');
    allocator.giveTrimmed(0, 10, true);
    t.equal(allocator.freeCount, 100);
    t.equal(allocator.nextStale(0, 100), 100);
    allocator.take(0, 1);
    allocator.give(0, 1);
    t.equal(allocator.takeStale(0, 1), 1);
    allocator.giveTrimmed(0, 1, false);
    t.equal(allocator.nextStale(0, 100), 0, 'the trim failed');
    t.equal(allocator.take(0, 5), 5);
    t.equal(allocator.isWritten(0), false, 'what lies there is not the new file’s');
    t.end();
  },
);

t.test('no page is handed out twice, all are found', (t) => {
  const seed = Number(process.env['SEED'] ?? 1);
  const random = seededRandom(seed);
  const pageCount = 6000;
  const allocator = new PageAllocator(pageCount);
  const owned = new Uint8Array(pageCount);
  const runs: { first: number; count: number }[] = [];
  for (let step = 0; step < 20_000; step += 1) {
    if (allocator.freeCount > 0 && random() < 0.55) {
      const first = allocator.find(random() < 0.5 ? Math.floor(random() * pageCount) : -1);
      const count = allocator.take(first, 1 + Math.floor(random() * 40));
      if (count < 1 || owned.subarray(first, first + count).includes(1)) t.fail(`SEED=${seed}`);
      owned.fill(1, first, first + count);
      runs.push({ first, count });
    } else {
      const [run] = runs.splice(Math.floor(random() * runs.length), 1);
      if (run === undefined) continue;
      owned.fill(0, run.first, run.first + run.count);
      allocator.give(run.first, run.count);
    }
  }
  t.equal(allocator.freeCount, owned.filter((bit) => bit === 0).length);
  t.end();
});

t.test('a terabyte of volume costs 64 MiB and a bit: 2 bits for each page', (t) => {
  const allocator = new PageAllocator(2 ** 28);
  t.ok(allocator.sizeBytes < 2 ** 26 * 1.02);
  t.ok(allocator.sizeBytes > 2 ** 26);
  t.end();
});
