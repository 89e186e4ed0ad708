/** A copy of a slab: whole, behind, catching up. */
import t from 'tap';
import { Replica } from '../../tier/replica.ts';
import type { SourceLink } from '../../tier/source-link.ts';

const grant = { leaseId: 'a', slabHandle: 1 };
const healthy = { healthy: true } as SourceLink;

t.test('a copy of a slab that holds no page yet is whole', (t) => {
  const replica = new Replica(healthy, grant);
  t.ok(replica.whole && replica.sound && replica.writable);
  t.ok(replica.has(4095) && replica.hasRun(0, 4096));
  t.equal(replica.nextMissing(0, 4096), 4096);
  t.end();
});

t.test('a copy is sound only while its provider answers', (t) => {
  const replica = new Replica({ healthy: false } as SourceLink, grant);
  t.equal(replica.whole, true);
  t.equal(replica.sound, false);
  t.end();
});

t.test('what it missed it lacks, the rest it has', (t) => {
  const replica = new Replica(healthy, grant);
  replica.miss(10, 3);
  t.equal(replica.whole, false);
  t.equal(replica.missingCount, 3);
  t.same(
    [9, 10, 12, 13].map((page) => replica.has(page)),
    [true, false, false, true],
  );
  t.equal(replica.hasRun(5, 5), true);
  t.equal(replica.hasRun(5, 6), false);
  t.equal(replica.nextMissing(0, 4096), 10);
  t.equal(replica.nextMissing(11, 4096), 11);
  t.equal(replica.nextMissing(13, 4096), 4096);
  t.end();
});

t.test('one that takes writes is whole as soon as it lacks nothing', (t) => {
  const replica = new Replica(healthy, grant);
  replica.miss(0, 2);
  replica.gain(0, 1);
  replica.gain(0, 1);
  t.equal(replica.whole, false);
  replica.gain(1, 1);
  t.equal(replica.whole, true);
  t.end();
});

t.test('one that is behind stays so until it rejoins: more may pass it by', (t) => {
  const replica = new Replica(healthy, grant);
  replica.writable = false;
  replica.miss(7, 1);
  replica.gain(7, 1);
  t.equal(replica.missingCount, 0);
  t.equal(replica.whole, false);
  replica.rejoin();
  t.ok(replica.whole && replica.writable);
  replica.writable = false;
  replica.miss(8, 1);
  replica.rejoin();
  t.equal(replica.whole, false, 'it has still to catch up');
  t.end();
});
