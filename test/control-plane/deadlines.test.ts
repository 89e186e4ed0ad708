/** What is due when, held to a naive list. */
import t from 'tap';
import { Deadlines } from '../../control-plane/deadlines.ts';
import { Random } from '../helpers/fuzz.ts';

t.test('an id is due at its time and not before', async (t) => {
  const due = new Deadlines();
  due.set('a', 1000);
  due.set('b', 1001);
  due.set('never', Infinity);
  t.same(due.take(999.9, 10), []);
  t.same(due.take(1000, 10), ['a']);
  due.set('b', 5000);
  t.same(due.take(4999, 10), []);
  t.equal(due.size, 1);
  due.remove('b');
  due.remove('b');
  t.same(due.take(1e9, 10), []);
});

t.test('at most so many at a time, the oldest first, none lost', async (t) => {
  const due = new Deadlines();
  for (let n = 0; n < 100; n += 1) due.set(`n${n}`, 100_000 - n * 500);
  t.same(due.take(1e9, 2), ['n99', 'n98']);
  const rest = [...due.take(1e9, 50), ...due.take(1e9, 50)];
  t.equal(new Set(rest).size, 98);
});

t.test('as a naive list', async (t) => {
  const random = new Random(5);
  const due = new Deadlines();
  const naive = new Map<string, number>();
  let nowMs = 0;
  for (let step = 0; step < 20_000; step += 1) {
    const id = `n${random.below(200)}`;
    const kind = random.below(4);
    if (kind < 2) {
      const dueMs = nowMs + random.below(5000) - 500;
      due.set(id, dueMs);
      naive.set(id, dueMs);
    } else if (kind === 2) {
      due.remove(id);
      naive.delete(id);
    } else {
      nowMs += random.below(400);
      const wanted = [...naive].filter(([, dueMs]) => dueMs <= nowMs).map(([key]) => key);
      for (const key of wanted) naive.delete(key);
      const got = due.take(nowMs, 1000);
      if (got.sort().join() !== wanted.sort().join()) throw new Error(`step ${step}`);
    }
    if (due.size !== naive.size) throw new Error(`step ${step}`);
  }
  t.pass('20 000 steps');
});
