/** Slots: sizes, RAM that comes page by page and goes, wiped bytes, a machine without room. */
import t, { type Test } from 'tap';
import { SLOT_SIZES_BYTES, slotBytes, slottedBytes } from '../../objects/size-classes.ts';
import { NO_SLOT, ValueMemory } from '../../objects/value-memory.ts';
import { Pieces } from '../../objects/pieces.ts';
import { fuzz, type Random } from '../helpers/fuzz.ts';
import { TestObjectMemory } from '../helpers/object-memory.ts';

const MIB = 2 ** 20;

function open(t: Test) {
  const memory = new TestObjectMemory();
  const values = new ValueMemory(memory);
  t.teardown(() => {
    values.close();
    memory.close();
  });
  return { memory, values };
}

t.test('classes are quarters of powers of two from 64 B to 64 KiB', async (t) => {
  t.strictSame(SLOT_SIZES_BYTES.slice(0, 10), [64, 80, 96, 112, 128, 160, 192, 224, 256, 320]);
  t.equal(SLOT_SIZES_BYTES.length, 41);
  t.equal(SLOT_SIZES_BYTES.at(-1), 65_536);
  for (const [bytes, slot] of [
    [0, 0],
    [1, 64],
    [64, 64],
    [65, 80],
    [1024, 1024],
    [1025, 1280],
    [57_344, 57_344],
    [57_345, 65_536],
    [65_536, 65_536],
  ] as const) {
    t.equal(slotBytes(bytes), slot, `${bytes} B`);
  }
  t.equal(slottedBytes(65_536 * 3 + 65), 65_536 * 3 + 80);
  for (let bytes = 1; bytes <= 65_536; bytes += 1) {
    const slot = slotBytes(bytes);
    if (slot < bytes || (bytes > 64 && slot >= bytes * 1.25)) t.fail(`${bytes} in ${slot}`);
  }
});

t.test('RAM comes with slots and goes with them, but for a small stock', async (t) => {
  const { memory, values } = open(t);
  t.equal(memory.pageCount, 0, 'an empty store holds nothing');
  const slots = Array.from({ length: 20_000 }, () => values.take(1024));
  t.equal(new Set(slots).size, 20_000);
  t.equal(values.takenBytes, 20_000 * 1024);
  t.ok(memory.pageCount <= 5000 + 8, `${memory.pageCount} pages for 5000 pages of slots`);
  for (const slot of slots) values.free(slot, 1024);
  t.ok(memory.pageCount <= 2048, `${memory.pageCount} pages are the stock of 8 MiB`);
  t.equal(values.reservedBytes, memory.pageCount * 4096);
  values.trim();
  t.equal(memory.pageCount, 0);
  t.equal(memory.arenas.size, 0, 'address space goes back as well');
  t.not(values.take(1), NO_SLOT, 'and comes anew');
});

t.test('a value of 300 MiB goes over arenas and away', async (t) => {
  const { memory, values } = open(t);
  const pieces = new Pieces(values);
  const piece = Buffer.alloc(65_536, 'x');
  for (let at = 0; at < 300 * MIB; at += piece.length) {
    if (!pieces.append(piece)) t.fail('there is room');
  }
  t.equal(memory.arenas.size, 2);
  t.equal(memory.pageCount, (300 * MIB) / 4096);
  const read = Buffer.alloc(100);
  pieces.read(299 * MIB - 50, 100, read);
  t.ok(read.equals(Buffer.alloc(100, 'x')));
  pieces.free();
  t.ok(memory.pageCount <= 2048);
  values.trim();
  t.equal(memory.pageCount, 0);
});

t.test(
  'a machine without room refuses and changes nothing; what idles elsewhere is used',
  async (t) => {
    const { memory, values } = open(t);
    memory.pageCountMax = 16;
    const large = values.take(65_536);
    t.not(large, NO_SLOT);
    t.equal(values.take(64), NO_SLOT);
    t.equal(memory.pageCount, 16);
    values.free(large, 0);
    t.equal(memory.pageCount, 16, 'it idles');
    const small = values.take(64);
    t.not(small, NO_SLOT, 'and makes room for another class');
    t.equal(values.takenBytes, 64);
    t.equal(values.take(65_536), NO_SLOT);
    const pieces = new Pieces(values);
    t.equal(pieces.append(Buffer.alloc(20_000, 1)), true);
    t.equal(pieces.append(Buffer.alloc(48_000, 2)), false);
    t.equal(pieces.sizeBytes, 20_000);
    const read = Buffer.alloc(20_000);
    pieces.read(0, 20_000, read);
    t.ok(read.equals(Buffer.alloc(20_000, 1)));
  },
);

t.test('pieces are what was appended, at every length, and leave zeroes', async (t) => {
  await fuzz(t, (random) => {
    const memory = new TestObjectMemory();
    const values = new ValueMemory(memory);
    try {
      for (let count = 0; count < 3; count += 1) growAndRead(random, values);
      if (memory.dirtyByteCount() !== 0) throw new Error('freed slots are wiped');
      if (values.takenBytes !== 0) throw new Error('all is given back');
    } finally {
      values.close();
      memory.close();
    }
  });
});

function growAndRead(random: Random, values: ValueMemory): void {
  const pieces = new Pieces(values);
  let twin = Buffer.alloc(0);
  for (let step = random.below(12); step >= 0; step -= 1) {
    const more = Buffer.alloc(random.pick([0, 1, 63, 1000, 16_384, 49_152, 65_536]));
    more.fill(1 + random.below(255));
    pieces.append(more);
    twin = Buffer.concat([twin, more]);
    if (pieces.sizeBytes !== twin.length) throw new Error('the size');
    if (values.takenBytes !== slottedBytes(twin.length))
      throw new Error('takes what it is charged');
    const offset = random.below(twin.length + 1);
    const length = random.below(twin.length - offset + 1);
    const read = Buffer.alloc(length);
    pieces.read(offset, length, read);
    if (!read.equals(twin.subarray(offset, offset + length))) throw new Error('the bytes');
  }
  pieces.free();
}

t.test('slots of many sizes never overlap', async (t) => {
  await fuzz(t, (random) => {
    const memory = new TestObjectMemory();
    const values = new ValueMemory(memory);
    const live = new Map<number, { bytes: number; mark: number }>();
    try {
      for (let step = 0; step < 3000; step += 1) {
        const slot = random.pick([...live.keys(), -1]);
        if (slot >= 0 && random.below(5) < 2) {
          check(values, slot, live.get(slot)!);
          values.free(slot, live.get(slot)!.bytes);
          live.delete(slot);
        } else if (live.size < 300) {
          const bytes = 1 + random.below(random.pick([64, 1000, 65_536]));
          const taken = values.take(bytes);
          if (live.has(taken)) throw new Error('a slot is taken once');
          const read = Buffer.alloc(bytes);
          values.read(taken, 0, bytes, read, 0);
          if (read.some((byte) => byte !== 0)) throw new Error('a new slot is zero');
          const mark = 1 + random.below(255);
          values.write(taken, 0, Buffer.alloc(bytes, mark));
          live.set(taken, { bytes, mark });
        }
        if (slot >= 0 && live.has(slot) && random.below(5) === 0) {
          const value = live.get(slot)!;
          const lower = values.lower(slot, value.bytes);
          if (lower > slot || (lower !== slot && live.has(lower))) throw new Error('a lower slot');
          live.delete(slot);
          live.set(lower, value);
        }
        if (step % 500 === 0) values.trim();
      }
      for (const [slot, value] of live) check(values, slot, value);
    } finally {
      values.close();
      memory.close();
    }
  });
});

function check(values: ValueMemory, slot: number, value: { bytes: number; mark: number }): void {
  const read = Buffer.alloc(value.bytes);
  values.read(slot, 0, value.bytes, read, 0);
  if (read.some((byte) => byte !== value.mark)) throw new Error("another's bytes");
}
