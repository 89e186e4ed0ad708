/** Runs never overlap, never leave the arena, and merge back to one. */
import fc from 'fast-check';
import t from 'tap';
import { Extents } from '../../provider/extents.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
t.comment(`SEED=${seed}`);

t.test('takes the first run that fits and refuses what does not', async (t) => {
  const extents = new Extents(10);
  t.equal(extents.take(11), -1);
  t.equal(extents.take(4), 0);
  t.equal(extents.take(4), 4);
  t.equal(extents.take(3), -1);
  extents.give(0, 4);
  t.equal(extents.take(5), -1, 'two gaps are not one');
  t.equal(extents.take(2), 0);
  t.equal(extents.take(2), 2);
  t.equal(extents.take(2), 8);
  t.equal(extents.empty, false);
});

t.test('equals a map of units under any takes and gives', async (t) => {
  const step = fc.oneof(
    fc.record({ take: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ give: fc.nat() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const size = 64;
      const extents = new Extents(size);
      const units = new Uint8Array(size);
      const runs: { start: number; length: number }[] = [];
      for (const step of steps) {
        if ('take' in step) {
          const start = extents.take(step.take);
          const naive = units.join('').indexOf('0'.repeat(step.take));
          if (start !== naive) return false;
          if (start < 0) continue;
          units.fill(1, start, start + step.take);
          runs.push({ start, length: step.take });
        } else if (runs.length > 0) {
          const [run] = runs.splice(step.give % runs.length, 1);
          extents.give(run!.start, run!.length);
          units.fill(0, run!.start, run!.start + run!.length);
        }
      }
      for (const run of runs) extents.give(run.start, run.length);
      return extents.empty && extents.take(size) === 0;
    }),
    { seed, numRuns: 500 },
  );
  t.pass('500 runs');
});
