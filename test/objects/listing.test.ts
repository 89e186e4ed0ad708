/** Listings: order, pages, cursors that outlive changes, patterns that jump, bounded work. */
import t from 'tap';
import type { ObjectQuery } from '../../common/objects.ts';
import type { LocalHolder } from '../../objects/holder.ts';
import { cursorAfter } from '../../objects/listing.ts';
import { Random } from '../helpers/fuzz.ts';
import { BERT, key, openStore as open } from '../helpers/object-rig.ts';

const NONE = Buffer.alloc(0);

/** Every page of a listing. */
function all(holder: LocalHolder, query: ObjectQuery, each?: () => void): string[][] {
  const pages: string[][] = [];
  for (let cursor: string | null = ''; cursor !== null;) {
    const page = holder.list(cursor === '' ? query : { ...query, cursor });
    pages.push(page.objects.map(({ name }) => (name.kind === 'key' ? name.key : name.id)));
    cursor = page.cursor;
    each?.();
  }
  return pages;
}

t.test('names come sorted, in pages, each once', async (t) => {
  const { anna } = open(t);
  const names = Array.from({ length: 1200 }, (_, index) => `k${index}`);
  for (const name of names) anna.put(name, NONE, {});
  const pages = all(anna, {});
  t.strictSame(
    pages.map((page) => page.length),
    [512, 512, 176],
  );
  t.strictSame(pages.flat(), names.toSorted());
  t.equal(all(anna, { countMax: 1200 / 4 }).length, 4, 'no page is empty for a full one before');
});

t.test('a cursor stays good while names come and go', async (t) => {
  const { anna } = open(t);
  const random = new Random(5);
  const kept = new Set<string>();
  for (let index = 0; index < 3000; index += 1) {
    anna.put(`n${index}`, NONE, {});
    if (index % 3 === 0) kept.add(`n${index}`);
  }
  const seen = all(anna, { countMax: 7 }, () => {
    for (let count = 0; count < 10; count += 1) {
      const index = random.below(3000);
      if (index % 3 !== 0) anna.delete(key(`n${index}`));
      else
        anna.put(`x${random.below(10 ** 6)}`, NONE, {
          readers: random.pick(['private', 'trusted']),
        });
    }
  }).flat();
  const names = seen.filter((name) => name.startsWith('n'));
  t.equal(new Set(names).size, names.length, 'no name twice');
  t.strictSame(seen, seen.toSorted(), 'in order');
  for (const name of kept) if (!names.includes(name)) t.fail(`${name} was there all the time`);
});

t.test('blocks come after keys, by number, and fit no pattern', async (t) => {
  const { anna } = open(t);
  const ids = Array.from({ length: 30 }, () => {
    const { name } = anna.put(undefined, NONE, {});
    return name.kind === 'block' ? name.id : '';
  });
  for (const name of ['z', 'a']) anna.put(name, NONE, {});
  const sorted = ids.toSorted((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1));
  t.strictSame(all(anna, { kind: 'block', countMax: 7 }).flat(), sorted);
  t.strictSame(all(anna, { kind: 'all', countMax: 1 }).flat(), ['a', 'z', ...sorted]);
  t.strictSame(all(anna, {}).flat(), ['a', 'z']);
  t.strictSame(all(anna, { kind: 'all', patterns: ['*'] }).flat(), ['a', 'z']);
  const cursor = cursorAfter({ kind: 'block', id: sorted[27]! });
  t.strictSame(all(anna, { kind: 'all', cursor }).flat(), sorted.slice(28));
});

t.test('one pattern of several must fit', async (t) => {
  const { anna } = open(t);
  for (const name of ['log/1', 'log/2', 'cache/a', 'cache/b', 'm', 'z/log'])
    anna.put(name, NONE, {});
  const list = (...patterns: string[]): string =>
    all(anna, { patterns, countMax: 1 }).flat().join(' ');
  t.equal(list('log/*'), 'log/1 log/2');
  t.equal(list('cache/b', 'log/?'), 'cache/b log/1 log/2');
  t.equal(list('*log*'), 'log/1 log/2 z/log');
  t.equal(list('[!cl]*'), 'm z/log');
  t.equal(list('nothing*'), '');
  t.equal(list('zzz'), '');
});

t.test('a pattern that begins with text touches only what begins so', async (t) => {
  const { anna, store } = open(t);
  for (let index = 0; index < 60_000; index += 1) anna.put(`a${index}`, NONE, {});
  anna.put('b/1', NONE, {});
  anna.put('c/1', NONE, {});
  // A walk over all of them would have to stop on the way.
  const page = anna.list({ patterns: ['b/*', 'c/*', 'zz*'] });
  t.equal(page.objects.length, 2);
  t.equal(page.cursor, null);
  t.equal(store.usage().objectCount, 60_002);
});

t.test('a page does a bounded amount of work, and the next goes on', async (t) => {
  const { anna } = open(t);
  for (let index = 0; index < 3000; index += 1) {
    anna.put(`${String(index).padStart(5, '0')}${'a'.repeat(1000)}`, NONE, {});
  }
  anna.put('z', NONE, {});
  const patterns = ['*a*a*a*a*b', 'z'];
  const pages = all(anna, { patterns });
  t.ok(pages.length > 3, `${pages.length} pages`);
  t.strictSame(pages.flat(), ['z']);
});

t.test(
  'names that one may not read do not slow a listing and do not show in a cursor',
  async (t) => {
    const { anna, bert } = open(t);
    for (let index = 0; index < 5000; index += 1)
      anna.put(`p${index}`, NONE, { readers: 'private' });
    anna.put('for bert', NONE, { readers: [BERT] });
    bert.put('z', NONE, {});
    const page = bert.list({ countMax: 1 });
    t.equal(page.cursor, 'kfor bert');
    t.strictSame(all(bert, {}).flat(), ['for bert', 'z']);
    t.equal(all(anna, {}).flat().length, 5002);
  },
);
