/** fio as a load in the background: random writes that it verifies, round after round. */
import { spawn } from 'node:child_process';

const ENV = { ...process.env, PATH: '/usr/bin:/bin:/usr/sbin:/sbin' };

/** How fio ended. */
export interface FioResult {
  code: number;
  /** What it said of errors; empty when all was well. */
  said: string;
  /** The first error that a request ended with; 0 for none. */
  error: number;
  readCount: number;
  writeCount: number;
  /** The longest read and write, milliseconds. */
  readMaxMs: number;
  writeMaxMs: number;
}

interface FioDirection {
  total_ios: number;
  clat_ns: { max: number };
}

/** What to do. */
export interface FioLoad {
  unixPath: string;
  exportName: string;
  offset: number;
  sizeBytes: number;
  /** How long new rounds begin; the round that runs then is ended early. */
  seconds: number;
  /** Requests a second at most, of each kind. */
  rate: number;
}

/** Writes all over the range at depth 32, reads it back and compares CRCs, again and again. */
export function fioVerify(load: FioLoad): Promise<FioResult> {
  const { unixPath, exportName, offset, sizeBytes, seconds, rate } = load;
  const args = [
    ...['--name=verify', '--ioengine=nbd', `--uri=nbd+unix:///${exportName}?socket=${unixPath}`],
    ...['--rw=randwrite', '--bs=4k', '--iodepth=32', `--offset=${offset}`, `--size=${sizeBytes}`],
    ...['--loops=1000', `--runtime=${seconds}`, `--rate_iops=${rate},${rate}`],
    ...['--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0', '--output-format=json'],
  ];
  return new Promise((resolve, reject) => {
    const child = spawn('fio', args, { env: ENV, timeout: (seconds + 90) * 1000 });
    let stdout = '';
    let said = '';
    child.stdout.on('data', (text: Buffer) => (stdout += text.toString()));
    child.stderr.on('data', (text: Buffer) => (said += text.toString()));
    child.on('error', reject);
    child.on('close', (code) => {
      try {
        // What it complains of may stand before the JSON.
        const json = JSON.parse(stdout.slice(stdout.indexOf('{\n'))) as {
          jobs: { error: number; read: FioDirection; write: FioDirection }[];
        };
        const [job] = json.jobs;
        if (job === undefined) throw new Error('no job');
        resolve({
          code: code ?? -1,
          said: said.trim(),
          error: job.error,
          readCount: job.read.total_ios,
          writeCount: job.write.total_ios,
          readMaxMs: job.read.clat_ns.max / 1e6,
          writeMaxMs: job.write.clat_ns.max / 1e6,
        });
      } catch (error) {
        reject(new Error(`fio ended with ${code}: ${said} ${stdout}`, { cause: error }));
      }
    });
  });
}
