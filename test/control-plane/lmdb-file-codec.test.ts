import t from 'tap';
import { checkLmdbFile } from '../../control-plane/lmdb-file-codec.ts';
import { Random } from '../helpers/fuzz.ts';

const STORE_ERROR = { name: 'MemcloudError', code: 'ERR_CONTROL_STORE' };
const PAGE = 4096;

/** A page with its number and flags; numbers restated from `mdb.c`. */
function page(number: number, flags: number): Buffer {
  const bytes = Buffer.alloc(PAGE);
  bytes.writeBigUInt64LE(BigInt(number), 0);
  bytes.writeUInt16LE(flags, 18);
  return bytes;
}

interface MetaFields {
  transaction: number;
  lastPage: number;
  depth: number;
  root: number;
}

function meta(number: number, { transaction, lastPage, depth, root }: MetaFields): Buffer {
  const bytes = page(number, 0x08);
  bytes.writeUInt32LE(0xbeefc0de, 24);
  bytes.writeUInt32LE(2, 28);
  bytes.writeUInt32LE(PAGE, 48);
  bytes.fill(0xff, 88, 96);
  bytes.writeUInt16LE(depth, 102);
  if (depth === 0) bytes.fill(0xff, 136, 144);
  else bytes.writeBigUInt64LE(BigInt(root), 136);
  bytes.writeBigUInt64LE(BigInt(lastPage), 144);
  bytes.writeBigUInt64LE(BigInt(transaction), 152);
  return bytes;
}

/** A leaf or branch with one node. */
function tree(number: number, flags: number, node: Buffer): Buffer {
  const bytes = page(number, flags);
  const offset = PAGE - 24 - node.length;
  bytes.writeUInt16LE(2, 20);
  bytes.writeUInt16LE(offset, 22);
  bytes.writeUInt16LE(offset, 24);
  node.copy(bytes, 24 + offset);
  return bytes;
}

function branchNode(child: number): Buffer {
  const node = Buffer.alloc(8);
  node.writeUInt32LE(child, 0);
  return node;
}

function largeNode(first: number, pageCount: number, sizeBytes: number): Buffer {
  const node = Buffer.alloc(8 + 1 + 24);
  node.writeUInt32LE(sizeBytes, 0);
  node.writeUInt16LE(0x01, 4);
  node.writeUInt16LE(1, 6);
  node.writeBigUInt64LE(BigInt(first), 9);
  node.writeBigUInt64LE(BigInt(pageCount), 25);
  return node;
}

/** Two levels and a value of two pages: 0, 1 meta, 2 branch, 3 leaf, 4 and 5 the value. */
function example(): Buffer {
  return Buffer.concat([
    meta(0, { transaction: 2, lastPage: 5, depth: 2, root: 2 }),
    meta(1, { transaction: 1, lastPage: 1, depth: 0, root: 0 }),
    tree(2, 0x01, branchNode(3)),
    tree(3, 0x02, largeNode(4, 2, 8000)),
    page(4, 0x04),
    Buffer.alloc(PAGE),
  ]);
}

function check(file: Buffer): number {
  return checkLmdbFile((offset, length) => file.subarray(offset, offset + length));
}

t.test('a whole file is one, up to its last page', async (t) => {
  t.equal(check(example()), 6 * PAGE);
  const empty = [0, 1].map((number) =>
    meta(number, { transaction: number, lastPage: 1, depth: 0, root: 0 }),
  );
  t.equal(check(Buffer.concat(empty)), 2 * PAGE);
});

t.test('a file may be shorter by pages that are free', async (t) => {
  const file = example();
  file.writeBigUInt64LE(9n, 144);
  t.equal(check(file), 10 * PAGE);
});

t.test('of two meta pages the newer counts', async (t) => {
  const file = example();
  file.writeBigUInt64LE(3n, PAGE + 152);
  t.equal(check(file.subarray(0, 2 * PAGE)), 2 * PAGE, 'the other one names pages that are gone');
  t.throws(() => check(example().subarray(0, 2 * PAGE)), STORE_ERROR);
});

t.test('each thing that can be wrong is found', async (t) => {
  const rows: [string, (file: Buffer) => Buffer][] = [
    ['no bytes', () => Buffer.alloc(0)],
    ['one page', (file) => file.subarray(0, PAGE)],
    ['cut off in the value', (file) => file.subarray(0, 5 * PAGE + 100)],
    ['cut off in the leaf', (file) => file.subarray(0, 3 * PAGE + 100)],
    ['another magic', (file) => put(file, (bytes) => bytes.writeUInt32LE(1, 24))],
    ['no meta page', (file) => put(file, (bytes) => bytes.writeUInt16LE(2, 18))],
    ['another version', (file) => put(file, (bytes) => bytes.writeUInt32LE(1, 28))],
    ['another page size', (file) => put(file, (bytes) => bytes.writeUInt32LE(4095, 48))],
    ['a root out of it', (file) => put(file, (bytes) => bytes.writeBigUInt64LE(6n, 136))],
    ['a root in the meta pages', (file) => put(file, (bytes) => bytes.writeBigUInt64LE(1n, 136))],
    ['a depth of 3', (file) => put(file, (bytes) => bytes.writeUInt16LE(3, 102))],
    ['a depth of 1', (file) => put(file, (bytes) => bytes.writeUInt16LE(1, 102))],
    ['too many pages', (file) => put(file, (bytes) => bytes.writeBigUInt64LE(2n ** 60n, 144))],
    ['a branch of another number', (file) => put(file, (bytes) => bytes.writeUInt8(9, 2 * PAGE))],
    ['a leaf that is wiped', (file) => put(file, (bytes) => bytes.fill(0, 3 * PAGE, 4 * PAGE))],
    ['a loop', (file) => put(file, (bytes) => bytes.writeUInt32LE(2, 3 * PAGE - 8))],
    ['no nodes', (file) => put(file, (bytes) => bytes.writeUInt16LE(0, 3 * PAGE + 20))],
    ['half a node', (file) => put(file, (bytes) => bytes.writeUInt16LE(3, 3 * PAGE + 20))],
    [
      'a node out of its page',
      (file) => put(file, (bytes) => bytes.writeUInt16LE(4090, 3 * PAGE + 24)),
    ],
    [
      'a node in the offsets',
      (file) => put(file, (bytes) => bytes.writeUInt16LE(0, 3 * PAGE + 24)),
    ],
    [
      'a key out of its page',
      (file) => put(file, (bytes) => bytes.writeUInt16LE(99, 4 * PAGE - 27)),
    ],
    [
      'a value beyond its pages',
      (file) => put(file, (bytes) => bytes.writeUInt32LE(8169, 4 * PAGE - 33)),
    ],
    [
      'a value of a strange kind',
      (file) => put(file, (bytes) => bytes.writeUInt16LE(2, 4 * PAGE - 29)),
    ],
    [
      'a value that is a leaf',
      (file) => put(file, (bytes) => bytes.writeUInt16LE(2, 4 * PAGE + 18)),
    ],
  ];
  for (const [name, damage] of rows) t.throws(() => check(damage(example())), STORE_ERROR, name);
});

function put(file: Buffer, change: (bytes: Buffer) => unknown): Buffer {
  change(file);
  return file;
}

t.test('any bytes give a size or this error', async (t) => {
  const seed = Number(process.env['SEED'] ?? 1 + Math.floor(Math.random() * 1e9));
  const random = new Random(seed);
  for (let round = 0; round < 20_000; round += 1) {
    const file = example();
    for (let count = 1 + random.below(3); count > 0; count -= 1) {
      // Where it matters: in the first bytes of pages, and in the nodes at their ends.
      const at =
        random.below(6) * PAGE +
        (random.below(2) ? random.below(160) : PAGE - 1 - random.below(40));
      file.writeUInt8(random.below(256), at);
    }
    try {
      check(file);
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_CONTROL_STORE') {
        t.fail(`SEED=${seed}`, { error });
        return;
      }
    }
  }
  t.pass();
});
