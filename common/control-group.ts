/**
 * Control groups of version 2 as files: where they are mounted, which one a process is in, what its
 * memory limits say. Linux `Documentation/admin-guide/cgroup-v2.rst`. Nothing here creates or joins
 * a group. A machine with only version 1 has no memory groups for us.
 */
import fs from 'node:fs';
import path from 'node:path';

/** Where control groups of version 2 are mounted on every distribution that has only those. */
export const CGROUP_ROOT = '/sys/fs/cgroup';

/** Reads a file; undefined when it is not there or may not be read. */
export function readText(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** True when the mount at `root` is of version 2 and has the memory controller. */
export function hasMemoryController(root: string = CGROUP_ROOT): boolean {
  const controllers = readText(path.join(root, 'cgroup.controllers'));
  return controllers?.split(/\s+/).includes('memory') ?? false;
}

/**
 * The group that a process is in, as a path below the mount: `/` for the root, `/system.slice/x`.
 *
 * @param process - its directory in /proc, such as `/proc/self`
 * @returns undefined when the process is gone or the kernel knows no version 2
 */
export function groupOfProcess(process: string): string | undefined {
  return /^0::(\/.*)$/m.exec(readText(path.join(process, 'cgroup')) ?? '')?.[1];
}

/**
 * One number of a group: bytes, or Infinity for `max`.
 *
 * @returns undefined when the group or the file is not there
 */
export function groupValue(directory: string, file: string): number | undefined {
  const text = readText(path.join(directory, file))?.trim();
  if (text === undefined || text === '') return undefined;
  return text === 'max' ? Infinity : Number(text);
}

/** The directories of a group and of the groups that it is in, innermost first, without the root. */
export function groupChain(group: string, root: string = CGROUP_ROOT): string[] {
  const directories: string[] = [];
  for (
    let at = path.posix.normalize(group);
    at !== '/' && at !== '.';
    at = path.posix.dirname(at)
  ) {
    directories.push(path.join(root, at));
  }
  return directories;
}
