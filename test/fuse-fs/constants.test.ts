import fs from 'node:fs';
import t from 'tap';
import {
  FuseInit,
  FuseInit2,
  FuseInSize,
  FuseNotify,
  FuseOpcode,
  FuseOpenReply,
  FuseOutSize,
  FuseWrite,
  opcodeName,
} from '../../fuse-fs/constants.ts';

const HEADER = '/usr/include/linux/fuse.h';

t.test('opcodes have the numbers of enum fuse_opcode', async (t) => {
  const { FUSE_LOOKUP, FUSE_FORGET, FUSE_LINK, FUSE_OPEN, FUSE_READ, FUSE_WRITE } = FuseOpcode;
  t.strictSame(
    [FUSE_LOOKUP, FUSE_FORGET, FUSE_LINK, FUSE_OPEN, FUSE_READ, FUSE_WRITE],
    [1, 2, 13, 14, 15, 16],
  );
  t.equal(FuseOpcode.FUSE_INIT, 26);
  t.equal(FuseOpcode.FUSE_CREATE, 35);
  t.equal(FuseOpcode.FUSE_BATCH_FORGET, 42);
  t.equal(FuseOpcode.FUSE_TMPFILE, 51);
  t.equal(FuseOpcode.FUSE_STATX, 52);
  t.equal(FuseOpcode.FUSE_COPY_FILE_RANGE_64, 53);
  const numbers = Object.values(FuseOpcode) as number[];
  t.equal(new Set(numbers).size, numbers.length, 'no number twice');
  t.strictSame(
    numbers,
    [...numbers].sort((a, b) => a - b),
    'in order',
  );
  t.equal(Math.max(...numbers) - numbers.length, 2, 'only 7 and 19 are missing');
});

t.test('an opcode has a name for logs', async (t) => {
  t.equal(opcodeName(15), 'FUSE_READ');
  t.equal(opcodeName(7), 'opcode 7');
  t.equal(opcodeName(4711), 'opcode 4711');
});

t.test('flags of INIT are one bit each, in order, without a gap', async (t) => {
  t.strictSame(
    Object.values(FuseInit),
    Array.from({ length: 32 }, (_, bit) => 2 ** bit),
  );
  t.strictSame(
    Object.values(FuseInit2),
    Array.from({ length: 11 }, (_, bit) => 2 ** bit),
  );
  t.equal(FuseInit.FUSE_WRITEBACK_CACHE, 65536);
  t.equal(FuseInit.FUSE_INIT_EXT, 2 ** 30);
  t.equal(FuseInit2.FUSE_DIRECT_IO_ALLOW_MMAP, 2 ** (36 - 32));
});

t.test('other flags and notify codes', async (t) => {
  t.strictSame(Object.values(FuseOpenReply), [1, 2, 4, 8, 16, 32, 64, 128]);
  t.strictSame(Object.values(FuseWrite), [1, 2, 4]);
  t.strictSame(Object.values(FuseNotify), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

t.test('structures that hold others are as long as their parts', async (t) => {
  t.equal(FuseOutSize.fuse_attr, 6 * 8 + 10 * 4);
  t.equal(FuseOutSize.fuse_attr_out, 16 + 88);
  t.equal(FuseOutSize.fuse_entry_out, 40 + 88);
  t.equal(FuseOutSize.fuse_direntplus, 128 + 24);
  t.equal(FuseOutSize.fuse_init_out, 64);
  t.equal(FuseInSize.fuse_setattr_in, 7 * 8 + 8 * 4);
  t.equal(FuseInSize.fuse_write_in, 40);
  t.equal(FuseInSize.fuse_copy_file_range_in, 7 * 8);
});

const skip = fs.existsSync(HEADER) ? false : `${HEADER} is not installed`;

t.test("the numbers are those of this system's header", { skip }, async (t) => {
  const text = fs.readFileSync(HEADER, 'utf8');
  const ours: Record<string, number> = {
    ...FuseOpcode,
    ...FuseNotify,
    ...FuseOpenReply,
    ...FuseWrite,
  };
  let compared = 0;
  for (const [, key = '', number] of text.matchAll(/^\s*(FUSE_\w+)\s*=\s*(\d+),/gm)) {
    if (ours[key] === undefined) continue;
    t.equal(ours[key], Number(number), key);
    compared += 1;
  }
  for (const [, key = '', shift] of text.matchAll(/^#define (F\w+)\s+\(1(?:ULL)? << (\d+)\)/gm)) {
    const low: Record<string, number> = FuseInit;
    const high: Record<string, number> = FuseInit2;
    const expected = 2 ** (Number(shift) % 32);
    const value = ours[key] ?? low[key] ?? high[key];
    if (value === undefined) continue;
    t.equal(value, expected, key);
    compared += 1;
  }
  t.ok(compared > 80, `${compared} numbers compared`);
});
