/** Machines without counters say so in the place of the number. */
import t from 'tap';
import { parsePerfStat } from '../../../bench/limits/perf-stat.ts';

t.test('counts are read by the name of the event', async (t) => {
  const text = [
    '# started on Sun Nov 22 09:00:00 2026',
    '',
    '123456,,cycles:u,1000000,100.00,,',
    '654321,,instructions,1000000,100.00,5.30,insn per cycle',
    '',
  ].join('\n');
  t.same(parsePerfStat(text), { instructions: 654321, cycles: 123456 });
});

t.test('a machine that counts only one of them counts none', async (t) => {
  const text = '<not supported>,,instructions,0,100.00,,\n5,,cycles,1,100.00,,\n';
  t.equal(parsePerfStat(text), undefined);
});

t.test('a report without the events is refused', async (t) => {
  t.throws(() => parsePerfStat('5,,cycles,1,100.00,,\n'), /expected a line for instructions/);
});
