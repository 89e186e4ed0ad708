import t from 'tap';
import { DirectoryPacker, type EntryLookup } from '../../fuse-fs/directory-codec.ts';
import { emptyAttributes } from '../../fuse-fs/operations.ts';
import { u32, u64 } from '../helpers/fuse-requests.ts';

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;

function packer(): { packer: DirectoryPacker; bytes: Buffer } {
  const memory = new ArrayBuffer(8192);
  const bytes = Buffer.from(memory).fill(0xee);
  return { packer: new DirectoryPacker(bytes, new Uint32Array(memory), emptyAttributes()), bytes };
}

function dirent(nodeid: number, cookie: number, type: number, name: string): Buffer {
  const size = Math.ceil((24 + name.length) / 8) * 8;
  const head = Buffer.concat([u64(nodeid, cookie), u32(name.length, type)]);
  return Buffer.concat([head, Buffer.from(name, 'latin1'), Buffer.alloc(size - 24 - name.length)]);
}

t.test('entries of READDIR are aligned to eight bytes', async (t) => {
  const { packer: p, bytes } = packer();
  p.begin(16, 4096, 1, undefined);
  t.ok(p.onEntry(1, '.', S_IFDIR | 0o755, 1));
  t.ok(p.onEntry(2 ** 33, 'eight888', S_IFREG, 2 ** 34));
  t.ok(p.onEntry(7, 'nine99999', 0o010000, 9));
  const expected = [
    dirent(1, 1, 4, '.'),
    dirent(2 ** 33, 2 ** 34, 8, 'eight888'),
    dirent(7, 9, 1, 'nine99999'),
  ];
  t.equal(p.size, 32 + 32 + 40);
  t.ok(bytes.subarray(16, 16 + p.size).equals(Buffer.concat(expected)));
  t.equal(bytes[16 + p.size], 0xee, 'nothing behind');
});

t.test('an entry that does not fit is refused, and costs nothing', async (t) => {
  const { packer: p, bytes } = packer();
  let lookups = 0;
  const lookup: EntryLookup = {
    lookup: () => {
      lookups += 1;
      return 5;
    },
    attributes: (nodeid, into) => {
      into.nodeid = nodeid;
      return 0;
    },
    generation: () => 3,
  };
  p.begin(0, 160 + 160, 1, lookup);
  t.ok(p.onEntry(5, 'a', S_IFREG, 1));
  t.ok(p.onEntry(5, 'b', S_IFREG, 2));
  t.notOk(p.onEntry(5, 'c', S_IFREG, 3));
  t.equal(p.size, 320);
  t.equal(lookups, 2);
  t.equal(bytes[320], 0xee);
  p.begin(0, 159, 1, lookup);
  t.notOk(p.onEntry(5, 'a', S_IFREG, 1));
  t.equal(p.size, 0);
  t.equal(lookups, 2);
});

t.test('READDIRPLUS counts a lookup for each name but `.` and `..`', async (t) => {
  const { packer: p, bytes } = packer();
  const asked: string[] = [];
  const lookup: EntryLookup = {
    lookup: (parent, name) => {
      asked.push(`${parent}/${name}`);
      return name === 'gone' ? -2 : 5;
    },
    attributes: (nodeid, into) => {
      into.nodeid = nodeid;
      into.mode = S_IFREG | 0o600;
      return 0;
    },
    generation: () => 3,
  };
  p.begin(0, 8192, 9, lookup);
  for (const name of ['.', '..', 'file', 'gone']) p.onEntry(5, name, S_IFREG, 1);
  t.strictSame(asked, ['9/file', '9/gone']);
  const entry = (index: number): Buffer => bytes.subarray(index * 160, index * 160 + 128);
  t.ok(entry(0).equals(Buffer.alloc(128)));
  t.ok(entry(1).equals(Buffer.alloc(128)));
  t.ok(
    entry(2)
      .subarray(0, 32)
      .equals(u64(5, 3, 86400, 86400)),
  );
  t.equal(entry(2).readUInt32LE(40 + 60), S_IFREG | 0o600);
  t.ok(entry(3).equals(Buffer.alloc(128)), 'the name alone');
  t.ok(bytes.subarray(2 * 160 + 128, 3 * 160).equals(dirent(5, 1, 8, 'file')));
});
