/** Pages between two files: not before calls under way have ended, then trimmed unless taken again. */
import t from 'tap';
import { PageAllocator } from '../../fuse-fs/page-allocator.ts';
import { PageReclaim } from '../../fuse-fs/page-reclaim.ts';

/** A reclaimer whose timers and trims the test ends. */
function fixture(pageCount = 1000) {
  const timers: (() => void)[] = [];
  const trims: { slot: number; first: number; count: number }[] = [];
  const allocator = new PageAllocator(pageCount);
  const seen = { freed: 0 };
  const reclaim = new PageReclaim(allocator, {
    trim: (slot, first, count) => trims.push({ slot, first, count }),
    after: (_, task) => timers.push(task),
    onPagesFree: () => (seen.freed += 1),
  });
  allocator.take(0, pageCount);
  const runTimers = (): void => {
    for (const timer of timers.splice(0)) timer();
  };
  return { allocator, reclaim, trims, timers, runTimers, seen };
}

t.test('with nothing under way pages are free at once', (t) => {
  const { allocator, reclaim } = fixture();
  reclaim.giveUp(10, 5);
  t.equal(allocator.freeCount, 5);
  t.equal(reclaim.pendingPageCount, 0);
  t.end();
});

t.test('pages wait for the calls that began before, and for no others', (t) => {
  const { allocator, reclaim, seen } = fixture();
  const before = reclaim.enter();
  reclaim.giveUp(10, 5);
  const after = reclaim.enter();
  reclaim.giveUp(20, 5);
  t.equal(reclaim.pendingPageCount, 10);
  reclaim.leave(before);
  t.equal(allocator.freeCount, 5, 'the second run waits for the second call');
  t.equal(seen.freed, 1);
  const last = reclaim.enter();
  reclaim.leave(after);
  t.equal(allocator.freeCount, 10, 'not for the third');
  reclaim.leave(last);
  t.equal(reclaim.pendingPageCount, 0);
  t.end();
});

t.test('calls that overlap without end do not keep pages for ever', (t) => {
  const { allocator, reclaim } = fixture();
  let open = reclaim.enter();
  reclaim.giveUp(1, 1);
  for (let call = 0; call < 3; call += 1) {
    const next = reclaim.enter();
    reclaim.leave(open);
    open = next;
  }
  t.equal(allocator.freeCount, 1);
  t.end();
});

t.test('free pages are trimmed later in runs, and not handed out meanwhile', (t) => {
  const { allocator, reclaim, trims, runTimers } = fixture();
  for (let page = 100; page < 120; page += 1) reclaim.giveUp(page, 1);
  t.equal(trims.length, 0);
  runTimers();
  t.strictSame(
    trims.map(({ first, count }) => [first, count]),
    [[100, 20]],
  );
  t.equal(allocator.freeCount, 0);
  t.equal(reclaim.pendingPageCount, 20);
  reclaim.onTrimmed(trims[0]?.slot ?? -1, true);
  t.equal(allocator.freeCount, 20);
  runTimers();
  t.equal(trims.length, 1, 'once');
  t.end();
});

t.test('a page that is taken again at once is not trimmed', (t) => {
  const { allocator, reclaim, trims, runTimers } = fixture();
  reclaim.giveUp(100, 3);
  allocator.take(101, 1);
  runTimers();
  t.strictSame(
    trims.map(({ first, count }) => [first, count]),
    [
      [100, 1],
      [102, 1],
    ],
  );
  t.end();
});

t.test('a big file is trimmed in turns, with a bound of trims under way', (t) => {
  const { allocator, reclaim, trims, timers, runTimers } = fixture(100_000);
  reclaim.giveUp(0, 100_000);
  runTimers();
  t.equal(trims.length, 1);
  t.equal(trims[0]?.count, 16_384);
  while (timers.length > 0) runTimers();
  for (const trim of trims) reclaim.onTrimmed(trim.slot, true);
  t.equal(
    trims.reduce((sum, trim) => sum + trim.count, 0),
    100_000,
  );
  t.equal(allocator.freeCount, 100_000);
  const scattered = fixture(1000);
  for (let page = 0; page < 1000; page += 2) scattered.reclaim.giveUp(page, 1);
  scattered.runTimers();
  t.equal(scattered.trims.length, 64);
  let ended = 0;
  while (ended < scattered.trims.length) {
    scattered.reclaim.onTrimmed(scattered.trims[ended]?.slot ?? -1, true);
    ended += 1;
    scattered.runTimers();
  }
  t.equal(ended, 500);
  t.equal(scattered.allocator.freeCount, 500);
  t.end();
});

t.test('after the end nothing is trimmed', (t) => {
  const { reclaim, trims, runTimers } = fixture();
  reclaim.giveUp(0, 10);
  reclaim.close();
  runTimers();
  t.equal(trims.length, 0);
  t.end();
});
