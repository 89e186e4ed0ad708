/** Sorted names against a sorted array: what is there, in what order, from any place on. */
import t from 'tap';
import { SortedNames } from '../../objects/sorted-names.ts';
import { fuzz } from '../helpers/fuzz.ts';

function from(names: SortedNames<string>, start: string | undefined, behind: boolean): string[] {
  const found: string[] = [];
  for (const walk = names.walk(start, behind); walk.current !== undefined; walk.advance()) {
    found.push(walk.current);
  }
  return found;
}

t.test('equals a sorted array', async (t) => {
  await fuzz(t, (random) => {
    const names = new SortedNames<string>();
    const twin = new Set<string>();
    const space = random.pick([50, 3000]);
    for (let step = 0; step < 6000; step += 1) {
      const name = `k${random.below(space)}`;
      const isShrinking = step > 4000;
      if (twin.has(name) && random.below(isShrinking ? 1 : 4) === 0) {
        names.remove(name);
        twin.delete(name);
      } else if (!twin.has(name) && !isShrinking) {
        names.add(name);
        twin.add(name);
      } else if (!twin.has(name)) {
        names.remove(name);
      }
      if (names.count !== twin.size) throw new Error('the count is that of the names');
      if (step % 500 !== 0) continue;
      const sorted = Array.from(twin).sort();
      const start = `k${random.below(space)}`;
      const same = (found: string[], expected: string[]): void => {
        if (found.join() !== expected.join()) throw new Error(`step ${step}`);
      };
      same(from(names, undefined, false), sorted);
      same(
        from(names, start, false),
        sorted.filter((each) => each >= start),
      );
      same(
        from(names, start, true),
        sorted.filter((each) => each > start),
      );
    }
  });
});

t.test('names in rising order, in falling order, and all gone', async (t) => {
  for (const step of [1, -1]) {
    const names = new SortedNames<number>();
    const start = step > 0 ? 0 : 9999;
    for (let index = 0; index < 10_000; index += 1) names.add(start + step * index);
    let expected = 0;
    for (const walk = names.walk(undefined, false); walk.current !== undefined; walk.advance()) {
      if (walk.current !== expected) t.fail('in order');
      expected += 1;
    }
    t.equal(expected, 10_000);
    for (let index = 0; index < 10_000; index += 1) names.remove(index);
    t.equal(names.count, 0);
    t.equal(names.walk(undefined, false).current, undefined);
  }
});
