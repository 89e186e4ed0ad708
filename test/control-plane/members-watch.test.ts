/** The members as every control node follows them. */
import t from 'tap';
import { silentLogger } from '../../common/log.ts';
import { MembersWatch } from '../../control-plane/members-watch.ts';
import { TestTime, turns } from '../helpers/control-rig.ts';
import { MemoryMetaStore } from '../helpers/memory-meta-store.ts';

const member = (id: string): string =>
  JSON.stringify({
    ...{ id, pattern: id, nodeId: id, publicKey: '', name: id.slice(0, 1) },
    ...{ roles: ['client'], quotaBytes: null, quotaLeases: null },
  });
const put = (store: MemoryMetaStore, digit: string): Promise<number> =>
  store.put(`/memcloud/v1/member/${digit.repeat(32)}`, member(digit.repeat(32)));

t.test('a list is told when it was read, and on each change', async (t) => {
  const store = new MemoryMetaStore();
  await put(store, 'a');
  const watch = new MembersWatch(store, silentLogger, new TestTime().after);
  const seen: string[] = [];
  watch.onChange((members) => seen.push(members.map(({ name }) => name).join()));
  t.same(seen, [], 'nothing was read yet');
  watch.start();
  await turns();
  await put(store, 'b');
  await store.put(`/memcloud/v1/member/${'a'.repeat(32)}`, 'damaged');
  await store.cas(`/memcloud/v1/member/${'b'.repeat(32)}`, store.revision - 1, undefined);
  t.same(seen, ['a', 'a,b', 'a,b', 'a'], 'a damaged entry changes nothing');
  watch.onChange((members) => seen.push(`late ${members.length}`));
  t.equal(seen.at(-1), 'late 1');
  watch.close();
  await put(store, 'c');
  t.equal(seen.length, 5);
});

t.test('while the store is away nothing is told, then it is read again', async (t) => {
  const store = new MemoryMetaStore();
  await put(store, 'a');
  store.fate = () => 'failed';
  const time = new TestTime();
  const watch = new MembersWatch(store, silentLogger, time.after);
  const seen: number[] = [];
  watch.onChange((members) => seen.push(members.length));
  watch.start();
  await turns();
  time.advance(1000);
  await turns();
  t.same(seen, []);
  store.fate = () => 'done';
  time.advance(1000);
  await turns();
  t.same(seen, [1]);
  watch.close();
});
