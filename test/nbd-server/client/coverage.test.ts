import fc from 'fast-check';
import t from 'tap';
import { Coverage } from '../../../nbd-server/client/coverage.ts';

t.test('equals a naive map of bytes for any runs', async () => {
  const run = fc.tuple(fc.integer({ min: -2, max: 22 }), fc.integer({ min: -1, max: 12 }));
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 20 }),
      fc.array(run, { maxLength: 30 }),
      (length, runs) => {
        const coverage = new Coverage(length);
        const bytes = new Array<boolean>(length).fill(false);
        return runs.every(([start, size]) => {
          const end = start + size;
          const free =
            start >= 0 && size > 0 && end <= length && !bytes.slice(start, end).includes(true);
          if (free) bytes.fill(true, start, end);
          return (
            coverage.add(start, end) === free && coverage.complete === bytes.every((byte) => byte)
          );
        });
      },
    ),
    { numRuns: 5000 },
  );
});

t.test('the number of separate runs is bounded', async (t) => {
  const coverage = new Coverage(10_000);
  for (let run = 0; run < 1024; run += 1) t.ok(coverage.add(run * 4, run * 4 + 1));
  t.notOk(coverage.add(9000, 9001), 'one run too many');
  t.ok(coverage.add(1, 2), 'a byte that joins a run still fits');
});
