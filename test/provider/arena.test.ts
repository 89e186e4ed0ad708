/** The mapped file: private, sparse, reserved without SIGBUS, gone at close. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { copyMemory } from '../../common/libc.ts';
import { Arena } from '../../provider/arena.ts';
import {
  allocatedBytes,
  fileBytes,
  isZero,
  pageBuffer,
  smallTmpfs,
  tmpfsBase,
} from '../helpers/tmpfs.ts';

const MIB = 2 ** 20;

for (const canPopulate of [true, false]) {
  const way = canPopulate ? 'MADV_POPULATE_WRITE' : 'fallocate';

  t.test(`${way}: reserves and gives back exactly what is asked`, async (t) => {
    const file = path.join(tmpfsBase(t), 'arena-0');
    const arena = new Arena(file, 64 * MIB, canPopulate);
    t.teardown(() => arena.close());
    const { mode, size } = fs.statSync(file);
    t.equal(mode & 0o777, 0o600, 'only the owner reads it');
    t.equal(size, 64 * MIB);
    t.equal(allocatedBytes(file), 0, 'an empty arena takes no RAM');
    t.equal(arena.reserve(8192, 5 * 4096), true);
    t.equal(allocatedBytes(file), 5 * 4096);
    const page = pageBuffer(t, 1);
    page.bytes.fill(0xa5);
    copyMemory(arena.address + 8192 + 100, page.address, 300);
    t.ok(fileBytes(file, 8192 + 100, 300).equals(Buffer.alloc(300, 0xa5)), 'one file, one memory');
    arena.punch(8192, 4096);
    t.equal(allocatedBytes(file), 4 * 4096);
    t.ok(isZero(fileBytes(file, 8192, 4096)), 'a punched page reads as zeroes');
  });

  t.test(`${way}: a full tmpfs is an answer, not a SIGBUS`, async (t) => {
    const base = smallTmpfs(t, 4 * MIB);
    if (base === undefined) return t.comment('SKIP: may not mount here');
    const file = path.join(base, 'arena-0');
    const arena = new Arena(file, 64 * MIB, canPopulate);
    t.teardown(() => arena.close());
    t.equal(arena.reserve(0, 3 * MIB), true);
    t.equal(arena.reserve(8 * MIB, 3 * MIB), false);
    arena.punch(8 * MIB, 3 * MIB);
    t.equal(allocatedBytes(file), 3 * MIB, 'nothing of the failed range stays');
    arena.punch(0, 3 * MIB);
    t.equal(arena.reserve(8 * MIB, 3 * MIB), true, 'room that came back is used');
  });
}

t.test('close removes the file; an existing file is refused', async (t) => {
  const file = path.join(tmpfsBase(t), 'arena-0');
  fs.writeFileSync(file, 'somebody else');
  t.throws(() => new Arena(file, MIB), { code: 'EEXIST' });
  t.equal(fs.readFileSync(file, 'utf8'), 'somebody else');
  fs.rmSync(file);
  new Arena(file, MIB).close();
  t.equal(fs.existsSync(file), false);
});
