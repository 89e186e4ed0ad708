/** Flush epochs, held to a twin that remembers for each flush which slots it waits for. */
import fc from 'fast-check';
import t from 'tap';
import { FlushEpochs } from '../../tier/flush-epochs.ts';

t.test('a flush of nothing ends at once', (t) => {
  const epochs = new FlushEpochs();
  t.ok(epochs.close() <= epochs.oldest);
  t.ok(epochs.close() <= epochs.oldest, 'again');
  t.end();
});

t.test('a flush waits for what came before it and not for what comes after', (t) => {
  const epochs = new FlushEpochs();
  const before = epochs.current;
  epochs.add();
  const target = epochs.close();
  t.ok(target > epochs.oldest);
  const after = epochs.current;
  epochs.add();
  t.not(before, after);
  t.equal(epochs.remove(before), true, 'the oldest epoch moves');
  t.ok(target <= epochs.oldest);
  t.equal(epochs.remove(after), false, 'nobody closed this one');
  t.end();
});

t.test('a page that is rewritten while pending leaves its flush', (t) => {
  const epochs = new FlushEpochs();
  epochs.add();
  const target = epochs.close();
  // The same slot joins the current epoch and leaves the old one.
  epochs.add();
  t.equal(epochs.remove(0), true);
  t.ok(target <= epochs.oldest);
  const second = epochs.close();
  t.ok(second > epochs.oldest);
  epochs.remove(1);
  t.ok(second <= epochs.oldest);
  t.end();
});

const step = fc.record({
  op: fc.constantFrom('add' as const, 'flush' as const, 'remove' as const, 'rewrite' as const),
  which: fc.nat(),
});

t.test('a flush has ended exactly when every slot from before it is gone or rewritten', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300, size: 'max' }), (steps) => {
      const epochs = new FlushEpochs();
      let serial = 0;
      const slots: { epoch: number; serial: number }[] = [];
      const flushes: { target: number; waitsFor: Set<number> }[] = [];
      const gone = (serial: number): void =>
        flushes.forEach(({ waitsFor }) => waitsFor.delete(serial));
      for (const each of steps) {
        if (each.op === 'add') {
          serial += 1;
          slots.push({ epoch: epochs.current, serial });
          epochs.add();
        } else if (each.op === 'flush') {
          const waitsFor = new Set(slots.map((slot) => slot.serial));
          flushes.push({ target: epochs.close(), waitsFor });
        } else if (slots.length > 0) {
          const index = each.which % slots.length;
          const slot = slots[index] as { epoch: number; serial: number };
          gone(slot.serial);
          if (each.op === 'remove') {
            slots.splice(index, 1);
            epochs.remove(slot.epoch);
          } else if (slot.epoch !== epochs.current) {
            serial += 1;
            slots[index] = { epoch: epochs.current, serial };
            epochs.add();
            epochs.remove(slot.epoch);
          }
        }
        for (const { target, waitsFor } of flushes) {
          if (target <= epochs.oldest !== (waitsFor.size === 0)) {
            throw new Error(
              `target ${target}, oldest ${epochs.oldest}, waits for ${waitsFor.size}`,
            );
          }
        }
      }
    }),
    { numRuns: 300 },
  );
  t.pass('every history');
  t.end();
});
