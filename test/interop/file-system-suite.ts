/**
 * Programs that exist to break file systems, and programs that people use, on any directory: fio that
 * verifies what it wrote, the file system stressors of stress-ng, and the recipes.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import { judge, requires } from '../helpers/judges.ts';

/** Seconds for each stressor; the long form: 60. */
const STRESS_SECONDS = Number(process.env['STRESS_SECONDS'] ?? 1);

/** Ways to write and read with fio: engine, direct, pattern, block sizes. */
const FIO_RUNS = [
  ['psync', 0, 'randwrite', '512-64k'],
  ['psync', 1, 'randwrite', '4k-1m'],
  ['libaio', 1, 'randrw', '4k'],
  ['libaio', 0, 'write', '128k'],
  ['mmap', 0, 'randwrite', '4k'],
  ['mmap', 0, 'write', '64k'],
] as const;

/**
 * Of the file system class of stress-ng, what touches no file of ours, the whole machine, or what neither
 * tmpfs nor we offer.
 */
const LEFT_OUT = 'binderfs,eventfd,fanotify,fiemap,io,ioprio,procfs,verity';
/** Stressors of the class, about. */
const STRESSOR_COUNT = 42;

/** fio writes patterns, reads them back and checks every block. */
export async function runFioVerify(t: Test, directory: string): Promise<void> {
  for (const [engine, direct, pattern, blocks] of FIO_RUNS) {
    const name = `fio ${engine} direct=${direct} ${pattern} ${blocks}: what is read is what was written`;
    await t.test(name, { ...requires('fio'), timeout: 300_000 }, async (t) => {
      const own = fs.mkdtempSync(path.join(directory, 'fio-'));
      const size = blocks.includes('-') ? `--bsrange=${blocks}` : `--bs=${blocks}`;
      const end = await judge(
        'fio',
        [
          '--name=verify',
          `--directory=${own}`,
          '--size=16m',
          '--numjobs=2',
          `--rw=${pattern}`,
          size,
          `--ioengine=${engine}`,
          `--direct=${direct}`,
          '--iodepth=8',
          '--verify=crc32c',
          '--do_verify=1',
          '--verify_fatal=1',
          '--fallocate=none',
          '--fsync=500',
        ],
        { timeoutMs: 280_000, cwd: '/' },
      );
      if (end.code !== 0) t.comment(`${end.stdout.slice(-800)}\n${end.stderr.slice(-800)}`);
      t.equal(end.code, 0, 'verified');
      fs.rmSync(own, { recursive: true });
    });
  }
}

/** One stressor after the other, with their own checks on. */
export async function runStressors(t: Test, directory: string): Promise<void> {
  const own = fs.mkdtempSync(path.join(directory, 'stress-'));
  const end = await judge(
    'stress-ng',
    [
      '--class',
      'filesystem',
      '--sequential',
      '1',
      '--exclude',
      LEFT_OUT,
      '--timeout',
      `${STRESS_SECONDS}s`,
      '--temp-path',
      own,
      '--verify',
      '--oomable',
    ],
    { timeoutMs: STRESSOR_COUNT * (STRESS_SECONDS + 20) * 1000, cwd: '/' },
  );
  const said = `${end.stdout}\n${end.stderr}`;
  if (end.code !== 0) t.comment(said.slice(-4000));
  t.equal(end.code, 0, 'stress-ng found nothing');
  t.notMatch(said, /fail:/);
  t.same(fs.readdirSync(own), [], 'the stressors leave nothing');
  fs.rmSync(own, { recursive: true, force: true });
}
