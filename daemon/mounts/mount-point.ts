/**
 * Whether a directory can become a mount point, found out without being caught: a path that leads into
 * a FUSE file system whose server is stopped makes whoever looks at it wait for ever, and the daemon
 * would wait for its own child. So each step of the path is compared with the list of mounts before the
 * kernel is asked about it, symbolic links are followed here and not there, and nothing at or below a FUSE
 * mount is touched. What remains (a network file system) is asked in the background under a deadline.
 */
import type { Stats } from 'node:fs';
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';
import { isFuse, isWithin, mountAt, type MountRow } from '../../common/mount-table.ts';

/** Links on a path at most: MAXSYMLINKS of Linux `include/linux/namei.h`. */
const LINK_COUNT_MAX = 40;
const LOOK_TIMEOUT_MS = 3000;

/** What is asked about the machine. */
export interface MountPointWorld {
  /** Every mount now. */
  readonly table: () => readonly MountRow[];
  /** lstat(2). */
  readonly lstat: (place: string) => Promise<Pick<Stats, 'isDirectory' | 'isSymbolicLink'>>;
  /** readlink(2). */
  readonly readlink: (place: string) => Promise<string>;
  /** Makes a directory and those above it. @throws the system's error */
  readonly makeDirectory: (place: string) => void;
  /** Files and directories that the daemon itself needs: a mount may not hide them. */
  readonly precious: readonly string[];
}

/** Where a path leads. */
export interface Place {
  /** The path without links and dots, as far as it could be followed, and the rest as written. */
  readonly path: string;
  /** The FUSE mount at which following it ended. */
  readonly fuse: MountRow | undefined;
  /** True when something is there; a FUSE mount counts. */
  readonly exists: boolean;
  /** True for a directory. */
  readonly isDirectory: boolean;
}

function refuse(directory: string, why: string): MemcloudError {
  return new MemcloudError('ERR_MOUNT_POINT', `mount point ${directory}: ${why}`);
}

async function inTime<T>(directory: string, look: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const text = `mount point ${directory}: its file system does not answer`;
      reject(new MemcloudError('ERR_TIMEOUT', text));
    }, LOOK_TIMEOUT_MS);
  });
  try {
    return await Promise.race([look, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Follows an absolute path.
 *
 * @throws MemcloudError `ERR_USAGE` for a path that is not absolute; `ERR_MOUNT_POINT` when it cannot be
 *   followed; `ERR_TIMEOUT`
 */
export async function followPath(
  directory: string,
  world: Pick<MountPointWorld, 'table' | 'lstat' | 'readlink'>,
): Promise<Place> {
  if (!path.isAbsolute(directory) || directory.includes('\0')) {
    throw new MemcloudError('ERR_USAGE', `expected an absolute path, got "${directory}"`);
  }
  const table = world.table();
  let left = directory.split('/');
  let at = '/';
  let linkCount = 0;
  while (left.length > 0) {
    const [part = '', ...others] = left;
    left = others;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      at = path.dirname(at);
      continue;
    }
    const next = path.join(at, part);
    const rest = path.join(next, ...left);
    const mounted = mountAt(table, next);
    if (mounted !== undefined && isFuse(mounted)) {
      return { path: rest, fuse: mounted, exists: true, isDirectory: true };
    }
    let seen;
    try {
      seen = await inTime(directory, world.lstat(next));
    } catch (cause) {
      if (cause instanceof MemcloudError) throw cause;
      const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
      if (code === 'ENOENT') {
        return { path: rest, fuse: undefined, exists: false, isDirectory: false };
      }
      const why = code === 'ENOTDIR' ? `${at} is no directory` : code;
      throw new MemcloudError('ERR_MOUNT_POINT', `mount point ${directory}: ${why}`, { cause });
    }
    if (!seen.isSymbolicLink()) {
      at = next;
      if (left.every((word) => word === '' || word === '.')) {
        return { path: at, fuse: undefined, exists: true, isDirectory: seen.isDirectory() };
      }
      continue;
    }
    linkCount += 1;
    if (linkCount > LINK_COUNT_MAX) throw refuse(directory, 'too many symbolic links');
    const target = await inTime(directory, world.readlink(next));
    if (path.isAbsolute(target)) at = '/';
    left = [...target.split('/'), ...left];
  }
  return { path: at, fuse: undefined, exists: true, isDirectory: true };
}

/**
 * The directory itself, without links, when it can be mounted on.
 *
 * @param makeMissing - make it when it is not there
 * @returns where it is, and whether it was made
 * @throws MemcloudError `ERR_MOUNT_POINT` with what is wrong with it; as {@link followPath}
 */
export async function checkMountPoint(
  directory: string,
  makeMissing: boolean,
  world: MountPointWorld,
): Promise<{ path: string; made: boolean }> {
  const place = await followPath(directory, world);
  if (place.fuse !== undefined) {
    const { mountPoint, type } = place.fuse;
    throw refuse(
      directory,
      mountPoint === place.path
        ? `${type} is mounted there already; memcloud umount ${mountPoint}, or umount -l if it is not ours`
        : `it lies inside ${mountPoint} (${type}), which another program serves; take one outside`,
    );
  }
  if (!place.exists && !makeMissing) {
    throw refuse(directory, `there is no such directory; make it first: mkdir -p ${directory}`);
  }
  if (place.exists && !place.isDirectory)
    throw refuse(directory, 'expected a directory, it is something else');
  const mounted = mountAt(world.table(), place.path);
  if (mounted !== undefined) throw refuse(directory, `${mounted.type} is mounted there already`);
  const hidden = world.precious.find((file) => isWithin(file, place.path));
  if (hidden !== undefined) {
    throw refuse(directory, `memnode needs ${hidden}, which a mount there would hide`);
  }
  if (!place.exists) make(place.path, world);
  return { path: place.path, made: !place.exists };
}

function make(directory: string, { makeDirectory }: MountPointWorld): void {
  try {
    makeDirectory(directory);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    const text = `mount point ${directory} cannot be made: ${code}`;
    throw new MemcloudError('ERR_MOUNT_POINT', text, { cause });
  }
}
