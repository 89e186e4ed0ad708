/** The heap of ends against a sorted list. */
import t from 'tap';
import { ExpiryHeap } from '../../objects/expiry-machine.ts';
import { fuzz } from '../helpers/fuzz.ts';

t.test('what is due comes in order, and what was removed does not', async (t) => {
  await fuzz(t, (random) => {
    const heap = new ExpiryHeap();
    const ends = new Map<number, number>();
    let nowMs = 0;
    for (let step = 0; step < 2000; step += 1) {
      const object = random.below(300);
      const kind = random.below(4);
      if (kind < 2 && !ends.has(object)) {
        const endMs = nowMs + random.below(1000);
        heap.add(object, endMs);
        ends.set(object, endMs);
      } else if (kind === 2) {
        heap.remove(object);
        ends.delete(object);
      } else {
        nowMs += random.below(50);
        const due = Array.from(ends).filter(([, endMs]) => endMs <= nowMs);
        const gone: number[] = [];
        for (let next = heap.due(nowMs); next !== undefined; next = heap.due(nowMs)) {
          gone.push(ends.get(next)!);
          ends.delete(next);
          heap.remove(next);
        }
        const expected = due.map(([, endMs]) => endMs).sort((a, b) => a - b);
        if (gone.join() !== expected.join()) throw new Error(`step ${step}: ${gone.join()}`);
      }
      if (heap.count !== ends.size) throw new Error('the count');
    }
  });
});

t.test('an end is reached at its time, not a millisecond before', async (t) => {
  const heap = new ExpiryHeap();
  heap.add(4, 1000);
  t.equal(heap.due(999), undefined);
  t.equal(heap.due(1000), 4);
  t.equal(heap.due(2 ** 41), 4, 'it stays until it is removed');
  heap.remove(4);
  heap.remove(4);
  t.equal(heap.count, 0);
});
