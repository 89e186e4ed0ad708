import fc from 'fast-check';
import t from 'tap';
import { NO_SLOT, RequestSlots, SlotQueue } from '../../nbd-server/request-slots.ts';
import { testSeed } from '../helpers/nbd-fixture.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);

t.test('every slot is given once, then none', async (t) => {
  const slots = new RequestSlots(3);
  t.same(new Set([slots.take(), slots.take(), slots.take()]), new Set([0, 1, 2]));
  t.equal(slots.usedCount, 3);
  t.equal(slots.take(), NO_SLOT);
  slots.release(1);
  t.equal(slots.take(), 1);
});

t.test('an empty queue gives none', async (t) => {
  const queue = new SlotQueue(new RequestSlots(1));
  t.equal(queue.empty, true);
  t.equal(queue.shift(), NO_SLOT);
});

t.test('slots and queues keep the order that plain arrays keep', async () => {
  fc.assert(
    fc.property(fc.array(fc.nat(3), { maxLength: 200 }), (steps) => {
      const slots = new RequestSlots(8);
      const queue = new SlotQueue(slots);
      const used = new Set<number>();
      const waiting: number[] = [];
      for (const step of steps) {
        if (step < 2) {
          const slot = slots.take();
          if (slot === NO_SLOT) {
            if (used.size !== 8) return false;
            continue;
          }
          if (used.has(slot)) return false;
          used.add(slot);
          queue.push(slot);
          waiting.push(slot);
        } else {
          const slot = queue.shift();
          if (slot !== (waiting.shift() ?? NO_SLOT)) return false;
          if (slot === NO_SLOT) continue;
          used.delete(slot);
          slots.release(slot);
        }
        if (slots.usedCount !== used.size || queue.empty !== (waiting.length === 0)) return false;
      }
      return true;
    }),
    { seed, numRuns: 500 },
  );
});
