import t, { type Test } from 'tap';
import { FUSE_PROFILES, type FuseProfile } from '../../fuse-fs/negotiation.ts';
import {
  FakeKernel,
  initRequest,
  name,
  request,
  u32,
  u64,
  type Reply,
} from '../helpers/fuse-requests.ts';
import { FlatFiles, type FlatFilesOptions } from '../helpers/flat-files.ts';

/** Opcodes of fuse.h, restated. */
const OP = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  UNLINK: 10,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  FLUSH: 25,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
};

/** With requests for open and release. */
const WITH_OPENS: FuseProfile = { ...FUSE_PROFILES.default, openless: false };

interface Rig {
  readonly kernel: FakeKernel;
  readonly files: FlatFiles;
}

function rig(t: Test, options: FlatFilesOptions = {}, profile: FuseProfile = WITH_OPENS): Rig {
  const kernel = new FakeKernel(profile);
  const files = new FlatFiles(kernel.session, options);
  kernel.session.attach(files);
  t.equal(kernel.ask(initRequest()).error, 0);
  t.teardown(() => {
    kernel.session.close();
    kernel.free();
  });
  return { kernel, files };
}

const create = (file: string, unique = 2): Buffer =>
  request(OP.CREATE, { unique, uid: 1000, gid: 100 }, u32(2, 0o100666, 0o22, 0), name(file));
const write = (nodeid: number, offset: number, data: Buffer, unique = 2): Buffer =>
  request(
    OP.WRITE,
    { nodeid, unique },
    u64(0, offset),
    u32(data.length, 0),
    u64(0),
    u32(0, 0),
    data,
  );
const read = (nodeid: number, offset: number, size: number, unique = 2): Buffer =>
  request(OP.READ, { nodeid, unique }, u64(0, offset), u32(size, 0), u64(0), u32(0, 0));
const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

t.test('INIT comes first, once', async (t) => {
  const kernel = new FakeKernel(FUSE_PROFILES.default);
  const files = new FlatFiles(kernel.session);
  kernel.session.attach(files);
  t.equal(kernel.ask(request(OP.GETATTR, {}, Buffer.alloc(16))).error, -5, 'too early');
  t.equal(kernel.ask(request(26, {}, u32(7, 22, 0, 0))).error, -71, 'too old: EPROTO');
  const other = kernel.ask(request(26, {}, u32(8, 0, 0, 0)));
  t.equal(other.error, 0);
  t.strictSame([other.body.readUInt32LE(0), other.body.readUInt32LE(4)], [7, 45]);
  t.equal(kernel.session.agreed, undefined, 'the kernel asks again');
  const reply = kernel.ask(initRequest());
  t.equal(reply.body.length, 64);
  t.equal(reply.body.readUInt32LE(20), 2 ** 20, 'max_write');
  t.match(kernel.session.agreed, { minor: 45 });
  t.equal(kernel.ask(initRequest()).error, -22);
  kernel.session.close();
});

t.test('a file is made, written, read, listed and removed', async (t) => {
  const { kernel, files } = rig(t);
  const made = kernel.ask(create('file', 0x1_0000_0007));
  t.equal(made.unique, 0x1_0000_0007n);
  t.equal(made.body.length, 128 + 16, 'entry_out and open_out');
  const nodeid = Number(made.body.readBigUInt64LE(0));
  t.equal(nodeid, 2);
  t.equal(made.body.readUInt32LE(40 + 60), 0o100644, 'the umask came with the request');
  t.equal(made.body.readBigUInt64LE(128), 2n, 'fh');
  t.equal(made.body.readUInt32LE(136), 2, 'FOPEN_KEEP_CACHE');

  const data = Buffer.alloc(300_000, 'memcloud');
  const written = kernel.ask(write(nodeid, 5, data));
  t.strictSame([written.error, written.body.readUInt32LE(0), written.body.length], [0, 300_000, 8]);
  const got = kernel.ask(read(nodeid, 5, 2 ** 20));
  t.ok(got.error === 0 && got.body.equals(data), 'short at the end');
  t.equal(kernel.ask(read(nodeid, 400_000, 4096)).body.length, 0);

  const attr = kernel.ask(request(OP.GETATTR, { nodeid }, Buffer.alloc(16)));
  t.equal(attr.body.length, 104);
  t.equal(attr.body.readBigUInt64LE(16 + 8), 300_005n);

  const { body: opened } = kernel.ask(request(OP.OPENDIR, {}, u32(0, 0)));
  t.equal(opened.readUInt32LE(8), 2 + 8, 'KEEP_CACHE and CACHE_DIR');
  const list = request(OP.READDIR, {}, u64(1, 0), u32(4096, 0), u64(0), u32(0, 0));
  t.equal(kernel.ask(list).body.length, 32 + 32 + 32);
  t.equal(kernel.ask(request(OP.RELEASEDIR, {}, u64(1), Buffer.alloc(16))).error, 0);

  t.equal(kernel.ask(request(OP.UNLINK, {}, name('file'))).error, 0);
  t.equal(kernel.ask(read(nodeid, 0, 1)).error, 0, 'open, so it is there');
  t.equal(kernel.ask(request(OP.RELEASE, { nodeid }, u64(2), Buffer.alloc(16))).error, 0);
  kernel.send(request(OP.FORGET, { nodeid }, u64(1)));
  t.equal(files.files.size, 0);
});

t.test('a name that is not there is an answer: nodeid 0, for the kernel to remember', async (t) => {
  const { kernel } = rig(t);
  const reply = kernel.ask(request(OP.LOOKUP, {}, name('nope')));
  t.equal(reply.error, 0);
  t.ok(reply.body.equals(Buffer.concat([u64(0, 0, 86400, 0), Buffer.alloc(96)])));
  t.equal(kernel.ask(request(OP.LOOKUP, { nodeid: 7 }, name('x'))).error, -20);
});

t.test('READDIRPLUS counts lookups as LOOKUP does', async (t) => {
  const { kernel, files } = rig(t);
  for (const file of ['a', 'b', 'c']) kernel.ask(create(file));
  kernel.ask(request(OP.OPENDIR, {}, u32(0, 0)));
  // Room for `.`, `..` and two of three.
  const list = request(OP.READDIRPLUS, {}, u64(1, 0), u32(4 * 160 + 159, 0), u64(0), u32(0, 0));
  t.equal(kernel.ask(list).body.length, 4 * 160);
  t.strictSame(
    [...files.files.values()].map(({ lookups }) => lookups),
    [2, 2, 1],
  );
  kernel.send(request(OP.BATCH_FORGET, { nodeid: 0 }, u32(2, 0), u64(2, 2), u64(3, 1)));
  t.strictSame(
    [...files.files.values()].map(({ lookups }) => lookups),
    [0, 1, 1],
  );
});

t.test('O_TRUNC at open is a change of size, and takes a moment', async (t) => {
  const { kernel, files } = rig(t, {
    delayMs: (operation) => (operation === 'changeAttributes' ? 5 : -1),
  });
  const nodeid = Number(kernel.ask(create('file')).body.readBigUInt64LE(0));
  kernel.ask(write(nodeid, 0, Buffer.from('data')));
  const before = kernel.replies.length;
  kernel.send(request(OP.OPEN, { nodeid, unique: 88 }, u32(0o1002, 1)));
  t.equal(kernel.replies.length, before);
  t.equal(kernel.session.waitingCount, 1);
  await later(20);
  const reply = kernel.replies[before] as Reply;
  t.strictSame([reply.unique, reply.error, reply.body.length], [88n, 0, 16]);
  t.equal(files.files.get(nodeid)!.size, 0);
  t.equal(files.files.get(nodeid)!.handles, 2);
  t.equal(kernel.session.waitingCount, 0);
});

t.test('SETATTR answers with what became of it', async (t) => {
  const { kernel } = rig(t);
  const nodeid = Number(kernel.ask(create('file')).body.readBigUInt64LE(0));
  const change = (size: bigint): Buffer =>
    request(OP.SETATTR, { nodeid }, u32(8, 0), u64(0, size, 0, 0, 0, 0), Buffer.alloc(32));
  const reply = kernel.ask(change(12345n));
  t.strictSame([reply.error, reply.body.length], [0, 104]);
  t.equal(reply.body.readBigUInt64LE(16 + 8), 12345n);
  t.equal(kernel.ask(change(2n ** 62n)).error, -27);
  t.equal(kernel.ask(change(2n ** 40n)).error, -27, 'the file system says so too');
});

t.test(
  'chown to nobody new comes as no change, and takes set-user-id from files alone',
  async (t) => {
    const { kernel, files } = rig(t);
    kernel.ask(create('file'));
    const seen: number[] = [];
    files.changeAttributes = (tag, _caller, _nodeid, change) => {
      seen.push(change.valid);
      kernel.session.onFileDone(tag, 0);
    };
    const change = (nodeid: number, valid: number): Reply =>
      kernel.ask(request(OP.SETATTR, { nodeid }, u32(valid, 0), Buffer.alloc(80)));
    // FATTR_FH 64, FATTR_MTIME 32, FATTR_CTIME 1024, FATTR_KILL_SUIDGID 2048.
    for (const [nodeid, valid] of [
      [2, 0],
      [2, 1024],
      [2, 1024 + 64],
      [2, 1024 + 32],
      [1, 1024],
    ] as const) {
      change(nodeid, valid);
    }
    t.strictSame(seen, [2048, 1024 + 2048, 1024 + 64 + 2048, 1024 + 32, 1024]);
  },
);

t.test('extended attributes: sizes first, then values, never too much', async (t) => {
  const { kernel } = rig(t);
  const nodeid = Number(kernel.ask(create('file')).body.readBigUInt64LE(0));
  const set = request(
    OP.SETXATTR,
    { nodeid },
    u32(5, 0, 0, 0),
    name('user.k'),
    Buffer.from('\xffalue', 'latin1'),
  );
  t.equal(kernel.ask(set).error, 0);
  const get = (size: number, key = 'user.k'): Reply =>
    kernel.ask(request(OP.GETXATTR, { nodeid }, u32(size, 0), name(key)));
  t.ok(get(0).body.equals(u32(5, 0)));
  t.equal(get(4).error, -34);
  t.ok(get(5).body.equals(Buffer.from('\xffalue', 'latin1')));
  t.equal(get(5, 'user.none').error, -61);
  const list = (size: number): Reply => kernel.ask(request(OP.LISTXATTR, { nodeid }, u32(size, 0)));
  t.ok(list(0).body.equals(u32(7, 0)));
  t.ok(list(100).body.equals(Buffer.from('user.k\0')));
});

t.test('what we do not have is ENOSYS, so that the kernel stops asking', async (t) => {
  const { kernel } = rig(t);
  for (const opcode of [
    OP.FLUSH,
    OP.ACCESS,
    OP.POLL,
    OP.BMAP,
    OP.STATX,
    OP.GETLK,
    48,
    7,
    54,
    4096,
  ]) {
    t.equal(kernel.ask(request(opcode, {}, Buffer.alloc(24))).error, -38, `opcode ${opcode}`);
  }
  t.equal(kernel.ask(request(OP.IOCTL, {}, Buffer.alloc(32))).error, -25, 'ENOTTY');
  for (const opcode of [OP.FSYNCDIR, OP.DESTROY]) {
    t.equal(kernel.ask(request(opcode, {}, Buffer.alloc(16))).error, 0);
  }
  t.equal(kernel.ask(request(OP.FSYNC, {}, u64(1), u32(0, 0))).error, 0);
  t.equal(kernel.ask(request(OP.SYNCFS, {}, u64(0))).error, 0);
  t.equal(kernel.ask(request(OP.STATFS)).body.length, 80);
});

t.test('build-cache: no attributes, and no opens', async (t) => {
  const { kernel, files } = rig(t, {}, FUSE_PROFILES['build-cache']);
  const made = kernel.ask(create('file'));
  t.equal(made.body.readBigUInt64LE(128), 0n, 'no handle');
  t.equal(files.files.get(2)!.handles, 0);
  t.equal(kernel.ask(request(OP.OPEN, { nodeid: 2 }, u32(0, 0))).error, -38);
  t.equal(kernel.ask(request(OP.RELEASE, { nodeid: 2 }, u64(0), Buffer.alloc(16))).error, 0);
  const get = request(OP.GETXATTR, { nodeid: 2 }, u32(0, 0), name('user.a'));
  t.equal(kernel.ask(get).error, -38);
});

t.test('copies: 32 bits of count in the old form, 64 in the new', async (t) => {
  const { kernel } = rig(t);
  const from = Number(kernel.ask(create('from')).body.readBigUInt64LE(0));
  const to = Number(kernel.ask(create('to')).body.readBigUInt64LE(0));
  kernel.ask(write(from, 0, Buffer.from('0123456789')));
  const copy = (opcode: number): Reply =>
    kernel.ask(request(opcode, { nodeid: from }, u64(0, 2, to, 0, 1, 2n ** 64n - 1n, 0)));
  t.ok(copy(OP.COPY_FILE_RANGE).body.equals(u32(8, 0)));
  t.ok(copy(OP.COPY_FILE_RANGE_64).body.equals(u64(8)));
  t.equal(kernel.ask(read(to, 0, 100)).body.toString(), '\x0023456789');
});

t.test('data of a write stays in its buffer until the write has ended', async (t) => {
  const { kernel } = rig(t, { delayMs: (operation) => (operation === 'write' ? 5 : -1) });
  const nodeid = Number(kernel.ask(create('file')).body.readBigUInt64LE(0));
  t.ok(kernel.send(write(nodeid, 0, Buffer.from('first'), 101)), 'kept');
  t.ok(kernel.send(write(nodeid, 5, Buffer.from('second'), 102)), 'kept, another one');
  t.equal(kernel.freed.length, 0);
  await later(30);
  t.equal(new Set(kernel.freed).size, 2);
  t.strictSame(
    kernel.replies.slice(-2).map(({ unique }) => unique),
    [101n, 102n],
  );
  t.equal(kernel.ask(read(nodeid, 0, 100)).body.toString(), 'firstsecond');
  const { kernel: prompt } = rig(t);
  const other = Number(prompt.ask(create('file')).body.readBigUInt64LE(0));
  t.notOk(prompt.send(write(other, 0, Buffer.from('x'))), 'ended at once: not kept');
});

t.test('no more than 128 requests wait; then there is room again', async (t) => {
  const { kernel } = rig(t, { delayMs: (operation) => (operation === 'read' ? 5 : -1) });
  const nodeid = Number(kernel.ask(create('file')).body.readBigUInt64LE(0));
  for (let index = 0; index < 128; index += 1) {
    t.ok(kernel.session.hasRoom);
    kernel.send(read(nodeid, 0, 4096, index + 10));
  }
  t.notOk(kernel.session.hasRoom);
  await later(50);
  t.equal(kernel.roomCount, 1);
  t.ok(kernel.session.hasRoom);
  t.equal(new Set(kernel.replies.map(({ unique }) => unique)).size, kernel.replies.length);
});

t.test('INTERRUPT: the answer has a second, then it is EINTR, once', async (t) => {
  let release: () => void = () => undefined;
  const { kernel, files } = rig(t);
  const nodeid = Number(kernel.ask(create('file')).body.readBigUInt64LE(0));
  files.read = (tag) => {
    release = () => kernel.session.onFileDone(tag, 3);
  };
  const before = kernel.replies.length;
  kernel.send(read(nodeid, 0, 4096, 500));
  t.notOk(kernel.session.needsTick);
  kernel.send(request(OP.INTERRUPT, { unique: 501 }, u64(500)));
  kernel.send(request(OP.INTERRUPT, { unique: 501 }, u64(499)));
  t.ok(kernel.session.needsTick);
  kernel.clock.time += 999;
  kernel.session.tick();
  t.equal(kernel.replies.length, before, 'patience');
  kernel.clock.time += 1;
  kernel.session.tick();
  t.match(kernel.replies.slice(before), [{ unique: 500n, error: -4 }]);
  t.notOk(kernel.session.needsTick);
  t.equal(kernel.session.waitingCount, 1, 'its buffer is not given to others');
  release();
  t.equal(kernel.replies.length, before + 1, 'no second answer');
  t.equal(kernel.session.waitingCount, 0);

  kernel.send(read(nodeid, 0, 4096, 600));
  kernel.send(request(OP.INTERRUPT, { unique: 601 }, u64(600)));
  release();
  t.match(kernel.replies.at(-1), { unique: 600n, error: 0 }, 'a prompt answer is an answer');
  t.notOk(kernel.session.needsTick);
});

t.test('a call that ends twice is heard once', async (t) => {
  const { kernel, files } = rig(t);
  const nodeid = Number(kernel.ask(create('file')).body.readBigUInt64LE(0));
  let last = 0;
  files.sync = (tag) => {
    last = tag;
    kernel.session.onFileDone(tag, 0);
    kernel.session.onFileDone(tag, 0);
  };
  t.equal(kernel.ask(request(OP.FSYNC, { nodeid }, u64(1), u32(0, 0))).error, 0);
  kernel.session.onFileDone(last, 0);
  kernel.session.onFileDone(12345, 0);
  t.equal(kernel.session.waitingCount, 0);
});

t.test('what throws is EIO, a count and a line in the log, and serves on', async (t) => {
  let broken = '';
  const defect = (operation: string): void => {
    if (operation === broken) throw new TypeError('boom');
  };
  const { kernel } = rig(t, { defect });
  const nodeid = Number(kernel.ask(create('file')).body.readBigUInt64LE(0));
  const cases: [string, Buffer][] = [
    ['lookup', request(OP.LOOKUP, {}, name('file'))],
    ['makeNode', create('other')],
    ['read', read(nodeid, 0, 10)],
    ['write', write(nodeid, 0, Buffer.from('x'))],
    ['sync', request(OP.FSYNC, { nodeid }, u64(1), u32(0, 0))],
    ['copyRange', request(OP.COPY_FILE_RANGE, { nodeid }, u64(0, 0, nodeid, 0, 0, 1, 0))],
  ];
  for (const [operation, bytes] of cases) {
    broken = operation;
    t.equal(kernel.ask(bytes).error, -5, operation);
  }
  broken = 'forget';
  const before = kernel.replies.length;
  kernel.send(request(OP.FORGET, { nodeid }, u64(1)));
  t.equal(kernel.replies.length, before, 'FORGET has no reply');
  t.equal(kernel.session.statistics.defectCount, 7);
  t.equal(kernel.logged.length, 7);
  t.equal(kernel.session.waitingCount, 0);
  broken = '';
  t.equal(kernel.ask(read(nodeid, 0, 10)).error, 0);
});

t.test('a defect after the end of a call does not answer twice', async (t) => {
  const { kernel, files } = rig(t);
  const nodeid = Number(kernel.ask(create('file')).body.readBigUInt64LE(0));
  files.sync = (tag) => {
    kernel.session.onFileDone(tag, 0);
    throw new Error('too late');
  };
  t.equal(kernel.ask(request(OP.FSYNC, { nodeid }, u64(1), u32(0, 0))).error, 0);
  t.equal(kernel.session.statistics.defectCount, 1);
});

t.test('malformed requests get an errno, those without a header or reply nothing', async (t) => {
  const { kernel } = rig(t);
  t.equal(kernel.ask(request(OP.GETATTR, {}, Buffer.alloc(3))).error, -22);
  t.equal(kernel.ask(request(OP.GETATTR, { length: 7 }, Buffer.alloc(16))).error, -22);
  t.equal(kernel.ask(request(OP.LOOKUP, {}, name('n'.repeat(256)))).error, -36);
  const before = kernel.replies.length;
  kernel.send(Buffer.alloc(39));
  kernel.send(request(OP.FORGET, { length: 3 }, u64(1)));
  kernel.send(request(OP.FORGET, {}, Buffer.alloc(3)));
  kernel.send(request(OP.BATCH_FORGET, {}, u32(2 ** 32 - 1, 0)));
  kernel.send(request(OP.INTERRUPT, {}, Buffer.alloc(7)));
  kernel.send(request(OP.NOTIFY_REPLY, {}, Buffer.alloc(40)));
  t.equal(kernel.replies.length, before);
});
