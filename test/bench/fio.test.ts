/** Reports of fio are read right, and what is not a report of a run that worked is refused. */
import fs from 'node:fs';
import t from 'tap';
import { fioArguments, parseFioReport, type Workload } from '../../bench/fio.ts';

/** Recorded from fio 3.33 against nbdkit 1.32.5, with the line that fio prints before its JSON. */
const RECORDED = fs.readFileSync(
  new URL('../../../test/bench/fio-3.33-randread.txt', import.meta.url),
  'utf8',
);

const READ: Workload = {
  name: 'randread-qd16',
  pattern: 'randread',
  blockSizeBytes: 4096,
  queueDepth: 16,
};

t.test('a recorded report', async (t) => {
  t.same(parseFioReport(RECORDED, READ), {
    requestCount: 26234,
    iops: 26155.5334,
    bytesPerSecond: 107133064,
    latencyUs: { p50: 191.488, p99: 6062.08, p999: 64225.28 },
    completionUs: { p50: 187.392, p99: 6062.08, p999: 64225.28 },
  });
});

t.test('what went on beside is the second job', async (t) => {
  const report = JSON.parse(RECORDED.slice(RECORDED.indexOf('{'))) as { jobs: unknown[] };
  const beside = { pattern: 'randwrite', blockSizeBytes: 4096, queueDepth: 128 } as const;
  const second = { error: 0, write: { bw_bytes: 77 } };
  const text = JSON.stringify({ ...report, jobs: [report.jobs[0], second] });
  const read = parseFioReport(text, { ...READ, beside });
  t.match(read, { requestCount: 26234, besideBytesPerSecond: 77 });
  const failed = JSON.stringify({ ...report, jobs: [report.jobs[0], { ...second, error: 5 }] });
  t.throws(() => parseFioReport(failed, { ...READ, beside }), /failed with errno 5/);
  t.throws(() => parseFioReport(RECORDED, { ...READ, beside }), /expected a member "error"/);
});

t.test('what is not the report of a run that worked', async (t) => {
  const report = JSON.parse(RECORDED.slice(RECORDED.indexOf('{'))) as {
    jobs: { error: number; read: Record<string, unknown> }[];
  };
  const changed = (change: (job: (typeof report.jobs)[0]) => void): string => {
    const copy = structuredClone(report);
    change(copy.jobs[0]!);
    return JSON.stringify(copy);
  };
  const cases: [string, string, RegExp][] = [
    ['nothing', '', /expected JSON, got ""/],
    ['an error message', 'fio: nbd_connect_uri: refused', /expected JSON, got "fio: nbd/],
    ['half a report', RECORDED.slice(0, 3000), /expected JSON, got something else/],
    ['no jobs', '{"jobs":[]}', /expected a member "error"/],
    ['a failed job', changed((job) => (job.error = 5)), /failed with errno 5/],
    ['no request', changed((job) => (job.read['total_ios'] = 0)), /completed no request/],
    ['no latency', changed((job) => delete job.read['lat_ns']), /expected a member "lat_ns"/],
    ['words for numbers', changed((job) => (job.read['iops'] = '9')), /"iops" is not a number/],
  ];
  for (const [name, text, message] of cases) {
    t.throws(() => parseFioReport(text, READ), { name: 'RangeError', message }, name);
  }
  const write: Workload = { ...READ, pattern: 'randwrite' };
  t.throws(() => parseFioReport(RECORDED, write), /completed no request/, 'the other direction');
});

t.test('a timed run is told its time, a fill is not', async (t) => {
  const run = { uri: 'nbd://127.0.0.1:1/', sizeBytes: 8192, seed: 3 };
  const timed = fioArguments(READ, { ...run, seconds: 2, rampSeconds: 1 });
  for (const expected of ['--runtime=2', '--ramp_time=1', '--time_based', '--iodepth=16']) {
    t.ok(timed.includes(expected), expected);
  }
  const once = fioArguments(READ, { ...run, seconds: 0, rampSeconds: 0, offsetBytes: 4096 });
  t.notOk(once.some((argument) => /runtime|ramp|time_based/.test(argument)));
  t.ok(once.includes('--offset=4096'));
  t.ok(once.includes('--zero_buffers=0'), 'pages of zeroes would be elided, not measured');
});

t.test('blocks come once, writes end with a flush, when that is asked for', async (t) => {
  const run = { uri: 'nbd://127.0.0.1:1/', sizeBytes: 8192, seed: 3, seconds: 1, rampSeconds: 0 };
  t.ok(fioArguments(READ, run).includes('--norandommap=1'));
  t.notOk(fioArguments(READ, run).includes('--end_fsync=1'));
  const exact = fioArguments(READ, { ...run, distinct: true, flush: true });
  t.ok(exact.includes('--norandommap=0'));
  t.ok(exact.includes('--end_fsync=1'));
});

t.test('several connections and exports are jobs of one report', async (t) => {
  const run = { uri: 'nbd://a/', sizeBytes: 8192, seed: 3, seconds: 1, rampSeconds: 0 };
  const one = fioArguments(READ, run);
  t.same(one.slice(-2), ['--name=randread-qd16', '--uri=nbd://a/']);
  t.notOk(one.includes('--group_reporting'));
  const many = fioArguments(READ, { ...run, connectionCount: 4, moreUris: ['nbd://b/'] });
  t.same(many.slice(-6), [
    ...['--group_reporting', '--numjobs=4'],
    ...['--name=randread-qd16', '--uri=nbd://a/', '--name=randread-qd16-1', '--uri=nbd://b/'],
  ]);
});

t.test('what goes on beside comes after the job that is reported', async (t) => {
  const run = { uri: 'nbd://a/', sizeBytes: 8192, seed: 3, seconds: 1, rampSeconds: 0 };
  const beside = { pattern: 'randwrite', blockSizeBytes: 4096, queueDepth: 128 } as const;
  const args = fioArguments({ ...READ, beside }, run);
  t.same(args.slice(-8), [
    ...['--name=randread-qd16', '--uri=nbd://a/', '--name=beside', '--uri=nbd://a/'],
    ...['--rw=randwrite', '--bs=4096', '--iodepth=128', '--end_fsync=0'],
  ]);
});
