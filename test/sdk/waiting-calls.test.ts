/** Calls by id: held against a Map, which is what they would be if it cost nothing. */
import fc from 'fast-check';
import t from 'tap';
import { WaitingCall, WaitingCalls } from '../../sdk/waiting-calls.ts';

const ignore = (): void => undefined;
const newCall = (): WaitingCall => new WaitingCall('m', 1000, undefined, ignore, ignore);

t.test('it does what a Map does, for any order of coming and going', (t) => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ add: fc.integer({ min: 1, max: 400 }) }) },
    { weight: 3, arbitrary: fc.record({ take: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ takeAllBut: fc.nat({ max: 3 }) }) },
    { weight: 1, arbitrary: fc.record({ takeWrong: fc.oneof(fc.double(), fc.string()) }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const calls = new WaitingCalls();
      const twin = new Map<number, WaitingCall>();
      let lastId = 0;
      const take = (id: number): void => {
        if (calls.take(id) !== twin.get(id)) throw new Error(`${id}: another call`);
        twin.delete(id);
      };
      for (const each of steps) {
        if ('add' in each) {
          for (let count = each.add; count > 0; count -= 1) {
            const call = newCall();
            const id = calls.add(call);
            if (id <= lastId || call.id !== id || calls.lastId !== id) throw new Error('ids');
            lastId = id;
            twin.set(id, call);
          }
        } else if ('take' in each) {
          take(each.take % (lastId + 2));
        } else if ('takeAllBut' in each) {
          for (const id of [...twin.keys()].slice(each.takeAllBut)) take(id);
        } else if (!twin.has(each.takeWrong as number)) {
          if (calls.take(each.takeWrong) !== undefined) throw new Error('found what is not there');
        }
        if (calls.count !== twin.size) throw new Error('count');
      }
      const left = calls.list();
      return left.length === twin.size && left.every((call) => twin.get(call.id) === call);
    }),
  );
  t.end();
});

t.test('a call that waits long is passed over, and makes nothing grow', (t) => {
  const calls = new WaitingCalls();
  const long = newCall();
  const longId = calls.add(long);
  for (let count = 0; count < 100_000; count += 1) {
    const call = newCall();
    const id = calls.add(call);
    if (calls.take(id) !== call) t.fail(`call ${id}`);
  }
  t.ok(calls.lastId - 100_001 <= 100_000 / 255 + 1, 'an id in a row of 256 slots is passed over');
  t.equal(calls.take(longId), long);
  t.equal(calls.take(longId), undefined, 'once');
  t.end();
});

t.test('an id that only falls into the same slot is of nobody', (t) => {
  const calls = new WaitingCalls();
  for (const wrong of [2 ** 32, 2 ** 32 + 1, 2 ** 31, -1, NaN, Infinity]) {
    calls.add(newCall());
    t.equal(calls.take(wrong), undefined, `${wrong} is not 1`);
  }
  t.equal(calls.count, 6);
  t.end();
});

t.test('an answer is used as it comes; what its use throws is the failure', async (t) => {
  const outcome = (use: (result: unknown) => unknown): Promise<unknown> =>
    new Promise((resolve, reject) => {
      new WaitingCall('m', 1000, use, resolve, reject).succeed(20);
    });
  t.equal(await outcome((result) => Number(result) + 1), 21);
  t.equal(await outcome(async (result) => Promise.resolve(Number(result) + 2)), 22);
  const failing = outcome(() => {
    throw new Error('of no use');
  });
  await t.rejects(failing, { message: 'of no use' });
});
