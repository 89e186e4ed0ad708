/**
 * What is mounted where, as the kernel lists it for this process: /proc/self/mountinfo, proc(5). To read
 * the list touches no file system in it, so that it also works where a mount point itself would make
 * whoever looks at it wait for ever: a FUSE file system whose server is stopped.
 */
import fs from 'node:fs';

/** One mount. */
export interface MountRow {
  /** Where, as an absolute path. */
  readonly mountPoint: string;
  /** `MAJOR:MINOR` of st_dev: names the file system while it lives. */
  readonly device: string;
  /** `ext4`, `fuse.memcloud`. */
  readonly type: string;
  /** What was mounted, in the words of the file system. */
  readonly source: string;
}

const TABLE_FILE = '/proc/self/mountinfo';

/** Space, tab, newline and backslash are written as three octal digits. */
function unescape(word: string): string {
  return word.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(parseInt(digits, 8)),
  );
}

/** The mounts in the order in which they were made; lines that are none are left out. */
export function parseMountTable(text: string): MountRow[] {
  return text.split('\n').flatMap((line): MountRow[] => {
    const words = line.split(' ');
    const [device, mountPoint] = [words[2], words[4]];
    // A variable number of optional words ends with one hyphen.
    const dash = words.indexOf('-', 6);
    const [type, source] = [words[dash + 1], words[dash + 2]];
    if (dash < 0 || device === undefined || mountPoint === undefined) return [];
    if (type === undefined || source === undefined) return [];
    return [{ device, type, mountPoint: unescape(mountPoint), source: unescape(source) }];
  });
}

/** The mounts that this process sees. Paths are of UTF-8; a name that is none finds nothing. */
export function readMountTable(): MountRow[] {
  return parseMountTable(fs.readFileSync(TABLE_FILE, 'utf8'));
}

/** The uppermost mount at a path; undefined when it is no mount point. */
export function mountAt(table: readonly MountRow[], mountPoint: string): MountRow | undefined {
  return table.findLast((row) => row.mountPoint === mountPoint);
}

/** True for a file system that some program serves, which may not answer. */
export function isFuse({ type }: Pick<MountRow, 'type'>): boolean {
  return /^fuse(blk)?(\.|$)/.test(type);
}

/** True when `place` is `directory` or lies below it. Both are absolute and without dots. */
export function isWithin(place: string, directory: string): boolean {
  return place === directory || place.startsWith(directory === '/' ? '/' : `${directory}/`);
}
