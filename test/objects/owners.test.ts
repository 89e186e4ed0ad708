/** Who has what in a store, and what would be lost with it: every object is counted, wherever it stands. */
import t from 'tap';
import { ANNA, BERT, CARL, openStore } from '../helpers/object-rig.ts';

t.test('each owner has its own sum, and pinned objects are counted among the others', async (t) => {
  const { store, anna, bert } = openStore(t);
  t.same(store.usageByOwner(), []);
  const value = Buffer.alloc(100, 1);
  for (let index = 0; index < 5; index += 1) {
    anna.put(`pinned/${index}`, value, {});
    anna.put(`cache/${index}`, value, { mode: 'cache' });
  }
  bert.put(undefined, value, { mode: 'cache' });
  t.same(
    [store.pinnedCountOf(ANNA), store.pinnedCountOf(BERT), store.pinnedCountOf(CARL)],
    [5, 0, 0],
  );
  t.equal(store.pinnedCount, 5);
  t.same(
    store
      .usageByOwner()
      .map(([owner, { objectCount, valueBytes }]) => [owner, objectCount, valueBytes])
      .sort(),
    [
      [ANNA, 10, 1000],
      [BERT, 1, 100],
    ],
  );
  bert.put('late', value, {});
  t.equal(store.pinnedCountOf(BERT), 1, 'behind a cache object too');
  t.equal(anna.flush().objectCount, 10);
  t.same([store.pinnedCountOf(ANNA), store.pinnedCount], [0, 1]);
  t.same(
    store.usageByOwner().map(([owner]) => owner),
    [BERT],
  );
});
