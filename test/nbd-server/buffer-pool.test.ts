import fc from 'fast-check';
import t from 'tap';
import { BufferPool, NO_BUFFER, pooledSizeBytes } from '../../nbd-server/buffer-pool.ts';
import { testSeed } from '../helpers/nbd-fixture.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);
const MIB = 2 ** 20;

t.test('a length is rounded up to a power of two, from a page to 32 MiB', async (t) => {
  const cases = [
    [0, 4096],
    [1, 4096],
    [4096, 4096],
    [4097, 8192],
    [131072, 131072],
    [131073, 262144],
    [32 * MIB, 32 * MIB],
  ] as const;
  for (const [length, size] of cases) t.equal(pooledSizeBytes(length), size, `${length}`);
});

t.test('at the bound there is no buffer, except by force', async (t) => {
  const pool = new BufferPool({ usedMaxBytes: 3 * 4096, idleMaxBytes: 0 });
  t.teardown(() => pool.close());
  const first = [1, 2, 3].map(() => pool.acquire(4096, false));
  t.equal(new Set(first).size, 3);
  t.equal(pool.acquire(1, false), NO_BUFFER);
  const forced = pool.acquire(1, true);
  t.not(forced, NO_BUFFER);
  for (const id of [...first, forced]) pool.release(id);
  t.equal(pool.usedBytes, 0);
});

t.test('a length beyond the greatest class is a defect, not a crash', async (t) => {
  const pool = new BufferPool({ usedMaxBytes: 2 ** 40, idleMaxBytes: 0 });
  t.teardown(() => pool.close());
  t.throws(() => pool.acquire(32 * MIB + 1, false), { code: 'ERR_INTERNAL' });
});

t.test(
  'great buffers are unmapped beyond the idle bound, and their numbers used again',
  async (t) => {
    const pool = new BufferPool({ usedMaxBytes: 64 * MIB, idleMaxBytes: MIB });
    t.teardown(() => pool.close());
    const [one, two] = [pool.acquire(MIB, false), pool.acquire(MIB, false)];
    pool.release(one);
    pool.release(two);
    t.ok(pool.view(one), 'the first stays mapped');
    t.throws(() => pool.view(two), { code: 'ERR_INTERNAL' }, 'the second does not');
    t.equal(pool.acquire(MIB, false), one);
    t.equal(pool.acquire(MIB, false), two);
    pool.release(one);
    pool.release(two);
  },
);

t.test('buffers in use never overlap, and keep their contents', async () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(300_000), fc.nat(9)), { maxLength: 60 }), (steps) => {
      const pool = new BufferPool({ usedMaxBytes: 4 * MIB, idleMaxBytes: MIB });
      const held: { id: number; mark: number; length: number }[] = [];
      let mark = 0;
      let sound = true;
      const giveBack = (index: number): void => {
        const [entry] = held.splice(index, 1);
        if (entry === undefined) return;
        const view = pool.view(entry.id);
        const edges = [view[0], view[entry.length], view[view.length - 1]];
        sound &&= edges.every((byte) => byte === entry.mark);
        sound &&= pool.memory(entry.id).bytes[pool.offset(entry.id)] === entry.mark;
        pool.release(entry.id);
      };
      for (const [length, choice] of steps) {
        if (choice < 4) {
          giveBack(choice % Math.max(held.length, 1));
          continue;
        }
        const id = pool.acquire(length, false);
        if (id === NO_BUFFER) continue;
        mark = (mark % 255) + 1;
        pool.view(id).fill(mark);
        held.push({ id, mark, length });
        sound &&= pool.sizeBytes(id) >= length;
      }
      while (held.length > 0) giveBack(0);
      sound &&= pool.usedBytes === 0;
      pool.close();
      return sound;
    }),
    { seed, numRuns: 60 },
  );
});
