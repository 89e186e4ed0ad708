import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { openLmdbStore } from '../../control-plane/lmdb-store.ts';
import { smallTmpfs } from '../helpers/tmpfs.ts';
import { metaStoreConformance, until, Watched } from './meta-store-conformance.ts';
import { STORE_ERROR, killUser, storeFolder, storeUser } from '../helpers/lmdb-rig.ts';

t.test('the suite of all stores, on lmdb', async (t) => {
  const directory = storeFolder(t);
  metaStoreConformance(t, { open: () => openLmdbStore(directory) });
});

t.test('what was there is there when it is opened again, and revisions go on', async (t) => {
  const directory = storeFolder(t);
  const first = await openLmdbStore(directory);
  await first.put('a', '1');
  const gone = await first.cas('a', 1, undefined);
  const last = await first.put('b', '1');
  const lease = await first.grant(60_000);
  const leased = await first.put('c', '1', lease);
  await first.close();
  const second = await openLmdbStore(directory);
  const { entries, revision } = await second.list('');
  t.same(entries, [{ key: 'b', value: '1', revision: last }], 'entries under leases are gone');
  t.ok(revision > leased && leased > last && last > gone!);
  t.ok((await second.put('d', '1')) > revision);
  t.equal(await second.keepalive(lease), false);
  await second.close();
});

t.test('kill -9 in the middle of transactions leaves each whole or absent', async (t) => {
  const rounds = Number(process.env['KILL_ROUNDS'] ?? 8);
  const directory = storeFolder(t);
  let told = 0;
  for (let round = 0; round < rounds; round += 1) {
    const child = storeUser(t, directory, 'write');
    const wanted = 20 + ((round * 37) % 150);
    await until(() => child.lines.length > wanted);
    await killUser(child);
    const store = await openLmdbStore(directory);
    const found = new Map<string, Map<string, string[]>>();
    for (const { key, value } of (await store.list('/t/')).entries) {
      const [, , slot = '', name = ''] = key.split('/');
      if (!found.has(slot)) found.set(slot, new Map());
      const numbers = found.get(slot)!;
      numbers.set(value, [...(numbers.get(value) ?? []), name]);
    }
    const last = new Map<string, number>();
    for (const line of child.lines.slice(1)) {
      const slot = String(Number(line) % 8);
      last.set(slot, Math.max(last.get(slot) ?? 0, Number(line)));
    }
    told += child.lines.length - 1;
    for (const [slot, numbers] of found) {
      const [only] = [...numbers];
      if (numbers.size !== 1 || only?.[1].length !== 5) {
        t.fail(`slot ${slot} has a part of a transaction`, { found: [...numbers.values()] });
      }
      const number = Number(only?.[0].split(' ')[0]);
      if (number < (last.get(slot) ?? 0))
        t.fail(`transaction ${last.get(slot)} was told and is gone`);
    }
    await store.close();
  }
  t.ok(told > rounds * 20, `${told} transactions, ${rounds} kills`);
});

t.test('a watch that begins behind the history is lost', async (t) => {
  const directory = storeFolder(t);
  const store = await openLmdbStore(directory, { historyCountMax: 10 });
  const { revision } = await store.list('');
  const live = new Watched();
  store.watch('', revision, live);
  for (let index = 0; index < 15; index += 1) await store.put(`k${index}`, '1');
  const late = new Watched();
  store.watch('', revision, late);
  const recent = new Watched();
  store.watch('', revision + 10, recent);
  await until(() => late.lostCount === 1 && recent.changes.length === 5);
  t.equal(live.changes.length, 15, 'who was there from the start misses nothing');
  t.equal(live.lostCount, 0);
  await store.put('more', '1');
  t.same([late.changes.length, recent.changes.length], [0, 6]);
  await store.close();
  const again = await openLmdbStore(directory);
  const before = new Watched();
  again.watch('', revision + 15, before);
  await until(() => before.lostCount === 1);
  const now = new Watched();
  again.watch('', (await again.list('')).revision, now);
  await again.put('a', '1');
  await until(() => now.changes.length === 1);
  await again.close();
});

t.test('a full disk refuses changes, keeps what it has, and recovers', async (t) => {
  const base = smallTmpfs(t, 2 * 1024 * 1024);
  if (base === undefined) {
    t.comment('skipped: needs to mount a tmpfs');
    return;
  }
  const reserve = path.join(base, 'reserve');
  fs.writeFileSync(reserve, Buffer.alloc(400_000));
  const store = await openLmdbStore(path.join(base, 'store'));
  const lease = await store.grant(60_000);
  await store.put('first', '1');
  await store.put('leased', '1', lease);
  let written = 0;
  const fill = async (): Promise<void> => {
    for (;;) {
      await store.put(`filler${String(written).padStart(4, '0')}`, 'x'.repeat(20_000));
      written += 1;
    }
  };
  await t.rejects(fill(), STORE_ERROR);
  t.ok(written > 5, `${written} fillers`);
  const { entries } = await store.list('filler');
  t.equal(entries.length, written, 'what was told is there, what was refused is not');
  t.equal((await store.get('first'))?.value, '1');
  const both = await Promise.allSettled([
    store.put('too-long', 'x'.repeat(60_000)),
    store.put('also', 'x'.repeat(60_000)),
  ]);
  t.same(
    both.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  fs.rmSync(reserve);
  await store.put('after', 'x'.repeat(60_000));
  await store.revoke(lease);
  await store.close();
  const again = await openLmdbStore(path.join(base, 'store'));
  t.equal((await again.list('filler')).entries.length, written);
  t.equal((await again.get('after'))?.value.length, 60_000);
  t.same([await again.get('also'), await again.get('leased')], [undefined, undefined]);
  await again.close();
});
