/** Refusals may not flood the audit log. */
import t from 'tap';
import { DenialLines } from '../../control-plane/denial-lines.ts';

t.test('a hundred at once, then five a second, and the rest counted', async (t) => {
  const lines = new DenialLines();
  const took = Array.from({ length: 1000 }, () => lines.take('a', 0)).filter(
    (n) => n !== undefined,
  );
  t.equal(took.length, 100);
  t.ok(took.every((suppressed) => suppressed === 0));
  t.equal(lines.take('a', 199), undefined);
  t.equal(lines.take('a', 200), 901);
  t.equal(lines.take('a', 200), undefined);
  t.equal(lines.take('b', 200), 0, 'each node has its own');
  t.equal(lines.take('a', 10_000_000), 1);
});

t.test('many nodes do not take memory without end', async (t) => {
  const lines = new DenialLines();
  for (let n = 0; n < 30_000; n += 1) lines.take(`n${n}`, 0);
  t.equal(lines.take('n0', 0), 0, 'it was forgotten');
});
