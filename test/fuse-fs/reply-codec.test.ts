import t from 'tap';
import type { Attributes } from '../../fuse-fs/operations.ts';
import {
  encodeAttrOut,
  encodeEmptyEntryOut,
  encodeEntryOut,
  encodeInitOut,
  encodeNegativeEntryOut,
  encodeOpenOut,
  encodeOutHeader,
  encodeSizeOut,
  encodeStatfsOut,
  encodeU64,
} from '../../fuse-fs/reply-codec.ts';
import { u32, u64 } from '../helpers/fuse-requests.ts';

const ATTRIBUTES: Attributes = {
  nodeid: 2 ** 33 + 1,
  mode: 0o100644,
  linkCount: 3,
  uid: 4,
  gid: 5,
  rdev: 6,
  size: 2 ** 53 - 1,
  blocks: 7,
  accessSeconds: -1,
  accessNanoseconds: 999_999_999,
  modifySeconds: 2 ** 35,
  modifyNanoseconds: 8,
  changeSeconds: -(2 ** 33) - 1,
  changeNanoseconds: 9,
};

/** `struct fuse_attr` of it, by hand. */
const ATTR = Buffer.concat([
  u64(2n ** 33n + 1n, 2n ** 53n - 1n, 7, -1, 2n ** 35n, -(2n ** 33n) - 1n),
  u32(999_999_999, 8, 9, 0o100644, 3, 4, 5, 6, 4096, 0),
]);

/** What an encoder writes into words that were not zero, and that it writes nothing else. */
function bytesOf(length: number, encode: (words: Uint32Array, at: number) => void): Buffer {
  const words = new Uint32Array(length / 4 + 4).fill(0xffff_ffff);
  encode(words, 2);
  const bytes = Buffer.from(words.buffer);
  const guards = Buffer.concat([bytes.subarray(0, 8), bytes.subarray(8 + length)]);
  if (!guards.equals(Buffer.alloc(16, 0xff))) throw new Error('it wrote elsewhere');
  return bytes.subarray(8, 8 + length);
}

t.test('numbers of 64 bits, also negative ones', async (t) => {
  for (const value of [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, -1, -(2 ** 32), -(2 ** 40) - 3]) {
    t.ok(bytesOf(8, (words, at) => encodeU64(words, at, value)).equals(u64(value)), `${value}`);
  }
});

t.test('the header of a reply', async (t) => {
  const bytes = bytesOf(16, (words, at) =>
    encodeOutHeader(words, at, 144, -2, 0xdeadbeef, 0x80000000),
  );
  t.ok(bytes.equals(Buffer.concat([u32(144, -2), u64(0x80000000_deadbeefn)])));
});

t.test('attributes and entries are valid for a day', async (t) => {
  const attr = bytesOf(104, (words, at) => encodeAttrOut(words, at, ATTRIBUTES));
  t.ok(attr.equals(Buffer.concat([u64(86400), u32(0, 0), ATTR])));
  const entry = bytesOf(128, (words, at) => encodeEntryOut(words, at, ATTRIBUTES, 17));
  const head = Buffer.concat([u64(2n ** 33n + 1n, 17, 86400, 86400), u32(0, 0)]);
  t.ok(entry.equals(Buffer.concat([head, ATTR])));
});

t.test('a name that is not there is remembered for a day; `.` says nothing', async (t) => {
  const negative = bytesOf(128, encodeNegativeEntryOut);
  t.ok(negative.equals(Buffer.concat([u64(0, 0, 86400, 0), Buffer.alloc(96)])));
  t.ok(bytesOf(128, encodeEmptyEntryOut).equals(Buffer.alloc(128)));
});

t.test('small replies', async (t) => {
  const open = bytesOf(16, (words, at) => encodeOpenOut(words, at, 2 ** 40, 10));
  t.ok(open.equals(Buffer.concat([u64(2n ** 40n), u32(10, 0)])));
  t.ok(bytesOf(8, (words, at) => encodeSizeOut(words, at, 77)).equals(u32(77, 0)));
  const room = { blockCount: 100, freeBlockCount: 60, inodeCount: 50, freeInodeCount: 40 };
  const statfs = bytesOf(80, (words, at) => encodeStatfsOut(words, at, room));
  t.ok(
    statfs.equals(
      Buffer.concat([u64(100, 60, 60, 50, 40), u32(4096, 255, 4096, 0), Buffer.alloc(24)]),
    ),
  );
});

t.test('init', async (t) => {
  const init = {
    major: 7,
    minor: 31,
    maxReadahead: 131072,
    flags: 0xf000_0001,
    flags2: 16,
    maxBackground: 64,
    congestionThreshold: 48,
    maxWrite: 2 ** 20,
    timeGranularity: 1,
    maxPages: 256,
  };
  const bytes = bytesOf(64, (words, at) => encodeInitOut(words, at, init));
  const limits = Buffer.alloc(4);
  limits.writeUInt16LE(64, 0);
  limits.writeUInt16LE(48, 2);
  const expected = [u32(7, 31, 131072, 0xf000_0001), limits, u32(2 ** 20, 1, 256, 16)];
  t.ok(bytes.equals(Buffer.concat([...expected, Buffer.alloc(28)])));
});
