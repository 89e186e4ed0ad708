/**
 * Who uses a mount, so that an unmount that is refused can say why. Everything is read below /proc, where
 * the kernel has the names: the mount itself is not touched, which may not answer any more.
 */
import fs from 'node:fs';
import { isWithin, readMountTable, type MountRow } from '../../common/mount-table.ts';

/** A user of a mount. */
export interface MountHolder {
  /** `bash (process 412)`, or `a mount at /mnt/x/y`. */
  readonly who: string;
  /** What it has there: `its working directory`, or a file. */
  readonly what: string;
}

/** Links of a process that keep a mount busy: proc(5). */
const LINKS = [
  { name: 'cwd', what: 'its working directory' },
  { name: 'root', what: 'its root directory' },
  { name: 'exe', what: 'its program' },
] as const;

function readLink(link: string): string {
  try {
    return fs.readlinkSync(link).replace(/ \(deleted\)$/, '');
  } catch {
    // It ended meanwhile, or is not ours to see.
    return '';
  }
}

function list(folder: string): string[] {
  try {
    return fs.readdirSync(folder);
  } catch {
    return [];
  }
}

function readText(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** The file of a mapping: the sixth word of a line of /proc/PID/maps, to its end. */
function mappedFiles(folder: string): string[] {
  const lines = readText(`${folder}/maps`).split('\n');
  return lines.map((line) => /^(?:\S+\s+){5}(\/.*)$/.exec(line)?.[1] ?? '');
}

function useOf(folder: string, directory: string): string | undefined {
  const isThere = (place: string): boolean => place !== '' && isWithin(place, directory);
  for (const { name, what } of LINKS) {
    if (isThere(readLink(`${folder}/${name}`))) return what;
  }
  const files = list(`${folder}/fd`).map((fd) => readLink(`${folder}/fd/${fd}`));
  return files.find(isThere) ?? mappedFiles(folder).find(isThere);
}

/**
 * Processes and mounts that use the mount at a directory; those of other users only for root.
 *
 * @param proc - where proc(5) is mounted
 */
export function mountHolders(
  directory: string,
  table: readonly MountRow[] = readMountTable(),
  proc = '/proc',
): MountHolder[] {
  const above = table
    .filter(({ mountPoint }) => mountPoint !== directory && isWithin(mountPoint, directory))
    .map(({ mountPoint, type }) => ({ who: `a mount at ${mountPoint}`, what: type }));
  const processes = list(proc)
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid): MountHolder[] => {
      const what = useOf(`${proc}/${pid}`, directory);
      if (what === undefined) return [];
      const name = readText(`${proc}/${pid}/comm`).trim() || 'a program';
      return [{ who: `${name} (process ${pid})`, what }];
    });
  return [...above, ...processes];
}

const NAMED_COUNT_MAX = 5;

/** The holders in words, for the end of a sentence; empty when none is seen. */
export function describeHolders(holders: readonly MountHolder[]): string {
  const named = holders.slice(0, NAMED_COUNT_MAX).map(({ who, what }) => `${who}: ${what}`);
  const more = holders.length - named.length;
  return [...named, ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}
