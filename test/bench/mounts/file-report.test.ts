/** Trials on mounts are paired by round, and goals judged by the ratio of their medians. */
import t from 'tap';
import { FILE_GOALS, RECIPE_NAMES, type FileGoal } from '../../../bench/mounts/file-goals.ts';
import {
  filePanels,
  judgeGoals,
  renderFileGoals,
  renderSummaries,
  summarise,
} from '../../../bench/mounts/file-report.ts';
import type { FileTrial } from '../../../bench/mounts/file-trials.ts';
import { FILE_WORK_NAMES, MOUNT_TARGETS } from '../../../bench/suites/files.ts';
import { seededRandom } from '../../../bench/statistics.ts';

const trial = (target: string, round: number, value: number): FileTrial => ({
  ...{ round, workload: 'read-1m', target, value, busyShare: 0 },
});
const TRIALS = [
  trial('libfuse', 2, 10),
  trial('memcloud', 1, 300),
  trial('memcloud', 2, 30),
  trial('libfuse', 1, 100),
];
const GOAL: FileGoal = {
  ...{ workload: 'read-1m', peer: 'libfuse', sense: 'at least', bound: 2, ours: 'memcloud' },
};
const WORKLOADS = [
  { name: 'read-1m', unit: 'MB/s' as const, targets: ['memcloud', 'libfuse', 'tmpfs'] },
];

t.test('ratios pair the trials of a round, whatever order they ran in', async (t) => {
  const [result] = judgeGoals([GOAL], TRIALS, seededRandom(1));
  t.match(result, { ratio: { value: 3, low: 3, high: 3 }, verdict: 'reached' });
  t.match(renderFileGoals([result!]), /read-1m +memcloud +libfuse +at least 2x +3\.00 .*reached/);
});

t.test('what did not run in the same rounds was not measured', async (t) => {
  const [, ...incomplete] = TRIALS;
  t.match(judgeGoals([GOAL], incomplete, seededRandom(1)), [
    { ratio: null, verdict: 'not measured' },
  ]);
  t.match(judgeGoals([GOAL], [], seededRandom(1)), [{ verdict: 'not measured' }]);
});

t.test('a target without trials has no row and no bar', async (t) => {
  const summaries = summarise(WORKLOADS, TRIALS, seededRandom(1));
  t.same(
    summaries.map(({ target, estimate }) => [target, estimate.value]),
    [
      ['memcloud', 165],
      ['libfuse', 55],
    ],
  );
  t.match(filePanels(summaries), [
    { title: 'read-1m: MB/s (more is better)', bars: [{ ours: true }, { ours: false }] },
  ]);
  t.equal(renderSummaries(summaries).split('\n').length, 4);
});

t.test('goals name works and targets that there are', async (t) => {
  const targets = MOUNT_TARGETS.map(({ name }) => name);
  for (const goal of FILE_GOALS) {
    t.ok(FILE_WORK_NAMES.includes(goal.workload), goal.workload);
    t.ok(targets.includes(goal.ours) && targets.includes(goal.peer), `${goal.ours} ${goal.peer}`);
  }
  for (const name of RECIPE_NAMES) t.ok(FILE_WORK_NAMES.includes(name), name);
});
