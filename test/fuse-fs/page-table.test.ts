/** Where pages of files lie, against plain maps; and what that costs. */
import t from 'tap';
import { PageTable } from '../../fuse-fs/page-table.ts';
import { seededRandom } from '../helpers/sim-world.ts';

t.test('a million files of one page cost 5 bytes each', (t) => {
  const table = new PageTable();
  for (let file = 0; file < 2 ** 20; file += 1) table.set(file, 0, 1, file);
  t.equal(table.sizeBytes, 5 * 2 ** 20);
  t.equal(table.get(777_777, 0), 777_777);
  t.equal(table.pageCount, 2 ** 20);
  t.end();
});

t.test('a file of 16 KiB costs 21 bytes, one of a gigabyte 0.1 % of it', (t) => {
  const small = new PageTable();
  for (let file = 0; file < 1024; file += 1) small.set(file, 0, 4, file * 4);
  t.equal(small.sizeBytes, 1024 * 5 + 65_536, 'a segment is 64 KiB');
  for (let file = 1024; file < 4096; file += 1) small.set(file, 0, 4, file * 4);
  t.equal(small.sizeBytes, 4096 * (5 + 16));
  const big = new PageTable();
  big.set(0, 0, 2 ** 18, 0);
  t.ok(big.sizeBytes < 2 ** 30 / 1000, `${big.sizeBytes}`);
  t.end();
});

t.test('every shape, at its borders', (t) => {
  for (const page of [0, 1, 3, 4, 15, 16, 63, 64, 1023, 1024, 2 ** 20 - 1, 2 ** 20, 2 ** 31 - 1]) {
    const table = new PageTable();
    table.set(5, 0, 1, 9);
    if (page > 0) table.set(5, page, 1, 1_000_000);
    t.equal(table.get(5, 0), 9);
    t.equal(table.get(5, page), page === 0 ? 9 : 1_000_000, `page ${page}`);
    t.equal(table.get(5, page + 1), -1);
    t.equal(table.get(4, page), -1);
    t.equal(table.get(6, page), -1);
    t.equal(table.filePageCount(5), page === 0 ? 1 : 2);
    const holes = page - 1;
    if (holes > 0) {
      let at = 1;
      let runs = 0;
      while (at < page) {
        at += table.run(5, at, page);
        runs += 1;
        if (table.runPage !== -1) t.fail(`a page at ${at}`);
      }
      t.ok(runs <= 2048 + 2 * 1024, `${runs} steps over a hole`);
    }
    if (page > 0) table.clear(5, page, 1);
    table.clear(5, 0, 1);
    t.equal(table.filePageCount(5), 0);
    t.equal(table.pageCount, 0);
    t.equal(table.run(5, 1, Infinity), Infinity, 'an empty file is a hole to its end');
  }
  t.end();
});

t.test('a run ends where pages do not follow each other', (t) => {
  const table = new PageTable();
  table.set(0, 0, 10, 100);
  table.set(0, 10, 10, 200);
  t.equal(table.run(0, 3, 64), 7);
  t.equal(table.runPage, 103);
  t.equal(table.run(0, 10, 15), 5);
  t.equal(table.runPage, 200);
  t.equal(table.run(0, 20, 30), 10);
  t.equal(table.runPage, -1);
  t.end();
});

t.test('any changes: the table is a map', (t) => {
  const seed = Number(process.env['SEED'] ?? 1);
  const random = seededRandom(seed);
  const table = new PageTable();
  const twins = Array.from({ length: 6 }, () => new Map<number, number>());
  let total = 0;
  for (let step = 0; step < 6000; step += 1) {
    const file = Math.floor(random() * 6);
    const twin = twins[file] as Map<number, number>;
    const page = Math.floor(random() ** 4 * (file < 3 ? 70 : 3000));
    let count = 1;
    const most = 1 + Math.floor(random() * (file < 3 ? 8 : 1500));
    const isHole = !twin.has(page);
    while (count < most && twin.has(page + count) !== isHole) count += 1;
    if (isHole) {
      const volumePage = Math.floor(random() * 2 ** 29) - count;
      for (let index = 0; index < count; index += 1) twin.set(page + index, volumePage + index);
      table.set(file, page, count, volumePage);
      total += count;
    } else {
      for (let index = 0; index < count; index += 1) twin.delete(page + index);
      table.clear(file, page, count);
      total -= count;
    }
    const at = Math.floor(random() * 80);
    if (table.get(file, at) !== (twin.get(at) ?? -1)) t.fail(`SEED=${seed}: page ${at}`);
    if (table.filePageCount(file) !== twin.size) t.fail(`SEED=${seed}: count`);
  }
  t.equal(table.pageCount, total);
  for (const [file, twin] of twins.entries()) {
    for (let page = 0; page < 6000;) {
      const count = table.run(file, page, 6000);
      for (let index = 0; index < count; index += 1) {
        const expected = table.runPage === -1 ? -1 : table.runPage + index;
        if ((twin.get(page + index) ?? -1) !== expected) t.fail(`SEED=${seed}: run at ${page}`);
      }
      page += count;
    }
  }
  t.end();
});

t.test('files that come and go leave nothing', (t) => {
  const table = new PageTable();
  const cycle = (): void => {
    for (const [file, pages] of [3, 17, 70, 5000].entries()) table.set(file, 0, pages, 0);
    for (const [file, pages] of [3, 17, 70, 5000].entries()) table.clear(file, 0, pages);
  };
  cycle();
  const before = table.sizeBytes;
  for (let round = 0; round < 2000; round += 1) cycle();
  t.equal(table.sizeBytes, before);
  t.end();
});
