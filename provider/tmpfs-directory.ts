/**
 * The directory in which a provider keeps its files: private, certainly on tmpfs, and gone when
 * the provider is gone.
 *
 * The files keep their names while the daemon lives, so that anyone allowed to can look at what is
 * lent (`memcloud doctor`, the wipe tests). A daemon that is killed cannot remove them, and on tmpfs
 * a left file is lost RAM; so the next provider on the same base directory does. Whether an owner
 * lives is told by a flock(2) on the directory, which the kernel drops with the process: a process
 * id would lie across containers that share /dev/shm and after the number was used again.
 *
 * Lent pages must not end on the donor's swap disk. Where mount(2) is allowed and the kernel knows
 * `noswap` (Linux 6.3), the files lie on a tmpfs of their own inside the directory, limited to the
 * offer; else they lie on the base tmpfs, which says `swappable` unless it was mounted `noswap`.
 */
import fs from 'node:fs';
import path from 'node:path';
import { MOUNT, mount, tryLockFile, tryUnmount } from '../common/libc.ts';
import { MemcloudError, asMemcloudError } from '../common/errors.ts';

/** Where providers keep their files unless told otherwise. */
export const DEFAULT_TMPFS_BASE = '/dev/shm';

/** Linux `include/uapi/linux/magic.h`. */
const TMPFS_MAGIC = 0x01021994;

const PREFIX = 'memcloud-';
/** The names that mkdtemp(3) makes of the prefix; nothing else is ever removed as stale. */
const NAME_PATTERN = /^memcloud-[A-Za-z0-9]{6}$/;
const MOUNT_NAME = 'noswap';
const CREATE_ATTEMPT_COUNT_MAX = 8;
/** Room in the private mount beyond the offer, for the directory itself. */
const MOUNT_SLACK_BYTES = 2 ** 20;

/** Whether the kernel may write lent pages to a swap device of this machine. */
export type SwapExposure = 'noswap' | 'swappable';

/** How to open a {@link TmpfsDirectory}. */
export interface TmpfsDirectoryOptions {
  /** An existing directory; the provider makes one of its own inside. */
  readonly base: string;
  /** `auto` mounts a private `noswap` tmpfs where that is possible; `off` never mounts. */
  readonly noswap: 'auto' | 'off';
  /** The most bytes that files will take: the size limit of the private mount. */
  readonly sizeBytes: number;
}

interface LockedDirectory {
  readonly path: string;
  readonly fd: number;
}

/** An open directory, locked by this process. */
export class TmpfsDirectory {
  /** Where files go. */
  readonly path: string;
  /** Whether the kernel may swap the files out. */
  readonly swap: SwapExposure;
  /** Why there is no private mount, for people; empty when there is one. */
  readonly noMountReason: string;
  /** The size limit of the private mount, without its slack. */
  #sizeBytes: number;
  #locked: LockedDirectory | undefined;

  private constructor(locked: LockedDirectory, options: TmpfsDirectoryOptions) {
    this.#locked = locked;
    this.#sizeBytes = options.sizeBytes;
    try {
      const refusal =
        options.noswap === 'off' ? 'switched off' : tryMount(locked.path, options.sizeBytes);
      this.noMountReason = refusal;
      this.path = refusal === '' ? path.join(locked.path, MOUNT_NAME) : locked.path;
      requireTmpfs(this.path);
      this.swap = refusal === '' || mountedNoswap(this.path) ? 'noswap' : 'swappable';
    } catch (error) {
      removeLocked(locked);
      throw error;
    }
  }

  /**
   * Removes what dead providers of this user left under `base`, then makes a new directory.
   *
   * @throws MemcloudError `ERR_UNSUPPORTED` when it would not be on tmpfs, `ERR_NATIVE` when it
   *   cannot be made
   */
  static open(options: TmpfsDirectoryOptions): TmpfsDirectory {
    const { base } = options;
    if (fs.statSync(base, { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw new MemcloudError(
        'ERR_NATIVE',
        `provider directory: expected a directory on tmpfs, but ${base} is not one`,
      );
    }
    removeStale(base);
    return new TmpfsDirectory(createLocked(base), options);
  }

  /** Free bytes of the tmpfs, Infinity when it has no size limit. */
  freeBytes(): number {
    const { blocks, bavail, bsize } = fs.statfsSync(this.path);
    return blocks === 0 ? Infinity : bavail * bsize;
  }

  /**
   * Lets files take `sizeBytes` in all. A private mount only ever grows: files may lie in it.
   *
   * @throws MemcloudError `ERR_NATIVE`
   */
  grow(sizeBytes: number): void {
    if (this.noMountReason !== '' || sizeBytes <= this.#sizeBytes) return;
    mountNoswap(this.path, sizeBytes, MOUNT.MS_REMOUNT);
    this.#sizeBytes = sizeBytes;
  }

  /** Unmounts and removes the directory. The files in it were closed before. */
  close(): void {
    if (this.#locked !== undefined) removeLocked(this.#locked);
    this.#locked = undefined;
  }
}

function createLocked(base: string): LockedDirectory {
  for (let attempt = 1; attempt <= CREATE_ATTEMPT_COUNT_MAX; attempt += 1) {
    let directory: string;
    try {
      directory = fs.mkdtempSync(path.join(base, PREFIX));
    } catch (error) {
      const { message } = asMemcloudError(error);
      throw new MemcloudError('ERR_NATIVE', `provider directory: ${message}`, { cause: error });
    }
    // Another provider that starts now may take it for a stale one until the lock is ours.
    const locked = tryLockDirectory(directory);
    if (locked !== undefined) return locked;
  }
  throw new MemcloudError('ERR_NATIVE', `provider directory: no directory in ${base} stayed ours`);
}

/** Locks a directory that is still there; undefined when it is gone or locked by another. */
function tryLockDirectory(directory: string): LockedDirectory | undefined {
  let fd: number;
  try {
    fd = fs.openSync(directory, fs.constants.O_DIRECTORY | fs.constants.O_NOFOLLOW);
  } catch {
    return undefined;
  }
  const opened = fs.fstatSync(fd);
  const named = fs.lstatSync(directory, { throwIfNoEntry: false });
  if (tryLockFile(fd) && named?.ino === opened.ino && fs.existsSync(directory)) {
    return { path: directory, fd };
  }
  fs.closeSync(fd);
  return undefined;
}

/**
 * Removes what dead providers of this user left under `base`. The files go in a thread of the pool: to free gigabytes
 * takes seconds.
 */
export async function removeLeftovers(base: string = DEFAULT_TMPFS_BASE): Promise<void> {
  for (const { path: directory, fd } of lockStale(base)) {
    unmountPrivate(directory);
    await fs.promises.rm(directory, { recursive: true, force: true });
    fs.closeSync(fd);
  }
}

function removeStale(base: string): void {
  for (const locked of lockStale(base)) removeLocked(locked);
}

/** The directories that nobody alive has, locked one by one. */
function* lockStale(base: string): Iterable<LockedDirectory> {
  for (const entry of fs.readdirSync(base, { withFileTypes: true })) {
    if (!entry.isDirectory() || !NAME_PATTERN.test(entry.name)) continue;
    const directory = path.join(base, entry.name);
    if (fs.lstatSync(directory, { throwIfNoEntry: false })?.uid !== process.geteuid?.()) continue;
    const locked = tryLockDirectory(directory);
    if (locked !== undefined) yield locked;
  }
}

/** Detached, so that a reader of a file in it (doctor) cannot keep the mount; EINVAL says there is none. */
function unmountPrivate(directory: string): void {
  while (tryUnmount(path.join(directory, MOUNT_NAME), MOUNT.MNT_DETACH));
}

function removeLocked(locked: LockedDirectory): void {
  unmountPrivate(locked.path);
  fs.rmSync(locked.path, { recursive: true, force: true });
  fs.closeSync(locked.fd);
}

/** Mounts the private tmpfs, or with MS_REMOUNT changes its size. @throws MemcloudError `ERR_NATIVE` */
function mountNoswap(target: string, sizeBytes: number, how: number): void {
  mount({
    source: 'memcloud',
    target,
    type: 'tmpfs',
    flags: MOUNT.MS_NOSUID | MOUNT.MS_NODEV | MOUNT.MS_NOEXEC | how,
    data: `noswap,mode=0700,size=${sizeBytes + MOUNT_SLACK_BYTES}`,
  });
}

/** Mounts the private tmpfs. Returns '' or why there is none. */
function tryMount(directory: string, sizeBytes: number): string {
  const target = path.join(directory, MOUNT_NAME);
  fs.mkdirSync(target, { mode: 0o700 });
  try {
    mountNoswap(target, sizeBytes, 0);
    return '';
  } catch (error) {
    fs.rmdirSync(target);
    return asMemcloudError(error).message;
  }
}

function requireTmpfs(directory: string): void {
  const { type } = fs.statfsSync(directory);
  if (type !== TMPFS_MAGIC) {
    throw new MemcloudError(
      'ERR_UNSUPPORTED',
      `provider directory: expected a tmpfs such as ${DEFAULT_TMPFS_BASE}, but ${directory} is on a file system of type 0x${type.toString(16)}`,
    );
  }
}

/** True when the mount that holds `directory` has the option `noswap`, by /proc/self/mountinfo. */
function mountedNoswap(directory: string): boolean {
  let longest = '';
  let noswap = false;
  for (const line of fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const point = line.split(' ')[4] ?? '';
    const holds = point !== '' && (point === '/' || `${directory}/`.startsWith(`${point}/`));
    if (!holds || point.length < longest.length) continue;
    longest = point;
    noswap = (line.split(' ').pop() ?? '').split(',').includes('noswap');
  }
  return noswap;
}
