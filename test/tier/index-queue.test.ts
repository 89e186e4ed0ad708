/** Lists threaded through a table, held to arrays; the table may grow under them. */
import fc from 'fast-check';
import t from 'tap';
import { IndexQueue } from '../../tier/index-queue.ts';

const ROWS = 12;

t.test('equals arrays, with several lists in one table that is replaced as it grows', (t) => {
  const step = fc.record({ list: fc.nat(2), push: fc.boolean(), grow: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const rows = { next: new Int32Array(ROWS) };
      const lists = [0, 1, 2].map(() => ({ ours: new IndexQueue(rows), twin: [] as number[] }));
      const free = Array.from({ length: ROWS }, (_, row) => row);
      for (const { list, push, grow } of steps) {
        const { ours, twin } = lists[list] as (typeof lists)[number];
        if (grow && rows.next.length < 1000) {
          const longer = new Int32Array(rows.next.length + 3);
          longer.set(rows.next);
          rows.next.fill(77);
          rows.next = longer;
        }
        if (push) {
          const row = free.shift();
          if (row === undefined) continue;
          ours.push(row);
          twin.push(row);
        } else {
          const row = ours.shift();
          if (row !== (twin.shift() ?? -1)) return false;
          if (row !== -1) free.push(row);
        }
        for (const { ours, twin } of lists) {
          if (ours.length !== twin.length || ours.head !== (twin[0] ?? -1)) return false;
        }
      }
      return true;
    }),
  );
  t.pass('every order');
  t.end();
});

t.test('an empty list gives -1, as often as it is asked', (t) => {
  const list = new IndexQueue({ next: new Int32Array(2) });
  t.same([list.shift(), list.shift(), list.length, list.head], [-1, -1, 0, -1]);
  list.push(1);
  t.same([list.shift(), list.shift(), list.length], [1, -1, 0]);
  t.end();
});
