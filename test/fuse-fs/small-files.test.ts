/** Small files share pages: what that saves, and that it shows nowhere else. */
import t from 'tap';
import { IoStatus } from '../../common/ports.ts';
import { StoreRig } from '../helpers/store-rig.ts';

const PAGE = 4096;

t.test('files of 1 KiB take a quarter of a page each, and say so', (t) => {
  const rig = new StoreRig({ pages: 64, seed: 1 });
  const files = Array.from({ length: 40 }, () => rig.bytes(1024));
  for (const [file, data] of files.entries()) t.equal(rig.write(file, 0, data, 0), 1024);
  t.equal(rig.store.room().usedPageCount, 10);
  t.equal(rig.store.blocks(7), 2);
  for (const [file, data] of files.entries()) t.ok(rig.read(file, 0, 1024).equals(data));
  for (let file = 0; file < 40; file += 1) rig.store.remove(file);
  rig.settle();
  t.equal(rig.store.room().usedPageCount, 0);
  t.equal(rig.device.presentCount, 0, 'trimmed');
  rig.close();
  t.end();
});

t.test('sizes at the borders: 512, 2048 and one more', (t) => {
  for (const [length, blocks] of [
    [1, 1],
    [512, 1],
    [513, 2],
    [2048, 4],
    [2049, 8],
  ] as const) {
    const rig = new StoreRig({ pages: 16, seed: length });
    const data = rig.bytes(length);
    rig.write(0, 0, data, 0);
    t.equal(rig.store.blocks(0), blocks, `${length} bytes`);
    t.ok(rig.read(0, 0, length).equals(data));
    rig.close();
  }
  t.end();
});

t.test('a small file that is changed: the bytes it keeps, and zeroes behind them', (t) => {
  const changes = {
    'grows by an append': (rig: StoreRig, image: Buffer): void => {
      const data = rig.bytes(3000);
      t.equal(rig.write(1, 700, data, 700), 3000);
      data.copy(image, 700);
    },
    'is written far behind': (rig: StoreRig, image: Buffer): void => {
      const data = rig.bytes(100);
      t.equal(rig.write(1, 3 * PAGE, data, 700), 100);
      data.copy(image, 3 * PAGE);
    },
    'is cut and grows again': (rig: StoreRig, image: Buffer): void => {
      t.equal(rig.truncate(1, 10), 0);
      image.fill(0, 10);
    },
    'is emptied': (rig: StoreRig, image: Buffer): void => {
      t.equal(rig.truncate(1, 0), 0);
      image.fill(0);
      t.equal(rig.store.blocks(1), 0);
    },
    'gets a hole in its midst': (rig: StoreRig, image: Buffer): void => {
      t.equal(rig.punch(1, 100, 50), 0);
      image.fill(0, 100, 150);
    },
    'is written anew': (rig: StoreRig, image: Buffer): void => {
      const data = rig.bytes(1500);
      t.equal(rig.write(1, 0, data, 700), 1500);
      data.copy(image);
      t.equal(rig.store.blocks(1), 3);
    },
    'was promised a page': (rig: StoreRig, image: Buffer): void => {
      t.equal(rig.store.reserve(1, 0, PAGE), 0);
      const data = rig.bytes(4);
      t.equal(rig.write(1, 1000, data, 700), 4);
      data.copy(image, 1000);
    },
    'is the target of a copy': (rig: StoreRig, image: Buffer): void => {
      t.equal(rig.copy(0, 10, 1, 20, 30), 30);
      rig.read(0, 10, 30).copy(image, 20);
    },
  };
  for (const [name, change] of Object.entries(changes)) {
    // In memory still, and only on the device.
    for (const others of [1, 20]) {
      const rig = new StoreRig({ pages: 64, seed: others });
      const image = Buffer.alloc(4 * PAGE);
      rig.write(0, 0, rig.bytes(600), 0);
      const data = rig.bytes(700);
      rig.write(1, 0, data, 0);
      data.copy(image);
      for (let file = 2; file < 2 + others; file += 1) rig.write(file, 0, rig.bytes(600), 0);
      change(rig, image);
      t.ok(rig.read(1, 0, 4 * PAGE).equals(image), name);
      for (let file = 0; file < 2 + others; file += 1) rig.store.remove(file);
      rig.settle();
      t.equal(rig.store.room().usedPageCount, 0, `${name}: nothing leaks`);
      rig.close();
    }
  }
  t.end();
});

t.test(
  'a shared page that is lost damages each file that is read, until it is written anew',
  (t) => {
    let isLost = false;
    const rig = new StoreRig({
      pages: 64,
      seed: 3,
      failure: (operation) => (operation === 'read' && isLost ? IoStatus.LOST : IoStatus.OK),
    });
    for (let file = 0; file < 20; file += 1) rig.write(file, 0, rig.bytes(1000), 0);
    isLost = true;
    t.equal(rig.readResult(0, 0, 1000), -5);
    t.equal(rig.readResult(1, 0, 1000), -5);
    t.equal(rig.store.isDamaged(0), true);
    t.equal(rig.store.isDamaged(1), true);
    t.equal(rig.store.isDamaged(2), false, 'nobody has asked');
    rig.write(0, 0, rig.bytes(1000), 1000);
    rig.store.remove(1);
    t.equal(rig.store.isDamaged(0), false);
    t.equal(rig.store.isDamaged(1), false);
    rig.close();
    t.end();
  },
);

t.test('a write that fails leaves the file as it was', (t) => {
  let isFull = false;
  const rig = new StoreRig({
    pages: 64,
    seed: 4,
    failure: (operation) => (operation === 'write' && isFull ? IoStatus.NO_SPACE : IoStatus.OK),
  });
  const data = rig.bytes(800);
  rig.write(0, 0, data, 0);
  isFull = true;
  t.equal(rig.write(0, 0, rig.bytes(900), 800), -28);
  t.equal(rig.write(1, 0, rig.bytes(900), 0), -28);
  isFull = false;
  t.ok(rig.read(0, 0, 800).equals(data));
  t.equal(rig.store.blocks(1), 0);
  rig.store.remove(0);
  rig.settle();
  t.equal(rig.store.room().usedPageCount, 0);
  rig.close();
  t.end();
});

t.test('many at once: writes of a page go one after the other', (t) => {
  const rig = new StoreRig({ pages: 1024, seed: 5, atOnce: 0 });
  let ended = 0;
  const data = rig.bytes(500);
  data.copy(rig.buffer.bytes);
  for (let file = 0; file < 500; file += 1) {
    rig.begin(
      (tag) => rig.store.write(tag, file, 0, 500, rig.buffer, 0, 0),
      (result) => (ended += result === 500 ? 1 : 0),
    );
  }
  rig.settle();
  t.equal(ended, 500);
  for (let file = 0; file < 500; file += 1) {
    if (!rig.read(file, 0, 500).equals(data)) t.fail(`file ${file}`);
  }
  t.ok(rig.store.room().usedPageCount < 500, `${rig.store.room().usedPageCount} pages`);
  rig.close();
  t.end();
});
