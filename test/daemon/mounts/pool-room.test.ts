import t from 'tap';
import { largestVolumeBytes } from '../../../daemon/mounts/pool-room.ts';

/** A slab as data, and as its provider keeps it: 4096 pages of 4096, sealed 4112, bytes. */
const DATA = 16_777_216;
const LEASE = 16_842_752;

function rooms(...slabs: (readonly [host: string, count: number])[]): {
  name: string;
  host: string;
  freeBytes: number;
}[] {
  return slabs.map(([host, count]) => ({ name: host, host, freeBytes: count * LEASE + LEASE - 1 }));
}

t.test('the largest volume, in slabs', async (t) => {
  for (const [given, copies, expected] of [
    [rooms(), 1, 0],
    [rooms(['a', 3]), 1, 3],
    [rooms(['a', 3]), 2, 0],
    [rooms(['a', 3], ['b', 5]), 1, 8],
    [rooms(['a', 3], ['b', 5]), 2, 3],
    [rooms(['a', 3], ['a', 5]), 2, 0],
    [rooms(['a', 4], ['b', 4], ['c', 4]), 2, 6],
    [rooms(['a', 100], ['b', 1], ['c', 2]), 2, 3],
    [rooms(['a', 5], ['b', 5], ['c', 1]), 3, 1],
  ] as const) {
    t.equal(largestVolumeBytes(given, copies), expected * DATA, JSON.stringify([given, copies]));
  }
  t.equal(largestVolumeBytes([{ name: 'a', host: 'a', freeBytes: -5 }], 1), 0);
});

t.test('equal to trying every size', async (t) => {
  for (let round = 0; round < 200; round += 1) {
    const counts = [round % 7, (round * 3) % 11, (round * 5) % 13];
    const given = rooms(...counts.map((count, index) => [`h${index}`, count] as const));
    for (const copies of [1, 2, 3]) {
      let best = 0;
      for (let size = 1; size <= 40; size += 1) {
        const room = counts.reduce((sum, count) => sum + Math.min(count, size), 0);
        if (room >= size * copies) best = size;
      }
      t.equal(largestVolumeBytes(given, copies), best * DATA);
    }
  }
});
