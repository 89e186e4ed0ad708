import t from 'tap';
import {
  RecallMachine,
  type RecallNeed,
  type RecallableLease,
} from '../../provider/recall-machine.ts';

const MIB = 2 ** 20;
const CALM: RecallNeed = { draining: false, level: 'calm', shortageBytes: 0, graceMs: 5000 };
const DRAIN: RecallNeed = { ...CALM, draining: true };

function pressed(mib: number): RecallNeed {
  return { ...CALM, level: 'pressed', shortageBytes: mib * MIB };
}

function emergency(mib: number): RecallNeed {
  return { ...CALM, level: 'emergency', shortageBytes: mib * MIB };
}

/** Leases of 16 MiB: `b3` is held by B and was used at 3. */
function leases(...names: string[]): RecallableLease[] {
  return names.map((id) => ({
    id,
    holder: id.charAt(0).toUpperCase(),
    residentBytes: 16 * MIB,
    lastUse: Number(id.slice(1)),
  }));
}

t.test('calm asks for nothing', async (t) => {
  t.same(new RecallMachine().plan(leases('a1'), CALM, 0), { calls: [], ended: [] });
});

t.test('as many as the shortage needs, the coldest first, each holder told once', async (t) => {
  const machine = new RecallMachine();
  const all = leases('a5', 'b1', 'a2', 'b9', 'a3');
  t.same(machine.plan(all, pressed(40), 0).calls, [
    { holder: 'B', leaseIds: ['b1'], endsInMs: Infinity },
    { holder: 'A', leaseIds: ['a2', 'a3'], endsInMs: Infinity },
  ]);
  t.same(machine.plan(all, pressed(40), 100).calls, [], 'they are on their way');
  t.same(machine.plan(all, pressed(60), 200).calls, [
    { holder: 'A', leaseIds: ['a5'], endsInMs: Infinity },
  ]);
  t.equal(machine.askedCount, 4);
});

t.test('what is asked for stays asked for, although moving it makes it warm', async (t) => {
  const machine = new RecallMachine();
  machine.plan(leases('a1', 'a2'), pressed(16), 0);
  const warm = [{ ...leases('a1')[0]!, lastUse: 99 }, ...leases('a2')];
  t.same(machine.plan(warm, pressed(16), 100).calls, []);
});

t.test('leases without RAM help nobody under pressure, but leave at a drain', async (t) => {
  const empty = [{ ...leases('a1')[0]!, residentBytes: 0 }];
  const machine = new RecallMachine();
  t.same(machine.plan(empty, pressed(16), 0).calls, []);
  t.match(machine.plan(empty, DRAIN, 0).calls, [{ leaseIds: ['a1'] }]);
});

t.test('one that does not come is asked for again, and others beside it', async (t) => {
  const machine = new RecallMachine();
  const all = leases('a1', 'a2');
  t.match(machine.plan(all, pressed(16), 0).calls, [{ leaseIds: ['a1'] }]);
  t.same(machine.plan(all, pressed(16), 9999).calls, []);
  t.match(machine.plan(all, pressed(16), 10_000).calls, [{ leaseIds: ['a1', 'a2'] }]);
  t.same(machine.plan(all, pressed(16), 10_100).calls, []);
});

t.test('short of an emergency at most 1 GiB is on its way', async (t) => {
  const many = Array.from({ length: 100 }, (_, index) => leases(`a${index}`)[0]!);
  const machine = new RecallMachine();
  t.equal(machine.plan(many, pressed(4096), 0).calls[0]?.leaseIds.length, 64);
  t.same(machine.plan(many, pressed(4096), 100).calls, []);
  t.equal(machine.plan(many.slice(10), pressed(4096), 200).calls[0]?.leaseIds.length, 10);
  t.equal(new RecallMachine().plan(many, emergency(4096), 0).calls[0]?.leaseIds.length, 100);
});

t.test('an emergency sets a deadline, tells it again, and ends what has not come', async (t) => {
  const machine = new RecallMachine();
  const all = leases('a1', 'a2', 'a3');
  machine.plan(all, pressed(32), 0);
  t.same(machine.plan(all, emergency(32), 100).calls, [
    { holder: 'A', leaseIds: ['a1', 'a2'], endsInMs: 5000 },
  ]);
  t.same(machine.plan(all, emergency(32), 5099), { calls: [], ended: [] });
  t.same(machine.plan(all, emergency(32), 5100).ended, ['a1', 'a2']);
  t.equal(machine.askedCount, 0);
});

t.test('only as many end as the shortage needs', async (t) => {
  const machine = new RecallMachine();
  const all = leases('a1', 'a2', 'a3');
  machine.plan(all, emergency(48), 0);
  t.same(machine.plan(all, emergency(16), 5000).ended, ['a1'], 'two came back as other memory');
});

t.test('a deadline dies with its emergency', async (t) => {
  const machine = new RecallMachine();
  const all = leases('a1');
  machine.plan(all, emergency(16), 0);
  t.same(machine.plan(all, pressed(16), 4900).ended, []);
  t.same(machine.plan(all, pressed(16), 9000), { calls: [], ended: [] });
  t.match(machine.plan(all, emergency(16), 9100).calls, [{ endsInMs: 5000 }], 'a new one');
});

t.test('calm forgets what was asked; a drain asks for everything and never ends it', async (t) => {
  const machine = new RecallMachine();
  const all = leases('a1', 'b2');
  machine.plan(all, pressed(16), 0);
  machine.plan(all, CALM, 100);
  t.equal(machine.askedCount, 0);
  t.match(machine.plan(all, DRAIN, 200).calls, [{ leaseIds: ['a1'] }, { leaseIds: ['b2'] }]);
  t.same(machine.plan(all, DRAIN, 10_199), { calls: [], ended: [] });
  t.match(machine.plan(all, DRAIN, 10_200).calls, [{ endsInMs: Infinity }, { leaseIds: ['b2'] }]);
  t.same(machine.plan(all, DRAIN, 1e9).ended, []);
});

t.test('a holder that came back is told again at once; what ended is forgotten', async (t) => {
  const machine = new RecallMachine();
  const all = leases('a1', 'a2');
  machine.plan(all, DRAIN, 0);
  machine.untell(['a2', 'unknown']);
  t.match(machine.plan(all, DRAIN, 100).calls, [{ leaseIds: ['a2'] }]);
  t.equal(machine.askedSinceMs('a2'), 0);
  machine.forget('a2');
  t.equal(machine.askedSinceMs('a2'), undefined);
});
