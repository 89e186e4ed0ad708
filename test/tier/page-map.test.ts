/** What a volume knows of its pages, held to a naive twin. */
import fc from 'fast-check';
import t from 'tap';
import { PageMap, PageState, type PageStateValue } from '../../tier/page-map.ts';
import { versionOf } from '../../tier/volume-state.ts';

t.test('a new map is holes, without versions or slots', (t) => {
  const map = new PageMap(100);
  t.equal(map.pageCount, 100);
  for (const page of [0, 1, 99]) {
    t.equal(map.state(page), 0);
    t.equal(map.wordLow(page), 0);
    t.equal(map.wordHigh(page), 0);
    t.equal(map.ringSlot(page), -1);
    t.equal(map.isZero(page), true);
  }
  t.end();
});

t.test('versions beyond 2^32 keep all their bits', (t) => {
  const map = new PageMap(1);
  for (const version of [1, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 40 + 7, 2 ** 53 - 1]) {
    map.set(0, PageState.SEALED, version >>> 0, Math.floor(version / 2 ** 32));
    t.equal(versionOf(map, 0), version);
  }
  t.end();
});

t.test('only a hole, and a page filled with zero, is zero', (t) => {
  const map = new PageMap(1);
  const cases: [PageStateValue, number, number, boolean][] = [
    [PageState.HOLE, 0, 0, true],
    [PageState.HOLE, 5, 5, true],
    [PageState.FILLED, 0, 0, true],
    [PageState.FILLED, 1, 0, false],
    [PageState.FILLED, 0, 1, false],
    [PageState.SEALED, 0, 0, false],
    [PageState.LOST, 0, 0, false],
  ];
  for (const [state, low, high, zero] of cases) {
    map.set(0, state, low, high);
    t.equal(map.isZero(0), zero, `${state} ${low} ${high}`);
  }
  t.end();
});

t.test('slots up to the greatest ring are kept apart from none', (t) => {
  const map = new PageMap(2);
  for (const slot of [0, 1, 63, 2 ** 18 - 1, -1]) {
    map.setRingSlot(1, slot);
    t.equal(map.ringSlot(1), slot);
    t.equal(map.ringSlot(0), -1);
  }
  t.end();
});

const PAGES = 24;
const step = fc.record({
  page: fc.nat({ max: PAGES - 1 }),
  state: fc.constantFrom(0, 1, 2, 3),
  low: fc.constantFrom(0, 1, 0xffffffff),
  high: fc.constantFrom(0, 1, 0xffffffff),
  slot: fc.integer({ min: -1, max: 5 }),
});

t.test('equals an array of objects after any changes', (t) => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 80 }),
      fc.nat(PAGES - 1),
      fc.nat(PAGES),
      (steps, from, end) => {
        const map = new PageMap(PAGES);
        const twin = Array.from({ length: PAGES }, () => ({ state: 0, low: 0, high: 0, slot: -1 }));
        for (const { page, state, low, high, slot } of steps) {
          map.set(page, state, low, high);
          map.setRingSlot(page, slot);
          twin[page] = { state, low, high, slot };
        }
        twin.forEach((row, page) => {
          const ours = {
            state: map.state(page),
            low: map.wordLow(page),
            high: map.wordHigh(page),
            slot: map.ringSlot(page),
          };
          if (JSON.stringify(ours) !== JSON.stringify(row)) throw new Error(`page ${page}`);
        });
        // Runs: equal state, and equal in being zero.
        const kind = (page: number): string => {
          const row = twin[page];
          const filledZero = row?.state === 1 && row.low === 0 && row.high === 0;
          return `${row?.state} ${row?.state === 0 || filledZero}`;
        };
        let runEnd = from + 1;
        while (runEnd < Math.max(end, from + 1) && kind(runEnd) === kind(from)) runEnd += 1;
        return map.runEnd(from, Math.max(end, from + 1)) === runEnd;
      },
    ),
  );
  t.pass('every history');
  t.end();
});
