/**
 * The kit: what keeps a process able to run while its machine swaps through it (docs/architecture.md,
 * "Not freezing"). Asking for protection proves nothing: a capability may be missing, a flag is set
 * for one thread and not for the others, a group may be joined after the pages were charged
 * elsewhere. So each part is read back from the kernel, from outside, for any process:
 *
 *   io-flusher    flags of every thread, /proc/PID/task/TID/stat (prctl PR_SET_IO_FLUSHER)
 *   no-swap       memory.swap.max of the group, and what of the process is swapped out all the same
 *   memory-min    memory.min of the group and of the groups above it
 *   oom-score     /proc/PID/oom_score_adj
 *   locked-pools  VmLck, or the right to lock
 *   realtime      scheduling policy of every thread; optional
 */
import fs from 'node:fs';
import path from 'node:path';
import {
  CGROUP_ROOT,
  groupChain,
  groupOfProcess,
  groupValue,
  hasMemoryController,
  readText,
} from './control-group.ts';
import { formatSize } from './units.ts';

/** The names of the parts, in the order in which they are reported. */
export type KitPartName =
  'io-flusher' | 'no-swap' | 'memory-min' | 'oom-score' | 'locked-pools' | 'realtime';

/** One protection of a process. */
export interface KitPart {
  /** Which. */
  readonly part: KitPartName;
  /** True when the kernel says that it is in force. */
  readonly active: boolean;
  /** What the kernel said, in words. */
  readonly detail: string;
  /** What its absence risks, in words. */
  readonly risk: string;
  /** True for a part that is good to have and that nobody need be warned about. */
  readonly optional: boolean;
}

/** Where to look; tests look into folders of their own. */
export interface KitStatusRoots {
  /** Default `/proc`. */
  readonly proc?: string;
  /** Default `/sys/fs/cgroup`. */
  readonly cgroup?: string;
}

/** Flags of a task, Linux `include/linux/sched.h`: both are set by PR_SET_IO_FLUSHER. */
const PF_MEMALLOC_NOIO = 0x0008_0000;
const PF_LOCAL_THROTTLE = 0x0010_0000;
const IO_FLUSHER_FLAGS = PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE;

/** Scheduling policies, Linux `include/uapi/linux/sched.h`. */
const REALTIME_POLICIES = [1, 2];

/** Places in /proc/PID/stat after the name in parentheses, proc(5): field 9, 40 and 41 of the line. */
const STAT_FLAGS = 9 - 3;
const STAT_PRIORITY = 40 - 3;
const STAT_POLICY = 41 - 3;

const CAP_IPC_LOCK = 14n;
const OOM_NEVER = -1000;

const RISKS: Readonly<Record<KitPartName, string>> = {
  'io-flusher': 'when it needs memory the kernel may wait for the very swap device that it serves',
  'no-swap': 'its own memory may be swapped onto itself, and cannot come back',
  'memory-min': 'its code and buffers are reclaimed first when memory is short, so that it stalls',
  'oom-score': 'the kernel may kill it when memory runs out, and with it everything swapped out',
  'locked-pools': 'pages on their way and keys may be written to a disk',
  realtime: 'busy programs may keep it from the processor while others wait for its pages',
};

interface TaskFacts {
  readonly flags: number;
  readonly policy: number;
  readonly priority: number;
}

/** The facts in one line of /proc/PID/task/TID/stat. The name may hold spaces and parentheses. */
function parseStat(line: string): TaskFacts {
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const field = (index: number): number => Number(fields[index] ?? 0);
  return {
    flags: field(STAT_FLAGS),
    policy: field(STAT_POLICY),
    priority: field(STAT_PRIORITY),
  };
}

/** Every thread of a process; none when it is gone. A thread that ends meanwhile does not count. */
function readTasks(process: string): TaskFacts[] {
  let names: string[];
  try {
    names = fs.readdirSync(path.join(process, 'task'));
  } catch {
    return [];
  }
  return names
    .map((name) => readText(path.join(process, 'task', name, 'stat')))
    .filter((line) => line !== undefined)
    .map(parseStat);
}

/** A count of kibibytes in /proc/PID/status, as bytes. */
function statusBytes(status: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
}

type Finding = Pick<KitPart, 'active' | 'detail'>;

function ioFlusher(tasks: readonly TaskFacts[]): Finding {
  const count = tasks.filter(({ flags }) => (flags & IO_FLUSHER_FLAGS) === IO_FLUSHER_FLAGS).length;
  return { active: count === tasks.length, detail: `${count} of ${tasks.length} threads` };
}

function realtime(tasks: readonly TaskFacts[]): Finding {
  const real = tasks.filter(({ policy }) => REALTIME_POLICIES.includes(policy));
  const priority = Math.min(...real.map((task) => task.priority));
  const detail = `${real.length} of ${tasks.length} threads`;
  return {
    active: real.length === tasks.length,
    detail: real.length === 0 ? detail : `${detail}, priority ${priority}`,
  };
}

const NO_GROUPS: Finding = {
  active: false,
  detail: 'no control groups of version 2 with the memory controller',
};

function noSwap(status: string, chain: readonly string[]): Finding {
  const swappedBytes = statusBytes(status, 'VmSwap');
  const barred = chain.find((directory) => groupValue(directory, 'memory.swap.max') === 0);
  const swapped = `${formatSize(swappedBytes)} swapped out`;
  if (barred === undefined) {
    return { active: false, detail: `memory.swap.max is not 0, ${swapped}` };
  }
  const detail = `memory.swap.max is 0 in ${path.basename(barred)}, ${swapped}`;
  // Pages charged before the group was joined stay swappable.
  return { active: swappedBytes === 0, detail };
}

/**
 * What `memory.min` protects. A group gets no more than the group that it is in; with the mount
 * option `memory_recursiveprot` a group that asks for nothing shares what those above it have.
 */
function protectedBytes(chain: readonly string[], recursive: boolean): number {
  const values = chain.map((directory) => groupValue(directory, 'memory.min') ?? 0);
  const first = recursive ? values.findIndex((value) => value > 0) : 0;
  return first < 0 || values.length === 0 ? 0 : Math.min(...values.slice(first));
}

function memoryMin(chain: readonly string[], recursive: boolean): Finding {
  const bytes = protectedBytes(chain, recursive);
  const usedBytes = groupValue(chain[0] ?? '', 'memory.current') ?? 0;
  const detail = `${formatSize(bytes)} protected of ${formatSize(usedBytes)} in use`;
  return { active: bytes > 0, detail: bytes === Infinity ? 'everything protected' : detail };
}

function oomScore(process: string): Finding {
  const score = Number(readText(path.join(process, 'oom_score_adj')) ?? 0);
  return { active: score === OOM_NEVER, detail: `oom_score_adj ${score}` };
}

function lockedPools(process: string, status: string): Finding {
  const lockedBytes = statusBytes(status, 'VmLck');
  if (lockedBytes > 0) return { active: true, detail: `${formatSize(lockedBytes)} locked` };
  const limits = readText(path.join(process, 'limits')) ?? '';
  const unlimited = /^Max locked memory\s+unlimited/m.test(limits);
  const bits = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  const may = unlimited || ((bits >> CAP_IPC_LOCK) & 1n) === 1n;
  return { active: may, detail: may ? 'nothing to lock yet; it may lock' : 'it may not lock' };
}

/**
 * Every part of the kit of a process, as the kernel reports it now.
 *
 * @param pid - any process that the caller may look at
 * @returns one row for each part, always all of them; when the process is gone or may not be read,
 *   all inactive with that as detail. Never throws.
 */
export function kitStatus(pid: number, roots: KitStatusRoots = {}): KitPart[] {
  const { proc = '/proc', cgroup = CGROUP_ROOT } = roots;
  const process = path.join(proc, String(pid));
  const tasks = readTasks(process);
  const status = readText(path.join(process, 'status')) ?? '';
  const group = groupOfProcess(process);
  const grouped = hasMemoryController(cgroup) && group !== undefined;
  const chain = grouped ? groupChain(group, cgroup) : [];
  const mounts = readText(path.join(proc, 'self/mounts')) ?? '';
  const recursive = /^\S+ \S+ cgroup2 \S*memory_recursiveprot/m.test(mounts);
  const gone: Finding = { active: false, detail: `process ${pid} cannot be read` };
  const row = (part: KitPartName, find: () => Finding): KitPart => {
    const finding = tasks.length === 0 ? gone : find();
    return { part, ...finding, risk: RISKS[part], optional: part === 'realtime' };
  };
  return [
    row('io-flusher', () => ioFlusher(tasks)),
    row('no-swap', () => (grouped ? noSwap(status, chain) : NO_GROUPS)),
    row('memory-min', () => (grouped ? memoryMin(chain, recursive) : NO_GROUPS)),
    row('oom-score', () => oomScore(process)),
    row('locked-pools', () => lockedPools(process, status)),
    row('realtime', () => realtime(tasks)),
  ];
}
