import t from 'tap';
import {
  KEEPALIVE_DEFAULTS,
  KeepaliveMachine,
  keepaliveLimits,
} from '../../peer/keepalive-machine.ts';

const LIMITS = { busyPingMs: 100, idlePingMs: 1000, deadMs: 500, idleDeadMs: 5000 };

/** Ticks every 50 ms; returns what happened and when. */
function run(machine: KeepaliveMachine, fromMs: number, toMs: number, busy: boolean): string[] {
  const seen: string[] = [];
  for (let now = fromMs; now <= toMs; now += 50) {
    const action = machine.tick(now, busy);
    if (action !== 'nothing') seen.push(`${action}@${now}`);
    if (action === 'dead') break;
  }
  return seen;
}

/** A session whose first PING left at 0 and was answered after `roundTripMs`. */
function measured(roundTripMs: number): KeepaliveMachine {
  const machine = new KeepaliveMachine(LIMITS, 0);
  t.equal(machine.tick(0, false), 'ping');
  machine.onBytes();
  t.ok(machine.onPong(1, roundTripMs));
  return machine;
}

t.test('the defaults are those of the protocol document', async (t) => {
  t.same(KEEPALIVE_DEFAULTS, LIMITS);
  t.same(keepaliveLimits(500), LIMITS);
  t.same(keepaliveLimits(100), {
    busyPingMs: 50,
    idlePingMs: 1000,
    deadMs: 100,
    idleDeadMs: 1000,
  });
  t.match(keepaliveLimits(3000), { busyPingMs: 100, deadMs: 3000, idleDeadMs: 30_000 });
});

t.test('the first PING leaves at once, the next after 1 s, or 100 ms of silence', async (t) => {
  t.same(run(new KeepaliveMachine(LIMITS, 0), 50, 1900, false), ['ping@50']);
  t.same(run(measured(1), 50, 1900, false), ['ping@1000']);
  t.same(run(measured(1), 50, 450, true), ['ping@100']);
});

t.test('a busy session is dead after 500 ms of silence, not before', async (t) => {
  t.same(run(measured(1), 50, 9000, true), ['ping@100', 'dead@500']);
});

t.test('an idle one after 5 s', async (t) => {
  t.same(run(measured(1), 50, 9000, false), ['ping@1000', 'dead@5900']);
});

t.test('requests that come into silence wait out the question', async (t) => {
  const machine = measured(1);
  t.same(run(machine, 50, 950, false), []);
  t.same(run(machine, 1000, 9000, true), ['ping@1000', 'dead@1400'], '400 ms after it');
});

t.test('nobody is judged before the first PONG', async (t) => {
  const machine = new KeepaliveMachine(LIMITS, 0);
  t.same(run(machine, 50, 9000, true), ['ping@50', 'dead@5000']);
});

t.test('a long round trip is given eight of its time, 5 s at most', async (t) => {
  t.same(run(measured(62), 50, 9000, true), ['ping@100', 'dead@500']);
  t.same(run(measured(200), 50, 9000, true), ['ping@100', 'dead@1600']);
  t.same(run(measured(2000), 50, 9000, true), ['ping@100', 'dead@5000']);
});

t.test('any byte is life, even with the PONG missing', async (t) => {
  const machine = measured(1);
  for (let now = 50; now < 20000; now += 50) {
    if (now % 400 === 0) machine.onBytes();
    t.not(machine.tick(now, true), 'dead');
  }
});

t.test('the round trip is measured and smoothed', async (t) => {
  const machine = measured(8);
  t.equal(machine.roundTripMs, 8);
  t.equal(machine.onPong(1, 9), false, 'a second PONG answers nothing');
  t.equal(machine.tick(1000, false), 'ping');
  t.equal(machine.pingId, 2);
  t.equal(machine.onPong(1, 1008), false, 'another id answers nothing');
  t.ok(machine.onPong(2, 1016));
  t.equal(machine.roundTripMs, 9);
});

t.test('a side that stood still itself does not blame the other', async (t) => {
  const machine = measured(1);
  t.equal(machine.tick(100, true), 'ping');
  t.equal(machine.tick(60_000, true), 'nothing', 'it was us');
  t.same(run(machine, 60_050, 70_000, true), ['dead@60250'], '100 and 150 ms had passed awake');
});

t.test('one that wakes every other second hears what came before it judges', async (t) => {
  const machine = measured(1);
  for (let now = 2000; now < 100_000; now += 2000) {
    t.not(machine.tick(now, true), 'dead');
    machine.onBytes();
  }
});
