import { Etcd3 } from 'etcd3';
import t from 'tap';
import { requiresEtcd, startEtcd } from '../helpers/etcd.ts';
import { opened, putAgain, until, Watched } from './meta-store-conformance.ts';

t.test('a watch whose changes are compacted away is lost', requiresEtcd(), async (t) => {
  const { address, members } = await startEtcd(t);
  const store = await opened(t, address);
  const first = await store.put('a', '1');
  for (let index = 0; index < 10; index += 1) await store.put('a', `${index}`);
  const { revision } = await store.list('');
  const raw = new Etcd3({ hosts: members[0]!.host });
  t.teardown(() => {
    raw.close();
  });
  await raw.kv.compact({ revision: String(revision), physical: true });
  const late = new Watched();
  store.watch('', first, late);
  const now = new Watched();
  store.watch('', revision, now);
  await until(() => late.lostCount === 1);
  await store.put('b', '1');
  await until(() => now.changes.length === 1);
  t.same([late.changes.length, late.lostCount, now.lostCount], [0, 1, 0]);
});

t.test('a watch over ten ends of etcd tells each change once', requiresEtcd(), async (t) => {
  const { address, members } = await startEtcd(t);
  const [watcher, writer] = [await opened(t, address), await opened(t, address)];
  const watched = new Watched();
  watcher.watch('/w/', (await watcher.list('/w/')).revision, watched);
  const revisions: number[] = [];
  for (let round = 0; round < 10; round += 1) {
    for (let count = 0; count < 5; count += 1) revisions.push(await writer.put('/w/a', `${round}`));
    await members[0]!.kill();
    await members[0]!.start();
    await putAgain(writer, '/other', '1');
  }
  await until(() => watched.changes.length >= revisions.length);
  t.same(
    watched.changes.map(({ revision }) => revision),
    revisions,
  );
  t.equal(watched.lostCount, 0);
});

t.test('a change of the largest values comes through', requiresEtcd(), async (t) => {
  const { address } = await startEtcd(t);
  const store = await opened(t, address);
  const { revision } = await store.list('');
  // More than gRPC takes by itself, in what a late watch is told at once.
  const value = 'x'.repeat(65_536);
  for (let round = 0; round < 10; round += 1) {
    await store.transact(
      [],
      Array.from({ length: 15 }, (_, index) => ({ put: `${round}/${index}`, value })),
    );
  }
  const watched = new Watched();
  store.watch('', revision, watched);
  await until(() => watched.changes.length === 150);
  t.ok(watched.changes.every((change) => change.value === value));
  t.equal((await store.list('')).entries.length, 150);
});
