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

/** Reads /proc/PID/stat: user and system time of the whole process, in clock ticks. @throws RangeError */
export function parseProcessTicks(text: string): number {
  // The name, field 2, may hold spaces and parentheses; what follows its end does not.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  if (Number.isNaN(ticks)) throw new RangeError('/proc/PID/stat: expected fields 14 and 15');
  return ticks;
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
