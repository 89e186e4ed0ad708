/** Arenas are filled, reused and removed. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { ARENA_SIZE_BYTES, SlabPool } from '../../provider/slab-pool.ts';
import { SEALED, allocatedBytes, isZero, pageBuffer, tmpfsBase } from '../helpers/tmpfs.ts';

t.test('64 slabs fill one arena exactly, the next opens another', async (t) => {
  const base = tmpfsBase(t);
  const pool = new SlabPool(base);
  t.teardown(() => pool.close());
  t.equal(ARENA_SIZE_BYTES, 1_077_936_128);
  t.strictSame(pool.files, [], 'no file before the first slab');
  const slabs = Array.from({ length: 64 }, () => pool.take(4096));
  t.strictSame(pool.files, [path.join(base, 'arena-0')]);
  const extra = pool.take(1);
  t.strictSame(pool.files, [path.join(base, 'arena-0'), path.join(base, 'arena-1')]);
  pool.give(slabs[5]!);
  const again = pool.take(4096);
  t.equal(again.offsetBytes, 5 * 16_842_752, 'room that came back is used first');
  pool.give(extra);
  t.equal(pool.take(65_536).arena.path, path.join(base, 'arena-1'), 'the longest slab fits');
  t.equal(pool.residentBytes, 0);
  t.equal(allocatedBytes(path.join(base, 'arena-0')), 0, 'a slab costs no RAM until it is written');
});

t.test('a new slab on used room reads as zeroes, and the pool removes its files', async (t) => {
  const base = tmpfsBase(t);
  const pool = new SlabPool(base);
  const buffer = pageBuffer(t, 64);
  buffer.bytes.fill(0x99);
  const first = pool.take(64);
  first.write(0, 64, buffer.address);
  t.equal(pool.residentBytes, 65 * 4096);
  pool.give(first);
  t.equal(pool.residentBytes, 0);
  const second = pool.take(64);
  t.equal(second.offsetBytes, first.offsetBytes);
  second.write(10, 1, buffer.address);
  second.read(0, 64, buffer.address);
  t.ok(isZero(buffer.bytes.subarray(0, 10 * SEALED)));
  t.ok(isZero(buffer.bytes.subarray(11 * SEALED, 64 * SEALED)));
  pool.give(second);
  pool.close();
  t.strictSame(fs.readdirSync(base), []);
});
