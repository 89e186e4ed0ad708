/** A measurement in which pages were elided instead of sent is refused. */
import t from 'tap';
import { refuseCoalescing, refuseElision } from '../../../bench/targets/memcloud.ts';

t.test('counters', async (t) => {
  const sent = { pagesWritten: 10_000, zeroPages: 0, filledPages: 0, pagesSent: 9000 };
  t.doesNotThrow(() => refuseElision(sent), 'coalesced rewrites are no elision');
  t.doesNotThrow(() => refuseElision({ ...sent, zeroPages: 10 }));
  t.throws(() => refuseElision({ ...sent, zeroPages: 11 }), /of 10000, 11 were zero/);
  t.throws(() => refuseElision({ ...sent, filledPages: 11 }), /11 same-filled/);
  t.throws(() => refuseElision({ ...sent, pagesSent: 0 }), /0 were sent/);
  t.throws(() => refuseElision({}), /were zero/, 'counters that are not there prove nothing');
});

t.test('rewrites in the ring', async (t) => {
  t.doesNotThrow(() => refuseCoalescing({ pagesWritten: 10_000, coalescedPages: 10 }));
  t.throws(
    () => refuseCoalescing({ pagesWritten: 10_000, coalescedPages: 11 }),
    /of 10000, 11 were rewritten/,
  );
  t.throws(() => refuseCoalescing({}), /rewritten/, 'counters that are not there prove nothing');
});
