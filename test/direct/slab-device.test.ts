/** The device over real slabs, held equal to a plain array of bytes across the border of two slabs. */
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { IoStatus, type BlockQueue, type IoStatusValue } from '../../common/ports.ts';
import { PageBounce, SlabDevice } from '../../direct/slab-device.ts';
import { RamProvider } from '../../provider/service.ts';
import { tmpfsBase } from '../helpers/tmpfs.ts';

const PAGE = 4096;
const SLAB_PAGES = 65_536;
const WINDOW_PAGES = 150;
/** The window under test: its middle is the border of the two slabs. */
const BASE = (SLAB_PAGES - WINDOW_PAGES / 2) * PAGE;
const SIZE = (SLAB_PAGES + 200) * PAGE;

interface Rig {
  provider: RamProvider;
  device: SlabDevice;
  queue: BlockQueue;
  memory: NativeMemory;
  /** The status of each request that ended, in order. */
  ends: [number, IoStatusValue][];
  /** Ends every lease under the device. */
  revoke(): void;
}

function rigOf(t: Test, offeredBytes = 2 ** 30): Rig {
  const provider = RamProvider.open({
    offeredBytes,
    directory: tmpfsBase(t),
    noswap: 'off',
    reserveBytes: 0,
  });
  const access = provider.openAccess('holder');
  const bounce = new PageBounce();
  const slabHandles = [SLAB_PAGES, 200].map(
    (pageCount) => access.lease({ pageCount, ttlMs: 60_000 }).slabHandle,
  );
  const device = new SlabDevice({ name: 'device', sizeBytes: SIZE, access, slabHandles, bounce });
  const ends: [number, IoStatusValue][] = [];
  const queue = device.openQueue({ onBlockDone: (tag, status) => ends.push([tag, status]) });
  const memory = new NativeMemory(WINDOW_PAGES * PAGE + PAGE);
  t.teardown(() => {
    device.shutDown();
    provider.close();
    bounce.free();
    memory.free();
  });
  return { provider, device, queue, memory, ends, revoke: () => void provider.revoke('holder') };
}

/** Runs one call that ends before it returns; its status. */
function statusOf({ ends }: Rig, call: (tag: number) => void): IoStatusValue | undefined {
  const tag = ends.length + 1000;
  call(tag);
  const last = ends.at(-1);
  return last?.[0] === tag ? last[1] : undefined;
}

function readBack(rig: Rig, offset: number, length: number): Buffer {
  rig.memory.bytes.fill(0xee);
  const status = statusOf(rig, (tag) => rig.queue.read(tag, offset, length, rig.memory, 16));
  if (status !== IoStatus.OK) throw new Error(`read ended with ${status}`);
  if (rig.memory.bytes[15] !== 0xee || rig.memory.bytes[16 + length] !== 0xee) {
    throw new Error('a read wrote outside its range');
  }
  return Buffer.from(rig.memory.bytes.subarray(16, 16 + length));
}

const range = fc
  .tuple(fc.nat(WINDOW_PAGES * PAGE - 1), fc.nat(70 * PAGE))
  .map(([start, length]) => [start, Math.max(1, Math.min(length, WINDOW_PAGES * PAGE - start))]);
const alignedRange = range.map(([start = 0, length = 1]) => {
  const first = Math.floor(start / PAGE) * PAGE;
  return [first, Math.max(PAGE, Math.floor(length / PAGE) * PAGE)];
});

t.test('equals an array of bytes, whatever the ranges', { timeout: 120_000 }, async (t) => {
  const rig = rigOf(t);
  const step = fc.tuple(
    fc.constantFrom('tryWrite', 'write', 'trim', 'writeZeroes', 'read', 'flush'),
    fc.oneof(range, alignedRange),
    fc.nat(255),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      rig.queue.trim(1, 0, SIZE);
      const twin = Buffer.alloc(WINDOW_PAGES * PAGE);
      const written = new Set<number>();
      for (const [kind, [start = 0, length = 0], seed] of steps) {
        const offset = BASE + start;
        const first = Math.ceil(start / PAGE);
        const end = Math.floor((start + length) / PAGE);
        if (kind === 'read') {
          if (!readBack(rig, offset, length).equals(twin.subarray(start, start + length))) {
            return false;
          }
        } else if (kind === 'flush') {
          if (statusOf(rig, (tag) => rig.queue.flush(tag)) !== IoStatus.OK) return false;
        } else if (kind === 'trim') {
          if (statusOf(rig, (tag) => rig.queue.trim(tag, offset, length)) !== 0) return false;
          if (end > first) twin.fill(0, first * PAGE, end * PAGE);
          for (let page = first; page < end; page += 1) written.delete(page);
        } else if (kind === 'writeZeroes') {
          const zero = (tag: number): void => rig.queue.writeZeroes(tag, offset, length, true);
          if (statusOf(rig, zero) !== 0) return false;
          twin.fill(0, start, start + length);
          for (const edge of [start, start + length - 1].map((at) => Math.floor(at / PAGE))) {
            if (edge < first || edge >= end) written.add(edge);
          }
          for (let page = first; page < end; page += 1) written.delete(page);
        } else {
          for (let at = 0; at < length; at += 1) rig.memory.bytes[7 + at] = (seed + at) % 251;
          rig.memory.bytes.copy(twin, start, 7, 7 + length);
          const write = (tag: number): void => {
            if (kind === 'write') rig.queue.write(tag, offset, length, rig.memory, 7, true);
            else if (!rig.queue.tryWrite(tag, offset, length, rig.memory, 7, false)) tag = -1;
          };
          if (statusOf(rig, write) !== 0) return false;
          const last = Math.floor((start + length - 1) / PAGE);
          for (let page = Math.floor(start / PAGE); page <= last; page += 1) written.add(page);
        }
        if (rig.device.residentBytes !== written.size * PAGE) return false;
      }
      const extents: number[] = [];
      rig.device.extents(BASE, twin.length, (length, flags) => {
        for (let page = 0; page < length / PAGE; page += 1) extents.push(flags);
        return true;
      });
      const expected = Array.from({ length: WINDOW_PAGES }, (_, page) =>
        written.has(page) ? 0 : 3,
      );
      return (
        extents.join() === expected.join() &&
        readBack(rig, BASE, twin.length).equals(twin) &&
        readBack(rig, BASE - 100, 100).equals(Buffer.alloc(100))
      );
    }),
    { numRuns: 80 },
  );
});

t.test('RAM is taken by what is written and given back by what is trimmed', async (t) => {
  const rig = rigOf(t);
  t.equal(rig.provider.usage().residentBytes, 0);
  const all = Buffer.alloc(100 * PAGE, 5);
  rig.memory.bytes.set(all);
  rig.queue.write(1, BASE, all.length, rig.memory, 0, false);
  t.equal(rig.device.residentBytes, all.length);
  const resident = rig.provider.usage().residentBytes;
  t.ok(resident >= all.length && resident <= all.length + 4 * PAGE, `${resident} bytes resident`);
  rig.queue.trim(2, 0, SIZE);
  t.equal(rig.device.residentBytes, 0);
  t.equal(rig.provider.usage().residentBytes, 0);
  t.ok(readBack(rig, BASE, all.length).equals(Buffer.alloc(all.length)));
});

t.test('pages are stored with a tag of zeroes', async (t) => {
  const provider = RamProvider.open({
    offeredBytes: 2 ** 22,
    directory: tmpfsBase(t),
    noswap: 'off',
    reserveBytes: 0,
  });
  const access = provider.openAccess('holder');
  const { slabHandle } = access.lease({ pageCount: 4, ttlMs: 60_000 });
  const bounce = new PageBounce();
  const parts = { name: 'device', sizeBytes: 4 * PAGE, access, slabHandles: [slabHandle], bounce };
  const device = new SlabDevice(parts);
  const memory = new NativeMemory(8 * PAGE);
  t.teardown(() => {
    provider.close();
    bounce.free();
    memory.free();
  });
  const content = randomBytes(3 * PAGE);
  memory.bytes.set(content);
  t.equal(device.write(100, content.length, memory, 0), IoStatus.OK);
  access.readPages(slabHandle, 0, 4, memory, 0);
  const expected = Buffer.alloc(4 * PAGE);
  expected.set(content, 100);
  for (let page = 0; page < 4; page += 1) {
    const sealed = memory.bytes.subarray(page * 4112, (page + 1) * 4112);
    t.ok(sealed.subarray(0, PAGE).equals(expected.subarray(page * PAGE, (page + 1) * PAGE)));
    t.same(sealed.subarray(PAGE), Buffer.alloc(16), `tag of page ${page}`);
  }
});

t.test('a great trim goes on slice by slice, and ends once', async (t) => {
  const rig = rigOf(t);
  const chunk = 64 * PAGE;
  for (let at = 0; at < 20_000 * PAGE; at += chunk)
    rig.queue.write(1, at, chunk, rig.memory, 0, false);
  const before = rig.ends.length;
  rig.queue.trim(77, 0, SIZE);
  t.equal(rig.ends.length, before, 'it has not ended when the call returns');
  t.equal(rig.device.residentBytes, (20_032 - 8192) * PAGE, 'one slice is dropped');
  rig.memory.bytes.fill(9);
  rig.queue.write(78, SIZE - PAGE, PAGE, rig.memory, 0, false);
  t.same(rig.ends.at(-1), [78, 0], 'others are served meanwhile');
  while (rig.ends.at(-1)?.[0] !== 77) await new Promise((resolve) => setImmediate(resolve));
  t.same(rig.ends.at(-1), [77, 0]);
  t.ok(rig.device.residentBytes <= PAGE);
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal(rig.ends.filter(([tag]) => tag === 77).length, 1);
});

for (const how of ['close', 'fence'] as const) {
  t.test(`a great trim stops when its queue is cut off (${how})`, async (t) => {
    const rig = rigOf(t);
    const chunk = 64 * PAGE;
    for (let at = 0; at < 10_240 * PAGE; at += chunk)
      rig.queue.write(1, at, chunk, rig.memory, 0, false);
    rig.queue.trim(77, 0, SIZE);
    t.equal(rig.device.residentBytes, 2048 * PAGE);
    if (how === 'close') rig.queue.close();
    else rig.device.fence();
    await new Promise((resolve) => setTimeout(resolve, 20));
    t.same(rig.ends.at(-1), [77, 5], 'it ends with SHUTDOWN');
    t.equal(rig.device.residentBytes, 2048 * PAGE, 'and dropped no more');
  });
}

t.test('without leases every call says so, and after shutDown too', async (t) => {
  const rig = rigOf(t);
  rig.queue.write(1, 0, 2 * PAGE, rig.memory, 0, false);
  rig.revoke();
  const { queue, memory } = rig;
  t.equal(
    statusOf(rig, (tag) => queue.read(tag, 0, PAGE, memory, 0)),
    6,
  );
  t.equal(
    statusOf(rig, (tag) => queue.write(tag, 0, PAGE, memory, 0, false)),
    6,
  );
  t.equal(
    statusOf(rig, (tag) => queue.write(tag, 1, 5, memory, 0, false)),
    6,
  );
  t.equal(
    statusOf(rig, (tag) => queue.trim(tag, 0, SIZE)),
    6,
  );
  t.equal(
    statusOf(rig, (tag) => queue.writeZeroes(tag, 1, PAGE, false)),
    6,
  );
  rig.device.shutDown();
  t.equal(
    statusOf(rig, (tag) => queue.read(tag, 0, PAGE, memory, 0)),
    5,
  );
  t.equal(
    statusOf(rig, (tag) => queue.write(tag, 0, PAGE, memory, 0, false)),
    5,
  );
  t.equal(rig.device.requestCount, 8);
});

t.test(
  'a buffer without room for the range is our own fault, and nothing is touched',
  async (t) => {
    const rig = rigOf(t);
    const { queue, memory } = rig;
    const size = memory.bytes.length;
    t.throws(() => queue.read(1, 0, PAGE, memory, size - PAGE + 1), RangeError);
    t.throws(() => queue.write(1, 0, PAGE, memory, size - PAGE + 1, false), RangeError);
    t.equal(rig.device.residentBytes, 0);
  },
);

t.test('extents stop when they are told to and never leave the range asked', async (t) => {
  const rig = rigOf(t);
  rig.queue.write(1, 3 * PAGE, 2 * PAGE, rig.memory, 0, false);
  const runs: [number, number][] = [];
  rig.device.extents(100, 6 * PAGE, (length, flags) => runs.push([length, flags]) < 10);
  t.same(runs, [
    [3 * PAGE - 100, 3],
    [2 * PAGE, 0],
    [PAGE + 100, 3],
  ]);
  let count = 0;
  rig.device.extents(0, SIZE, () => (count += 1) < 2);
  t.equal(count, 2);
});
