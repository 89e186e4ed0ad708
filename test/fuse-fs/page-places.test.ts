/** Bytes of files where they lie: what is located is what is read, whatever a file consists of. */
import t, { type Test } from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { FileSystem } from '../../fuse-fs/file-system.ts';
import { IoVectors } from '../../fuse-fs/io-vectors.ts';
import { FUSE_PROFILES } from '../../fuse-fs/negotiation.ts';
import { PageFileStore } from '../../fuse-fs/page-file-store.ts';
import { MemoryBlockDevice } from '../../provider/memory-device.ts';
import { RamProvider } from '../../provider/service.ts';
import {
  FakeKernel,
  gather,
  initRequest,
  name,
  request,
  u32,
  u64,
} from '../helpers/fuse-requests.ts';
import { seededRandom } from '../helpers/sim-world.ts';
import { StoreRig } from '../helpers/store-rig.ts';
import { tmpfsBase } from '../helpers/tmpfs.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const SEED = Number(process.env['SEED'] ?? 1);
/** fuse.h, restated. */
const OP = { FORGET: 2, UNLINK: 10, READ: 15, WRITE: 16, RELEASE: 18, CREATE: 35 };

function memoryDevice(t: Test, sizeBytes: number): MemoryBlockDevice {
  const provider = RamProvider.open({
    ...{ offeredBytes: 2 * sizeBytes, directory: tmpfsBase(t), noswap: 'off', reserveBytes: 0 },
  });
  const memory = provider.openObjectMemory();
  const device = new MemoryBlockDevice({ name: 'm', sizeBytes, memory, owner: 'a'.repeat(32) });
  t.teardown(() => {
    device.close();
    provider.close();
  });
  return device;
}

t.test('located bytes are those that are read', async (t) => {
  const random = seededRandom(SEED);
  const pick = (below: number): number => Math.floor(random() * below);
  const results = new Map<number, number>();
  const sink = { onFileDone: (tag: number, result: number) => void results.set(tag, result) };
  const timers: (() => void)[] = [];
  const after = (_: number, task: () => void): void => void timers.push(task);
  const store = new PageFileStore(memoryDevice(t, 64 * MIB), sink, { after });
  const buffer = new NativeMemory(2 * MIB);
  const vectors = new IoVectors();
  const sizes = new Array<number>(12).fill(0);
  for (let step = 1; step <= 4000; step += 1) {
    const file = pick(sizes.length);
    const size = sizes[file] as number;
    const kind = pick(10);
    if (kind < 4) {
      const offset = random() < 0.4 ? 0 : pick(40 * PAGE);
      const length = 1 + pick(random() < 0.5 ? 2048 : 12 * PAGE);
      for (let at = 0; at < length; at += 1) buffer.bytes[at] = 1 + pick(255);
      store.write(step, file, offset, length, buffer, 0, size);
      sizes[file] = Math.max(size, offset + length);
    } else if (kind === 4) {
      const newSize = pick(size + 1);
      store.truncate(step, file, newSize);
      sizes[file] = newSize;
    } else if (kind === 5) {
      store.punch(step, file, pick(20 * PAGE), 1 + pick(10 * PAGE));
    } else if (kind === 6) {
      store.remove(file);
      sizes[file] = 0;
      timers.splice(0).forEach((task) => task());
    } else if (kind === 7) {
      store.reserve(file, pick(30 * PAGE), 1 + pick(5 * PAGE));
    }
    if (kind < 6 && (results.get(step) ?? -1) < 0) t.fail(`seed ${SEED}, step ${step}: not done`);
    const length = sizes[file] as number;
    if (length === 0) continue;
    const offset = pick(length);
    const wanted = 1 + pick(length - offset);
    vectors.clear();
    if (!store.locate(file, offset, wanted, vectors)) t.fail(`step ${step}: not in place`);
    const found = gather(vectors);
    store.read(-step, file, offset, wanted, buffer, 0);
    const same = found.equals(buffer.bytes.subarray(0, wanted)) && vectors.length === wanted;
    if (!same || results.get(-step) !== wanted) t.fail(`seed ${SEED}, step ${step}: other bytes`);
  }
  store.close();
  t.notOk(store.locate(0, 0, 1, vectors), 'not once it is closed');
  buffer.free();
  vectors.free();
});

t.test('a run of pages is one piece, and holes are no pages', async (t) => {
  const sink = { onFileDone: () => undefined };
  const store = new PageFileStore(memoryDevice(t, 16 * MIB), sink);
  const buffer = new NativeMemory(MIB);
  buffer.bytes.fill(9);
  store.write(1, 0, 0, MIB, buffer, 0, 0);
  store.write(2, 1, 100 * PAGE, PAGE, buffer, 0, 0);
  const vectors = new IoVectors();
  t.ok(store.locate(0, 0, MIB, vectors));
  t.equal(vectors.count, 1);
  vectors.clear();
  t.ok(store.locate(1, 0, 200 * PAGE, vectors));
  t.equal(vectors.length, 200 * PAGE);
  t.ok(vectors.count <= 200, `${vectors.count} pieces`);
  t.equal(
    gather(vectors).reduce((sum, byte) => sum + byte, 0),
    9 * PAGE,
  );
  store.close();
  buffer.free();
  vectors.free();
});

t.test('on a device elsewhere nothing is in place', async (t) => {
  const rig = new StoreRig({ pages: 64, seed: SEED });
  t.equal(rig.write(0, 0, rig.bytes(3 * PAGE), 0), 3 * PAGE);
  const vectors = new IoVectors();
  t.notOk(rig.store.locate(0, 0, PAGE, vectors));
  t.equal(vectors.length, 0);
  vectors.free();
  rig.close();
});

t.test('more pieces than one call takes are refused', async (t) => {
  const vectors = new IoVectors();
  t.teardown(() => vectors.free());
  for (let at = 0; at < 1024; at += 1) vectors.add(2 ** 33 + at * 8192, 4096);
  t.equal(vectors.count, 1024);
  t.throws(() => vectors.add(1, 1), { code: 'ERR_INTERNAL' });
  vectors.add(2 ** 33 + 1023 * 8192 + 4096, 4096);
  t.equal(vectors.length, 1025 * 4096, 'what joins the last one is no new piece');
});

t.test('READ is answered in pieces, and as before where there are none', async (t) => {
  const kernel = new FakeKernel({ ...FUSE_PROFILES.default, openless: false });
  let store: PageFileStore | undefined;
  const device = memoryDevice(t, 16 * MIB);
  const clock = { seconds: 1000, nanoseconds: 0, sample: () => undefined };
  const files = new FileSystem({
    openStore: (sink) => (store = new PageFileStore(device, sink)),
    clock,
    ...{ sizeBytes: 16 * MIB, uid: 0, gid: 0, mode: 0o755, hashSeed: 1 },
  });
  files.connect(kernel.session);
  kernel.session.attach(files);
  t.equal(kernel.ask(initRequest()).error, 0);
  const made = kernel.ask(request(OP.CREATE, {}, u32(2, 0o100644, 0, 0), name('f')));
  const nodeid = Number(made.body.readBigUInt64LE(0));
  const data = Buffer.alloc(3 * PAGE + 100, 0x5a);
  const header = [u64(0, 0), u32(data.length, 0), u64(0), u32(0, 0)];
  t.equal(kernel.ask(request(OP.WRITE, { nodeid }, ...header, data)).error, 0);
  const read = (offset: number, length: number, node = nodeid) =>
    kernel.ask(
      request(OP.READ, { nodeid: node }, u64(0, offset), u32(length, 0), u64(0), u32(0, 0)),
    );
  const whole = read(0, MIB);
  t.ok(whole.body.equals(data), 'as far as the file goes');
  t.equal(kernel.gatheredCount, 1);
  t.ok(read(PAGE - 1, 2 * PAGE).body.equals(data.subarray(0, 2 * PAGE)));
  t.equal(kernel.gatheredCount, 2);
  t.equal(read(data.length, PAGE).body.length, 0, 'at its end');
  t.equal(read(0, PAGE, 77).error, -116, 'ESTALE');
  t.equal(read(0, PAGE, 1).error, -21, 'EISDIR');
  t.equal(kernel.gatheredCount, 2, 'these have no pieces');
  t.equal(kernel.session.waitingCount, 0);
  kernel.session.close();
  files.close();
  kernel.free();
  t.ok(store?.room().usedPageCount !== undefined);
});
