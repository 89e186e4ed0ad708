/** One slab: what is written comes back; what is trimmed is zero, and its RAM is gone. */
import path from 'node:path';
import t, { type Test } from 'tap';
import { Arena } from '../../provider/arena.ts';
import { Slab, slabFileBytes } from '../../provider/slab.ts';
import {
  SEALED,
  allocatedBytes,
  fileBytes,
  isZero,
  pageBuffer,
  smallTmpfs,
  tmpfsBase,
} from '../helpers/tmpfs.ts';

const MIB = 2 ** 20;

function openSlab(t: Test, base: string, pageCount: number): { slab: Slab; file: string } {
  const file = path.join(base, 'arena-0');
  const arena = new Arena(file, 32 * MIB);
  t.teardown(() => arena.close());
  return { slab: new Slab(arena, 12 * 4096, pageCount), file };
}

t.test('a slab of 4096 pages takes 16 MiB + 64 KiB of file', async (t) => {
  t.equal(slabFileBytes(4096), 16_842_752);
  t.equal(slabFileBytes(1), 8192);
});

t.test('pages come back as written, in any runs', async (t) => {
  const { slab } = openSlab(t, tmpfsBase(t), 300);
  const from = pageBuffer(t, 64);
  const to = pageBuffer(t, 300);
  for (let page = 0; page < 300; page += 1) {
    from.bytes.fill(1 + (page % 255), 0, SEALED);
    t.equal(slab.write(page, 1, from.address), true);
  }
  slab.read(0, 300, to.address);
  for (let page = 0; page < 300; page += 1) {
    const got = to.bytes.subarray(page * SEALED, (page + 1) * SEALED);
    if (!got.equals(Buffer.alloc(SEALED, 1 + (page % 255)))) t.fail(`page ${page} differs`);
  }
  t.equal(slab.residentBytes, 302 * 4096);
});

t.test('pages never written read as zeroes and stay unallocated', async (t) => {
  const { slab, file } = openSlab(t, tmpfsBase(t), 4096);
  const buffer = pageBuffer(t, 64);
  buffer.bytes.fill(0xee);
  slab.read(1000, 64, buffer.address);
  t.ok(isZero(buffer.bytes.subarray(0, 64 * SEALED)));
  slab.trim(0, 4096);
  t.equal(allocatedBytes(file), 0);
  buffer.bytes.fill(0x5a);
  slab.write(1010, 2, buffer.address);
  buffer.bytes.fill(0xee);
  slab.read(1000, 64, buffer.address);
  t.ok(isZero(buffer.bytes.subarray(0, 10 * SEALED)), 'before the written pages');
  t.ok(buffer.bytes.subarray(10 * SEALED, 12 * SEALED).equals(Buffer.alloc(2 * SEALED, 0x5a)));
  t.ok(isZero(buffer.bytes.subarray(12 * SEALED, 64 * SEALED)), 'after them');
  t.equal(allocatedBytes(file), 3 * 4096, 'thin: two pages lie on three file pages');
});

t.test('trimmed page by page, all RAM comes back', async (t) => {
  const { slab, file } = openSlab(t, tmpfsBase(t), 512);
  const buffer = pageBuffer(t, 512);
  buffer.bytes.fill(0x77);
  slab.write(0, 512, buffer.address);
  t.equal(allocatedBytes(file), 514 * 4096);
  for (let page = 0; page < 512; page += 2) slab.trim(page, 1);
  const kept = fileBytes(file, 12 * 4096, 514 * 4096);
  t.ok(isZero(kept.subarray(0, SEALED)), 'a trimmed page is zero at once');
  t.ok(
    kept.subarray(SEALED, 2 * SEALED).equals(Buffer.alloc(SEALED, 0x77)),
    'its neighbour is not',
  );
  for (let page = 1; page < 512; page += 2) slab.trim(page, 1);
  t.equal(allocatedBytes(file), 0);
  t.equal(slab.residentBytes, 0);
});

t.test('a 2 MiB trim gives back all but the two shared border pages', async (t) => {
  const { slab, file } = openSlab(t, tmpfsBase(t), 4096);
  const buffer = pageBuffer(t, 1024);
  buffer.bytes.fill(0x77);
  slab.write(0, 1024, buffer.address);
  const before = allocatedBytes(file);
  slab.trim(256 + 5, 512);
  t.equal(before - allocatedBytes(file), 513 * 4096);
  t.equal(allocatedBytes(file), slab.residentBytes);
});

t.test('wipe leaves zeroes and no blocks, seen from outside the mapping', async (t) => {
  const { slab, file } = openSlab(t, tmpfsBase(t), 256);
  const buffer = pageBuffer(t, 256);
  buffer.bytes.fill(0xc3);
  slab.write(0, 256, buffer.address);
  t.notOk(isZero(fileBytes(file, 12 * 4096, 257 * 4096)));
  slab.wipe();
  t.ok(isZero(fileBytes(file, 0, 300 * 4096)));
  t.equal(allocatedBytes(file), 0);
});

t.test('a write without room changes nothing', async (t) => {
  const base = smallTmpfs(t, 4 * MIB);
  if (base === undefined) return t.comment('SKIP: may not mount here');
  const { slab, file } = openSlab(t, base, 4096);
  const buffer = pageBuffer(t, 1024);
  buffer.bytes.fill(0x11);
  t.equal(slab.write(0, 700, buffer.address), true);
  t.equal(slab.write(2000, 500, buffer.address), false);
  t.equal(allocatedBytes(file), 703 * 4096);
  t.equal(slab.residentBytes, 703 * 4096);
  buffer.bytes.fill(0x22);
  t.equal(slab.write(500, 1000, buffer.address), false, 'a run over old and new pages');
  t.equal(allocatedBytes(file), 703 * 4096);
  slab.read(500, 200, buffer.address);
  t.ok(buffer.bytes.subarray(0, 200 * SEALED).equals(Buffer.alloc(200 * SEALED, 0x11)));
  t.equal(slab.write(0, 700, buffer.address), true, 'pages that have RAM can still be written');
});
