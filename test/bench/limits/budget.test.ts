/** The rows of a budget are the undisturbed cost, shared out as the profile says. */
import t from 'tap';
import { budgetOf, renderBudgets } from '../../../bench/limits/budget.ts';
import { floorOf, renderFloors } from '../../../bench/limits/floor.ts';

const sum = (values: Readonly<Record<string, number>>): number =>
  Object.values(values).reduce((all, value) => all + value, 0);

/** 20 us a page undisturbed, 15 of them on the main thread. */
const PLAIN = {
  times: { userUs: 12_000, systemUs: 8_000, mainRunUs: 15_000, mainWaitUs: 0 },
  pages: 1000,
};
/** Slower under the profiler; the main thread ran in four fifths of the time in which it could. */
const PROFILED = {
  times: { userUs: 30_000, systemUs: 10_000, mainRunUs: 20_000, mainWaitUs: 5_000 },
  pages: 500,
};
const PROFILE = {
  stages: new Map([
    ['(idle)', 90_000],
    ['(program)', 3_000],
    ['byte stream', 5_000],
    ['spin', 7_500],
  ]),
  functions: new Map([
    ['(idle)', 90_000],
    ['(program)', 3_000],
    ['offer byte-stream.js', 5_000],
    ['memcpy', 2_500],
  ]),
  sampleCount: 100,
};

const BUDGET = budgetOf({ side: 'consumer', workload: 'w' }, PLAIN, PROFILED, PROFILE);

t.test('the rows add up to the undisturbed cost', async (t) => {
  t.equal(BUDGET.totalUs, 20);
  t.equal(BUDGET.systemUs, 8);
  t.equal(BUDGET.profiledUs, 80);
  t.equal(Math.round(sum(BUDGET.stages) * 1e9) / 1e9, 20);
});

t.test('sampled time counts by the share in which the thread ran', async (t) => {
  // 5 000 sampled, 4 000 run, of 20 000 that the main thread ran: a fifth of its 15 us.
  t.equal(BUDGET.stages['byte stream'], 3);
  t.equal(BUDGET.stages['spin'], 4.5);
  t.equal(BUDGET.stages['loop, poll, receive'], 7.5, 'what samples do not show');
  t.equal(BUDGET.stages['other threads'], 5);
  t.equal(BUDGET.stages['(idle)'], undefined);
});

t.test('functions are told without what is outside them', async (t) => {
  t.same(BUDGET.functions, [
    { name: 'offer byte-stream.js', us: 3 },
    { name: 'memcpy', us: 1.5 },
  ]);
});

t.test('more samples than time: nothing is left outside, and the sum stays', async (t) => {
  const crowded = { ...PROFILE, stages: new Map([['spin', 50_000]]) };
  const { stages } = budgetOf({ side: 'provider', workload: 'w' }, PLAIN, PROFILED, crowded);
  t.equal(stages['loop, poll, receive'], 0);
  t.equal(sum(stages), 20);
});

t.test('the table has the order of a page, the sum, and one column for each load', async (t) => {
  const other = { ...BUDGET, workload: 'x' };
  const lines = renderBudgets([BUDGET, other]).split('\n');
  t.match(lines[0], /^consumer, us per page +w +x$/);
  t.same(
    lines.slice(2).map((line) => line.replace(/ {2,}.*$/, '')),
    ['loop, poll, receive', 'byte stream', 'spin', 'other threads', 'sum', 'of it in the kernel'],
  );
  t.match(lines[6], /^sum +20\.0 +20\.0$/);
});

t.test('the floor is the sum of its parts', async (t) => {
  const parts = { nullUnixUs: 3, nullTcpUs: 4, sealUs: 1.5, copyUs: 0.5 };
  const floor = floorOf('w', 27, parts);
  t.equal(floor.floorUs, 9);
  t.match(renderFloors([floor]), /^w +3\.00 +4\.00 +1\.50 +0\.500 +9\.00 +27\.0 +3\.00$/m);
});
