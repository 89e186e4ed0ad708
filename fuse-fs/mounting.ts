/**
 * Mounting and unmounting. mount(2) takes the number of an open /dev/fuse and makes it the other end of a
 * new mount; that is root's to do. Other users ask `fusermount3`, which opens the device itself, mounts,
 * and passes the descriptor through the socket named by `_FUSE_COMMFD`.
 *
 * Who serves a mount must never wait for it: unmounting writes back what the kernel still holds, which are
 * requests to us. So umount2(2) runs in a thread of libuv's pool, fusermount3 in its own process, and the
 * loop goes on serving. Whether a directory may be mounted on is the daemon's to judge
 * (daemon/mounts/mount-point.ts); what the kernel refuses comes back as `ERR_MOUNT_POINT`.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import koffi from 'koffi';
import { DescriptorMessage } from '../common/descriptor-message.ts';
import { MemcloudError } from '../common/errors.ts';
import { withoutIoFlusher } from '../common/kit.ts';
import { errnoName, MOUNT, throwErrno } from '../common/libc.ts';
import { isFuse, mountAt, readMountTable } from '../common/mount-table.ts';
import { TRANSFER_SIZE_MAX_BYTES } from './constants.ts';
import { openFuseDevice } from './device.ts';
import { Errno } from './errno.ts';

const libc = koffi.load(null);
const mountCall = libc.func(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
);
const umountCall = libc.func('int umount2(const char *target, int flags)');
const socketpairCall = libc.func('int socketpair(int domain, int type, int protocol, void *fds)');

/** Linux `socket.h`, `include/linux/fs.h`. */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;
const UMOUNT_NOFOLLOW = 8;

/** What mounts call themselves in the kernel's table. */
export const MOUNT_SOURCE = 'memcloud';
/** Their type there. */
export const MOUNT_TYPE = `fuse.${MOUNT_SOURCE}`;

/** The helper of libfuse 3 for users who are not root. */
const FUSERMOUNT = 'fusermount3';
const FUSERMOUNT_TIMEOUT_MS = 20_000;
/** Of its complaint. */
const COMPLAINT_SIZE_MAX = 2000;
/** `rootmode`: the root is a directory; fuse(5) of libfuse. */
const ROOT_MODE = '40000';

/** How a mount is made. */
export interface MountOptions {
  /** Absolute path of a directory. */
  readonly directory: string;
  /** Let other users in. Root's mounts always do. */
  readonly allowOther: boolean;
  /** Call fusermount3 though root could do without; for tests. */
  readonly helper?: boolean;
}

/** What became of unmounting. */
export type UnmountResult = 'unmounted' | 'busy' | 'not-mounted';

/**
 * Makes a mount. It answers nobody until its descriptor is served.
 *
 * @returns the descriptor of /dev/fuse; the caller's
 * @throws MemcloudError `ERR_MOUNT_POINT` when the directory is none, or is refused; `ERR_UNSUPPORTED`
 *   when FUSE or fusermount3 is missing; `ERR_MOUNT_FAILED` for what else the system says
 */
export async function mountFuse(options: MountOptions): Promise<number> {
  // The kernel would mount over it, and hide a dead mount for whoever is to take it away.
  const there = mountAt(readMountTable(), options.directory);
  if (there !== undefined && isFuse(there)) {
    const text = `mount point ${options.directory}: a mount of ${there.type} is there; umount it, or umount -l if it is dead`;
    throw new MemcloudError('ERR_MOUNT_POINT', text);
  }
  if (process.geteuid?.() === 0 && options.helper !== true) {
    const fd = openFuseDevice();
    const errno = tryMount(options.directory, fd);
    if (errno === 0) return fd;
    fs.closeSync(fd);
    // EPERM: root of a container that may not mount, but may have the helper.
    if (errno !== Errno.EPERM) throw refused(options.directory, errno);
  }
  return mountByHelper(options);
}

/**
 * Lets the kernel read ahead as far as one request may go; unless told it stops at 128 KiB, which is many
 * round trips to a donor. Only root can tell it (sysfs-class-bdi), and a mount works without.
 */
export function raiseReadAhead(directory: string): void {
  const row = mountAt(readMountTable(), directory);
  const file = `/sys/class/bdi/${row?.device ?? ''}/read_ahead_kb`;
  try {
    fs.writeFileSync(file, String(TRANSFER_SIZE_MAX_BYTES / 1024), { flag: 'r+' });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error;
  }
}

function tryMount(directory: string, fd: number): number {
  const data = [
    `fd=${fd}`,
    `rootmode=${ROOT_MODE}`,
    `user_id=${process.geteuid?.() ?? 0}`,
    `group_id=${process.getegid?.() ?? 0}`,
    `max_read=${TRANSFER_SIZE_MAX_BYTES}`,
    'default_permissions',
    'allow_other',
  ].join(',');
  const flags = MOUNT.MS_NOSUID | MOUNT.MS_NODEV;
  return mountCall(MOUNT_SOURCE, directory, MOUNT_TYPE, flags, data) === 0 ? 0 : koffi.errno();
}

function refused(directory: string, errno: number): MemcloudError {
  const name = errnoName(errno);
  switch (errno) {
    case Errno.ENOENT:
      return new MemcloudError(
        'ERR_MOUNT_POINT',
        `mount point ${directory}: there is no such directory`,
      );
    case Errno.ENOTDIR:
      return new MemcloudError('ERR_MOUNT_POINT', `mount point ${directory}: it is no directory`);
    case Errno.ENOTCONN:
      return new MemcloudError(
        'ERR_MOUNT_POINT',
        `mount point ${directory}: a dead mount is there; umount -l ${directory} takes it away`,
      );
    case Errno.EBUSY:
    case Errno.ELOOP:
      return new MemcloudError('ERR_MOUNT_POINT', `mount point ${directory}: refused (${name})`);
    case Errno.ENODEV:
      return new MemcloudError(
        'ERR_UNSUPPORTED',
        'this kernel has no FUSE: load the module "fuse"',
      );
    default:
      return new MemcloudError('ERR_MOUNT_FAILED', `mounting on ${directory} failed: ${name}`);
  }
}

async function mountByHelper(options: MountOptions): Promise<number> {
  const settings = [
    `fsname=${MOUNT_SOURCE}`,
    `subtype=${MOUNT_SOURCE}`,
    `max_read=${TRANSFER_SIZE_MAX_BYTES}`,
    'default_permissions',
    'nosuid',
    'nodev',
    ...(options.allowOther ? ['allow_other'] : []),
  ].join(',');
  const pair = Buffer.alloc(8);
  if (socketpairCall(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) !== 0) throwErrno('socketpair');
  const [ours, theirs] = [pair.readInt32LE(0), pair.readInt32LE(4)];
  const message = new DescriptorMessage(1);
  try {
    const { code, complaint } = await runHelper(['-o', settings, '--', options.directory], theirs);
    if (code !== 0) throw helperFailed(options.directory, complaint);
    const received = message.receive(ours);
    const [fd] = received > 0 ? message.descriptors() : [];
    if (fd !== undefined) return fd;
    throw new MemcloudError('ERR_MOUNT_FAILED', `${FUSERMOUNT} passed no descriptor`);
  } finally {
    message.free();
    fs.closeSync(ours);
    fs.closeSync(theirs);
  }
}

function helperFailed(directory: string, complaint: string): MemcloudError {
  const code = /mountpoint|Permission denied|not a directory|No such file/i.test(complaint)
    ? 'ERR_MOUNT_POINT'
    : 'ERR_MOUNT_FAILED';
  return new MemcloudError(code, `mount point ${directory}: ${complaint}`);
}

/** Runs fusermount3. @param socket - its descriptor 3, named by `_FUSE_COMMFD` */
function runHelper(
  args: readonly string[],
  socket?: number,
): Promise<{ readonly code: number; readonly complaint: string }> {
  return new Promise((resolve, reject) => {
    const child = withoutIoFlusher(() =>
      spawn(FUSERMOUNT, args, {
        cwd: '/',
        env: { ...process.env, LC_ALL: 'C', ...(socket !== undefined && { _FUSE_COMMFD: '3' }) },
        stdio: ['ignore', 'ignore', 'pipe', ...(socket === undefined ? [] : [socket])],
      }),
    );
    const timer = setTimeout(() => child.kill('SIGKILL'), FUSERMOUNT_TIMEOUT_MS);
    let complaint = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      complaint = (complaint + chunk.toString()).slice(0, COMPLAINT_SIZE_MAX);
    });
    child.on('error', (cause) => {
      clearTimeout(timer);
      const text = `${FUSERMOUNT} is not installed; users other than root mount by it (package fuse3)`;
      reject(new MemcloudError('ERR_UNSUPPORTED', text, { cause }));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? -1, complaint: complaint.trim() || `${FUSERMOUNT} ended (${code})` });
    });
  });
}

/**
 * Unmounts the uppermost mount at `directory`, if it is of FUSE. The caller goes on serving meanwhile.
 *
 * @param options - `lazy`: take it from the tree at once, and end it when its last user leaves
 * @returns `busy` when programs use it; it stays then
 * @throws MemcloudError `ERR_MOUNT_FAILED` when the system refuses for another reason
 */
export async function unmountFuse(
  directory: string,
  options: { readonly lazy: boolean; readonly helper?: boolean },
): Promise<UnmountResult> {
  const before = deviceOf(directory);
  if (before === undefined) return 'not-mounted';
  let why: string;
  if (process.geteuid?.() === 0 && options.helper !== true) {
    const flags = UMOUNT_NOFOLLOW | (options.lazy ? MOUNT.MNT_DETACH : 0);
    if ((await umountInPool(directory, flags)) === 0) return 'unmounted';
    // errno belongs to the pool's thread; of the reasons left, only use by others fits a mount of ours.
    why = 'EBUSY';
  } else {
    const { code, complaint } = await runHelper([options.lazy ? '-uz' : '-u', '--', directory]);
    if (code === 0) return 'unmounted';
    why = complaint;
  }
  if (deviceOf(directory) !== before) return 'not-mounted';
  if (!options.lazy && /EBUSY|busy/i.test(why)) return 'busy';
  throw new MemcloudError('ERR_MOUNT_FAILED', `unmounting ${directory} failed: ${why}`);
}

function deviceOf(directory: string): string | undefined {
  const row = mountAt(readMountTable(), directory);
  return row?.type === MOUNT_TYPE ? row.device : undefined;
}

function umountInPool(directory: string, flags: number): Promise<number> {
  return new Promise((resolve, reject) => {
    umountCall.async(directory, flags, (error: Error | null, result: number) => {
      if (error) reject(error);
      else resolve(result);
    });
  });
}
