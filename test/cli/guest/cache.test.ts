import { existsSync, readFileSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { cacheEntry, defaultCacheFolder, pruneCache } from '../../../cli/guest/cache.ts';

t.test('an entry is made once and found again', async (t) => {
  const folder = path.join(t.testdir({}), 'cache');
  let made = 0;
  const make = async (target: string): Promise<void> => {
    made += 1;
    await writeFile(target, 'content');
  };
  const place = await cacheEntry(folder, 'entry', make);
  t.equal(place, path.join(folder, 'entry'));
  t.equal(await cacheEntry(folder, 'entry', make), place);
  t.equal(made, 1);
  t.equal(readFileSync(place, 'utf8'), 'content');
});

t.test('a failure leaves nothing behind, a loser of a race takes the winner’s', async (t) => {
  const folder = t.testdir({});
  const broken = cacheEntry(folder, 'entry', async (target) => {
    await writeFile(target, 'half');
    throw new Error('disk full');
  });
  await t.rejects(broken, { message: 'disk full' });
  t.same(readdirSync(folder), []);
  await cacheEntry(folder, 'entry', async () => {
    await writeFile(path.join(folder, 'entry'), 'winner');
    throw new Error('too late');
  });
  t.equal(readFileSync(path.join(folder, 'entry'), 'utf8'), 'winner');
});

t.test('pruning keeps the newest and removes old partial entries', async (t) => {
  const folder = t.testdir({});
  const hoursAgo = (name: string, hours: number): void => {
    const file = path.join(folder, name);
    writeFileSync(file, '');
    const time = Date.now() / 1000 - hours * 3600;
    utimesSync(file, time, time);
  };
  hoursAgo('root-a', 3);
  hoursAgo('root-b', 2);
  hoursAgo('root-c', 1);
  hoursAgo('kernel-x', 99);
  hoursAgo('root-d.partial-1', 0);
  hoursAgo('root-e.partial-2', 2);
  await pruneCache(folder, 'root-', 2);
  t.same(readdirSync(folder).sort(), ['kernel-x', 'root-b', 'root-c', 'root-d.partial-1']);
});

t.test('the cache follows XDG_CACHE_HOME when it is absolute', async (t) => {
  const before = process.env['XDG_CACHE_HOME'];
  t.teardown(() => {
    if (before === undefined) delete process.env['XDG_CACHE_HOME'];
    else process.env['XDG_CACHE_HOME'] = before;
  });
  process.env['XDG_CACHE_HOME'] = '/x';
  t.equal(defaultCacheFolder(), '/x/memcloud/guest');
  process.env['XDG_CACHE_HOME'] = 'relative';
  t.match(defaultCacheFolder(), /\.cache\/memcloud\/guest$/);
  t.notOk(existsSync('/x'));
});
