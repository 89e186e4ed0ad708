import t from 'tap';
import type { BlockDevice } from '../../common/ports.ts';
import { ExtentList } from '../../nbd-server/block-status.ts';

/** A device that reports the given runs, whatever it is asked, until it is told to stop. */
function reporting(runs: readonly (readonly [number, number])[]): BlockDevice & { calls: number } {
  return {
    name: 'd',
    description: '',
    sizeBytes: 2 ** 50,
    calls: 0,
    openQueue: () => {
      throw new Error('not opened here');
    },
    extents(_offset, _length, emit) {
      for (const [length, flags] of runs) {
        this.calls += 1;
        if (!emit(length, flags)) return;
      }
    },
  };
}

function descriptors(list: ExtentList): [number, number][] {
  const view = new DataView(new ArrayBuffer(list.count * 8));
  list.encode32(view, 0);
  return Array.from({ length: list.count }, (_, i) => [
    view.getUint32(i * 8),
    view.getUint32(i * 8 + 4),
  ]);
}

t.test('runs of equal flags are merged, empty ones dropped, the last one clamped', async (t) => {
  const list = new ExtentList();
  const runs = [
    [4096, 3],
    [4096, 3],
    [0, 0],
    [4096, 0],
    [0, 3],
    [9999, 0],
    [4096, 3],
  ] as const;
  const device = reporting(runs);
  list.collect(device, 0, 10_000, false);
  t.same(descriptors(list), [
    [8192, 3],
    [1808, 0],
  ]);
  t.equal(device.calls, 4, 'the device is told to stop when the range is covered');
});

t.test('REQ_ONE gives one descriptor, which may be merged', async (t) => {
  const list = new ExtentList();
  const runs = [
    [4096, 3],
    [4096, 3],
    [4096, 0],
  ] as const;
  list.collect(reporting(runs), 0, 100_000, true);
  t.same(descriptors(list), [[8192, 3]]);
});

t.test('a device that says nothing means data', async (t) => {
  const list = new ExtentList();
  list.collect(reporting([]), 0, 512, false);
  t.same(descriptors(list), [[512, 0]]);
});

t.test('at most 4096 descriptors', async (t) => {
  const list = new ExtentList();
  const runs = Array.from({ length: 5000 }, (_, i) => [512, i % 2] as const);
  const device = reporting(runs);
  list.collect(device, 0, 2 ** 40, false);
  t.equal(list.count, 4096);
  t.equal(device.calls, 4097);
});

t.test('64-bit descriptors carry lengths beyond 2^32', async (t) => {
  const list = new ExtentList();
  list.collect(reporting([[2 ** 40, 3]]), 0, 2 ** 41, false);
  const view = new DataView(new ArrayBuffer(16));
  list.encode64(view, 0);
  t.equal(view.getBigUint64(0), 2n ** 40n);
  t.equal(view.getBigUint64(8), 3n);
});
