/**
 * Counts the system calls of a process while it serves a load, with strace(1) attached to all its
 * threads. Each call then stops the process twice, so the load is slower than it would be, and a turn of
 * its loop finds other numbers of requests waiting: the counts are those of a server under strace.
 */
import fs from 'node:fs';
import path from 'node:path';
import { waitFor, type Stage } from '../stage.ts';
import { parseStraceSummary, type CallCount } from './strace-summary.ts';

const ATTACH_TIMEOUT_MS = 10_000;

function isTraced(pid: number): boolean {
  return fs.readdirSync(`/proc/${pid}/task`).every((thread) => {
    const status = fs.readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
    return /^TracerPid:\t[1-9]/m.test(status);
  });
}

/** What a counted load did. */
export interface Counted {
  readonly pages: number;
  readonly counts: readonly CallCount[];
}

/**
 * Counts the calls of the process `pid` while `load` runs.
 *
 * @param load - returns how many pages it moved
 * @throws Error when strace may not attach, RangeError when its report is none
 */
export async function countCalls(
  stage: Stage,
  pid: number,
  load: () => Promise<number>,
): Promise<Counted> {
  const report = path.join(stage.makeDirectory('strace'), 'report');
  const args = ['-c', '-f', '-o', report, '-p', String(pid)];
  const tracer = await stage.serve('strace', args, ATTACH_TIMEOUT_MS, () => true);
  try {
    await waitFor('strace to attach', ATTACH_TIMEOUT_MS, () => isTraced(pid));
    const pages = await load();
    await tracer.stop();
    return { pages, counts: parseStraceSummary(fs.readFileSync(report, 'utf8')) };
  } finally {
    await tracer.stop();
  }
}
