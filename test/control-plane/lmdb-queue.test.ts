import { mock } from 'node:test';
import t from 'tap';
import { LmdbQueue } from '../../control-plane/lmdb-queue.ts';

const STORE_ERROR = { name: 'MemcloudError', code: 'ERR_CONTROL_STORE' };

/** A disk that the test lets go on, batch by batch. */
class Disk {
  readonly batches: number[][] = [];
  readonly told: number[][] = [];
  readonly #gates: { resolve: () => void; reject: (error: Error) => void }[] = [];
  readonly queue = new LmdbQueue<number, number>(
    async (batch) => {
      this.batches.push([...batch]);
      await new Promise<void>((resolve, reject) => this.#gates.push({ resolve, reject }));
      return batch.map((change) => -change);
    },
    (outcomes) => this.told.push([...outcomes]),
  );

  async done(): Promise<void> {
    this.#gates.shift()?.resolve();
    await settled();
  }

  async failed(): Promise<void> {
    this.#gates.shift()?.reject(new Error('no room'));
    await settled();
  }
}

/** All promises that can go on have gone on. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

t.test('what comes while a batch is written goes together in the next', async (t) => {
  const disk = new Disk();
  const first = [disk.queue.add(1), disk.queue.add(2)];
  await settled();
  const second = [3, 4, 5].map((change) => disk.queue.add(change));
  await settled();
  t.same(disk.batches, [[1, 2]]);
  await disk.done();
  t.same(await Promise.all(first), [-1, -2]);
  t.same(disk.batches, [
    [1, 2],
    [3, 4, 5],
  ]);
  await disk.done();
  t.same(await Promise.all(second), [-3, -4, -5]);
  t.same(disk.told, [
    [-1, -2],
    [-3, -4, -5],
  ]);
  const third = disk.queue.add(6);
  await settled();
  await disk.done();
  t.equal(await third, -6, 'and again after a rest');
});

t.test('a batch that fails takes only its own with it', async (t) => {
  const disk = new Disk();
  const first = disk.queue.add(1);
  await settled();
  const second = disk.queue.add(2);
  const refused = t.rejects(first, { message: 'no room' });
  await disk.failed();
  await refused;
  await disk.done();
  t.equal(await second, -2);
  t.same(disk.told, [[-2]]);
});

t.test('a batch has 500 changes at most, the queue 10 000', async (t) => {
  const disk = new Disk();
  const all = Array.from({ length: 10_000 }, (_, index) => disk.queue.add(index));
  await t.rejects(disk.queue.add(0), STORE_ERROR);
  await settled();
  t.equal(disk.batches[0]?.length, 500);
  for (let round = 0; round < 20; round += 1) await disk.done();
  t.equal((await Promise.all(all)).length, 10_000);
  t.equal(disk.batches.length, 20);
});

t.test('a disk that does not answer fails those who wait, once', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => {
    mock.timers.reset();
  });
  const disk = new Disk();
  const first = disk.queue.add(1);
  await settled();
  const second = disk.queue.add(2);
  const both = Promise.all([t.rejects(first, STORE_ERROR), t.rejects(second, STORE_ERROR)]);
  mock.timers.tick(9999);
  await settled();
  mock.timers.tick(1);
  await both;
  await disk.done();
  t.same(disk.told, [[-1]], 'it was made all the same, and watchers see it');
  const third = disk.queue.add(3);
  await settled();
  await disk.done();
  t.equal(await third, -3);
});

t.test('closed, it ends the batch under way and refuses the rest', async (t) => {
  const disk = new Disk();
  const first = disk.queue.add(1);
  await settled();
  const second = disk.queue.add(2);
  const refused = t.rejects(second, STORE_ERROR);
  const closed = disk.queue.close();
  await refused;
  await disk.done();
  await closed;
  t.equal(await first, -1);
  await t.rejects(disk.queue.add(3), STORE_ERROR);
  t.equal(disk.batches.length, 1);
});
