/** The queue of wipes: a slice now, the rest in later turns, everything at the close. */
import t from 'tap';
import type { Slab } from '../../provider/slab.ts';
import { WipeQueue, idsByHolder, type SlabLease } from '../../provider/wipe-queue.ts';

const MIB = 2 ** 20;

function leaseOf(id: string, holder: string, residentBytes: number): SlabLease {
  const slab = { residentBytes } as Slab;
  const rest = { handle: 1, epoch: 0, chargedBytes: 1, limit: undefined, expiresAtMs: 0 };
  return { id, holder, slab, ...rest };
}

function begin() {
  const ended: string[] = [];
  const told: [string, readonly string[]][] = [];
  const queue = new WipeQueue({
    end: ({ id }, reason) => ended.push(`${id} ${reason}`),
    tell: (holder, ids) => told.push([holder, ids]),
  });
  return { ended, told, queue };
}

t.test('a slice goes at once, the next in the next turn', async (t) => {
  const { ended, told, queue } = begin();
  const leases = ['1', '2', '3', '4', '5'].map((id) => {
    return leaseOf(id, id === '2' ? 'b' : 'a', 16 * MIB);
  });
  queue.add(leases, 'expired');
  t.strictSame(ended, ['1 expired', '2 expired']);
  t.equal(queue.count, 3);
  t.strictSame(told, [
    ['a', ['1']],
    ['b', ['2']],
  ]);
  queue.add([leaseOf('6', 'a', 0)], 'revoked');
  t.equal(ended.length, 2, 'what comes meanwhile waits its turn');
  await new Promise(setImmediate);
  t.equal(ended.length, 4);
  await new Promise(setImmediate);
  t.strictSame(ended.slice(4), ['5 expired', '6 revoked']);
  t.equal(queue.count, 0);
});

t.test('one that is larger than a slice is wiped whole', async (t) => {
  const { ended, queue } = begin();
  queue.add([leaseOf('1', 'a', 256 * MIB), leaseOf('2', 'a', 0)], 'expired');
  t.equal(ended.length, 1);
  await new Promise(setImmediate);
  t.equal(ended.length, 2);
});

t.test('the close wipes all that waits and tells nobody', async (t) => {
  const { ended, told, queue } = begin();
  queue.add(
    ['1', '2', '3'].map((id) => leaseOf(id, 'a', 32 * MIB)),
    'expired',
  );
  told.length = 0;
  queue.close();
  t.equal(ended.length, 3);
  await new Promise(setImmediate);
  t.equal(ended.length, 3);
  t.strictSame(told, []);
});

t.test('ids are gathered by holder, in order', async (t) => {
  const leases = [leaseOf('1', 'a', 0), leaseOf('2', 'b', 0), leaseOf('3', 'a', 0)];
  t.strictSame(
    [...idsByHolder(leases)],
    [
      ['a', ['1', '3']],
      ['b', ['2']],
    ],
  );
});
