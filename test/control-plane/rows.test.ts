/** Pages of rows. */
import t from 'tap';
import { pageOf } from '../../control-plane/rows.ts';
import { Random } from '../helpers/fuzz.ts';

const self = (id: string): string => id;

t.test('pages have every row once, in order, however they are cut', async (t) => {
  const random = new Random(9);
  for (let round = 0; round < 200; round += 1) {
    const ids = Array.from({ length: random.below(60) }, () => random.bytes(4).toString('hex'));
    const wanted = [...new Set(ids)].sort();
    const countMax = 1 + random.below(20);
    const got: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const page: { rows: string[]; cursor: string | null } = pageOf(new Set(ids), self, self, {
        ...{ cursor, countMax },
      });
      if (page.rows.length > countMax) throw new Error('too many rows');
      if (page.cursor !== null && page.rows.length === 0) throw new Error('it never ends');
      got.push(...page.rows);
      ({ cursor } = page);
    }
    if (got.join() !== wanted.join()) throw new Error(`${got.join()}, expected ${wanted.join()}`);
  }
  t.pass('200 listings');
});

t.test('a page is whole at n, and goes on at n + 1', async (t) => {
  const ids = ['a', 'b', 'c'];
  t.same(pageOf(ids, self, self, { countMax: 3 }), { rows: ids, cursor: null });
  t.same(pageOf(ids, self, self, { countMax: 2 }), { rows: ['a', 'b'], cursor: 'b' });
  t.same(pageOf(ids, self, self, { cursor: 'b' }), { rows: ['c'], cursor: null });
  t.same(pageOf(ids, self, self, { cursor: 'z' }), { rows: [], cursor: null });
  t.same(pageOf([], self, self, {}), { rows: [], cursor: null });
});

t.test('long rows make short pages, and one row that is too long is a page', async (t) => {
  const ids = ['a', 'b', 'c'];
  const long = (id: string): string => id.repeat(30_000);
  t.equal(pageOf(ids, self, long, {}).rows.length, 1);
  t.equal(pageOf(ids, self, (id) => id.repeat(90_000), {}).rows.length, 1);
});
