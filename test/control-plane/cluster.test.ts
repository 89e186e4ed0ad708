/** The name of a control plane. */
import t from 'tap';
import { clusterId } from '../../control-plane/cluster.ts';
import { MemoryMetaStore } from '../helpers/memory-meta-store.ts';

t.test('it is made once, also when several come at once', async (t) => {
  const store = new MemoryMetaStore();
  const names = await Promise.all([1, 2, 3].map(() => clusterId(store)));
  t.match(names[0], /^[0-9a-f]{32}$/);
  t.equal(new Set([...names, await clusterId(store)]).size, 1);
  t.not(await clusterId(new MemoryMetaStore()), names[0], 'random');
});
