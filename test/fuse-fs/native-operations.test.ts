/**
 * Requests by path become those of the file system, and leave no lookup behind; without libfuse, so that it
 * holds everywhere.
 */
import t from 'tap';
import { encodeStat, mend, type NativeMount } from '../../fuse-fs/native-binding.ts';
import { NATIVE_REQUEST_SIZE_MAX, NativeCalls } from '../../fuse-fs/native-calls.ts';
import { NativeServer } from '../../fuse-fs/native-operations.ts';
import { bytesOfText, textOfBytes } from '../../fuse-fs/native-paths.ts';
import { FileSystemRig } from '../helpers/file-system-rig.ts';

const [ENOENT, EBADF, EEXIST, EINVAL, EIO, ERANGE, EOPNOTSUPP] = [2, 9, 17, 22, 5, 34, 95];
const S_IFREG = 0o100000;

function serve() {
  const rig = new FileSystemRig();
  const calls = new NativeCalls();
  rig.fs.connect(calls);
  const server = new NativeServer(rig.fs, calls, { uid: 7, gid: 8, pid: 1 });
  t.teardown(() => calls.close());
  const operations = server.operations();
  /** Makes a request that ends at once. */
  const ask = (make: (reply: (result: number, value?: unknown) => void) => void): unknown[] => {
    const replies: unknown[][] = [];
    make((...reply) => replies.push(reply));
    if (replies.length !== 1) throw new Error(`${replies.length} replies`);
    return replies[0] ?? [];
  };
  return { rig, calls, server, operations, ask };
}

t.test('files are made, found, read and removed by path, and nothing stays behind', async (t) => {
  const { rig, operations: o, ask } = serve();
  t.same(
    ask((reply) => o.mkdir('/d', 0o755, reply)),
    [0],
  );
  t.same(
    ask((reply) => o.mkdir('/d', 0o755, reply)),
    [-EEXIST],
  );
  const [, fh] = ask((reply) => o.create('/d/ü', 0o640, reply));
  t.same(
    ask((reply) => o.write('', fh as number, Buffer.from('hello'), 5, 0, reply)),
    [5],
  );
  const into = Buffer.alloc(8);
  t.same(
    ask((reply) => o.read('', fh as number, into, 8, 1, reply)),
    [4],
  );
  t.equal(into.toString('latin1', 0, 4), 'ello');
  const [, stat] = ask((reply) => o.getattr('/d/ü', reply));
  t.match(stat, { mode: S_IFREG | 0o640, uid: 7, gid: 8, size: 5, nlink: 1, atime: 1_000_000_000 });
  t.match(
    ask((reply) => o.readdir('/d', reply)),
    [0, ['.', '..', 'ü'], [{ mode: 0o040000 }, { mode: 0o040000 }, { mode: S_IFREG }]],
  );
  t.same(
    ask((reply) => o.unlink('/d/ü', reply)),
    [0],
  );
  t.same(
    ask((reply) => o.read('', fh as number, into, 8, 0, reply)),
    [5],
    'an open file lives without its name',
  );
  t.same(
    ask((reply) => o.release('', fh as number, reply)),
    [0],
  );
  t.same(
    ask((reply) => o.read('', fh as number, into, 8, 0, reply)),
    [-EBADF],
  );
  t.same(
    ask((reply) => o.rmdir('/d', reply)),
    [0],
  );
  t.equal(rig.fs.inodeCount, 1, 'the root alone: every lookup was given back');
});

t.test('errors of the walk and of the file system come through', async (t) => {
  const { operations: o, ask } = serve();
  t.same(
    ask((reply) => o.unlink('/none/file', reply)),
    [-ENOENT],
  );
  t.same(
    ask((reply) => o.open('/none', 0, reply)),
    [-ENOENT],
  );
  t.same(
    ask((reply) => o.create('/a\uFFFD', 0o600, reply)),
    [-EINVAL],
    'not UTF-8',
  );
  const [, fh] = ask((reply) => o.create('/f', 0o600, reply));
  const large = Buffer.alloc(NATIVE_REQUEST_SIZE_MAX + 1);
  t.same(
    ask((reply) => o.write('', fh as number, large, large.length, 0, reply)),
    [-EIO],
  );
  t.same(
    ask((reply) => o.setxattr('/f', 'system.posix_acl_access', large, 0, 0, reply)),
    [-EOPNOTSUPP],
  );
});

t.test('names keep their bytes', async (t) => {
  t.equal(bytesOfText('ü'), '\u00c3\u00bc');
  t.equal(textOfBytes('\u00c3\u00bc'), 'ü');
  t.equal(bytesOfText('plain'), 'plain');
});

t.test('stat is 18 numbers, those of 64 bits in halves, none before 1970', async (t) => {
  const stat = {
    ...{ mode: 1, uid: 2, gid: 3, size: 2 ** 33 + 4, nlink: 5, ino: 2 ** 32 + 6, rdev: 7 },
    ...{ blksize: 8, blocks: 9, atime: 2 ** 40 + 10, mtime: -5, ctime: 12 },
  };
  const numbers = [1, 2, 3, 4, 2, 0, 5, 6, 7, 8, 9, 0, 10, 256, 0, 0, 12, 0];
  t.same([...encodeStat(stat)], numbers);
});

t.test('a value never answers with more bytes than its reader has room for', async (t) => {
  const { server, operations: o, ask } = serve();
  ask((reply) => o.create('/f', 0o600, reply));
  ask((reply) => o.setxattr('/f', 'user.a', Buffer.from('value'), 0, 0, reply));
  const mount = {} as NativeMount;
  mend(mount, server);
  const get = (size: number): unknown =>
    ask((reply) => mount._op_getxattr(reply, '/f', 'user.a', Buffer.alloc(size)))[0];
  t.same([get(0), get(5), get(9), get(4)], [5, 5, 5, -ERANGE]);
  const list = (size: number): unknown =>
    ask((reply) => mount._op_listxattr(reply, '/f', Buffer.alloc(size)))[0];
  t.same([list(0), list(7), list(6)], [7, 7, -ERANGE]);
});

t.test('more calls than buffers wait, and all end', async (t) => {
  const calls = new NativeCalls();
  t.teardown(() => calls.close());
  const started: number[] = [];
  const ended: number[] = [];
  for (let i = 0; i < 100; i += 1) {
    calls.callWithBuffer(
      (tag) => started.push(tag),
      (result) => ended.push(result),
    );
  }
  t.equal(started.length, 32, 'one for each buffer');
  t.equal(calls.waitingCount, 100);
  for (let at = 0; at < started.length; at += 1) calls.onFileDone(started[at]!, at);
  t.equal(ended.length, 100);
  t.equal(calls.waitingCount, 0);
});
