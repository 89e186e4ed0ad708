import t from 'tap';
import { PressureMachine } from '../../provider/pressure-machine.ts';

/** The marks of a reserve of 1000: floor 250, left at 500; entered at 1000, left at 1250; near 2000. */
const RESERVE = 1000;

interface Step {
  /** MemAvailable. */
  readonly has: number;
  /** Milliseconds since the step before; default 100. */
  readonly after?: number;
  /** Of that time, how much somebody stalled: 0 to 1; default 0. */
  readonly stall?: number;
  readonly level: string;
  readonly missing?: number;
}

const CASES: Record<string, readonly Step[]> = {
  'plenty is calm': [
    { has: 9000, level: 'calm', missing: 0 },
    { has: 1000, level: 'calm', missing: 0 },
  ],
  'below the reserve there is pressure, and what is missing leads beyond it': [
    { has: 1000, level: 'calm' },
    { has: 999, level: 'pressed', missing: 251 },
    { has: 600, level: 'pressed', missing: 650 },
  ],
  'to be just above the reserve does not end it': [
    { has: 900, level: 'pressed' },
    { has: 1100, after: 60_000, level: 'pressed', missing: 150 },
  ],
  'calm comes when all was well for two seconds': [
    { has: 900, level: 'pressed' },
    { has: 1250, level: 'pressed', missing: 0 },
    { has: 1250, after: 1999, level: 'pressed', missing: 0 },
    { has: 1250, after: 1, level: 'calm', missing: 0 },
  ],
  'a relapse begins the two seconds anew': [
    { has: 900, level: 'pressed' },
    { has: 1300, level: 'pressed' },
    { has: 1200, after: 1900, level: 'pressed', missing: 50 },
    { has: 1300, level: 'pressed' },
    { has: 1300, after: 1900, level: 'pressed' },
    { has: 1300, after: 100, level: 'calm' },
  ],
  'below a quarter it is an emergency, until there is half': [
    { has: 250, level: 'pressed' },
    { has: 249, level: 'emergency', missing: 1001 },
    { has: 499, level: 'emergency', missing: 751 },
    { has: 500, level: 'pressed', missing: 750 },
    { has: 300, level: 'pressed' },
  ],
  'an emergency may come out of calm': [
    { has: 9000, level: 'calm' },
    { has: 0, level: 'emergency', missing: 1250 },
  ],
  'stalls count when little is available, and ask for more': [
    { has: 1999, level: 'calm' },
    { has: 1999, after: 400, stall: 1, level: 'calm', missing: 0 },
    { has: 1999, after: 100, stall: 0, level: 'pressed', missing: 1 },
    { has: 1500, after: 100, stall: 1, level: 'pressed', missing: 500 },
    { has: 2000, after: 100, stall: 1, level: 'pressed', missing: 0 },
    { has: 2000, after: 2000, stall: 1, level: 'calm' },
  ],
  'stalls of a machine with enough are of some control group, and not our business': [
    { has: 2000, level: 'calm' },
    { has: 2000, after: 500, stall: 1, level: 'calm' },
    { has: 2000, after: 500, stall: 1, level: 'calm' },
  ],
  'a few stalls are normal': [
    { has: 1500, level: 'calm' },
    { has: 1500, after: 500, stall: 0.09, level: 'calm' },
    { has: 1500, after: 500, stall: 0.09, level: 'calm' },
  ],
};

for (const [name, steps] of Object.entries(CASES)) {
  t.test(name, async (t) => {
    const machine = new PressureMachine(RESERVE);
    let nowMs = 5000;
    let stallTotalUs = 123_456;
    for (const { has, after = 100, stall = 0, level, missing } of steps) {
      nowMs += after;
      stallTotalUs += after * 1000 * stall;
      machine.observe({ availableBytes: has, stallTotalUs }, nowMs);
      t.equal(machine.level, level, `${has} after ${after} ms`);
      if (missing !== undefined) t.equal(machine.shortageBytes, missing);
    }
  });
}

t.test('a kernel without PSI, a total that falls, and time that stands still', async (t) => {
  const machine = new PressureMachine(RESERVE);
  for (const [stallTotalUs, nowMs] of [
    [undefined, 0],
    [1e9, 0],
    [0, 600],
    [0, 600],
    [undefined, 1200],
    [5, 1300],
  ] as const) {
    machine.observe({ availableBytes: 1500, stallTotalUs }, nowMs);
    t.ok(machine.stallShare >= 0 && machine.stallShare <= 1);
    t.equal(machine.level, 'calm');
  }
});

t.test('the share is that of the last half to whole second', async (t) => {
  const machine = new PressureMachine(0);
  let stallTotalUs = 0;
  for (let nowMs = 0; nowMs <= 3000; nowMs += 100) {
    if (nowMs > 1000) stallTotalUs += 25_000;
    machine.observe({ availableBytes: 0, stallTotalUs }, nowMs);
  }
  t.ok(Math.abs(machine.stallShare - 0.25) < 1e-9);
  t.equal(machine.level, 'calm', 'a reserve of 0 watches nothing');
});

t.test(
  'a changed reserve counts with the next reading, and times of pressure are counted',
  async (t) => {
    const machine = new PressureMachine(RESERVE);
    machine.observe({ availableBytes: 3000, stallTotalUs: undefined }, 0);
    machine.setReserve(20_000);
    machine.observe({ availableBytes: 3000, stallTotalUs: undefined }, 100);
    t.equal(machine.level, 'emergency');
    machine.setReserve(1000);
    machine.observe({ availableBytes: 3000, stallTotalUs: undefined }, 200);
    machine.observe({ availableBytes: 3000, stallTotalUs: undefined }, 2200);
    t.equal(machine.level, 'calm');
    machine.observe({ availableBytes: 999, stallTotalUs: undefined }, 2300);
    t.equal(machine.enteredCount, 2);
  },
);
