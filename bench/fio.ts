/**
 * fio as the load generator: what it is told and what its report says. Buffers hold random bytes
 * that change from one request to the next (fio's default filling and scrambling, stated here), so
 * that neither zero nor same-filled pages, which we never send, are what is measured. A ramp before
 * the measured time fills write buffers such as our ring, so that writes are measured in the steady
 * state. Latency is fio's *total* latency: it includes the time in which fio hands the request over,
 * during which a server that is quick to wake may already do its work.
 */

/** How requests are made. */
export interface Workload {
  readonly name: string;
  readonly pattern: 'randread' | 'randwrite' | 'read' | 'write';
  readonly blockSizeBytes: number;
  readonly queueDepth: number;
}

/** How long and over how much. */
export interface FioRun {
  readonly uri: string;
  readonly sizeBytes: number;
  readonly offsetBytes?: number;
  /** 0 means: once over the range, for filling it. */
  readonly seconds: number;
  /** Seconds of load before the measured ones. */
  readonly rampSeconds: number;
  readonly seed: number;
}

/** Microseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

/** What one run measured. */
export interface FioResult {
  readonly requestCount: number;
  readonly iops: number;
  readonly bytesPerSecond: number;
  /** From the start of handing the request over to its completion. */
  readonly latencyUs: Latency;
  /** From the end of handing over; fio's `clat`. */
  readonly completionUs: Latency;
}

/** The arguments of one run over NBD; the report comes on stdout. */
export function fioArguments(workload: Workload, run: FioRun): string[] {
  return ['--ioengine=nbd', `--uri=${run.uri}`, ...commonArguments(workload, run)];
}

/** The arguments of one run on a block device of the kernel, past its page cache. */
export function fioDeviceArguments(
  workload: Workload,
  device: string,
  run: Omit<FioRun, 'uri'>,
): string[] {
  const engine = ['--ioengine=libaio', '--direct=1', `--filename=${device}`];
  return [...engine, ...commonArguments(workload, run)];
}

/** How files of a mount are read and written. */
export interface FioFileRun extends Omit<FioRun, 'uri' | 'offsetBytes'> {
  /** The file; made when it is not there. */
  readonly file: string;
  /** Past the page cache (O_DIRECT). */
  readonly direct: boolean;
  /** Processes that do the same at once, each one request at a time. */
  readonly jobCount: number;
}

/** The arguments of one run on a file, with system calls as programs make them; one report for all jobs. */
export function fioFileArguments(workload: Workload, run: FioFileRun): string[] {
  const { file, direct, jobCount } = run;
  return [
    ...['--ioengine=psync', `--filename=${file}`, `--direct=${direct ? 1 : 0}`],
    ...[`--numjobs=${jobCount}`, '--group_reporting', '--fallocate=none'],
    ...commonArguments(workload, run),
  ];
}

function commonArguments(workload: Workload, run: Omit<FioRun, 'uri'>): string[] {
  const timed = [`--runtime=${run.seconds}`, `--ramp_time=${run.rampSeconds}`, '--time_based'];
  return [
    '--output-format=json',
    `--name=${workload.name}`,
    `--rw=${workload.pattern}`,
    `--bs=${workload.blockSizeBytes}`,
    `--iodepth=${workload.queueDepth}`,
    `--size=${run.sizeBytes}`,
    `--offset=${run.offsetBytes ?? 0}`,
    ...['--randrepeat=0', `--randseed=${run.seed}`, '--norandommap=1'],
    ...['--zero_buffers=0', '--buffer_compress_percentage=0', '--scramble_buffers=1'],
    ...['--clat_percentiles=1', '--lat_percentiles=1', '--percentile_list=50:99:99.9'],
    ...(run.seconds === 0 ? [] : timed),
  ];
}

type Json = Readonly<Record<string, unknown>>;

function member(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !(name in value)) {
    throw new RangeError(`fio report: expected a member "${name}", got none`);
  }
  return (value as Json)[name];
}

function count(value: unknown, name: string): number {
  const found = member(value, name);
  if (typeof found !== 'number') throw new RangeError(`fio report: "${name}" is not a number`);
  return found;
}

function latency(direction: unknown, name: string): Latency {
  const percentile = member(member(direction, name), 'percentile');
  const us = (key: string): number => count(percentile, key) / 1000;
  return { p50: us('50.000000'), p99: us('99.000000'), p999: us('99.900000') };
}

/**
 * Reads the report of a run of one job. fio may print warnings before it.
 *
 * @throws RangeError when the report is not one, the job failed, or it completed no request
 */
export function parseFioReport(text: string, workload: Workload): FioResult {
  const start = text.search(/^\{/m);
  if (start < 0) throw new RangeError(`fio report: expected JSON, got "${text.slice(0, 200)}"`);
  let report: unknown;
  try {
    report = JSON.parse(text.slice(start));
  } catch (cause) {
    throw new RangeError('fio report: expected JSON, got something else', { cause });
  }
  const jobs = member(report, 'jobs');
  const job: unknown = Array.isArray(jobs) ? jobs[0] : undefined;
  const error = count(job, 'error');
  if (error !== 0) throw new RangeError(`fio report: the job failed with errno ${error}`);
  const direction = member(job, workload.pattern.endsWith('read') ? 'read' : 'write');
  const requestCount = count(direction, 'total_ios');
  if (requestCount === 0) throw new RangeError('fio report: the job completed no request');
  return {
    requestCount,
    iops: count(direction, 'iops'),
    bytesPerSecond: count(direction, 'bw_bytes'),
    latencyUs: latency(direction, 'lat_ns'),
    completionUs: latency(direction, 'clat_ns'),
  };
}
