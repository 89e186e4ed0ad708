/** When a second provider is asked, and how often at most. */
import t from 'tap';
import { HedgeWatch } from '../../tier/hedge.ts';
import { seededRandom } from '../helpers/sim-world.ts';

t.test('the delay follows the 95th percentile of what reads take', (t) => {
  const watch = new HedgeWatch();
  const random = seededRandom(3);
  // 5 to 15 ms, evenly: the percentile is 14.5.
  for (let read = 0; read < 5_000; read += 1) watch.sample(5 + 10 * random());
  t.ok(Math.abs(watch.delayMs - 14.5) < 1.5, `${watch.delayMs} ms`);
  for (let read = 0; read < 5_000; read += 1) watch.sample(50 + 100 * random());
  t.ok(Math.abs(watch.delayMs - 145) < 15, `${watch.delayMs} ms after the network grew slow`);
  for (let read = 0; read < 10_000; read += 1) watch.sample(0.1);
  t.equal(watch.delayMs, 2, 'never less than 2 ms');
  for (let read = 0; read < 10_000; read += 1) watch.sample(5_000);
  t.equal(watch.delayMs, 250, 'never more than 250 ms');
  t.end();
});

t.test('reads are late in the order in which they were sent', (t) => {
  const watch = new HedgeWatch();
  for (let read = 0; read < 10_000; read += 1) watch.sample(0.1);
  t.equal(watch.dueInMs(0), undefined);
  watch.add(7, 70, 100);
  watch.add(8, 80, 101);
  t.equal(watch.dueInMs(100.5), 1.5);
  t.equal(watch.takeLate(101), -1);
  t.equal(watch.takeLate(102), 7);
  t.equal(watch.serial, 70);
  t.equal(watch.takeLate(102), -1);
  t.equal(watch.dueInMs(102), 1);
  t.equal(watch.takeLate(500), 8);
  t.equal(watch.serial, 80);
  t.equal(watch.takeLate(500), -1);
  t.end();
});

t.test('one read in twenty is asked twice, and no more than 16 are saved up', (t) => {
  const watch = new HedgeWatch();
  t.equal(watch.spend(), false, 'nothing was earned yet');
  const earn = (reads: number): void => {
    for (let read = 0; read < reads; read += 1) {
      watch.add(read, 1, read);
      watch.takeLate(Infinity);
    }
  };
  earn(21);
  t.equal(watch.spend(), true);
  t.equal(watch.spend(), false);
  earn(10_000);
  let spent = 0;
  while (watch.spend()) spent += 1;
  t.equal(spent, 16);
  t.end();
});

t.test('more reads than it can watch are left alone', (t) => {
  const watch = new HedgeWatch();
  for (let read = 0; read < 8_192 + 100; read += 1) watch.add(read, read, 0);
  let taken = 0;
  for (let call = watch.takeLate(1e9); call !== -1; call = watch.takeLate(1e9)) taken += 1;
  t.equal(taken, 8_192);
  t.end();
});
