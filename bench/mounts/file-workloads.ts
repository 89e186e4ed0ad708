/**
 * What is done on each mount, and what of it is told: requests of one size by fio, and many small
 * files. Each is a number for a run; more is better unless the unit is seconds.
 */
import fs from 'node:fs';
import path from 'node:path';
import { compile } from '../compile.ts';
import { fioFileArguments, parseFioReport, type FioFileRun, type Workload } from '../fio.ts';
import type { Stage } from '../stage.ts';

const MIB = 2 ** 20;
/** The file that requests go to. */
const FILE_SIZE_BYTES = 256 * MIB;
const FIO_SLACK_MS = 60_000;
const SMALL_FILE_COUNT = 5000;
const SMALL_FILES_TIMEOUT_MS = 120_000;

/** Where and how a workload runs. */
export interface FileRun {
  readonly stage: Stage;
  /** The mount. */
  readonly directory: string;
  /** Measured seconds, of work that has no end of its own. */
  readonly seconds: number;
  readonly seed: number;
}

/** One thing to do on a mount. */
export interface FileWorkload {
  readonly name: string;
  readonly unit: 'IOPS' | 'MB/s' | 'files/s' | 'ops/s' | 's';
  /** The names of the targets that it runs on. */
  readonly targets: readonly string[];
  /** Makes what the runs need, once on each mount. */
  readonly prepare?: (run: FileRun) => Promise<void>;
  /** Does it once. @returns the number, in `unit` */
  readonly measure: (run: FileRun) => Promise<number>;
}

/** Mounts whose other end is in memory of this machine's processes. */
const LOCAL = [
  ...['memcloud', 'memcloud-build-cache', 'memcloud-native'],
  ...['libfuse', 'fuse-native', 'passthrough', 'tmpfs'],
];
const REMOTE = ['memcloud-remote', 'bare-remote', 'sshfs'];

interface FioShape {
  readonly name: string;
  readonly unit: 'IOPS' | 'MB/s';
  readonly pattern: Workload['pattern'];
  readonly blockSizeBytes: number;
  readonly jobCount: number;
  readonly direct: boolean;
  readonly keepsCache?: boolean;
}

async function runFio(run: FileRun, shape: FioShape, seconds: number) {
  const workload: Workload = { ...shape, queueDepth: 1 };
  const request: FioFileRun = {
    file: path.join(run.directory, 'data'),
    sizeBytes: FILE_SIZE_BYTES,
    seconds,
    rampSeconds: 0,
    seed: run.seed,
    direct: shape.direct,
    jobCount: shape.jobCount,
    keepsCache: shape.keepsCache === true,
  };
  const limitMs = seconds * 1000 + FIO_SLACK_MS;
  const report = await run.stage.run('fio', fioFileArguments(workload, request), limitMs);
  return parseFioReport(report, workload);
}

/** Fills the file with random bytes and drops it from the page cache. */
async function fill(run: FileRun): Promise<void> {
  const file = path.join(run.directory, 'data');
  if (fs.existsSync(file) && fs.statSync(file).size === FILE_SIZE_BYTES) return;
  const shape: FioShape = {
    ...{ name: 'fill', unit: 'MB/s', pattern: 'write', blockSizeBytes: MIB },
    ...{ jobCount: 1, direct: true },
  };
  await runFio(run, shape, 0);
}

function fioWorkload(shape: FioShape, targets: readonly string[]): FileWorkload {
  return {
    name: shape.name,
    unit: shape.unit,
    targets,
    prepare: fill,
    measure: async (run) => {
      const { iops, bytesPerSecond } = await runFio(run, shape, run.seconds);
      return shape.unit === 'IOPS' ? iops : bytesPerSecond / 1e6;
    },
  };
}

const small = { unit: 'IOPS', blockSizeBytes: 4096, direct: true } as const;
const large = { unit: 'MB/s', blockSizeBytes: MIB, jobCount: 1, direct: true } as const;
const EVERYWHERE = [...LOCAL, ...REMOTE];

/** Requests of fio. */
export const FIO_WORKLOADS: readonly FileWorkload[] = [
  fioWorkload({ ...small, name: 'randread-4k-j1', pattern: 'randread', jobCount: 1 }, EVERYWHERE),
  fioWorkload({ ...small, name: 'randread-4k-j8', pattern: 'randread', jobCount: 8 }, EVERYWHERE),
  fioWorkload(
    { ...small, name: 'write-4k-buffered', pattern: 'write', jobCount: 1, direct: false },
    LOCAL,
  ),
  fioWorkload({ ...large, name: 'write-1m', pattern: 'write' }, EVERYWHERE),
  fioWorkload({ ...large, name: 'read-1m', pattern: 'read' }, EVERYWHERE),
];

/** The same file again, from the kernel's page cache. */
const CACHED: FioShape = {
  ...{ ...small, direct: false, keepsCache: true },
  ...{ name: 'randread-4k-cached', pattern: 'randread', jobCount: 1 },
};

/** What the kernel answers without asking whoever serves the mount: read once before it counts. */
export const CACHED_READS: FileWorkload = {
  name: CACHED.name,
  unit: CACHED.unit,
  targets: [...LOCAL, 'memcloud-remote', 'sshfs'],
  prepare: fill,
  measure: async (run) => {
    const file = path.join(run.directory, 'data');
    await run.stage.run('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M'], FIO_SLACK_MS);
    return (await runFio(run, CACHED, run.seconds)).iops;
  },
};

/** Runs bench/peers/small-files.c. @returns what it printed, in seconds */
export async function runSmallFiles(
  run: FileRun,
  count: number,
  timeoutMs: number,
  mode: readonly string[],
): Promise<number[]> {
  const program = await compile(run.stage, 'small-files', []);
  const directory = fs.mkdtempSync(path.join(run.directory, 'small-'));
  const output = await run.stage.run(program, [directory, `${count}`, ...mode], timeoutMs);
  if (!mode.includes('empty')) fs.rmdirSync(directory);
  return output.trim().split(' ').map(Number);
}

/** Create, write 1 KiB, close; then list and read; then unlink. The rate is that of making and removing. */
export const SMALL_FILES: FileWorkload = {
  name: 'small-files',
  unit: 'files/s',
  targets: [...LOCAL, ...REMOTE],
  measure: async (run) => {
    const times = await runSmallFiles(run, SMALL_FILE_COUNT, SMALL_FILES_TIMEOUT_MS, []);
    const [create = NaN, , , remove = NaN] = times;
    return SMALL_FILE_COUNT / (create + remove);
  },
};
