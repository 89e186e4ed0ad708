/** The tables of names: what they hold, and that they grow and shrink without holding on to memory. */
import t from 'tap';
import { ByteCells, cellBytesFor } from '../../fuse-fs/byte-cells.ts';
import { Dentries } from '../../fuse-fs/dentries.ts';
import { Inodes } from '../../fuse-fs/inodes.ts';
import { Random } from '../helpers/fuzz.ts';

function tables(): { inodes: Inodes; cells: ByteCells; dentries: Dentries } {
  const inodes = new Inodes();
  const cells = new ByteCells();
  return { inodes, cells, dentries: new Dentries(inodes, cells, 0xdead_beef) };
}

function list(dentries: Dentries, directory: number): string[] {
  const names: string[] = [];
  for (let at = dentries.first(directory); at !== -1; at = dentries.next(at)) {
    names.push(dentries.name(at));
  }
  return names;
}

t.test('strings of any length are kept byte by byte, and give their cells back', (t) => {
  const cells = new ByteCells();
  const every = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).join('');
  const texts = ['', 'a', 'x'.repeat(28), 'x'.repeat(29), every, every.repeat(256)];
  const kept = texts.map((text) => cells.put(text));
  t.equal(kept[0], 0);
  for (const [index, text] of texts.entries()) {
    t.equal(cells.get(kept[index]!, text.length), text);
    t.equal(cells.equals(kept[index]!, text), true);
    if (text.length > 0) t.equal(cells.equals(kept[index]!, `${text.slice(0, -1)}~`), false);
  }
  t.equal(
    cells.usedBytes,
    texts.reduce((sum, text) => sum + cellBytesFor(text.length), 0),
  );
  t.equal(cellBytesFor(28), 32);
  t.equal(cellBytesFor(29), 64);
  for (const first of kept) cells.free(first);
  t.equal(cells.usedBytes, 0);
  t.end();
});

t.test('names are found in their directory alone, in the order in which they came', (t) => {
  const { inodes, dentries } = tables();
  const [one, two] = [inodes.add(0o040755, 0, 0, 0), inodes.add(0o040755, 0, 0, 0)];
  dentries.add(one, 'b', 11);
  dentries.add(one, 'a', 12);
  dentries.add(two, 'a', 13);
  dentries.add(one, '\xc3\xa4', 14);
  t.equal(dentries.child(dentries.find(one, 'a')), 12);
  t.equal(dentries.child(dentries.find(two, 'a')), 13);
  t.equal(dentries.find(two, 'b'), -1);
  t.equal(dentries.find(one, 'ab'), -1);
  t.same(list(dentries, one), ['b', 'a', '\xc3\xa4']);
  dentries.remove(dentries.find(one, 'a'));
  t.same(list(dentries, one), ['b', '\xc3\xa4']);
  dentries.remove(dentries.find(one, '\xc3\xa4'));
  dentries.remove(dentries.find(one, 'b'));
  t.equal(dentries.isEmpty(one), true);
  t.equal(dentries.isEmpty(two), false);
  dentries.setChild(dentries.find(two, 'a'), 99);
  t.equal(dentries.child(dentries.find(two, 'a')), 99);
  t.end();
});

t.test('as a Map of Maps, through growth and decay, for many seeds', (t) => {
  for (let seed = 1; seed <= 6; seed += 1) {
    const random = new Random(seed);
    const { inodes, cells, dentries } = tables();
    const directories = [0, 1, 2].map(() => inodes.add(0o040755, 0, 0, 0));
    const twins = directories.map(() => new Map<string, number>());
    for (let step = 0; step < 30_000; step += 1) {
      const which = random.below(3);
      const directory = directories[which]!;
      const twin = twins[which]!;
      const name = `${random.below(9000).toString(36)}${'-'.repeat(random.below(3) * 20)}`;
      // Grows for a third of the time, then decays.
      const adds = random.below(10) < (step < 12_000 ? 8 : 2);
      const entry = dentries.find(directory, name);
      if ((entry === -1) !== !twin.has(name)) return fail(`${seed}: ${name}`);
      if (entry !== -1 && dentries.child(entry) !== twin.get(name)) return fail(`${seed}: ${name}`);
      if (adds && entry === -1) {
        dentries.add(directory, name, step);
        twin.set(name, step);
      } else if (!adds && entry !== -1) {
        dentries.remove(entry);
        twin.delete(name);
      }
    }
    for (const [which, directory] of directories.entries()) {
      t.same(list(dentries, directory), [...twins[which]!.keys()], `seed ${seed}, ${which}`);
      for (const name of [...twins[which]!.keys()]) {
        const entry = dentries.find(directory, name);
        t.ok(entry !== -1 && dentries.name(entry) === name);
        dentries.remove(entry);
      }
    }
    t.equal(dentries.count, 0);
    t.equal(cells.usedBytes, 0);
  }
  return t.end();

  function fail(message: string): void {
    t.fail(message);
    t.end();
  }
});

t.test('serial numbers only rise', (t) => {
  const { inodes, dentries } = tables();
  const directory = inodes.add(0o040755, 0, 0, 0);
  let last = 2;
  for (let round = 0; round < 1000; round += 1) {
    const entry = dentries.add(directory, 'same', 1);
    if (dentries.serial(entry) <= last) t.fail('a serial number came again');
    last = dentries.serial(entry);
    dentries.remove(entry);
  }
  t.equal(dentries.lastSerial, last);
  t.end();
});

t.test('a million names: no addition or removal takes long, and the memory goes back', (t) => {
  const COUNT = 1_000_000;
  const LONG_MS = 250;
  /** @returns what the slowest addition or removal took, milliseconds */
  const fillAndEmpty = (): number => {
    const { inodes, cells, dentries } = tables();
    const directory = inodes.add(0o040755, 0, 0, 0);
    const atFirst = dentries.bytes + cells.bytes;
    let slowestMs = 0;
    const timed = (act: () => void): void => {
      const startMs = performance.now();
      act();
      slowestMs = Math.max(slowestMs, performance.now() - startMs);
    };
    for (let index = 0; index < COUNT; index += 1) {
      timed(() => dentries.add(directory, `file-${index}`, index));
    }
    const full = dentries.bytes + cells.bytes;
    t.comment(`${full / COUNT} bytes for each entry with a name of 11 bytes`);
    t.ok(full / COUNT < 85, `${full / COUNT} bytes for each`);
    for (let index = 0; index < COUNT; index += 97) {
      if (dentries.child(dentries.find(directory, `file-${index}`)) !== index) t.fail(`${index}`);
    }
    for (let index = 0; index < COUNT; index += 1) {
      timed(() => dentries.remove(dentries.find(directory, `file-${index}`)));
    }
    t.equal(dentries.count, 0);
    t.ok(dentries.bytes + cells.bytes <= atFirst + 2 ** 20, 'the chunks went back');
    return slowestMs;
  };
  // Garbage collection and other processes have their share of it, not each time.
  let bestMs = Infinity;
  for (let round = 0; round < 3 && bestMs >= LONG_MS; round += 1) {
    bestMs = Math.min(bestMs, fillAndEmpty());
  }
  t.ok(bestMs < LONG_MS, `the slowest took ${bestMs.toFixed(1)} ms`);
  t.end();
});
