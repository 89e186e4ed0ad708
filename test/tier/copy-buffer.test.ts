/** The memory of repair: batches that are free once every call that carries them has ended. */
import t from 'tap';
import { COPY_BATCH_COUNT, CopyBuffer } from '../../tier/copy-buffer.ts';

t.test('there are so many batches and no more', (t) => {
  const buffer = new CopyBuffer();
  const taken = Array.from({ length: COPY_BATCH_COUNT }, () => buffer.take());
  t.same(
    taken,
    [0, 1, 2, 3, 4, 5, 6, 7].map((batch) => batch * 64),
  );
  t.equal(buffer.take(), -1);
  t.equal(buffer.usedCount, 8);
  buffer.give(3 * 64);
  t.equal(buffer.take(), 3 * 64);
  t.end();
});

t.test('a batch is held by each call that carries pages of it', (t) => {
  const buffer = new CopyBuffer();
  const first = buffer.take();
  buffer.hold(first + 10);
  buffer.hold(first + 63);
  buffer.give(first);
  buffer.give(first + 10);
  t.equal(buffer.usedCount, 1);
  buffer.give(first + 63);
  t.equal(buffer.usedCount, 0);
  t.end();
});

t.test('memory is taken at the first need and given back', (t) => {
  const buffer = new CopyBuffer();
  buffer.free();
  const { memory } = buffer;
  t.equal(memory.bytes.length, 8 * 64 * 4112 + 4096);
  t.equal(buffer.clearAddress, memory.address + 8 * 64 * 4112);
  t.equal(buffer.memory, memory);
  buffer.free();
  buffer.free();
  t.end();
});
