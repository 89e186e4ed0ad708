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
  /** What another connection asks for at the same time; the report is not about it. */
  readonly beside?: Omit<Workload, 'name' | 'beside' | 'rampSeconds'>;
  /** Seconds of load before the measured ones, at least. */
  readonly rampSeconds?: number;
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
  /** No block twice before each had its turn, so that no write meets an older one on its way. */
  readonly distinct?: boolean;
  /** Writes end with a flush, whose time counts: what was only buffered was not written. */
  readonly flush?: boolean;
  /** Processes that do the same at once, each on a connection of its own; one report for all. */
  readonly connectionCount?: number;
  /** Further exports that get the same load at once; one report for all. */
  readonly moreUris?: readonly string[];
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
  /** What went on beside moved so much. */
  readonly besideBytesPerSecond?: number;
}

/** The arguments of one run over NBD; the report comes on stdout. */
export function fioArguments(workload: Workload, run: FioRun): string[] {
  const { uri, connectionCount = 1, moreUris = [] } = run;
  const all = ['--ioengine=nbd', ...commonArguments(workload, run)];
  if (connectionCount > 1 || moreUris.length > 0) all.push('--group_reporting');
  if (connectionCount > 1) all.push(`--numjobs=${connectionCount}`);
  // What comes before the first name is for all jobs.
  const jobs = [uri, ...moreUris].flatMap((each, at) => [
    `--name=${workload.name}${at === 0 ? '' : `-${at}`}`,
    `--uri=${each}`,
  ]);
  const { beside } = workload;
  if (beside !== undefined) {
    const { pattern, blockSizeBytes, queueDepth } = beside;
    jobs.push('--name=beside', `--uri=${uri}`, `--rw=${pattern}`, `--bs=${blockSizeBytes}`);
    // Before it counts, the ramp has filled every buffer: no flush at the end, or they would count twice.
    jobs.push(`--iodepth=${queueDepth}`, '--end_fsync=0');
  }
  return [...all, ...jobs];
}

/** The arguments of one run on a block device of the kernel, past its page cache. */
export function fioDeviceArguments(
  workload: Workload,
  device: string,
  run: Omit<FioRun, 'uri'>,
): string[] {
  const engine = ['--ioengine=libaio', '--direct=1', `--filename=${device}`];
  return [...engine, `--name=${workload.name}`, ...commonArguments(workload, run)];
}

/** How files of a mount are read and written. */
export interface FioFileRun extends Omit<FioRun, 'uri' | 'offsetBytes'> {
  /** The file; made when it is not there. */
  readonly file: string;
  /** Past the page cache (O_DIRECT). */
  readonly direct: boolean;
  /** Processes that do the same at once, each one request at a time. */
  readonly jobCount: number;
  /** Leaves what the kernel caches of the file; default: it is dropped first. */
  readonly keepsCache?: boolean;
}

/** The arguments of one run on a file, with system calls as programs make them; one report for all jobs. */
export function fioFileArguments(workload: Workload, run: FioFileRun): string[] {
  const { file, direct, jobCount, keepsCache = false } = run;
  return [
    ...['--ioengine=psync', `--filename=${file}`, `--direct=${direct ? 1 : 0}`],
    `--invalidate=${keepsCache ? 0 : 1}`,
    ...[`--numjobs=${jobCount}`, '--group_reporting', '--fallocate=none'],
    `--name=${workload.name}`,
    ...commonArguments(workload, run),
  ];
}

function commonArguments(workload: Workload, run: Omit<FioRun, 'uri'>): string[] {
  const rampSeconds = Math.max(run.rampSeconds, workload.rampSeconds ?? 0);
  const timed = [`--runtime=${run.seconds}`, `--ramp_time=${rampSeconds}`, '--time_based'];
  return [
    '--output-format=json',
    `--rw=${workload.pattern}`,
    `--bs=${workload.blockSizeBytes}`,
    `--iodepth=${workload.queueDepth}`,
    `--size=${run.sizeBytes}`,
    `--offset=${run.offsetBytes ?? 0}`,
    ...['--randrepeat=0', `--randseed=${run.seed}`],
    `--norandommap=${run.distinct === true ? 0 : 1}`,
    ...(run.flush === true ? ['--end_fsync=1'] : []),
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

function directionOf(job: unknown, { pattern }: Pick<Workload, 'pattern'>): unknown {
  const error = count(job, 'error');
  if (error !== 0) throw new RangeError(`fio report: the job failed with errno ${error}`);
  return member(job, pattern.endsWith('read') ? 'read' : 'write');
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
  const [job, beside] = Array.isArray(jobs) ? (jobs as unknown[]) : [];
  const direction = directionOf(job, workload);
  const requestCount = count(direction, 'total_ios');
  if (requestCount === 0) throw new RangeError('fio report: the job completed no request');
  return {
    requestCount,
    iops: count(direction, 'iops'),
    bytesPerSecond: count(direction, 'bw_bytes'),
    latencyUs: latency(direction, 'lat_ns'),
    completionUs: latency(direction, 'clat_ns'),
    ...(workload.beside === undefined
      ? {}
      : { besideBytesPerSecond: count(directionOf(beside, workload.beside), 'bw_bytes') }),
  };
}
