/** The reserve guard's rule: its bounds for any input, and whole machines driven by it. */
import fc from 'fast-check';
import t from 'tap';
import { guardBandBytes, nextHigh, type GuardLimits } from '../../../cli/system/guard-machine.ts';
import { Random } from '../../helpers/fuzz.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const STEP = 8 * MIB;
const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
t.comment(`SEED=${seed}`);

const pages = (max: number): fc.Arbitrary<number> =>
  fc.integer({ min: 0, max: max / 4096 }).map((count) => count * 4096);
const limits: fc.Arbitrary<GuardLimits> = fc
  .tuple(pages(GIB), pages(8 * GIB), pages(64 * GIB))
  .map(([reserveBytes, minimumBytes, more]) => ({
    reserveBytes,
    minimumBytes,
    maximumBytes: minimumBytes + more,
  }));
const state = limits.chain((given) =>
  fc.record({
    given: fc.constant(given),
    high: fc
      .integer({ min: given.minimumBytes / 4096, max: given.maximumBytes / 4096 })
      .map((count) => count * 4096),
    current: pages(80 * GIB),
    free: fc.integer({ min: 0, max: 80 * GIB }),
    count: fc.integer({ min: 1, max: 9 }),
  }),
);

t.test('for any state', (t) => {
  const holds = (
    what: string,
    check: (from: {
      given: GuardLimits;
      high: number;
      next: number;
      current: number;
      free: number;
      count: number;
      again: (high: number, free: number) => number;
    }) => boolean,
  ): void => {
    fc.assert(
      fc.property(state, ({ given, high, current, free, count }) => {
        const again = (high: number, free: number): number =>
          nextHigh(given, high, { currentBytes: current, freeBytes: free, guardCount: count });
        return check({ given, high, next: again(high, free), current, free, count, again });
      }),
      { seed, numRuns: 2000 },
    );
    t.pass(what);
  };
  holds('the limit is never below the minimum nor above the maximum', ({ given, next }) => {
    return next >= given.minimumBytes && next <= given.maximumBytes;
  });
  holds('the group may never grow into the reserve', ({ given, next, current, free, count }) => {
    const most = current + (free - given.reserveBytes) / count;
    return next <= Math.max(given.minimumBytes, most, current - STEP);
  });
  holds('one change asks for at most one step of work', ({ given, high, next, current }) => {
    const bound = Math.min(current - STEP - 4096, given.maximumBytes);
    return next >= Math.min(high, bound) || next === given.minimumBytes;
  });
  holds('a second look at the same state changes nothing', ({ next, free, again }) => {
    return again(next, free) === next;
  });
  holds('a change is worth a write, or reaches a bound', ({ given, high, next }) => {
    const bounds = [given.minimumBytes, given.maximumBytes];
    if (next <= high || bounds.includes(next)) return true;
    return next - high > guardBandBytes(given.reserveBytes);
  });
  holds('more free memory never lowers the limit', ({ high, next, free, again }) => {
    return again(high, free + 64 * MIB) >= next;
  });
  t.end();
});

/** A machine: groups that take what they may, somebody outside, swap of a given speed. */
class Machine {
  readonly total: number;
  outside = 0;
  readonly groups: { limits: GuardLimits; high: number; used: number; changes: number }[] = [];

  constructor(total: number) {
    this.total = total;
  }

  add(limits: GuardLimits): void {
    this.groups.push({ limits, high: limits.maximumBytes, used: 0, changes: 0 });
  }

  get free(): number {
    return this.total - this.outside - this.groups.reduce((sum, { used }) => sum + used, 0);
  }

  /** One tick: each guard looks, then its group takes `appetite` bytes as far as its limit lets it. */
  tick(appetite: number, swapBytes: number): void {
    const freeBytes = Math.max(0, this.free);
    for (const group of this.groups) {
      const next = nextHigh(group.limits, group.high, {
        currentBytes: group.used,
        freeBytes,
        guardCount: this.groups.length,
      });
      if (next !== group.high) group.changes += 1;
      group.high = next;
      if (group.used > next) group.used -= Math.min(swapBytes, group.used - next);
      else group.used = Math.min(next, group.used + appetite);
    }
  }
}

const LIMITS = { reserveBytes: 48 * MIB, minimumBytes: 16 * MIB, maximumBytes: 400 * MIB };

t.test('a group that takes all it can stops at the reserve and stays there', (t) => {
  const machine = new Machine(300 * MIB);
  machine.add(LIMITS);
  for (let tick = 0; tick < 1000; tick += 1) {
    machine.tick(8 * MIB, 0);
    if (machine.free < 48 * MIB) t.fail(`${machine.free} free at tick ${tick}`);
  }
  t.ok(machine.free < 60 * MIB, 'nor does it leave much more');
  const settled = machine.groups[0]!.changes;
  for (let tick = 0; tick < 1000; tick += 1) machine.tick(8 * MIB, 0);
  t.equal(machine.groups[0]!.changes, settled, 'and the limit rests');
  t.end();
});

t.test('a group with room never meets a limit below its maximum twice', (t) => {
  const machine = new Machine(16 * GIB);
  machine.add(LIMITS);
  for (let tick = 0; tick < 100; tick += 1) machine.tick(100 * MIB, 0);
  t.equal(machine.groups[0]!.high, 400 * MIB);
  t.equal(machine.groups[0]!.changes, 0);
  t.end();
});

t.test('when somebody outside takes memory, the group gives it; when he gives, it takes', (t) => {
  const machine = new Machine(300 * MIB);
  machine.add(LIMITS);
  for (let tick = 0; tick < 200; tick += 1) machine.tick(8 * MIB, 2 * MIB);
  machine.outside = 20 * MIB;
  for (let tick = 0; tick < 200; tick += 1) machine.tick(8 * MIB, 2 * MIB);
  t.ok(machine.free >= 48 * MIB, `${machine.free / MIB} MiB free again`);
  const squeezed = machine.groups[0]!.used;
  machine.outside = 0;
  for (let tick = 0; tick < 200; tick += 1) machine.tick(8 * MIB, 2 * MIB);
  t.ok(machine.groups[0]!.used > squeezed + 8 * MIB, 'the room is used again');
  t.end();
});

t.test('an outside that trembles within the band moves nothing', (t) => {
  const random = new Random(seed);
  const machine = new Machine(300 * MIB);
  machine.add(LIMITS);
  for (let tick = 0; tick < 300; tick += 1) machine.tick(8 * MIB, 2 * MIB);
  machine.outside = 2 * MIB;
  for (let tick = 0; tick < 300; tick += 1) machine.tick(8 * MIB, 2 * MIB);
  const settled = machine.groups[0]!.changes;
  for (let tick = 0; tick < 2000; tick += 1) {
    machine.outside = 1 * MIB + random.below(1 * MIB);
    machine.tick(8 * MIB, 2 * MIB);
  }
  t.equal(machine.groups[0]!.changes, settled);
  t.end();
});

t.test('groups that take at once leave the reserve alone', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 200, max: 4000 }),
      (count, appetiteMib, totalMib) => {
        const machine = new Machine(totalMib * MIB);
        for (let index = 0; index < count; index += 1) {
          machine.add({ ...LIMITS, maximumBytes: 4 * GIB });
        }
        for (let tick = 0; tick < 500; tick += 1) {
          machine.tick(appetiteMib * MIB, 0);
          if (machine.free < 48 * MIB) return false;
        }
        return true;
      },
    ),
    { seed, numRuns: 200 },
  );
  t.end();
});

t.test('several groups share a squeeze, and do not swing', (t) => {
  const machine = new Machine(600 * MIB);
  for (let index = 0; index < 3; index += 1) machine.add(LIMITS);
  for (let tick = 0; tick < 500; tick += 1) machine.tick(4 * MIB, 2 * MIB);
  machine.outside = 60 * MIB;
  for (let tick = 0; tick < 500; tick += 1) machine.tick(4 * MIB, 2 * MIB);
  t.ok(machine.free >= 47 * MIB && machine.free < 64 * MIB, `${machine.free / MIB} MiB free`);
  const settled = machine.groups.map(({ changes }) => changes);
  for (let tick = 0; tick < 500; tick += 1) machine.tick(4 * MIB, 2 * MIB);
  t.same(
    machine.groups.map(({ changes }) => changes),
    settled,
    'the limits rest',
  );
  t.end();
});

t.test('a group at its minimum is left alone, however little is free', (t) => {
  const view = { freeBytes: 0, guardCount: 1 };
  t.equal(nextHigh(LIMITS, 16 * MIB, { ...view, currentBytes: 40 * MIB }), 16 * MIB);
  t.equal(nextHigh(LIMITS, 20 * MIB, { ...view, currentBytes: 17 * MIB }), 16 * MIB);
  t.end();
});
