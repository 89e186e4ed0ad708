/** Runs of words: zero when taken, nobody else's while held, their memory given back. */
import t from 'tap';
import { SLAB_WORDS, WordSlabs, type SlabClass } from '../../fuse-fs/word-slabs.ts';
import { seededRandom } from '../helpers/sim-world.ts';

t.test('runs do not overlap and start as zeroes', (t) => {
  const seed = Number(process.env['SEED'] ?? 1);
  const random = seededRandom(seed);
  const slabs = new WordSlabs();
  const held: { handle: number; size: number; mark: number }[] = [];
  for (let step = 1; step < 30_000; step += 1) {
    if (random() < 0.52) {
      const slabClass = Math.floor(random() * 4) as SlabClass;
      const handle = slabs.take(slabClass);
      const size = SLAB_WORDS[slabClass];
      const offset = slabs.offset(handle);
      const words = slabs.words(handle).subarray(offset, offset + size);
      if (words.length !== size || words.some((word) => word !== 0)) t.fail(`SEED=${seed}`);
      words.fill(step);
      held.push({ handle, size, mark: step });
    } else {
      const [run] = held.splice(Math.floor(random() * held.length), 1);
      if (run === undefined) continue;
      const offset = slabs.offset(run.handle);
      const words = slabs.words(run.handle).subarray(offset, offset + run.size);
      if (words.some((word) => word !== run.mark)) t.fail(`SEED=${seed}: overwritten`);
      slabs.give(run.handle);
    }
  }
  for (const run of held) slabs.give(run.handle);
  t.ok(slabs.sizeBytes <= 8 * 65_536, 'a few empty segments stay');
  t.end();
});

t.test('cycles make no memory', (t) => {
  const slabs = new WordSlabs();
  slabs.give(slabs.take(0));
  const before = slabs.sizeBytes;
  for (let cycle = 0; cycle < 1_000_000; cycle += 1) slabs.give(slabs.take(0));
  t.equal(slabs.sizeBytes, before);
  t.end();
});
