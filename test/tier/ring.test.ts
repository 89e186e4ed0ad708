/** The slots of the ring, held to a naive twin: none is given twice, none is lost. */
import fc from 'fast-check';
import t from 'tap';
import { Ring, SlotState } from '../../tier/ring.ts';

const memory = { bytes: Buffer.alloc(0), address: 1_000_000 };

t.test('slots are given in order, with neighbours in memory', (t) => {
  const ring = new Ring(8, memory);
  t.same(
    [0, 1, 2].map((page) => ring.take(page, 0)),
    [0, 1, 2],
  );
  t.equal(ring.address(0), 1_000_000);
  t.equal(ring.address(3), 1_000_000 + 3 * 4112);
  t.equal(ring.freeCount, 5);
  t.end();
});

t.test('a full ring gives none, and changes nothing by it', (t) => {
  const ring = new Ring(2, memory);
  ring.take(10, 1);
  ring.take(11, 2);
  t.equal(ring.take(12, 3), -1);
  t.equal(ring.freeCount, 0);
  t.same([...ring.page], [10, 11]);
  t.same([...ring.epoch], [1, 2]);
  ring.release(0);
  t.equal(ring.take(12, 3), 0);
  t.end();
});

t.test('a slot that is taken again remembers nothing', (t) => {
  const ring = new Ring(1, memory);
  const slot = ring.take(7, 5);
  ring.acksLeft[slot] = 3;
  ring.next[slot] = 9;
  ring.setState(slot, SlotState.STALE);
  ring.release(slot);
  t.equal(ring.state(slot), SlotState.FREE);
  t.equal(ring.take(4_294_967_294, 2 ** 40), slot);
  t.equal(ring.state(slot), SlotState.QUEUED);
  t.equal(ring.page[slot], 4_294_967_294);
  t.equal(ring.epoch[slot], 2 ** 40);
  t.equal(ring.acksLeft[slot], 0);
  t.equal(ring.next[slot], -1);
  t.end();
});

t.test('equals a list of free slots under any order of taking and giving back', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9 }),
      fc.array(fc.oneof(fc.constant(-1), fc.nat(20)), { maxLength: 200 }),
      (slotCount, steps) => {
        const ring = new Ring(slotCount, memory);
        const free = Array.from({ length: slotCount }, (_, slot) => slot);
        const used: number[] = [];
        for (const step of steps) {
          if (step === -1) {
            const slot = ring.take(1, 0);
            if (slot !== (free.shift() ?? -1)) return false;
            if (slot !== -1) used.push(slot);
          } else if (used.length > 0) {
            const [slot] = used.splice(step % used.length, 1) as [number];
            ring.release(slot);
            free.push(slot);
          }
          if (ring.freeCount !== free.length) return false;
        }
        return true;
      },
    ),
  );
  t.pass('every order');
  t.end();
});
