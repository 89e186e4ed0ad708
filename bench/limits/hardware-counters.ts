/** Instructions and cycles of a process under a load, where the processor lets perf(1) count them. */
import fs from 'node:fs';
import path from 'node:path';
import type { Stage } from '../stage.ts';
import { reasonOf } from '../trials.ts';
import { parsePerfStat, PERF_EVENTS, type PerfCounts } from './perf-stat.ts';

const TIMEOUT_MS = 10_000;

const options = (report: string): string[] => [
  ...['stat', '-x', ',', '-e', PERF_EVENTS.join(','), '-o', report],
];

/** Why nothing can be counted; undefined when it can. */
export async function countersObstacle(stage: Stage): Promise<string | undefined> {
  const report = path.join(stage.makeDirectory('perf'), 'report');
  try {
    await stage.run('perf', [...options(report), 'true'], TIMEOUT_MS);
  } catch (thrown) {
    // A kernel that lets nobody count, or a perf of another kernel.
    return reasonOf(thrown);
  }
  return parsePerfStat(fs.readFileSync(report, 'utf8')) === undefined
    ? 'this machine counts neither instructions nor cycles'
    : undefined;
}

/** Counts while `load` runs. @throws Error, RangeError when perf fails */
export async function countHardware(
  stage: Stage,
  pid: number,
  load: () => Promise<number>,
): Promise<{ pages: number; counts: PerfCounts }> {
  const report = path.join(stage.makeDirectory('perf'), 'report');
  const args = [...options(report), '-p', String(pid)];
  const counter = await stage.serve('perf', args, TIMEOUT_MS, () => true);
  let pages: number;
  try {
    pages = await load();
  } finally {
    await counter.stop();
  }
  const counts = parsePerfStat(fs.readFileSync(report, 'utf8'));
  if (counts === undefined) throw new Error('perf counted for a program, but not for a process');
  return { pages, counts };
}
