/**
 * What a disk takes at its provider, and what a flush of objects does to it. Section 4 of the faults of MemCloud
 * in Rust (docs/memcloud-faults.md): there each store of a page makes a block and leaks the one before, no bound
 * is checked, and a flush takes the pages of regions away.
 */
import t from 'tap';
import { patternBytes } from '../helpers/judges.ts';
import { disk, lab, readBack, volumeOf, write } from '../helpers/lab.ts';

const MIB = 2 ** 20;
const PAGE = 4096;

t.test('one page stored 20 000 times takes one page, and none when it is trimmed', async (t) => {
  const pool = await lab(t, 1);
  const nbd = await disk(t, pool, 1);
  const [provider] = pool.providers;
  const usage = () =>
    provider!.use(async (client) => (await client.call('status', {})).provider.usage);
  const page = Buffer.alloc(PAGE);
  const store = async (count: number): Promise<void> => {
    for (let done = 0; done < count; done += 50) {
      const writes = Array.from({ length: 50 }, async (_, index) => {
        page.writeUInt32LE(done + index + 1, 0);
        await nbd.write(5 * PAGE, Buffer.from(page));
      });
      await Promise.all(writes);
      // Each round reaches the provider: without it the ring would keep the last of many.
      await nbd.flush();
    }
  };
  await store(100);
  const warm = await usage();
  t.ok(warm.leaseCount >= 1 && warm.residentBytes > 0);
  await store(20_000);
  const after = await usage();
  t.equal(after.usedBytes, warm.usedBytes);
  t.equal(after.leaseCount, warm.leaseCount);
  t.equal(after.residentBytes, warm.residentBytes, 'not a page more of RAM');
  t.equal((await volumeOf(pool.consumer)).health, 'ok');
  await nbd.trim(5 * PAGE, PAGE);
  await nbd.flush();
  t.ok((await usage()).residentBytes < warm.residentBytes, 'its RAM is back');
  t.ok((await nbd.read(5 * PAGE, PAGE)).equals(Buffer.alloc(PAGE)), 'a page of nothing is zeroes');
});

t.test('nothing beyond the end is read or written, and nothing inside changes', async (t) => {
  const pool = await lab(t, 1);
  const nbd = await disk(t, pool, 1);
  const size = 32 * MIB;
  const last = patternBytes(PAGE, 3);
  await nbd.write(size - PAGE, last);
  await nbd.flush();
  const beyond: [string, () => Promise<unknown>][] = [
    ['a write behind the end', () => nbd.write(size, last)],
    ['a write over the end', () => nbd.write(size - PAGE / 2, last)],
    ['a read behind the end', () => nbd.read(size, PAGE)],
    ['a read over the end', () => nbd.read(size - 1, 2)],
    ['a write far away', () => nbd.write(2 ** 40, last)],
    ['a trim over the end', () => nbd.trim(size - PAGE, 2 * PAGE)],
  ];
  for (const [name, attempt] of beyond) await t.rejects(attempt(), name);
  t.ok((await nbd.read(size - PAGE, PAGE)).equals(last));
});

t.test('a flush of objects leaves disks and other nodes’ objects as they are', async (t) => {
  const pool = await lab(t, 1);
  const nbd = await disk(t, pool, 1);
  const [provider] = pool.providers;
  const bytes = patternBytes(16 * MIB, 7);
  await write(nbd, bytes);
  const before = await provider!.usedBytes();
  const data = Buffer.alloc(1000, 'v');
  await provider!.use((client) => client.call('object.put', { key: 'of the provider', data }));
  const withIts = await provider!.usedBytes();
  await pool.consumer.use(async (client) => {
    for (let index = 0; index < 100; index += 1) {
      await client.call('object.put', { key: `k${index}`, peer: 'alpha', data });
    }
    t.ok((await provider!.usedBytes()) >= withIts + 100_000);
    const rows = await client.call('object.flush', { all: true });
    t.match(
      rows.find(({ holderName }) => holderName === 'alpha'),
      { objectCount: 100, problem: '' },
    );
  });
  t.equal(await provider!.usedBytes(), withIts, 'exactly what the objects took came back');
  await provider!.use(async (client) => {
    t.match(await client.call('object.get', { key: 'of the provider' }), { found: true });
    await client.call('object.flush', {});
  });
  t.equal(await provider!.usedBytes(), before);
  t.same(await readBack(nbd, bytes), { right: 64, wrong: 0, errors: [] });
});
