import t from 'tap';
import { FuseRequest } from '../../fuse-fs/codec.ts';
import { TransferBuffer } from '../../fuse-fs/transfer-buffer.ts';
import { AT, name, request, u32, u64, type Header } from '../helpers/fuse-requests.ts';

const buffer = new TransferBuffer();
t.teardown(() => buffer.free());
const reader = new FuseRequest();
const MAX = Number.MAX_SAFE_INTEGER;

function begin(bytes: Buffer): number {
  // What lay there before must not matter.
  buffer.bytes.fill(0xff, AT, AT + 1024);
  bytes.copy(buffer.bytes, AT);
  return reader.begin(buffer, AT, bytes.length);
}

function decode(with_: (r: FuseRequest) => number, body: Buffer[], header: Header = {}): number {
  const result = begin(request(1, header, ...body));
  return result === 0 ? with_(reader) : result;
}

t.test('the header', async (t) => {
  const header = { unique: 0x1122334455667788n, nodeid: 99, uid: 5, gid: 6, pid: 7 };
  t.equal(begin(request(3, header)), 0);
  t.ok(reader.answerable);
  t.equal(reader.opcode, 3);
  t.equal(reader.uniqueLow, 0x55667788);
  t.equal(reader.uniqueHigh, 0x11223344);
  t.equal(reader.nodeid, 99);
  t.strictSame(reader.caller, { uid: 5, gid: 6, pid: 7 });
});

t.test('a header that is cut, lies about its length or names an impossible node', async (t) => {
  for (const length of [0, 1, 39]) {
    t.equal(begin(request(3).subarray(0, length)), -22);
    t.notOk(reader.answerable, `${length} bytes cannot be answered`);
  }
  for (const length of [0, 39, 41, 2 ** 32 - 1]) {
    t.equal(begin(request(3, { length, unique: 9 })), -22);
    t.ok(reader.answerable);
    t.equal(reader.uniqueLow, 9);
  }
  t.equal(begin(request(3, { nodeid: 2n ** 53n - 1n })), 0);
  t.equal(begin(request(3, { nodeid: 2n ** 53n })), -116, 'ESTALE');
});

t.test('extensions behind the body are left out', async (t) => {
  t.equal(begin(request(1, { extensions: 1 }, name('f'), Buffer.alloc(8))), 0);
  t.equal(reader.decodeName(), 0);
  t.equal(reader.name, 'f');
  t.equal(begin(request(1, { extensions: 2 }, Buffer.alloc(8))), -22, 'longer than all');
});

t.test('names', async (t) => {
  const nameOf = (...body: Buffer[]): number | string => {
    const result = decode((r) => r.decodeName(), body);
    return result === 0 ? reader.name : result;
  };
  t.equal(nameOf(name('a')), 'a');
  t.equal(nameOf(name('\xff\x80\x01 b')), '\xff\x80\x01 b', 'bytes, whatever they mean');
  t.equal(nameOf(name('n'.repeat(255))), 'n'.repeat(255));
  t.equal(nameOf(name('n'.repeat(256))), -36, 'ENAMETOOLONG');
  t.equal(nameOf(name('n'.repeat(1024))), -36);
  t.equal(nameOf(name('...')), '...');
  for (const bad of ['', '.', '..', 'a/b', '/']) t.equal(nameOf(name(bad)), -22, `«${bad}»`);
  t.equal(nameOf(Buffer.from('abc')), -22, 'no NUL');
  t.equal(nameOf(name('a'), name('b')), -22, 'a NUL inside');
  t.equal(nameOf(), -22, 'nothing');
});

t.test('two names: rename', async (t) => {
  const old = decode((r) => r.decodeRename(), [u64(5), name('old'), name('new')]);
  t.strictSame(
    [old, reader.otherNodeid, reader.name, reader.text, reader.flags],
    [0, 5, 'old', 'new', 0],
  );
  const two = decode((r) => r.decodeRename2(), [u64(6), u32(2, 0), name('x'), name('y')]);
  t.strictSame(
    [two, reader.otherNodeid, reader.name, reader.text, reader.flags],
    [0, 6, 'x', 'y', 2],
  );
  t.equal(
    decode((r) => r.decodeRename(), [u64(5), name('old')]),
    -22,
  );
  t.equal(
    decode((r) => r.decodeRename(), [u64(5), name('a'), name('b'), name('c')]),
    -22,
  );
  t.equal(
    decode((r) => r.decodeRename(), [u64(5), name('a'), name('b'.repeat(256))]),
    -36,
  );
  t.equal(
    decode((r) => r.decodeRename(), [u64(2n ** 60n), name('a'), name('b')]),
    -116,
  );
});

t.test('symlink: the target is free, but not endless', async (t) => {
  t.equal(
    decode((r) => r.decodeSymlink(), [name('l'), name('../a/./b')]),
    0,
  );
  t.strictSame([reader.name, reader.text], ['l', '../a/./b']);
  t.equal(
    decode((r) => r.decodeSymlink(), [name('l'), name('t'.repeat(4095))]),
    0,
  );
  t.equal(
    decode((r) => r.decodeSymlink(), [name('l'), name('t'.repeat(4096))]),
    -36,
  );
  t.equal(
    decode((r) => r.decodeSymlink(), [name('l'), name('')]),
    -2,
  );
  t.equal(
    decode((r) => r.decodeSymlink(), [name('l'), Buffer.from('t')]),
    -22,
  );
  t.equal(
    decode((r) => r.decodeSymlink(), [name('l'), name('a\0b')]),
    -22,
  );
  t.equal(
    decode((r) => r.decodeSymlink(), [name('l')]),
    -22,
  );
});

t.test('setattr', async (t) => {
  const body = [
    u32(0x7ff, 0),
    u64(1, 2n ** 53n - 1n, 3, -1, 2n ** 40n, 7),
    u32(11, 999_999_999, 13, 0o4755, 0, 1000, 2000, 0),
  ];
  t.equal(
    decode((r) => r.decodeSetAttributes(), body),
    0,
  );
  t.strictSame(reader.change, {
    valid: 0x7ff,
    mode: 0o4755,
    uid: 1000,
    gid: 2000,
    size: 2 ** 53 - 1,
    accessSeconds: -1,
    accessNanoseconds: 11,
    modifySeconds: 2 ** 40,
    modifyNanoseconds: 999_999_999,
    changeSeconds: 7,
    changeNanoseconds: 13,
  });
  const size = (value: bigint): Buffer[] => [
    u32(8, 0),
    u64(0, value, 0, 0, 0, 0),
    Buffer.alloc(32),
  ];
  t.equal(
    decode((r) => r.decodeSetAttributes(), size(2n ** 53n)),
    -27,
    'EFBIG',
  );
  t.equal(
    decode((r) => r.decodeSetAttributes(), size(2n ** 63n - 1n)),
    -27,
  );
  const late = [u32(0, 0), u64(0, 0, 0, 0, 0, 0), u32(10 ** 9, 0, 0, 0, 0, 0, 0, 0)];
  t.equal(
    decode((r) => r.decodeSetAttributes(), late),
    -22,
    'a second has 10^9 nanoseconds',
  );
  t.equal(
    decode((r) => r.decodeSetAttributes(), [Buffer.alloc(87)]),
    -22,
  );
  t.equal(
    decode((r) => r.decodeSetAttributes(), [Buffer.alloc(89)]),
    -22,
  );
});

t.test('making things', async (t) => {
  const mknod = [u32(0o60644, 0x801, 0o22, 0), name('dev')];
  t.equal(
    decode((r) => r.decodeMakeNode(), mknod),
    0,
  );
  t.strictSame(
    [reader.mode, reader.rdev, reader.umask, reader.name],
    [0o60644, 0x801, 0o22, 'dev'],
  );
  t.equal(
    decode((r) => r.decodeMakeDirectory(), [u32(0o755, 0o77), name('d')]),
    0,
  );
  t.strictSame([reader.mode, reader.umask, reader.name], [0o755, 0o77, 'd']);
  t.equal(
    decode((r) => r.decodeCreate(), [u32(0o102, 0o100644, 0o27, 1), name('f')]),
    0,
  );
  t.strictSame(
    [reader.flags, reader.mode, reader.umask, reader.moreFlags, reader.name],
    [0o102, 0o100644, 0o27, 1, 'f'],
  );
  t.equal(
    decode((r) => r.decodeCreate(), [u32(2, 0, 0, 0), name('a/b')]),
    -22,
  );
  const temporary = [u32(2, 0o100600, 0o7, 0), name('/')];
  t.equal(
    decode((r) => r.decodeTemporary(), temporary),
    0,
    'Linux sends / for a name',
  );
  t.strictSame([reader.mode, reader.umask], [0o100600, 0o7]);
  t.equal(
    decode((r) => r.decodeTemporary(), [u32(2, 0, 0)]),
    -22,
  );
  t.equal(
    decode((r) => r.decodeLink(), [u64(8), name('n')]),
    0,
  );
  t.strictSame([reader.otherNodeid, reader.name], [8, 'n']);
});

t.test('reading: places beyond every file count as the end', async (t) => {
  const read = (offset: bigint, size: number, fh = 3n): number =>
    decode((r) => r.decodeRead(), [u64(fh, offset), u32(size, 0), u64(0), u32(0, 0)]);
  t.equal(read(4096n, 2 ** 20), 0);
  t.strictSame([reader.fh, reader.offset, reader.length], [3, 4096, 2 ** 20]);
  t.equal(read(0n, 2 ** 20 + 1), -22);
  t.equal(read(2n ** 63n, 1), 0);
  t.equal(reader.offset, MAX);
  t.equal(read(0n, 1, 2n ** 53n), -9, 'EBADF');
  t.equal(
    decode((r) => r.decodeRead(), [Buffer.alloc(39)]),
    -22,
  );
});

t.test('writing: places beyond every file are refused', async (t) => {
  const write = (offset: bigint, size: number, data: Buffer): number =>
    decode((r) => r.decodeWrite(), [u64(3, offset), u32(size, 5), u64(0), u32(0, 0), data]);
  t.equal(write(8192n, 3, Buffer.from('abc')), 0);
  t.strictSame([reader.offset, reader.length, reader.moreFlags], [8192, 3, 5]);
  t.equal(reader.dataAt, 4096, 'data begins on a page');
  t.equal(write(0n, 2 ** 20, Buffer.alloc(2 ** 20)), 0);
  t.equal(write(0n, 2, Buffer.alloc(3)), -22);
  t.equal(write(0n, 3, Buffer.alloc(2)), -22);
  t.equal(write(2n ** 53n - 4n, 3, Buffer.alloc(3)), 0);
  t.equal(write(2n ** 53n - 3n, 3, Buffer.alloc(3)), -27);
  for (const far of [2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]) {
    t.equal(write(far, 3, Buffer.alloc(3)), -27, `${far}`);
  }
});

t.test('extended attributes', async (t) => {
  const set = (body: Buffer[], extended: boolean): number =>
    decode((r) => r.decodeSetXattr(extended), body);
  t.equal(set([u32(2, 1, 1, 0), name('user.a'), Buffer.from('\0v')], true), 0);
  t.strictSame([reader.name, reader.text, reader.flags, reader.moreFlags], ['user.a', '\0v', 1, 1]);
  t.equal(set([u32(2, 1), name('user.a'), Buffer.from('vv')], false), 0);
  t.strictSame([reader.name, reader.text, reader.moreFlags], ['user.a', 'vv', 0]);
  t.equal(set([u32(3, 1), name('user.a'), Buffer.from('vv')], false), -22);
  t.equal(set([u32(65536, 0), name('user.a'), Buffer.alloc(65536)], false), 0);
  t.equal(set([u32(65537, 0), name('user.a'), Buffer.alloc(65537)], false), -7, 'E2BIG');
  t.equal(set([u32(0, 0), name('u'.repeat(256))], false), -34, 'ERANGE');
  t.equal(set([u32(0, 0), name('')], false), -22);
  t.equal(
    decode((r) => r.decodeGetXattr(), [u32(100, 0), name('user.b/c')]),
    0,
  );
  t.strictSame([reader.length, reader.name], [100, 'user.b/c'], 'a slash is no matter here');
  t.equal(
    decode((r) => r.decodeGetXattr(), [u32(100, 0), name('a'), name('b')]),
    -22,
  );
  t.equal(
    decode((r) => r.decodeListXattr(), [u32(9, 0)]),
    0,
  );
  t.equal(reader.length, 9);
  t.equal(
    decode((r) => r.decodeRemoveXattr(), [name('user.a')]),
    0,
  );
});

t.test('forgetting', async (t) => {
  t.equal(
    decode((r) => r.decodeForget(), [u64(3)]),
    0,
  );
  t.equal(reader.length, 3);
  t.equal(
    decode((r) => r.decodeForget(), [u64(2n ** 64n - 1n)]),
    0,
  );
  t.equal(reader.length, MAX);
  t.equal(
    decode((r) => r.decodeBatchForget(), [u32(2, 0), u64(4, 1), u64(5, 6)]),
    0,
  );
  t.equal(reader.length, 2);
  reader.decodeForgetItem(1);
  t.strictSame([reader.otherNodeid, reader.length], [5, 6]);
  for (const count of [1, 3, 2 ** 32 - 1]) {
    t.equal(
      decode((r) => r.decodeBatchForget(), [u32(count, 0), u64(4, 1), u64(5, 6)]),
      -22,
    );
  }
});

t.test('ranges', async (t) => {
  const allocate = (offset: bigint, length: bigint): number =>
    decode((r) => r.decodeAllocate(), [u64(1, offset, length), u32(3, 0)]);
  t.equal(allocate(4096n, 8192n), 0);
  t.strictSame([reader.offset, reader.length, reader.mode], [4096, 8192, 3]);
  t.equal(allocate(2n ** 53n - 2n, 1n), 0);
  t.equal(allocate(2n ** 53n - 2n, 2n), -27);
  t.equal(allocate(0n, 2n ** 63n - 1n), -27);
  t.equal(allocate(2n ** 63n - 1n, 1n), -27);

  t.equal(
    decode((r) => r.decodeSeek(), [u64(1, 77), u32(4, 0)]),
    0,
  );
  t.strictSame([reader.offset, reader.flags], [77, 4]);
  t.equal(
    decode((r) => r.decodeSeek(), [u64(1, -1), u32(4, 0)]),
    0,
  );
  t.equal(reader.offset, MAX);

  const copy = (from: bigint, to: bigint, length: bigint, flags = 0n): number =>
    decode((r) => r.decodeCopyRange(), [u64(1, from, 9, 2, to, length, flags)]);
  t.equal(copy(1n, 2n, 3n), 0);
  t.strictSame(
    [reader.offset, reader.otherNodeid, reader.otherOffset, reader.length],
    [1, 9, 2, 3],
  );
  t.equal(copy(0n, 0n, 2n ** 64n - 1n), 0);
  t.equal(reader.length, MAX);
  t.equal(copy(0n, 2n ** 53n, 1n), -27);
  t.equal(copy(0n, 0n, 1n, 1n), -22);
  t.equal(copy(0n, 0n, 1n, 2n ** 32n), -22);
});

t.test('the rest', async (t) => {
  t.equal(
    decode((r) => r.decodeNothing(), []),
    0,
  );
  t.equal(
    decode((r) => r.decodeNothing(), [Buffer.alloc(1)]),
    -22,
  );
  t.equal(
    decode((r) => r.decodeGetAttributes(), [Buffer.alloc(16)]),
    0,
  );
  t.equal(
    decode((r) => r.decodeGetAttributes(), [Buffer.alloc(8)]),
    -22,
  );
  t.equal(
    decode((r) => r.decodeOpen(), [u32(0o1002, 1)]),
    0,
  );
  t.strictSame([reader.flags, reader.moreFlags], [0o1002, 1]);
  t.equal(
    decode((r) => r.decodeRelease(), [u64(4), Buffer.alloc(16)]),
    0,
  );
  t.equal(reader.fh, 4);
  t.equal(
    decode((r) => r.decodeSync(), [u64(5), u32(1, 0)]),
    0,
  );
  t.equal(reader.fh, 5);
  t.equal(
    decode((r) => r.decodeInterrupt(), [u64(2n ** 40n + 6n)]),
    0,
  );
  t.strictSame([reader.offset, reader.otherOffset], [6, 256]);
  t.equal(
    decode((r) => r.decodeInit(), [u32(7, 23, 0, 5)]),
    0,
  );
  t.strictSame(reader.init, { major: 7, minor: 23, maxReadahead: 0, flags: 5, flags2: 0 });
  t.equal(
    decode((r) => r.decodeInit(), [u32(7, 45, 9, 5, 6), Buffer.alloc(44)]),
    0,
  );
  t.strictSame(reader.init, { major: 7, minor: 45, maxReadahead: 9, flags: 5, flags2: 6 });
  t.equal(
    decode((r) => r.decodeInit(), [u32(7)]),
    -22,
  );
});
