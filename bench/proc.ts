/** What this machine and its processes are doing, from /proc. */
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  parseAvailableBytes,
  parseCpuTicks,
  parseProcessMemory,
  parseProcessTicks,
  parseSchedstat,
  parseUsedTicks,
  type ProcessMemory,
  type ProcessTimes,
} from './proc-parse.ts';

/** USER_HZ: the kernel tells all times in this unit, whatever its own tick is. time(7). */
const TICKS_PER_SECOND = 100;
const BUSY_SAMPLE_MS = 500;
/** A machine of which more than this share is used measures something else: a tenth. */
export const BUSY_SHARE_MAX = 0.1;
const SETTLE_POLL_MS = 100;
const SETTLE_TIMEOUT_MS = 20_000;

function read(file: string): string {
  return fs.readFileSync(`/proc/${file}`, 'utf8');
}

/** The share of all processors' time (0 to 1) that is used while `ms` milliseconds pass. */
async function sampleBusyShare(ms: number): Promise<number> {
  const before = parseCpuTicks(read('stat'));
  await sleep(ms);
  const after = parseCpuTicks(read('stat'));
  return 1 - (after.idle - before.idle) / Math.max(1, after.total - before.total);
}

/**
 * Waits until the machine is quiet, and returns how busy it then was.
 *
 * @param limitMs - gives up after this long; 0 looks once
 */
export async function waitUntilQuiet(limitMs: number): Promise<number> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const share = await sampleBusyShare(BUSY_SAMPLE_MS);
    if (share <= BUSY_SHARE_MAX || performance.now() >= deadline) return share;
  }
}

/** Processor time that the processes, with all their threads, have used, microseconds. */
export function cpuTimeUs(pids: readonly number[]): number {
  const ticks = pids.map((pid) => parseProcessTicks(read(`${pid}/stat`)));
  return (ticks.reduce((sum, own) => sum + own, 0) * 1e6) / TICKS_PER_SECOND;
}

/** What a process used since its start. */
export function processTimes(pid: number): ProcessTimes {
  const { user, system } = parseUsedTicks(read(`${pid}/stat`));
  const { runNs, waitNs } = parseSchedstat(read(`${pid}/task/${pid}/schedstat`));
  const tickUs = 1e6 / TICKS_PER_SECOND;
  return {
    ...{ userUs: user * tickUs, systemUs: system * tickUs },
    ...{ mainRunUs: runNs / 1000, mainWaitUs: waitNs / 1000 },
  };
}

/** What a process occupies now. */
export function processMemory(pid: number): ProcessMemory {
  return parseProcessMemory(read(`${pid}/smaps_rollup`), read(`${pid}/status`));
}

/** Memory that programs can still get, bytes. */
export function availableBytes(): number {
  return parseAvailableBytes(read('meminfo'));
}

/** Load average over one minute. */
export function loadAverage(): number {
  return Number(read('loadavg').split(' ')[0]);
}

/**
 * Waits until the processes have done what they put off, such as writing back: until they used at
 * most one tick in a poll, twice in a row. Gives up silently after 20 s.
 */
export async function settle(pids: readonly number[]): Promise<void> {
  const tickUs = 1e6 / TICKS_PER_SECOND;
  const deadline = performance.now() + SETTLE_TIMEOUT_MS;
  let before = cpuTimeUs(pids);
  for (let calm = 0; calm < 2 && performance.now() < deadline;) {
    await sleep(SETTLE_POLL_MS);
    const after = cpuTimeUs(pids);
    calm = after - before <= tickUs ? calm + 1 : 0;
    before = after;
  }
}
