/**
 * Puts this very process under the kit (kit-status.ts says what that is and proves it). Most of it
 * must be in force before the process has threads and memory: PR_SET_IO_FLUSHER and the scheduling
 * policy count for one thread and are inherited by new ones; memory that was charged to one control
 * group stays there when the process moves to another. A shell would therefore be put in front. We
 * do the same without one: set everything on the main thread, then replace this process by itself
 * (execve): same pid, same files, fresh memory, and every thread is born under the kit.
 *
 * Never `mlockall`: V8 treats a refused `madvise(MADV_DONTNEED)` as fatal, and the kernel refuses it
 * on locked memory. Our own pools are locked one by one (native-memory.ts).
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import koffi from 'koffi';
import { CGROUP_ROOT, groupOfProcess, hasMemoryController, readText } from './control-group.ts';
import { kitStatus, type KitPart, type KitPartName } from './kit-status.ts';
import { replaceProcess } from './replace-process.ts';

const libc = koffi.load(null);
const prctlCall = libc.func(
  'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
);
const schedulerCall = libc.func('int sched_setscheduler(int pid, int policy, void *parameter)');

/** Linux `include/uapi/linux/prctl.h`; needs CAP_SYS_RESOURCE. */
const PR_SET_IO_FLUSHER = 57;
/** Linux `include/uapi/linux/sched.h`. */
const SCHED_FIFO = 1;

const OOM_SCORE_FILE = '/proc/self/oom_score_adj';
const OOM_NEVER = -1000;

/**
 * `PID:OOM_SCORE`: set for our next self only, so that it neither starts over nor forgets. Not a name
 * that begins with MEMCLOUD_: those are settings, and one of them is called kit.
 */
const MARKER = 'KIT_OF_MEMCLOUD';
const GROUP_PREFIX = 'memcloud-kit-';
/** Most of the machine's RAM that `memory.min` may claim. */
const MEMORY_MIN_SHARE = 1 / 4;

/** What to protect. */
export interface KitOptions {
  /** Bytes that the kernel never takes from the process, if its group is ours to make. */
  readonly memoryMinBytes: number;
  /** Run before all ordinary programs: priority 1 to 99 of SCHED_FIFO; 0 does not. */
  readonly realtimePriority: number;
}

/** What came of it. */
export interface Kit {
  /** Every part, as the kernel reports it. */
  readonly parts: readonly KitPart[];
  /** The oom_score_adj that the process was started with; what children should have. */
  readonly originalOomScore: number;
}

let flusherActive = false;

function setIoFlusher(on: boolean): boolean {
  return prctlCall(PR_SET_IO_FLUSHER, on ? 1 : 0, 0, 0, 0) === 0;
}

/**
 * Runs a synchronous piece of work without PR_SET_IO_FLUSHER: starting a child, which would inherit
 * it and could then never swap, or work that is meant to free memory by swapping.
 */
export function withoutIoFlusher<T>(work: () => T): T {
  if (flusherActive) setIoFlusher(false);
  try {
    return work();
  } finally {
    if (flusherActive) setIoFlusher(true);
  }
}

/**
 * Sets PR_SET_IO_FLUSHER on this thread, unless it was inherited: for a child of a process under the kit,
 * which has the rest from there and cannot start anew, since it holds a channel to its parent. Threads that
 * are there already keep what they have; so only for a process that works in its main thread.
 *
 * @returns whether it is in force
 */
export function becomeIoFlusher(): boolean {
  const inherited = kitStatus(process.pid).some(
    ({ part, active }) => part === 'io-flusher' && active,
  );
  flusherActive = inherited || setIoFlusher(true);
  return flusherActive;
}

function readOomScore(): number {
  return Number(readText(OOM_SCORE_FILE) ?? 0);
}

function spareFromOomKiller(): void {
  try {
    fs.writeFileSync(OOM_SCORE_FILE, String(OOM_NEVER));
  } catch {
    // Needs CAP_SYS_RESOURCE; the report says that the part is missing.
  }
}

function groupDirectory(pid: number): string {
  return path.join(CGROUP_ROOT, `${GROUP_PREFIX}${pid}`);
}

/** Removes groups of processes that are gone. One that is in use cannot be removed. */
function sweepGroups(): void {
  for (const name of fs.readdirSync(CGROUP_ROOT)) {
    if (!name.startsWith(GROUP_PREFIX)) continue;
    if (fs.existsSync(`/proc/${name.slice(GROUP_PREFIX.length)}`)) continue;
    try {
      fs.rmdirSync(path.join(CGROUP_ROOT, name));
    } catch {
      // A child of the process may still be in it.
    }
  }
}

/**
 * Joins a group without swap and with protected memory. A service manager's group is left alone:
 * it watches that group, and its unit has the same settings (systemd/).
 */
function tryJoinGroup(memoryMinBytes: number): boolean {
  const group = groupOfProcess('/proc/self');
  if (!hasMemoryController() || group === undefined || group.endsWith('.service')) return false;
  const directory = groupDirectory(process.pid);
  try {
    sweepGroups();
    fs.writeFileSync(path.join(CGROUP_ROOT, 'cgroup.subtree_control'), '+memory');
    fs.mkdirSync(directory, { recursive: true });
    const minBytes = Math.floor(Math.min(memoryMinBytes, os.totalmem() * MEMORY_MIN_SHARE));
    fs.writeFileSync(path.join(directory, 'memory.min'), String(minBytes));
    fs.writeFileSync(path.join(directory, 'memory.swap.max'), '0');
    fs.writeFileSync(path.join(directory, 'cgroup.procs'), String(process.pid));
    return true;
  } catch {
    return false;
  }
}

/** Leaves and removes the group at the end of the process; what a killed one leaves, the next sweeps. */
function leaveGroup(): void {
  const directory = groupDirectory(process.pid);
  if (!fs.existsSync(directory)) return;
  try {
    fs.writeFileSync(path.join(CGROUP_ROOT, 'cgroup.procs'), String(process.pid));
    fs.rmdirSync(directory);
  } catch {
    // The next process of ours sweeps it.
  }
}

function trySetRealtime(priority: number): boolean {
  return schedulerCall(0, SCHED_FIFO, new Int32Array([priority])) === 0;
}

/** Replaces this process by itself. Returns only when the kernel refuses. */
function replaceSelf(environment: Readonly<Record<string, string | undefined>>): void {
  replaceProcess([...process.execArgv, ...process.argv.slice(1)], environment);
}

/** Reads and removes what our former self left us; undefined when there was none. */
function takeMarker(): { originalOomScore: number } | undefined {
  const [pid, score] = (process.env[MARKER] ?? '').split(':');
  Reflect.deleteProperty(process.env, MARKER);
  return Number(pid) === process.pid ? { originalOomScore: Number(score) } : undefined;
}

function finish(originalOomScore: number): Kit {
  const parts = kitStatus(process.pid);
  flusherActive = parts.some(({ part, active }) => part === 'io-flusher' && active);
  process.once('exit', leaveGroup);
  return { parts, originalOomScore };
}

/**
 * Protects this process as far as its rights go. To be called early and once: when something was
 * gained, the process starts anew from its first line, and the call returns there. It is no error
 * that a part cannot be had; the parts say which.
 */
export function enterKit(options: KitOptions): Kit {
  const marker = takeMarker();
  if (marker !== undefined) return finish(marker.originalOomScore);
  const originalOomScore = readOomScore();
  const before = kitStatus(process.pid);
  const lacks = (name: KitPartName): boolean =>
    before.some(({ part, active }) => part === name && !active);
  if (lacks('oom-score')) spareFromOomKiller();
  const gained = [
    (lacks('no-swap') || lacks('memory-min')) && tryJoinGroup(options.memoryMinBytes),
    options.realtimePriority > 0 && lacks('realtime') && trySetRealtime(options.realtimePriority),
    lacks('io-flusher') && setIoFlusher(true),
  ];
  if (gained.includes(true)) {
    replaceSelf({ ...process.env, [MARKER]: `${process.pid}:${originalOomScore}` });
  }
  return finish(originalOomScore);
}
