/** Bits with summaries against a plain array of booleans. */
import t from 'tap';
import { FreeBits } from '../../fuse-fs/free-bits.ts';
import { seededRandom } from '../helpers/sim-world.ts';

const SEED = Number(process.env['SEED'] ?? 1);

t.test('sizes at the borders of words and levels', (t) => {
  for (const count of [1, 31, 32, 33, 1023, 1024, 1025, 32_768, 32_769]) {
    const bits = new FreeBits(count);
    t.equal(bits.setCount, count);
    t.equal(bits.next(0), 0);
    t.equal(bits.next(count - 1), count - 1);
    t.equal(bits.next(count), -1);
    t.equal(bits.runEnd(0, count), count);
    bits.clear(0, count);
    t.equal(bits.next(0), -1);
    bits.set(count - 1, count);
    t.equal(bits.next(0), count - 1, `the last of ${count}`);
  }
  t.end();
});

t.test('any changes: next, runs and count are those of a plain array', (t) => {
  const random = seededRandom(SEED);
  const count = 5000;
  const bits = new FreeBits(count);
  const twin = new Array<boolean>(count).fill(true);
  for (let step = 0; step < 3000; step += 1) {
    const first = Math.floor(random() * count);
    const isFree = twin[first] as boolean;
    let end = first;
    const most = first + 1 + Math.floor(random() * (random() < 0.1 ? 4000 : 70));
    while (end < Math.min(most, count) && twin[end] === isFree) end += 1;
    if (isFree) bits.clear(first, end);
    else bits.set(first, end);
    twin.fill(!isFree, first, end);
    const from = Math.floor(random() * count);
    if (bits.next(from) !== twin.indexOf(true, from)) t.fail(`SEED=${SEED} next(${from})`);
    if (bits.isSet(from) !== twin[from]) t.fail(`SEED=${SEED} isSet(${from})`);
    const runEnd = twin.indexOf(false, from);
    const expected = runEnd === -1 ? count : runEnd;
    if (bits.runEnd(from, count) !== expected) t.fail(`SEED=${SEED} runEnd(${from})`);
  }
  t.equal(bits.setCount, twin.filter((free) => free).length);
  t.end();
});
