import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { openLmdbStore } from '../../control-plane/lmdb-store.ts';
import { Random } from '../helpers/fuzz.ts';
import { until } from './meta-store-conformance.ts';
import { STORE_ERROR, killUser, storeFolder, storeUser } from '../helpers/lmdb-rig.ts';

t.test('only this user can read it', async (t) => {
  const directory = storeFolder(t);
  const store = await openLmdbStore(directory);
  await store.put('a', '1');
  const mode = (file: string): string => (fs.statSync(file).mode & 0o777).toString(8);
  t.equal(mode(directory), '700');
  const files = fs.readdirSync(directory);
  t.same(files.toSorted(), ['data.mdb', 'in-use', 'lock.mdb']);
  for (const file of files) t.equal(mode(path.join(directory, file)), '600', file);
  t.equal(store.description, `embedded:${directory}`);
  await store.close();
});

t.test('a second opener is refused in one sentence, here and in another process', async (t) => {
  const directory = storeFolder(t);
  const store = await openLmdbStore(directory);
  const busy = {
    code: 'ERR_DAEMON_BUSY',
    message: `the control node with process id ${process.pid} uses the store in ${directory}; stop it or choose another --store`,
  };
  await t.rejects(openLmdbStore(directory), busy);
  const other = storeUser(t, directory, 'hold');
  await once(other, 'close');
  t.same(other.lines, [`ERR_DAEMON_BUSY ${busy.message}`]);
  await store.put('a', '1');
  await store.close();
  const next = await openLmdbStore(directory);
  t.equal((await next.get('a'))?.value, '1');
  await next.close();
});

t.test(
  'the lock of a process that was killed does not block, nor does its lease live',
  async (t) => {
    const directory = storeFolder(t);
    const child = storeUser(t, directory, 'hold');
    await until(() => child.lines.includes('held'));
    await t.rejects(openLmdbStore(directory), { code: 'ERR_DAEMON_BUSY' });
    await killUser(child);
    const store = await openLmdbStore(directory);
    t.equal((await store.get('/free'))?.value, '1');
    t.equal(await store.get('/under-lease'), undefined);
    await store.close();
  },
);

t.test('a damaged store is refused, not guessed at', async (t) => {
  const directory = storeFolder(t);
  const data = path.join(directory, 'data.mdb');
  const store = await openLmdbStore(directory);
  await store.transact(
    [],
    Array.from({ length: 100 }, (_, index) => ({ put: `k${index}`, value: 'x'.repeat(2000) })),
  );
  await store.close();
  const whole = fs.readFileSync(data);
  const cases: [string, Buffer][] = [
    ['bytes of something else', Buffer.alloc(16_384, 'something else ')],
    ['cut off in the middle', whole.subarray(0, whole.length / 2)],
    ['cut off in its first page', whole.subarray(0, 1000)],
    ['its first two pages wiped', Buffer.concat([Buffer.alloc(8192), whole.subarray(8192)])],
  ];
  for (const [name, bytes] of cases) {
    fs.writeFileSync(data, bytes);
    await t.rejects(openLmdbStore(directory), STORE_ERROR, name);
  }
  fs.writeFileSync(data, whole);
  const again = await openLmdbStore(directory);
  t.equal((await again.list('')).entries.length, 100, 'and nothing was changed by the attempt');
  await again.close();
});

t.test('bytes that changed on the disk are found, or were of no use', async (t) => {
  const seed = Number(process.env['SEED'] ?? 1 + Math.floor(Math.random() * 1e9));
  t.comment(`SEED=${seed}`);
  const random = new Random(seed);
  const directory = storeFolder(t);
  const data = path.join(directory, 'data.mdb');
  const store = await openLmdbStore(directory);
  for (let round = 0; round < 8; round += 1) {
    const ops = Array.from({ length: 60 }, (_, index) => ({
      put: `key/${random.below(400)}/${index}`,
      value: 'v'.repeat(random.below(index === 0 ? 9000 : 900)),
    }));
    await store.transact([], ops);
  }
  const { entries } = await store.list('');
  await store.close();
  const whole = fs.readFileSync(data);
  let found = 0;
  const rounds = 150;
  for (let round = 0; round < rounds; round += 1) {
    const bytes = Buffer.from(whole);
    const at = random.below(bytes.length);
    if (random.below(2) === 0) bytes[at]! ^= 1 + random.below(255);
    else random.bytes(1 + random.below(4096)).copy(bytes, at);
    fs.writeFileSync(data, bytes);
    try {
      const damaged = await openLmdbStore(directory);
      const now = await damaged.list('');
      await damaged.close();
      if (JSON.stringify(now.entries) !== JSON.stringify(entries)) {
        t.fail(`round ${round}: other entries, and no error`);
      }
    } catch (error) {
      t.match(error, STORE_ERROR);
      found += 1;
    }
  }
  t.ok(found > rounds / 4, `${found} of ${rounds} were found`);
});

t.test('a directory that cannot be used says so', async (t) => {
  const directory = storeFolder(t);
  fs.mkdirSync(path.dirname(directory), { recursive: true });
  fs.writeFileSync(directory, 'a file');
  await t.rejects(openLmdbStore(directory), STORE_ERROR);
  await t.rejects(openLmdbStore('/proc/memcloud'), STORE_ERROR);
});
