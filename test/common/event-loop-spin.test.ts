import t from 'tap';
import { EventLoopSpin, SPIN_WINDOW_DEFAULT_US } from '../../common/event-loop-spin.ts';

/** Turns of the event loop. */
const turns = async (count: number): Promise<void> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

t.test('it spins for its window and no longer', async (t) => {
  t.equal(SPIN_WINDOW_DEFAULT_US, 100);
  const clock = { time: 0, nowMs: () => clock.time };
  const spin = new EventLoopSpin(clock, 100);
  spin.onActivity();
  t.ok(spin.spinning);
  await turns(1);
  clock.time = 0.099;
  await turns(5);
  t.ok(spin.spinning);
  clock.time = 0.1;
  await turns(2);
  t.notOk(spin.spinning);
});

t.test('activity prolongs it', async (t) => {
  const clock = { time: 0, nowMs: () => clock.time };
  const spin = new EventLoopSpin(clock, 100);
  spin.onActivity();
  for (let step = 1; step < 20; step += 1) {
    clock.time = step * 0.05;
    spin.onActivity();
    await turns(2);
    t.ok(spin.spinning);
  }
  clock.time = 99;
  await turns(2);
  t.notOk(spin.spinning);
});

t.test('work that takes longer than the window is not counted into it', async (t) => {
  const clock = { time: 0, nowMs: () => clock.time };
  const spin = new EventLoopSpin(clock, 100);
  let requests = 3;
  spin.pollWith(() => {
    if (requests === 0) return;
    requests -= 1;
    spin.onActivity();
    clock.time += 5;
  });
  spin.onActivity();
  await turns(5);
  t.equal(requests, 0);
  t.ok(spin.spinning, 'the next request is still looked for');
  clock.time += 0.1;
  await turns(2);
  t.notOk(spin.spinning);
});

t.test('in vain it gives up, and tries again once in 64', async (t) => {
  const clock = { time: 0, nowMs: () => clock.time };
  const spin = new EventLoopSpin(clock, 100);
  let spins = 0;
  for (let activity = 0; activity < 1000; activity += 1) {
    clock.time += 10;
    spin.onActivity();
    if (spin.spinning) spins += 1;
    await turns(1);
    clock.time += 10;
    await turns(2);
    t.notOk(spin.spinning);
  }
  t.ok(spins >= 4 + 10 && spins <= 4 + 17, `${spins} of 1000`);
});

t.test('a window of 0 never spins', async (t) => {
  const spin = new EventLoopSpin({ nowMs: () => 0 }, 0);
  spin.onActivity();
  t.notOk(spin.spinning);
});

t.test('what is polled is looked at in each turn while it spins, and not after', async (t) => {
  const clock = { time: 0, nowMs: () => clock.time };
  const spin = new EventLoopSpin(clock, 100);
  let looks = 0;
  spin.pollWith(() => {
    looks += 1;
    // Something comes at the third look.
    if (looks === 3) spin.onActivity();
  });
  await turns(3);
  t.equal(looks, 0, 'asleep');
  spin.onActivity();
  await turns(1);
  clock.time = 0.05;
  await turns(3);
  t.ok(looks >= 3);
  clock.time = 0.14;
  await turns(2);
  t.ok(spin.spinning, 'what came kept it awake');
  clock.time = 1;
  await turns(2);
  t.notOk(spin.spinning);
  const before = looks;
  await turns(3);
  t.equal(looks, before);
  spin.pollWith(undefined);
  spin.onActivity();
  await turns(2);
  t.equal(looks, before);
  clock.time = 2;
});

t.test(
  'the sockets of the last activities are read in quiet turns, the latest first',
  async (t) => {
    const clock = { time: 0, nowMs: () => clock.time };
    let yields = 0;
    const spin = new EventLoopSpin(clock, 100, () => (yields += 1));
    const reads: string[] = [];
    const sources = ['a', 'b', 'c', 'd', 'e'].map((name) => ({
      poll: () => {
        reads.push(name);
        return false;
      },
    }));
    for (const source of sources) spin.onActivity(source);
    await turns(1);
    t.same(reads, [], 'something came: it is given time to gather');
    await turns(1);
    t.same(reads.slice(0, 5), ['e', 'd', 'c', 'b', 'e'], 'four, round by round');
    t.equal(yields, 1, 'after a turn in vain the processor is offered to others');
    for (const source of sources) spin.forget(source);
    reads.length = 0;
    await turns(2);
    t.same(reads, [], 'those that ended are let go');

    let left = 2;
    const lively = {
      poll: () => {
        reads.push('lively');
        left -= 1;
        if (left < 0) return false;
        spin.onActivity(lively);
        return true;
      },
    };
    spin.onActivity(lively);
    await turns(1);
    const before = yields;
    await turns(1);
    t.same(reads, ['lively'], 'what came ends the turn');
    t.equal(yields, before, 'and the processor is not given away then');
    await turns(1);
    clock.time = 99;
    await turns(2);
    t.notOk(spin.spinning);
  },
);
