import t from 'tap';
import { Permits } from '../../../peer/discovery/permits.ts';

t.test('as many at once as it holds, and then one in a while', (t) => {
  const permits = new Permits(3, 1000, 0);
  t.same(
    [0, 0, 0, 0].map((nowMs) => permits.take(nowMs)),
    [true, true, true, false],
  );
  t.equal(permits.take(999), false);
  t.equal(permits.take(1000), true);
  t.equal(permits.take(1001), false);
  t.same(
    [1e9, 1e9, 1e9, 1e9].map((nowMs) => permits.take(nowMs)),
    [true, true, true, false],
    'no more is saved up',
  );
  t.equal(permits.has(0), false, 'a clock that goes back gives nothing');
  t.end();
});
