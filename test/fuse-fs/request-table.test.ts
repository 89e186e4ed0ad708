import t from 'tap';
import { FuseRequest } from '../../fuse-fs/codec.ts';
import { RequestTable, SlotState } from '../../fuse-fs/request-table.ts';

const COUNT = 128;

t.test('it holds 128 requests, and finds each by tag and by unique', async (t) => {
  const table = new RequestTable();
  const request = new FuseRequest();
  const tags = new Map<number, number>();
  for (let index = 0; index < COUNT; index += 1) {
    t.ok(table.hasRoom);
    request.uniqueLow = index;
    request.uniqueHigh = index * 3;
    const slot = table.take(request);
    tags.set(table.tag(slot), index);
  }
  t.notOk(table.hasRoom);
  t.equal(table.busyCount, COUNT);
  t.equal(tags.size, COUNT, 'every tag another');
  for (const [tag, index] of tags) {
    const slot = table.slot(tag);
    t.equal(table.uniqueLow[slot], index);
    t.equal(table.find(index, index * 3), slot);
  }
  t.equal(table.find(5, 4), -1);
  for (const tag of tags.keys()) table.give(table.slot(tag));
  t.equal(table.busyCount, 0);
});

t.test('a tag is dead once its slot was given back, also when it is taken again', async (t) => {
  const table = new RequestTable();
  const request = new FuseRequest();
  const first = table.take(request);
  const tag = table.tag(first);
  table.give(first);
  t.equal(table.slot(tag), -1);
  t.equal(table.take(request), first, 'the warm one');
  t.equal(table.slot(tag), -1);
  t.equal(table.slot(table.tag(first)), first);
  t.equal(table.slot(2 ** 30), -1);
});

t.test('tags stay small integers after 2^23 uses of a slot', async (t) => {
  const table = new RequestTable();
  const request = new FuseRequest();
  let greatest = 0;
  for (let use = 0; use < 2 ** 23 + 10; use += 1) {
    const slot = table.take(request);
    greatest = Math.max(greatest, table.tag(slot));
    table.give(slot);
  }
  t.ok(greatest < 2 ** 30 && greatest > 2 ** 29, `${greatest}`);
  t.equal(table.busyCount, 0);
});

t.test('a request that is answered already is not found by its unique', async (t) => {
  const table = new RequestTable();
  const request = new FuseRequest();
  request.uniqueLow = 8;
  const slot = table.take(request);
  table.state[slot] = SlotState.ANSWERED;
  t.equal(table.find(8, 0), -1);
  t.equal(table.slot(table.tag(slot)), slot, 'but its end is');
});
