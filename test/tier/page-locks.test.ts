/** Turns at pages: one at a time, in order, and given up whatever happens. */
import t from 'tap';
import { PageLocks } from '../../tier/page-locks.ts';

/** A task that is under way until it is told to end. */
function task(): { run: () => Promise<string>; end: (error?: Error) => void; started: boolean } {
  const control = { started: false, end: (_error?: Error): void => undefined } as ReturnType<
    typeof task
  >;
  control.run = () => {
    control.started = true;
    return new Promise((resolve, reject) => {
      control.end = (error) => (error === undefined ? resolve('done') : reject(error));
    });
  };
  return control;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('writers of one page take turns in order; other pages do not wait', async (t) => {
  const locks = new PageLocks();
  const [first, second, third, other] = [task(), task(), task(), task()];
  const runs = [first, second, third].map(({ run }) => locks.run(5, run));
  const failure = runs[1]?.catch((error: unknown) => String(error));
  const otherRun = locks.run(6, other.run);
  await turn();
  t.same(
    [first, second, third, other].map(({ started }) => started),
    [true, false, false, true],
  );
  first.end();
  await turn();
  t.same([second.started, third.started], [true, false]);
  second.end(new Error('failed'));
  await turn();
  t.equal(third.started, true, 'a failure gives the page up too');
  third.end();
  other.end();
  t.equal(await runs[0], 'done');
  t.equal(await failure, 'Error: failed');
  t.equal(await runs[2], 'done');
  await otherRun;
  t.equal(locks.idle, true);
});

t.test('runs of pages know the locks in them', async (t) => {
  const locks = new PageLocks();
  const one = task();
  const done = locks.run(10, one.run);
  const cases: [number, number, boolean][] = [
    [10, 1, true],
    [9, 1, false],
    [11, 1, false],
    [0, 10, false],
    [0, 11, true],
    [10, 0, false],
  ];
  for (const [first, count, held] of cases) t.equal(locks.overlaps(first, count), held, `${first}`);
  let settled = 0;
  void locks.settled(0, 5).then(() => (settled += 1));
  void locks.settled(8, 5).then(() => (settled += 10));
  await turn();
  t.equal(settled, 1, 'a run without locks is settled at once');
  one.end();
  await done;
  await turn();
  t.equal(settled, 11);
  t.equal(locks.overlaps(10, 1), false);
});

t.test('settled waits for those who already queue', async (t) => {
  const locks = new PageLocks();
  const [first, second] = [task(), task()];
  void locks.run(1, first.run);
  const last = locks.run(1, second.run);
  let settled = false;
  void locks.settled(0, 2).then(() => (settled = true));
  await turn();
  first.end();
  await turn();
  t.equal(settled, false);
  second.end();
  await last;
  await turn();
  t.equal(settled, true);
});
