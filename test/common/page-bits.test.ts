import fc from 'fast-check';
import t from 'tap';
import { PageBits } from '../../common/page-bits.ts';

const PAGES = 200;

/** The same with an array of booleans. */
function naiveRunEnd(bits: boolean[], from: number, end: number): number {
  let at = from + 1;
  while (at < end && bits[at] === bits[from]) at += 1;
  return Math.max(at, from + 1);
}

t.test('equals an array of booleans', async () => {
  const range = fc
    .tuple(fc.nat(PAGES), fc.nat(PAGES))
    .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), range), { maxLength: 20 }), (steps) => {
      const bits = new PageBits(PAGES);
      const twin = new Array<boolean>(PAGES).fill(false);
      for (const [set, [first, end]] of steps) {
        if (set) bits.set(first, end);
        else bits.clear(first, end);
        twin.fill(set, first, end);
        if (bits.setCount !== twin.filter(Boolean).length) return false;
        for (let page = 0; page < PAGES; page += 1) {
          if (bits.isSet(page) !== twin[page]) return false;
          const limit = Math.max(page + 1, PAGES - (page % 7));
          if (bits.runEnd(page, limit) !== Math.min(limit, naiveRunEnd(twin, page, limit))) {
            return false;
          }
        }
      }
      return true;
    }),
    { numRuns: 60 },
  );
});

t.test('a run that fills whole words ends where it is told to', async (t) => {
  const bits = new PageBits(64);
  t.equal(bits.runEnd(0, 33), 33);
  bits.set(0, 64);
  t.equal(bits.runEnd(5, 40), 40);
  t.equal(bits.runEnd(31, 64), 64);
  bits.clear(63, 64);
  t.equal(bits.runEnd(0, 64), 63);
});
