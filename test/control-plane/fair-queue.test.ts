/** Whose turn it is. */
import t from 'tap';
import { FairQueue } from '../../control-plane/fair-queue.ts';
import { turns } from '../helpers/control-rig.ts';

/** Work that ends when it is told to. */
function makeWork(): {
  work: () => Promise<void>;
  started: string[];
  end: () => void;
  named: (name: string) => () => Promise<void>;
} {
  const started: string[] = [];
  const ends: (() => void)[] = [];
  const named = (name: string) => (): Promise<void> => {
    started.push(name);
    return new Promise((resolve) => ends.push(resolve));
  };
  return { work: named('x'), started, named, end: () => ends.shift()?.() };
}

t.test('nodes take turns', async (t) => {
  const queue = new FairQueue(2, 10);
  const { started, named, end } = makeWork();
  for (const name of ['a1', 'a2', 'a3', 'a4', 'b1', 'c1', 'b2']) {
    void queue.run(name[0]!, named(name));
  }
  await turns(2);
  t.same(started, ['a1', 'a2']);
  for (let n = 0; n < 7; n += 1) {
    end();
    await turns(2);
  }
  t.same(started, ['a1', 'a2', 'a3', 'b1', 'c1', 'a4', 'b2']);
});

t.test('what is beyond the bound is refused at once, for that node', async (t) => {
  const queue = new FairQueue(1, 3);
  const { started, named, end } = makeWork();
  const running = [1, 2, 3, 4].map((n) => queue.run('a', named(`a${n}`)));
  await t.rejects(queue.run('a', named('a5')), {
    code: 'ERR_CONTROL_QUOTA',
    message: /^3 requests/,
  });
  running.push(queue.run('b', named('b1')));
  for (let n = 0; n < 5; n += 1) {
    await turns(2);
    end();
  }
  await Promise.all(running);
  t.equal(started.length, 5);
});

t.test('work that fails gives its place on', async (t) => {
  const queue = new FairQueue(1, 3);
  const fail = (): Promise<void> => Promise.reject(new Error('no'));
  const results = await Promise.allSettled([queue.run('a', fail), queue.run('a', fail)]);
  t.ok(results.every(({ status }) => status === 'rejected'));
  t.equal(await queue.run('a', async () => 7), 7);
});
