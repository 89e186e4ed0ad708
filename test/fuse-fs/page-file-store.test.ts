/** The file store against plain buffers: over a device that ends requests in any order and fails some. */
import t from 'tap';
import { PageFileStore } from '../../fuse-fs/page-file-store.ts';
import { NativeMemory } from '../../common/native-memory.ts';
import { IoStatus } from '../../common/ports.ts';
import { StoreRig } from '../helpers/store-rig.ts';

const PAGE = 4096;

t.test('what is written is read, at any alignment', (t) => {
  for (const [offset, length] of [
    [0, 1],
    [0, PAGE],
    [1, PAGE],
    [4095, 2],
    [PAGE, 3 * PAGE],
    [100, 3 * PAGE],
    [5 * PAGE - 1, 2 * PAGE + 2],
    [300 * PAGE + 17, 900_000],
  ] as const) {
    const rig = new StoreRig({ pages: 1024, seed: offset });
    const data = rig.bytes(length);
    t.equal(rig.write(0, offset, data, 0), length);
    const all = rig.read(0, 0, offset + length);
    t.ok(all.subarray(offset).equals(data), `${offset}+${length}`);
    t.ok(
      all.subarray(0, offset).every((byte) => byte === 0),
      'what lies before is a hole',
    );
    rig.close();
  }
  t.end();
});

t.test('a write of a tail page by the kernel reads nothing', (t) => {
  const rig = new StoreRig({ pages: 64, seed: 1, unpacked: true });
  rig.write(0, 0, rig.bytes(100), 0);
  rig.write(0, 0, rig.bytes(300), 100);
  t.equal(rig.device.requestCounts.read, 0);
  rig.write(0, 10, rig.bytes(10), 300);
  t.equal(rig.device.requestCounts.read, 1, 'a write into the middle does');
  rig.close();
  t.end();
});

t.test('a file written from front to back is read with one request for each megabyte', (t) => {
  const rig = new StoreRig({ pages: 2048, seed: 2 });
  for (let at = 0; at < 1024 * PAGE; at += 16 * PAGE) rig.write(0, at, rig.bytes(16 * PAGE), at);
  const before = rig.device.requestCounts.read;
  rig.read(0, 0, 1024 * PAGE);
  t.equal(rig.device.requestCounts.read - before, 4);
  rig.close();
  t.end();
});

t.test('no room: nothing is written, nothing is taken', (t) => {
  const rig = new StoreRig({ pages: 8, seed: 3 });
  t.equal(rig.write(0, 0, rig.bytes(6 * PAGE), 0), 6 * PAGE);
  t.equal(rig.write(1, 0, rig.bytes(3 * PAGE), 0), -28);
  t.equal(rig.store.blocks(1), 0);
  t.equal(rig.store.room().usedPageCount, 6);
  t.equal(rig.write(1, 0, rig.bytes(2 * PAGE), 0), 2 * PAGE);
  rig.store.remove(0);
  t.equal(
    rig.write(2, 0, rig.bytes(6 * PAGE), 0),
    6 * PAGE,
    'pages of a removed file serve at once',
  );
  rig.close();
  t.end();
});

t.test('the pool has no room: ENOSPC, and the pages are free again', (t) => {
  let full = true;
  const failure = (): 0 | 2 => (full ? IoStatus.NO_SPACE : IoStatus.OK);
  const rig = new StoreRig({ pages: 64, seed: 4, failure });
  t.equal(rig.write(0, 0, rig.bytes(5 * PAGE), 0), -28);
  t.equal(rig.store.room().usedPageCount, 0);
  full = false;
  t.ok(rig.read(0, 0, 5 * PAGE).every((byte) => byte === 0));
  rig.close();
  t.end();
});

t.test('promised pages: they count, read as zeroes, are holes to seek, and cannot fail', (t) => {
  const rig = new StoreRig({ pages: 10, seed: 5 });
  rig.write(7, 0, rig.bytes(8 * PAGE), 0);
  rig.store.remove(7);
  rig.settle();
  t.equal(rig.store.reserve(0, 100, 4 * PAGE), 0);
  t.equal(rig.store.blocks(0), 5 * 8);
  t.equal(rig.write(1, 0, rig.bytes(5 * PAGE), 0), 5 * PAGE);
  t.equal(rig.store.reserve(2, 0, 1), -28);
  t.equal(rig.store.seekData(0, 0, 5 * PAGE), 5 * PAGE, 'as tmpfs says it');
  t.equal(rig.store.seekHole(0, 10, 5 * PAGE), 10);
  t.ok(
    rig.read(0, 0, 5 * PAGE).every((byte) => byte === 0),
    'not what the removed file held',
  );
  t.equal(rig.write(0, PAGE + 5, rig.bytes(10), 5 * PAGE), 10);
  t.equal(rig.store.seekData(0, 0, 5 * PAGE), PAGE);
  t.equal(rig.store.seekHole(0, PAGE, 5 * PAGE), 2 * PAGE);
  const around = rig.read(0, PAGE, PAGE);
  t.ok(around.subarray(0, 5).every((byte) => byte === 0));
  t.ok(around.subarray(15).every((byte) => byte === 0));
  rig.close();
  t.end();
});

t.test('lost pages: EIO, the file is damaged until they are written anew', (t) => {
  const rig = new StoreRig({
    pages: 64,
    seed: 6,
    failure: (operation, page) => (operation === 'read' && page === lost ? IoStatus.LOST : 0),
  });
  let lost = -1;
  rig.write(0, 0, rig.bytes(4 * PAGE), 0);
  lost = 2;
  t.equal(rig.readResult(0, 2 * PAGE, PAGE), -5);
  t.equal(rig.store.isDamaged(0), true);
  t.equal(rig.store.isDamaged(1), false);
  t.equal(rig.readResult(0, 0, 2 * PAGE), 2 * PAGE, 'the rest lives');
  t.equal(rig.write(0, 2 * PAGE + 1, rig.bytes(1), 4 * PAGE), -5, 'a change of a part needs it');
  t.equal(rig.write(0, 2 * PAGE, rig.bytes(PAGE), 4 * PAGE), PAGE);
  t.equal(rig.store.isDamaged(0), false);
  lost = 3;
  t.equal(rig.readResult(0, 3 * PAGE, PAGE), -5);
  rig.store.remove(0);
  t.equal(rig.store.isDamaged(0), false);
  rig.close();
  t.end();
});

t.test('offsets up to 8 TiB', (t) => {
  const rig = new StoreRig({ pages: 64, seed: 7 });
  const end = 2 ** 43;
  const data = rig.bytes(5000);
  t.equal(rig.write(0, end - 5000, data, 0), 5000);
  t.equal(rig.store.blocks(0), 16);
  t.ok(rig.read(0, end - 5000, 5000).equals(data));
  t.equal(rig.store.seekData(0, 0, end), end - 2 * PAGE);
  t.equal(rig.truncate(0, 10), 0);
  t.equal(rig.store.blocks(0), 0);
  rig.close();
  t.end();
});

t.test('a copy keeps holes, and tells how far it came', (t) => {
  const rig = new StoreRig({ pages: 1024, seed: 8 });
  const data = rig.bytes(100 * PAGE);
  rig.write(0, 50 * PAGE, data, 0);
  t.equal(rig.copy(0, 7, 1, 7, 400 * PAGE), 400 * PAGE);
  t.equal(rig.store.blocks(1), 100 * 8);
  t.ok(rig.read(1, 50 * PAGE, 100 * PAGE).equals(data));
  t.equal(rig.copy(0, 50 * PAGE, 2, 3, 100 * PAGE), 100 * PAGE, 'at another alignment');
  t.ok(rig.read(2, 3, 100 * PAGE).equals(data));
  rig.write(3, 0, rig.bytes(650 * PAGE), 0);
  const some = rig.copy(0, 50 * PAGE, 4, 0, 100 * PAGE);
  t.equal(some, 64 * PAGE, 'as far as there is room');
  rig.close();
  t.end();
});

t.test('close ends what is under way, and what comes later', (t) => {
  const rig = new StoreRig({ pages: 64, seed: 9, atOnce: 0 });
  const results: number[] = [];
  for (let index = 0; index < 200; index += 1) {
    rig.begin(
      (tag) => {
        rig.store.write(tag, index % 4, 10, 10, rig.buffer, 0, 0);
      },
      (result) => results.push(result),
    );
  }
  rig.store.close();
  rig.settle();
  t.equal(results.length, 200);
  t.equal(rig.write(0, 0, rig.bytes(1), 0), -5);
  t.equal(rig.store.reserve(0, 0, 1), -5);
  t.end();
});

t.test('a read outside the buffer is our own bug', (t) => {
  const rig = new StoreRig({ pages: 4, seed: 1 });
  const small = new NativeMemory(PAGE);
  t.throws(() => rig.store.read(1, 0, 0, PAGE + 1, small, 0), RangeError);
  t.ok(rig.store instanceof PageFileStore);
  small.free();
  rig.close();
  t.end();
});

const FIRST_SEED = Number(process.env['SEED'] ?? 1);
const SEED_COUNT = process.env['SEED'] === undefined ? Number(process.env['SEEDS'] ?? 24) : 1;

t.test('any calls in any order: reads are what plain buffers say', (t) => {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEED_COUNT; seed += 1) {
    const rig = new StoreRig({ pages: 2048, seed, unpacked: seed % 3 === 0 });
    rig.runModel({ steps: 600, files: 5, changesAtOnce: 4, removes: true });
    rig.close();
  }
  t.pass();
  t.end();
});

t.test('with little room and failures: reads are right or EIO, no page leaks', (t) => {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEED_COUNT; seed += 1) {
    const rig = new StoreRig({
      pages: 100,
      seed,
      unpacked: seed % 3 === 0,
      failureRate: seed % 2 === 0 ? 0.03 : 0,
    });
    rig.runModel({ steps: 600, files: 6, changesAtOnce: 1, removes: true });
    rig.close();
  }
  t.pass();
  t.end();
});
