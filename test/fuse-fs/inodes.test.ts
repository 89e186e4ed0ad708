/** The records under all tables, and the inodes in them: slots, generations, memory. */
import t from 'tap';
import { InodeNumber, Inodes, InodeWord } from '../../fuse-fs/inodes.ts';
import { RecordTable } from '../../fuse-fs/record-table.ts';
import { FileSystemRig } from '../helpers/file-system-rig.ts';
import { Random } from '../helpers/fuzz.ts';

t.test('a new record is zero, and no two have one slot', (t) => {
  const random = new Random(3);
  const table = new RecordTable(4, 1);
  const twin = new Map<number, number>();
  for (let step = 0; step < 60_000; step += 1) {
    if (random.below(10) < (step < 30_000 ? 7 : 3)) {
      const slot = table.allocate();
      if (twin.has(slot)) t.fail(`slot ${slot} is in use`);
      for (let word = 0; word < 4; word += 1) if (table.word(slot, word) !== 0) t.fail('not zero');
      for (let word = 0; word < 4; word += 1) table.setWord(slot, word, step);
      twin.set(slot, step);
    } else if (twin.size > 0) {
      const slot = [...twin.keys()][random.below(Math.min(twin.size, 50))]!;
      for (let word = 0; word < 4; word += 1) {
        if (table.word(slot, word) !== twin.get(slot)) t.fail(`slot ${slot} was changed`);
      }
      table.free(slot);
      twin.delete(slot);
    }
  }
  t.equal(table.count, twin.size);
  for (const slot of twin.keys()) table.free(slot);
  t.equal(table.count, 0);
  t.ok(table.bytes <= 4096 * 16, 'one chunk at most is kept');
  t.end();
});

t.test('a chunk that empties goes back, one is kept, and its slots come again', (t) => {
  const table = new RecordTable(2, 0);
  const CHUNK = 4096 * 8;
  const slots = Array.from({ length: 4096 * 5 }, () => table.allocate());
  t.equal(table.bytes, 5 * CHUNK);
  t.equal(table.slotEnd, 4096 * 5);
  for (const slot of slots.slice(4096)) table.free(slot);
  t.equal(table.bytes, 2 * CHUNK);
  t.equal(table.isMapped(4096 * 4), false);
  t.equal(table.isMapped(0), true);
  t.equal(table.isMapped(-1), false);
  t.equal(table.isMapped(2 ** 50), false);
  const again = table.allocate();
  t.ok(again >= 4096 && again < 8192, 'the lowest chunk with room');
  for (let round = 0; round < 1000; round += 1) table.free(table.allocate());
  t.equal(table.bytes, 2 * CHUNK, 'a record at a border costs no chunk each time');
  t.end();
});

t.test('numbers and words of an inode do not lie over each other', (t) => {
  const inodes = new Inodes();
  const slots = [inodes.add(0o100644, 1, 2, 3), inodes.add(0o040755, 4, 5, 6)];
  for (const slot of slots) {
    for (const number of Object.values(InodeNumber)) inodes.setNumber(slot, number, -1.5 - number);
    for (const word of Object.values(InodeWord)) inodes.setWord(slot, word, 1000 * slot + word);
  }
  for (const slot of slots) {
    for (const number of Object.values(InodeNumber)) {
      t.equal(inodes.number(slot, number), -1.5 - number);
    }
    for (const word of Object.values(InodeWord)) {
      t.equal(inodes.word(slot, word), 1000 * slot + word);
    }
  }
  t.end();
});

t.test('an inode is live from add to free, and has a generation of its own', (t) => {
  const inodes = new Inodes();
  const generations = new Set<number>();
  for (let round = 0; round < 100; round += 1) {
    const slot = inodes.add(0o100644, 0, 0, 0);
    t.equal(slot, 0);
    t.equal(inodes.isLive(slot), true);
    generations.add(inodes.word(slot, InodeWord.GENERATION));
    inodes.free(slot);
    t.equal(inodes.isLive(slot), false);
  }
  t.equal(generations.size, 100);
  for (const slot of [-1, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, NaN, Infinity]) {
    t.equal(inodes.isLive(slot), false, `${slot}`);
  }
  t.end();
});

t.test(
  'a million files cost at most 256 bytes each besides the name',
  { timeout: 120_000 },
  (t) => {
    const COUNT = 1_000_000;
    const rig = new FileSystemRig({ inodeCountMax: 2 * COUNT });
    const before = rig.fs.metadataBytes;
    const directories = Array.from({ length: 100 }, (_, index) => rig.directory(1, `d${index}`));
    for (let index = 0; index < COUNT; index += 1) {
      const node = rig.file(directories[index % 100]!, `file-${index}.txt`);
      if (node < 0) return t.fail(`${node}`) && t.end();
      rig.fs.forget(node, 1);
    }
    t.equal(rig.fs.inodeCount, COUNT + 101);
    const each = (rig.fs.metadataBytes - before) / COUNT;
    t.comment(`${each.toFixed(1)} bytes for each file, its name of 15 bytes among them`);
    t.ok(each <= 200, `${each} bytes`);
    t.equal(rig.names(directories[7]!).length, COUNT / 100);
    return t.end();
  },
);

t.test('a million files made and removed leave nothing', { timeout: 120_000 }, (t) => {
  const rig = new FileSystemRig();
  const cycle = (index: number): void => {
    const name = `temporary-${index}-${'x'.repeat(index % 60)}`;
    const node = rig.file(1, name);
    if (node < 0) throw new Error(`${node}`);
    rig.fs.unlink(1, name);
    rig.fs.forget(node, 1);
  };
  for (let index = 0; index < 1000; index += 1) cycle(index);
  const before = rig.fs.metadataBytes;
  for (let index = 0; index < 1_000_000; index += 1) cycle(index);
  t.equal(rig.fs.metadataBytes, before);
  t.equal(rig.fs.inodeCount, 1);
  t.end();
});
