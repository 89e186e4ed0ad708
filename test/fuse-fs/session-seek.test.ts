/** LSEEK with the writeback cache: what the kernel holds back comes first. */
import t from 'tap';
import { FUSE_PROFILES, type FuseProfile } from '../../fuse-fs/negotiation.ts';
import { FlatFiles } from '../helpers/flat-files.ts';
import { FakeKernel, initRequest, name, request, u32, u64 } from '../helpers/fuse-requests.ts';

const LOOKUP = 1;
const LSEEK = 46;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** With requests for open and release. */
const WITH_OPENS: FuseProfile = { ...FUSE_PROFILES.default, openless: false };

function begin(profile: FuseProfile): { kernel: FakeKernel; files: FlatFiles } {
  const kernel = new FakeKernel(profile);
  const files = new FlatFiles(kernel.session);
  kernel.session.attach(files);
  kernel.ask(initRequest());
  const node = files.makeNode({ uid: 0, gid: 0, pid: 0 }, 1, 'f', 0o100644, 0);
  if (node !== 2) throw new Error(`node ${node}`);
  kernel.ask(request(LOOKUP, { nodeid: 1 }, name('f')));
  return { kernel, files };
}

function seek(unique: number, offset: number, whence: number): Buffer {
  return request(LSEEK, { nodeid: 2, unique }, u64(1, offset), u32(whence, 0));
}

t.test('a file that nobody can write to is answered at once', (t) => {
  const { kernel, files } = begin(WITH_OPENS);
  files.files.get(2)!.size = 100;
  t.equal(kernel.ask(seek(9, 10, SEEK_DATA)).body.readBigUInt64LE(0), 10n);
  t.equal(kernel.ask(seek(10, 10, SEEK_HOLE)).body.readBigUInt64LE(0), 100n);
  t.equal(kernel.writeBacks.length, 0);
  t.end();
});

t.test('one that may be dirty is answered when the kernel has written it back', (t) => {
  const { kernel, files } = begin(WITH_OPENS);
  files.dirty.add(2);
  const before = kernel.replies.length;
  kernel.send(seek(9, 10, SEEK_DATA));
  kernel.send(seek(10, 5000, SEEK_DATA));
  t.equal(kernel.replies.length, before, 'no answer yet');
  t.same(
    kernel.writeBacks.map((each) => each.nodeid),
    [2, 2],
  );
  files.files.get(2)!.size = 5000;
  for (const each of kernel.writeBacks) each.done();
  const [first, second] = kernel.replies.slice(before);
  t.equal(first?.unique, 9n);
  t.equal(first?.body.readBigUInt64LE(0), 10n);
  t.equal(second?.unique, 10n);
  t.equal(second?.error, -6, 'ENXIO');
  t.equal(kernel.session.waitingCount, 0);
  t.end();
});

t.test('without the writeback cache there is nothing to wait for', (t) => {
  const { kernel, files } = begin(FUSE_PROFILES['build-cache']);
  files.dirty.add(2);
  files.files.get(2)!.size = 100;
  t.equal(kernel.ask(seek(9, 10, SEEK_DATA)).error, 0);
  t.end();
});

t.test('a malformed LSEEK is refused before anything is written back', (t) => {
  const { kernel, files } = begin(WITH_OPENS);
  files.dirty.add(2);
  t.equal(kernel.ask(request(LSEEK, { nodeid: 2 }, u64(1))).error, -22);
  t.equal(kernel.writeBacks.length, 0);
  t.end();
});

t.test('who is not told of opens has every file written back before', (t) => {
  const { kernel, files } = begin({ ...FUSE_PROFILES.default, openless: true });
  files.files.get(2)!.size = 100;
  const before = kernel.replies.length;
  kernel.send(seek(9, 10, SEEK_DATA));
  t.equal(kernel.replies.length, before, 'no answer yet');
  kernel.writeBacks[0]!.done();
  t.equal(kernel.replies[before]!.body.readBigUInt64LE(0), 10n);
  t.end();
});
