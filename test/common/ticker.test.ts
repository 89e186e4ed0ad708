/** The one timer of periodic work. Times are real: each bound is one that no load can break. */
import t from 'tap';
import { setTimeout as pause } from 'node:timers/promises';
import { everyTick, type Tick } from '../../common/ticker.ts';

/** Resolves when `isTrue` holds; a test that waits in vain ends by its time limit. */
async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await pause(1);
}

t.test('calls again and again, each period in its own measure', async (t) => {
  let fast = 0;
  let slow = 0;
  const startMs = performance.now();
  const ticks = [everyTick(5, () => (fast += 1)), everyTick(50, () => (slow += 1))];
  await until(() => slow >= 3);
  const elapsedMs = performance.now() - startMs;
  for (const tick of ticks) tick.stop();
  t.ok(elapsedMs >= 99, 'never more than once a period');
  t.ok(fast > slow);
  t.ok(fast <= elapsedMs / 5 + 1);
  const before = [fast, slow];
  await pause(120);
  t.same([fast, slow], before, 'stopped is stopped');
});

t.test('periods that divide each other come in one wake-up', async (t) => {
  const turns = new Map<string, number>();
  let turn = 0;
  const count = (): void => {
    turn += 1;
    loop = setImmediate(count);
  };
  let loop = setImmediate(count);
  const ticks = [20, 40, 40].map((periodMs, at) =>
    everyTick(periodMs, () => turns.set(`${at}`, turn)),
  );
  await until(() => turns.has('1') && turns.get('0') === turns.get('1'));
  t.equal(turns.get('2'), turns.get('1'));
  for (const tick of ticks) tick.stop();
  clearImmediate(loop);
});

t.test('a standstill is made up for by one call', async (t) => {
  let calls = 0;
  const tick = everyTick(5, () => (calls += 1));
  await until(() => calls === 1);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  const before = calls;
  await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
  tick.stop();
  t.ok(calls - before <= 1, `${calls - before} calls`);
});

t.test('what stops itself, or another, or begins another, while it is called', async (t) => {
  const seen: string[] = [];
  const made: Tick[] = [];
  const first: Tick = everyTick(10, () => {
    seen.push('first');
    first.stop();
    second.stop();
    made.push(everyTick(10, () => seen.push('third')));
  });
  const second = everyTick(10, () => seen.push('second'));
  await until(() => seen.includes('third'));
  for (const tick of made) tick.stop();
  t.equal(seen.filter((name) => name === 'first').length, 1);
  t.notOk(seen.includes('second'));
  first.stop();
});

t.test('one that throws does not keep the others from their calls', async (t) => {
  const errors: unknown[] = [];
  const onError = (error: unknown): void => void errors.push(error);
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', onError);
  t.teardown(() => {
    process.off('uncaughtException', onError);
    for (const listener of listeners) process.on('uncaughtException', listener);
  });
  let calls = 0;
  const bad = everyTick(10, () => {
    throw new Error('expected by the test');
  });
  const good = everyTick(10, () => (calls += 1));
  await until(() => calls >= 3 && errors.length >= 2);
  bad.stop();
  good.stop();
  t.match(errors[0], { message: 'expected by the test' });
});
