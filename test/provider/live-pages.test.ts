/** The bit map against a naive twin: a Set of pages, and file pages found byte by byte. */
import fc from 'fast-check';
import t from 'tap';
import { LivePages, endFilePageOf, firstFilePageOf } from '../../provider/live-pages.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
t.comment(`SEED=${seed}`);

t.test('file pages of sealed pages follow from 4112 and 4096 bytes', async (t) => {
  for (const [page, first, end] of [
    [0, 0, 2],
    [1, 1, 3],
    [254, 254, 256],
    [255, 255, 257],
    [256, 257, 259],
    [4095, 4110, 4112],
  ] as const) {
    t.equal(firstFilePageOf(page), first, `page ${page} begins in file page ${first}`);
    t.equal(endFilePageOf(page + 1), end, `page ${page} ends before file page ${end}`);
  }
  t.equal(endFilePageOf(4096), 4112, 'a slab of 4096 pages takes 16 MiB + 64 KiB');
  t.equal(endFilePageOf(65536), 65792);
});

t.test('one page holds two file pages, its neighbour one more', async (t) => {
  const live = new LivePages(4096);
  live.add(10, 1);
  t.equal(live.filePageCount, 2);
  live.add(11, 1);
  t.equal(live.filePageCount, 3);
  live.remove(10, 1);
  t.equal(live.filePageCount, 2);
  live.add(0, 4096);
  t.equal(live.filePageCount, 4112);
  t.equal(live.liveCount, 4096);
  live.remove(0, 4096);
  t.equal(live.filePageCount, 0);
});

interface Twin {
  live: Set<number>;
  pageCount: number;
}

function heldByTwin(twin: Twin): Set<number> {
  const held = new Set<number>();
  for (const page of twin.live) {
    for (let byte = page * 4112; byte < (page + 1) * 4112; byte += 16) held.add(byte >> 12);
  }
  return held;
}

t.test('equals the naive twin after any adds and removes', async (t) => {
  const range = fc.record({
    add: fc.boolean(),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    count: fc.integer({ min: 1, max: 70 }),
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 600 }), fc.array(range), (pageCount, steps) => {
      const live = new LivePages(pageCount);
      const twin: Twin = { live: new Set(), pageCount };
      for (const { add, at, count } of steps) {
        const first = Math.floor(at * (pageCount - 1));
        const length = Math.min(count, pageCount - first);
        let before = 0;
        for (let page = first; page < first + length; page += 1) {
          if (twin.live.has(page)) before += 1;
          if (add) twin.live.add(page);
          else twin.live.delete(page);
        }
        if (live.countIn(first, length) !== before) return false;
        if (add) live.add(first, length);
        else live.remove(first, length);
        const held = heldByTwin(twin);
        if (live.liveCount !== twin.live.size || live.filePageCount !== held.size) return false;
        for (let filePage = 0; filePage < endFilePageOf(pageCount); filePage += 1) {
          if (live.isHeld(filePage) !== held.has(filePage)) return false;
        }
        const end = live.runEnd(first, pageCount);
        for (let page = first; page < end; page += 1) {
          if (live.isLive(page) !== twin.live.has(first)) return false;
        }
        if (end < pageCount && live.isLive(end) === live.isLive(first)) return false;
      }
      return true;
    }),
    { seed, numRuns: 300 },
  );
  t.pass('300 runs');
});

t.test('a bit a page: 512 bytes for a slab', async (t) => {
  t.equal(LivePages.sizeBytes(4096), 512);
  t.equal(LivePages.sizeBytes(1), 4);
  t.equal(LivePages.sizeBytes(33), 8);
});
