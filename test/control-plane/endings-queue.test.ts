/** The queue of endings: order, batches, acknowledgement, its bound. */
import t from 'tap';
import { EndingsQueue, type SignedEnding } from '../../control-plane/endings-queue.ts';

function ending(n: number): SignedEnding {
  const leaseId = n.toString(16).padStart(32, '0');
  const rest = { client: 'c'.repeat(32), sizeBytes: 1, reason: 'expired' as const };
  return { leaseId, ...rest, wipedBytes: 0, wipeMs: 0, receipt: 'r' };
}

t.test('batches come in order and stay until they are acknowledged', async (t) => {
  const queue = new EndingsQueue();
  t.strictSame(queue.batch(), []);
  for (let n = 0; n < 100; n += 1) queue.push(ending(n));
  const first = queue.batch();
  t.equal(first.length, 48);
  t.strictSame(queue.batch(), first);
  queue.acknowledge(first);
  t.equal(queue.length, 52);
  t.equal(queue.batch()[0]?.leaseId, ending(48).leaseId);
  queue.acknowledge(first);
  t.equal(queue.length, 52, 'acknowledged once');
});

t.test('at the bound the oldest goes', async (t) => {
  const queue = new EndingsQueue();
  for (let n = 0; n < 16_384; n += 1) queue.push(ending(n));
  t.equal(queue.droppedCount, 0);
  const batch = queue.batch();
  queue.push(ending(16_384));
  t.equal(queue.length, 16_384);
  t.equal(queue.droppedCount, 1);
  queue.acknowledge(batch);
  t.equal(queue.length, 16_384 - 47, 'what was dropped meanwhile is not missed');
});
