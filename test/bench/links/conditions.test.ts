/** Links are shaped as they are named, and shares of them are judged where a goal is set, and only there. */
import t from 'tap';
import {
  LINK_CONDITIONS,
  LINK_WORKLOADS,
  linkShares,
  linkWorkloads,
  renderLinks,
  shaperArguments,
  type LinkCondition,
} from '../../../bench/links/conditions.ts';
import { seededRandom } from '../../../bench/statistics.ts';
import type { Trial } from '../../../bench/trials.ts';

const gigabit: LinkCondition = { name: '1g', bitsPerSecond: 1e9, delayUs: 0 };
const latency = { p50: 10, p99: 20, p999: 30 };

function trial(workload: string, target: string, round: number, bytesPerSecond: number): Trial {
  return {
    ...{ workload, target, round, cpuUs: 500, busyShare: 0 },
    fio: {
      ...{ requestCount: 100, iops: bytesPerSecond / 4096, bytesPerSecond },
      ...{ latencyUs: latency, completionUs: latency },
    },
  };
}

t.test(
  'a shaper has the rate, a millisecond of burst, and a queue for a burst of TCP',
  async (t) => {
    t.same(shaperArguments(gigabit), [
      ...['tbf', 'rate', '1000000000bit', 'burst', '125000b', 'limit', '2500000b'],
    ]);
    t.same(
      shaperArguments({ ...gigabit, bitsPerSecond: 1e8 }),
      ['tbf', 'rate', '100000000bit', 'burst', '16384b', 'limit', '524288b'],
      'a slow link: a burst of one large packet at least',
    );
  },
);

t.test('every workload runs over every link, link by link', async (t) => {
  const all = linkWorkloads(LINK_CONDITIONS, LINK_WORKLOADS);
  t.equal(all.length, 35);
  t.equal(new Set(all.map(({ name }) => name)).size, 35, 'names tell them apart');
  t.same(
    LINK_CONDITIONS.map(({ bitsPerSecond, delayUs }) => [bitsPerSecond, delayUs]),
    [
      [1_000_000_000, 0],
      [1_000_000_000, 100],
      [1_000_000_000, 1000],
      [1_000_000_000, 5000],
      [100_000_000, 0],
    ],
  );
  const changes = all.filter(({ condition }, at) => condition !== all[at - 1]?.condition);
  t.equal(changes.length, 5, 'a link is set up once a round');
});

t.test('a share is of the whole link; the goal is 0.93, ours, on the short gigabit', async (t) => {
  const names = ['pageout-qd16', 'pagein-qd1'];
  const workloads = linkWorkloads(
    LINK_CONDITIONS.filter(({ name }) => name === '1g' || name === '100m'),
    LINK_WORKLOADS.filter(({ name }) => names.includes(name)),
  );
  const judge = (bytesPerSecond: number): Record<string, [number, string | undefined]> => {
    const trials = [1, 2, 3].flatMap((round) =>
      workloads.flatMap(({ name }) => [
        trial(name, 'memcloud', round, bytesPerSecond),
        trial(name, 'nbdkit-tcp', round, bytesPerSecond),
      ]),
    );
    const shares = linkShares(workloads, trials, 'memcloud', seededRandom(1));
    return Object.fromEntries(
      shares.map(({ workload, target, share, verdict }) => [
        `${workload}, ${target}`,
        [Number(share.value.toFixed(4)), verdict],
      ]),
    );
  };
  t.same(judge(116_250_000), {
    '1g pageout-qd16, memcloud': [0.93, 'reached'],
    '1g pageout-qd16, nbdkit-tcp': [0.93, undefined],
    '1g pagein-qd1, memcloud': [0.93, undefined],
    '1g pagein-qd1, nbdkit-tcp': [0.93, undefined],
    '100m pageout-qd16, memcloud': [9.3, undefined],
    '100m pageout-qd16, nbdkit-tcp': [9.3, undefined],
    '100m pagein-qd1, memcloud': [9.3, undefined],
    '100m pagein-qd1, nbdkit-tcp': [9.3, undefined],
  });
  t.equal(judge(116_000_000)['1g pageout-qd16, memcloud']?.[1], 'missed');
});

t.test('a row tells rate, share, latency and the time of a page', async (t) => {
  const workloads = linkWorkloads(
    [gigabit],
    LINK_WORKLOADS.filter(({ name }) => name === 'seqread-qd16'),
  );
  const trials = [trial('1g seqread-qd16', 'memcloud', 1, 120e6)];
  const shares = linkShares(workloads, trials, 'memcloud', seededRandom(1));
  const row = renderLinks(workloads, trials, shares).split('\n').at(-1) ?? '';
  // 100 requests of 128 KiB are 3200 pages, for 500 us.
  t.match(row, /^1g seqread-qd16 +memcloud +120 +0\.960 \[.*\] +10\.0 +20\.0 +0\.156 +- +reached/);
});
