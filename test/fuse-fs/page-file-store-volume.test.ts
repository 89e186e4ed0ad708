/** The file store over a real volume on simulated providers: one dies, memory goes back, the pool is full. */
import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { PageFileStore } from '../../fuse-fs/page-file-store.ts';
import { VolumeBlockDevice } from '../../tier/block-device.ts';
import { SLAB_SIZE_BYTES, VolumeRig, type RigOptions } from '../helpers/volume-rig.ts';

const PAGE = 4096;
const SEED = Number(process.env['SEED'] ?? 1);

/** A store over a volume, and calls that wait for their end. */
class VolumeStore {
  readonly rig: VolumeRig;
  readonly store: PageFileStore;
  readonly #ends = new Map<number, (result: number) => void>();
  #tag = 0;

  constructor(options: RigOptions) {
    this.rig = new VolumeRig({ seed: SEED, pages: 8192, ...options });
    const sink = {
      onFileDone: (tag: number, result: number): void => {
        this.#ends.get(tag)?.(result);
        this.#ends.delete(tag);
      },
    };
    const after = (delayMs: number, task: () => void): void => this.rig.world.after(delayMs, task);
    this.store = new PageFileStore(new VolumeBlockDevice(this.rig.volume), sink, { after });
  }

  /** Makes a call; the promise needs {@link VolumeStore.until} to be kept. */
  call(make: (tag: number) => void): Promise<number> {
    this.#tag += 1;
    const tag = this.#tag;
    return new Promise((resolve) => {
      this.#ends.set(tag, resolve);
      make(tag);
    });
  }

  /** Lets time pass until a promise is kept. */
  async until<T>(promise: Promise<T>): Promise<T> {
    let isKept = false;
    void promise.then(() => (isKept = true));
    await this.rig.world.settle();
    while (!isKept) await this.rig.advance(10);
    return promise;
  }

  write(file: number, offset: number, data: Buffer, size: number): Promise<number> {
    const from = new NativeMemory(data.length);
    data.copy(from.bytes);
    return this.call((tag) =>
      this.store.write(tag, file, offset, data.length, from, 0, size),
    ).finally(() => from.free());
  }

  /** The bytes, or a negative errno. */
  async read(file: number, offset: number, length: number): Promise<Buffer | number> {
    const into = new NativeMemory(length);
    const result = await this.call((tag) => this.store.read(tag, file, offset, length, into, 0));
    const bytes = result === length ? Buffer.from(into.bytes.subarray(0, length)) : result;
    into.free();
    return bytes;
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at += 1) {
      bytes[at] = 1 + Math.floor(this.rig.world.random() * 255);
    }
    return bytes;
  }

  async close(): Promise<void> {
    this.store.close();
    await this.rig.close();
  }
}

/** Files of sizes from 1 byte to 70 pages, written in pieces. */
async function writeFiles(volume: VolumeStore, count: number): Promise<Buffer[]> {
  const files: Buffer[] = [];
  for (let file = 0; file < count; file += 1) {
    const most = file % 5 === 0 ? 70 * PAGE : 5000;
    const data = volume.bytes(1 + Math.floor(volume.rig.world.random() * most));
    const middle = Math.floor(data.length / 2);
    const first = volume.write(file, 0, data.subarray(0, middle), 0);
    const second = volume.write(file, middle, data.subarray(middle), middle);
    if ((await volume.until(Promise.all([first, second]))).some((result) => result < 0)) {
      throw new Error('a write failed');
    }
    files.push(data);
  }
  return files;
}

t.test('two copies: a provider dies amid writes, every byte is there', async (t) => {
  const volume = new VolumeStore({ copies: 2, offers: [2 ** 28, 2 ** 28, 2 ** 28] });
  const before = await writeFiles(volume, 20);
  volume.rig.source(0).goDown();
  const pending = writeFiles(volume, 20);
  const after = await volume.until(pending);
  t.equal(before.length, 20);
  t.equal(await volume.until(volume.call((tag) => volume.store.sync(tag))), 0);
  for (const [file, data] of after.entries()) {
    const got = await volume.until(volume.read(file, 0, data.length));
    t.ok(Buffer.isBuffer(got) && got.equals(data), `file ${file}`);
    t.equal(volume.store.isDamaged(file), false);
  }
  await volume.close();
});

t.test('one copy: what a dead provider held is EIO and told, the rest lives', async (t) => {
  const volume = new VolumeStore({ copies: 1, offers: [SLAB_SIZE_BYTES, SLAB_SIZE_BYTES] });
  // Two slabs, one at each provider.
  const files: Buffer[] = [];
  for (let file = 0; file < 8; file += 1) {
    const data = volume.bytes(900 * PAGE);
    for (let at = 0; at < data.length; at += 50 * PAGE) {
      const piece = data.subarray(at, at + 50 * PAGE);
      if ((await volume.until(volume.write(file, at, piece, at))) < 0) throw new Error('a write');
    }
    files.push(data);
  }
  t.equal(await volume.until(volume.call((tag) => volume.store.sync(tag))), 0);
  volume.rig.source(0).goDown();
  volume.rig.source(0).comeBack(true);
  await volume.rig.advance(30_000);
  let lost = 0;
  for (const [file, data] of files.entries()) {
    let isLost = false;
    for (let at = 0; at < data.length; at += 50 * PAGE) {
      const got = await volume.until(volume.read(file, at, 50 * PAGE));
      if (got === -5) isLost = true;
      else t.ok(Buffer.isBuffer(got) && got.equals(data.subarray(at, at + 50 * PAGE)));
    }
    t.equal(volume.store.isDamaged(file), isLost, `file ${file}: ${isLost ? 'lost' : 'there'}`);
    if (isLost) lost += 1;
  }
  t.ok(lost > 0 && lost < 8, `${lost} of 8`);
  await volume.close();
});

t.test('memory of removed files goes back to the providers', async (t) => {
  const volume = new VolumeStore({ copies: 1, offers: [2 ** 28] });
  for (let cycle = 0; cycle < 3; cycle += 1) {
    await writeFiles(volume, 30);
    t.equal(await volume.until(volume.call((tag) => volume.store.sync(tag))), 0);
    t.ok(volume.rig.source(0).usage.residentBytes > 100 * PAGE);
    for (let file = 0; file < 30; file += 1) volume.store.remove(file);
    await volume.rig.advance(2_000);
    t.equal(volume.rig.source(0).usage.residentBytes, 0, `cycle ${cycle}`);
    t.equal(volume.store.room().usedPageCount, 0);
  }
  await volume.close();
});

t.test('the pool is full before the quota: ENOSPC, and what is there stays', async (t) => {
  const volume = new VolumeStore({ copies: 1, offers: [SLAB_SIZE_BYTES] });
  const data = volume.bytes(50 * PAGE);
  let size = 0;
  let result = 0;
  while (size < 8000 * PAGE) {
    result = await volume.until(volume.write(0, size, data, size));
    if (result < 0) break;
    size += data.length;
  }
  t.equal(result, -28);
  t.ok(size >= 4000 * PAGE && size <= 4096 * PAGE, `${size / PAGE} pages`);
  t.equal(volume.store.blocks(0), size / 512, 'nothing of the last write is taken');
  for (let at = 0; at < size; at += data.length) {
    const got = await volume.until(volume.read(0, at, data.length));
    if (!Buffer.isBuffer(got) || !got.equals(data)) t.fail(`at ${at}`);
  }
  await volume.close();
});
