/** Machines and who takes slabs: who says nothing is one of its own. */
import t from 'tap';
import { hostCount, hostOf, takesSlabs } from '../../common/slab-sources.ts';

t.test('two providers on one kernel are one machine, strangers are their own', (t) => {
  const a = { hostId: 'kernel-1', nodeId: 'a' };
  const b = { hostId: 'kernel-1', nodeId: 'b' };
  const c = { hostId: '', nodeId: 'c' };
  const d = { hostId: '', nodeId: 'd' };
  t.same([a, b, c, d].map(hostOf), ['kernel-1', 'kernel-1', 'c', 'd']);
  t.equal(hostCount([a, b]), 1);
  t.equal(hostCount([a, b, c, d]), 3);
  t.equal(hostCount([]), 0);
  t.end();
});

t.test('who is away, drained or not believed takes no slabs', (t) => {
  const fine = { up: true, accepting: true, quarantineReason: undefined };
  t.equal(takesSlabs(fine), true);
  t.equal(takesSlabs({ ...fine, up: false }), false);
  t.equal(takesSlabs({ ...fine, accepting: false }), false);
  t.equal(takesSlabs({ ...fine, quarantineReason: 'it lied' }), false);
  t.end();
});
