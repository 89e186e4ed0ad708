/** Reads the text files of /proc that the benchmarks need (proc(5)). Pure: text in, numbers out. */

/** Where the time of all processors went since boot, in clock ticks. */
export interface CpuTicks {
  readonly total: number;
  /** Idle and waiting for disks. */
  readonly idle: number;
}

/** What a process occupies, bytes. */
export interface ProcessMemory {
  /** Anonymous pages: heaps, stacks, buffers. Shared ones count by share. */
  readonly anonymousBytes: number;
  /** Pages of tmpfs files and shared mappings that it has touched, by share. */
  readonly shmemBytes: number;
  /** Page tables of the process (VmPTE); in neither of the above. */
  readonly pageTableBytes: number;
}

function kibibytes(text: string, field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text);
  if (found === null) throw new RangeError(`/proc: expected a line "${field}: N kB", got none`);
  return Number(found[1]) * 1024;
}

/** Reads /proc/stat. @throws RangeError */
export function parseCpuTicks(text: string): CpuTicks {
  const fields = /^cpu +([\d ]+)$/m.exec(text)?.[1]?.trim().split(' ').map(Number) ?? [];
  if (fields.length < 8)
    throw new RangeError('/proc/stat: expected a line of 8 counts after "cpu"');
  // Guest time (fields 9 and 10) is already in user and nice.
  const total = fields.slice(0, 8).reduce((sum, ticks) => sum + ticks, 0);
  return { total, idle: (fields[3] ?? 0) + (fields[4] ?? 0) };
}

/** User and system time of /proc/PID/stat or /proc/PID/task/TID/stat, in clock ticks. */
export interface UsedTicks {
  readonly user: number;
  readonly system: number;
}

/** What a process used, microseconds. */
export interface ProcessTimes {
  /** In user mode, all threads. */
  readonly userUs: number;
  /** In the kernel, all threads. */
  readonly systemUs: number;
  /** In which the main thread ran. */
  readonly mainRunUs: number;
  /** In which it could have run and waited for a processor. */
  readonly mainWaitUs: number;
}

/** Reads /proc/PID/stat: the whole process with all its threads. @throws RangeError */
export function parseUsedTicks(text: string): UsedTicks {
  // The name, field 2, may hold spaces and parentheses; what follows its end does not.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [user, system] = [Number(fields[11]), Number(fields[12])];
  if (Number.isNaN(user + system)) {
    throw new RangeError('/proc/PID/stat: expected fields 14 and 15');
  }
  return { user, system };
}

/** The same as one number. @throws RangeError */
export function parseProcessTicks(text: string): number {
  const { user, system } = parseUsedTicks(text);
  return user + system;
}

/** Reads /proc/PID/task/TID/schedstat: nanoseconds run and waited for a processor. @throws RangeError */
export function parseSchedstat(text: string): { readonly runNs: number; readonly waitNs: number } {
  const found = /^(\d+) (\d+) \d+$/.exec(text.trim());
  if (found === null) throw new RangeError('schedstat: expected three counts');
  return { runNs: Number(found[1]), waitNs: Number(found[2]) };
}

/** Reads /proc/PID/smaps_rollup and /proc/PID/status. @throws RangeError */
export function parseProcessMemory(smapsRollup: string, status: string): ProcessMemory {
  return {
    anonymousBytes: kibibytes(smapsRollup, 'Pss_Anon'),
    shmemBytes: kibibytes(smapsRollup, 'Pss_Shmem'),
    pageTableBytes: kibibytes(status, 'VmPTE'),
  };
}

/** `MemAvailable` of /proc/meminfo, bytes. @throws RangeError */
export function parseAvailableBytes(meminfo: string): number {
  return kibibytes(meminfo, 'MemAvailable');
}
