/**
 * Tells a process from a later one that got the same number: by when it was started.
 */
import fs from 'node:fs';

/** Field 22 of /proc/PID/stat, counted behind the name, which may hold anything. proc(5). */
const START_TIME_FIELD = 19;

/** When a process was started, in ticks since the boot, decimal; undefined when there is none. */
export function processStart(pid: string | number): string | undefined {
  try {
    const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[START_TIME_FIELD];
  } catch {
    return undefined;
  }
}
