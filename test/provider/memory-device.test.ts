/** RAM of this process as a block device: like a plain buffer, exact in the ledger and in the file. */
import t, { type Test } from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { viewMemory } from '../../common/libc.ts';
import { NativeMemory } from '../../common/native-memory.ts';
import type { ObjectMemory } from '../../common/objects.ts';
import { ExtentFlag, IoStatus } from '../../common/ports.ts';
import { MemoryBlockDevice } from '../../provider/memory-device.ts';
import { RamProvider, type RamProviderOptions } from '../../provider/service.ts';
import { seededRandom } from '../helpers/sim-world.ts';
import { allocatedBytes, isZero, fileBytes, smallTmpfs, tmpfsBase } from '../helpers/tmpfs.ts';

const OWNER = 'a'.repeat(32);
const MIB = 2 ** 20;
const PAGE = 4096;
const SEED = Number(process.env['SEED'] ?? 1);
const HOLE = ExtentFlag.HOLE | ExtentFlag.ZERO;

function setUp(t: Test, sizeBytes: number, options: Partial<RamProviderOptions> = {}) {
  const memory = { availableBytes: 1000 * MIB, stallTotalUs: undefined };
  const clock = { ms: 1000, nowMs: () => clock.ms };
  const provider = RamProvider.open({
    offeredBytes: 64 * MIB,
    directory: tmpfsBase(t),
    noswap: 'off',
    clock,
    reserveBytes: 100 * MIB,
    readHostMemory: () => ({ totalBytes: 2000 * MIB, availableBytes: memory.availableBytes }),
    readPressure: () => memory,
    ...options,
  });
  const device = new MemoryBlockDevice({
    ...{ name: 'own', sizeBytes, memory: provider.openObjectMemory(), owner: OWNER },
  });
  const buffer = new NativeMemory(4 * MIB);
  t.teardown(() => {
    device.close();
    provider.close();
    buffer.free();
  });
  const ends: [number, number][] = [];
  const queue = device.openQueue({ onBlockDone: (tag, status) => ends.push([tag, status]) });
  return { provider, memory, clock, device, queue, ends, buffer };
}

function extentsOf(device: MemoryBlockDevice, offset: number, length: number): [number, number][] {
  const runs: [number, number][] = [];
  device.extents(offset, length, (bytes, flags) => runs.push([bytes, flags]) > 0);
  return runs;
}

t.test('any request in any order reads as a plain buffer would', async (t) => {
  const random = seededRandom(SEED);
  const size = 600 * PAGE;
  const { provider, device, queue, ends, buffer } = setUp(t, size);
  const image = Buffer.alloc(size);
  const held = new Uint8Array(600);
  const pick = (below: number): number => Math.floor(random() * below);
  for (let step = 0; step < 3000; step += 1) {
    const aligned = random() < 0.5;
    const offset = aligned ? pick(600) * PAGE : pick(size - 1);
    const most = Math.min(random() < 0.8 ? 5 * PAGE : 80 * PAGE, size - offset);
    const length = aligned ? Math.max(1, pick(most / PAGE)) * PAGE : 1 + pick(most);
    const first = Math.floor(offset / PAGE);
    const end = Math.ceil((offset + length) / PAGE);
    const wholeFirst = Math.ceil(offset / PAGE);
    const wholeEnd = Math.max(wholeFirst, Math.floor((offset + length) / PAGE));
    const kind = pick(4);
    if (kind === 0) {
      for (let at = 0; at < length; at += 1) buffer.bytes[at] = 1 + pick(255);
      const whole = random() < 0.5;
      if (whole) t.ok(queue.tryWrite(step, offset, length, buffer, 0, false));
      else queue.write(step, offset, length, buffer, 0, true);
      buffer.bytes.copy(image, offset, 0, length);
      held.fill(1, first, end);
    } else if (kind === 1) {
      queue.trim(step, offset, length);
      image.fill(0, wholeFirst * PAGE, wholeEnd * PAGE);
      held.fill(0, wholeFirst, wholeEnd);
    } else if (kind === 2) {
      queue.writeZeroes(step, offset, length, false);
      image.fill(0, offset, offset + length);
      held.fill(0, wholeFirst, wholeEnd);
    } else {
      buffer.bytes.fill(0xee, 0, length + 1);
      queue.read(step, offset, length, buffer, 0);
      const same = buffer.bytes.subarray(0, length).equals(image.subarray(offset, offset + length));
      if (!same || buffer.bytes[length] !== 0xee) t.fail(`seed ${SEED}, step ${step}: read`);
    }
    const last = ends.pop();
    if (last?.[0] !== step || last[1] !== IoStatus.OK) t.fail(`seed ${SEED}, step ${step}: end`);
  }
  const heldCount = held.reduce((sum, bit) => sum + bit, 0);
  t.equal(allocatedBytes(provider.status().files[0]!), heldCount * PAGE, 'a page for each held');
  let at = 0;
  for (const [bytes, flags] of extentsOf(device, 0, size)) {
    for (const stop = at + bytes; at < stop; at += PAGE) {
      if ((flags === 0) !== (held[at / PAGE] === 1)) t.fail(`extent at ${at}`);
    }
  }
  t.equal(at, size);
  for (let page = 0; page < 600; page += 1) {
    const address = queue.addressOf!(page);
    const bytes = address === 0 ? Buffer.alloc(PAGE) : viewMemory(address, PAGE);
    if (!bytes.equals(image.subarray(page * PAGE, (page + 1) * PAGE))) t.fail(`page ${page}`);
    if ((address !== 0) !== (held[page] === 1)) t.fail(`page ${page} is held`);
    const run = queue.runLength!(page, 600 - page);
    const changes = held.findIndex((bit, at) => at > page && bit !== held[page]);
    if (run !== (changes === -1 ? 600 : changes) - page) t.fail(`run of page ${page}`);
  }
  const runs = new Set([...held.keys()].filter((page) => held[page] === 1).map((p) => p >> 8));
  t.equal(device.chargedBytes, runs.size * MIB);
  t.equal(provider.usage().usedBytes, runs.size * MIB);
  queue.trim(0, 0, size);
  t.equal(device.chargedBytes, 0);
  t.equal(provider.usage().usedBytes, 0);
  t.equal(allocatedBytes(provider.status().files[0]!), 0);
  t.same(extentsOf(device, 100, 5000), [[5000, HOLE]]);
});

t.test('a write beyond what the provider offers changes nothing', async (t) => {
  const { provider, device, queue, ends, buffer } = setUp(t, 8 * MIB, { offeredBytes: 2 * MIB });
  buffer.bytes.fill(7);
  queue.write(1, 0, MIB, buffer, 0, false);
  t.equal(device.freeBytes, MIB);
  queue.write(2, MIB, 2 * MIB, buffer, 0, false);
  t.same(ends.splice(0), [
    [1, IoStatus.OK],
    [2, IoStatus.NO_SPACE],
  ]);
  t.equal(device.chargedBytes, MIB);
  t.equal(provider.usage().residentBytes, MIB);
  t.same(extentsOf(device, 0, 8 * MIB), [
    [MIB, 0],
    [7 * MIB, HOLE],
  ]);
  queue.write(3, 0, MIB, buffer, MIB, false);
  queue.write(4, 5 * MIB, PAGE, buffer, 0, false);
  t.same(
    ends.splice(0),
    [
      [3, IoStatus.OK],
      [4, IoStatus.OK],
    ],
    'what is left can still be had',
  );
  t.equal(device.freeBytes, 0);
});

t.test('while the owner of the machine is short of memory nothing new is taken', async (t) => {
  const { memory, clock, device, queue, ends, buffer } = setUp(t, 8 * MIB);
  queue.write(1, 0, PAGE, buffer, 0, false);
  memory.availableBytes = 100 * MIB;
  clock.ms += 1000;
  t.equal(device.freeBytes, 0);
  queue.write(2, 4 * MIB, PAGE, buffer, 0, false);
  queue.write(3, 0, PAGE, buffer, 0, false);
  t.same(ends, [
    [1, IoStatus.OK],
    [2, IoStatus.NO_SPACE],
    [3, IoStatus.OK],
  ]);
});

t.test('a tmpfs without room is NO_SPACE, with what was charged given back', async (t) => {
  const directory = smallTmpfs(t, MIB);
  if (directory === undefined) return;
  const { provider, device, queue, ends, buffer } = setUp(t, 8 * MIB, { directory });
  queue.write(1, 0, 2 * MIB, buffer, 0, false);
  t.same(ends, [[1, IoStatus.NO_SPACE]]);
  t.equal(device.chargedBytes, 0);
  t.equal(provider.usage().usedBytes, 0);
  t.equal(provider.usage().residentBytes, 0);
});

t.test('a system without another mapping is NO_SPACE too', async (t) => {
  const { provider, buffer } = setUp(t, 8 * MIB);
  const memory = provider.openObjectMemory();
  const short = Object.create(memory) as ObjectMemory;
  short.takeArena = () => {
    throw new MemcloudError('ERR_NATIVE', 'mmap failed: ENOMEM');
  };
  for (const name of ['charge', 'refund'] as const)
    short[name] = memory[name].bind(memory) as never;
  const device = new MemoryBlockDevice({
    ...{ name: 'short', sizeBytes: 8 * MIB, memory: short, owner: OWNER },
  });
  const ends: number[] = [];
  const queue = device.openQueue({ onBlockDone: (_, status) => ends.push(status) });
  queue.write(1, 0, PAGE, buffer, 0, false);
  t.same(ends, [IoStatus.NO_SPACE]);
  t.equal(provider.usage().usedBytes, 0);
  device.close();
});

t.test('more than one arena', async (t) => {
  const size = 2 ** 30 + 4 * MIB;
  const { provider, queue, ends, buffer } = setUp(t, size);
  for (let at = 0; at < 64 * PAGE; at += 1) buffer.bytes[at] = (at >> 8) & 0xff;
  const offset = 2 ** 30 - 32 * PAGE - 5;
  queue.write(1, offset, 64 * PAGE, buffer, 0, false);
  queue.read(2, offset, 64 * PAGE, buffer, MIB);
  t.ok(buffer.bytes.subarray(0, 64 * PAGE).equals(buffer.bytes.subarray(MIB, MIB + 64 * PAGE)));
  t.equal(provider.status().files.length, 2);
  queue.trim(3, offset, 64 * PAGE);
  queue.writeZeroes(4, offset, 64 * PAGE, false);
  t.same(
    ends.map(([, status]) => status),
    [0, 0, 0, 0],
  );
  t.equal(provider.usage().residentBytes, 2 * PAGE, 'the pages at its edges');
});

t.test('closed, it is wiped, gives everything back and takes nothing', async (t) => {
  const { provider, device, queue, ends, buffer } = setUp(t, 8 * MIB);
  buffer.bytes.fill(0xd7);
  queue.write(1, 0, MIB, buffer, 0, false);
  const [file] = provider.status().files;
  t.notOk(isZero(fileBytes(file!, 0, PAGE)));
  queue.flush(2);
  device.close();
  device.close();
  t.equal(provider.usage().usedBytes, 0);
  t.same(provider.status().files, []);
  queue.read(3, 0, PAGE, buffer, 0);
  queue.write(4, 0, PAGE, buffer, 0, false);
  queue.trim(5, 0, PAGE);
  t.same(ends.splice(0), [[1, 0], [2, 0], ...[3, 4, 5].map((tag) => [tag, IoStatus.SHUTDOWN])]);
  t.equal(queue.addressOf!(0), 0);
  queue.close();
});
