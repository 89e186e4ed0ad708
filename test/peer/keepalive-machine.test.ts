import t from 'tap';
import { KEEPALIVE_DEFAULTS, KeepaliveMachine } from '../../peer/keepalive-machine.ts';

const LIMITS = { busyPingMs: 250, idlePingMs: 1000, deadMs: 5000 };

/** Ticks every 100 ms; returns what happened and when. */
function run(machine: KeepaliveMachine, fromMs: number, toMs: number, busy: boolean): string[] {
  const seen: string[] = [];
  for (let now = fromMs; now <= toMs; now += 100) {
    const action = machine.tick(now, busy);
    if (action !== 'nothing') seen.push(`${action}@${now}`);
    if (action === 'dead') break;
  }
  return seen;
}

t.test('the defaults are those of the protocol document', async (t) => {
  t.same(KEEPALIVE_DEFAULTS, { busyPingMs: 250, idlePingMs: 1000, deadMs: 5000 });
});

t.test('a busy session is asked after 250 ms of silence, an idle one after 1 s', async (t) => {
  t.same(run(new KeepaliveMachine(LIMITS, 0), 100, 900, true), ['ping@300']);
  t.same(run(new KeepaliveMachine(LIMITS, 0), 100, 1900, false), ['ping@1000']);
});

t.test('silence with a PING unanswered is death after 5 s, not before', async (t) => {
  t.same(run(new KeepaliveMachine(LIMITS, 0), 100, 9000, true), ['ping@300', 'dead@5000']);
});

t.test('any byte is life, even with the PONG missing', async (t) => {
  const machine = new KeepaliveMachine(LIMITS, 0);
  for (let now = 100; now < 20000; now += 100) {
    if (now % 1000 === 0) machine.onBytes(now);
    t.not(machine.tick(now, true), 'dead');
  }
});

t.test('the round trip is measured and smoothed', async (t) => {
  const machine = new KeepaliveMachine(LIMITS, 0);
  t.equal(machine.tick(1000, false), 'ping');
  t.equal(machine.pingId, 1);
  t.equal(machine.onPong(2, 1008), false, 'another id answers nothing');
  t.equal(machine.onPong(1, 1008), true);
  t.equal(machine.roundTripMs, 8);
  t.equal(machine.onPong(1, 1009), false, 'a second PONG answers nothing');
  machine.onBytes(1008);
  t.equal(machine.tick(2000, false), 'ping');
  t.ok(machine.onPong(2, 2016));
  t.equal(machine.roundTripMs, 9);
});

t.test('a side that stood still itself does not blame the other', async (t) => {
  const machine = new KeepaliveMachine(LIMITS, 0);
  t.equal(machine.tick(300, true), 'ping');
  t.equal(machine.tick(60000, true), 'nothing', 'it was us');
  t.same(run(machine, 60100, 70000, true), ['dead@65000']);
});
