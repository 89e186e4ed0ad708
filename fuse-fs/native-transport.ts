/**
 * The second transport: the same file system through the package fuse-native and libfuse 2. Each
 * request names a path; we walk to the node, act on it, and take the walk's lookups back, so that here
 * too a node lives by its links and handles. It stands beside the kernel's own protocol as a way out and
 * as a yardstick, with the limits of what lies beneath it:
 *
 * - utimens comes with the access time twice, and never with one time alone: times of contents that tar,
 *   cp and touch set are lost. All times have milliseconds, none is before 1970.
 * - Who asks is not known: what is made belongs to the user who mounts.
 * - libfuse renames a file that is removed while it is open (`.fuse_hidden...`), so its directory is not
 *   empty, and the kernel caches pages for each name of a file, not for each file.
 * - There are no rename flags, fallocate, SEEK_DATA, copy_file_range, O_TMPFILE, ACLs or default ACLs,
 *   no writeback cache, and no requests above 128 KiB. Names that are not UTF-8 are refused.
 * - A directory comes as one list, and a thread of libfuse waits for each request.
 *
 * The package does not say when a mount has ended, by us or by umount(8): libfuse closes its /dev/fuse
 * then, and that is what is looked for.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { MemcloudError } from '../common/errors.ts';
import { loadFuseNative, mend, type NativeClass } from './native-binding.ts';
import { NativeCalls } from './native-calls.ts';
import { NativeServer } from './native-operations.ts';
import type { FileCompletionSink, FileOperations } from './operations.ts';

const DEVICE = '/dev/fuse';
const DESCRIPTORS = '/proc/self/fd';
const WATCH_INTERVAL_MS = 250;
const MOUNT_TIMEOUT_MS = 10_000;
const UNMOUNT_TIMEOUT_MS = 30_000;
/** The package keeps the path in a field of this size, with a NUL, and would cut it short. */
const DIRECTORY_SIZE_MAX = 1023;
/** umount(8) and fusermount3(1) say no more than this on what failed. */
const BUSY = /busy/i;

/** What a native mount is to be. */
export interface NativeTransportOptions {
  /** Absolute path of an existing directory. */
  readonly directory: string;
  /** Let other users in. */
  readonly allowOther: boolean;
  /** To whom what is made belongs. */
  readonly uid: number;
  /** Its group. */
  readonly gid: number;
  /** Called once when the mount has ended, however it came to that. */
  readonly onEnded: () => void;
}

/** How an unmount ended: `busy` when something uses the mount, which stays. */
export type NativeUnmountResult = 'unmounted' | 'busy';

function deviceDescriptors(): Set<string> {
  const open = new Set<string>();
  for (const fd of fs.readdirSync(DESCRIPTORS)) if (isDevice(fd)) open.add(fd);
  return open;
}

function isDevice(fd: string): boolean {
  try {
    return fs.readlinkSync(`${DESCRIPTORS}/${fd}`) === DEVICE;
  } catch {
    return false;
  }
}

/** Detaches a mount in another process: ours must answer the kernel meanwhile. */
function detach(directory: string, lazy: boolean): Promise<NativeUnmountResult> {
  const isRoot = process.getuid?.() === 0;
  const [command, flags] = isRoot
    ? ['umount', lazy ? ['--lazy', '--internal-only'] : ['--internal-only']]
    : ['fusermount3', lazy ? ['-u', '-z'] : ['-u']];
  const options = { cwd: '/', timeout: UNMOUNT_TIMEOUT_MS, env: { ...process.env, LC_ALL: 'C' } };
  return new Promise((resolve, reject) => {
    execFile(command, [...flags, '--', directory], options, (error, _stdout, stderr) => {
      if (error === null) resolve('unmounted');
      else if (BUSY.test(stderr)) resolve('busy');
      else {
        const message = `${directory}: ${command} failed: ${stderr.trim() || error.message}`;
        reject(new MemcloudError('ERR_MOUNT_TRANSPORT', message, { cause: error }));
      }
    });
  });
}

/** A mount through fuse-native. One for a process: libfuse leaves threads behind. */
export class NativeTransport {
  readonly #options: NativeTransportOptions;
  readonly #calls = new NativeCalls();
  #server: NativeServer | undefined;
  #watch: NodeJS.Timeout | undefined;

  constructor(options: NativeTransportOptions) {
    this.#options = options;
  }

  /** Where the file system reports the ends of its calls. */
  get sink(): FileCompletionSink {
    return this.#calls;
  }

  /** Requests that came. */
  get requestCount(): number {
    return this.#server?.requestCount ?? 0;
  }

  /**
   * Mounts `files`.
   *
   * @throws MemcloudError `ERR_MOUNT_TRANSPORT` when the package is missing or does not load, or libfuse
   *   does not mount
   */
  async mount(files: FileOperations): Promise<void> {
    const { directory, allowOther, uid, gid } = this.#options;
    if (Buffer.byteLength(directory) > DIRECTORY_SIZE_MAX) {
      const message = `mount point: expected at most ${DIRECTORY_SIZE_MAX} bytes for this transport`;
      throw new MemcloudError('ERR_MOUNT_TRANSPORT', message);
    }
    const FuseNative = loadFuseNative();
    // The package would run a shell with the name of the directory in the command.
    FuseNative.unmount = (_directory, done) => done(null);
    this.#server = new NativeServer(files, this.#calls, { uid, gid, pid: process.pid });
    const before = deviceDescriptors();
    await this.#start(FuseNative, this.#server, { directory, allowOther });
    const own = [...deviceDescriptors()].filter((fd) => !before.has(fd));
    this.#watch = setInterval(() => {
      if (!own.some(isDevice)) this.#ended();
    }, WATCH_INTERVAL_MS);
  }

  /**
   * Unmounts. A lazy unmount takes the mount out of sight at once; it ends with its last open file.
   *
   * @throws MemcloudError `ERR_MOUNT_TRANSPORT` for a reason other than use
   */
  async unmount(lazy: boolean): Promise<NativeUnmountResult> {
    return detach(this.#options.directory, lazy);
  }

  #start(
    FuseNative: NativeClass,
    server: NativeServer,
    { directory, allowOther }: { directory: string; allowOther: boolean },
  ): Promise<void> {
    const mount = new FuseNative(directory, server.operations(), {
      timeout: false,
      allowOther,
      defaultPermissions: true,
      fsname: 'memcloud',
      subtype: 'memcloud,big_writes,use_ino',
      // Names of one file are nodes of their own to the kernel: what it kept of one could be old.
      attrTimeout: '0',
    });
    mend(mount, server);
    return new Promise((resolve, reject) => {
      const fail = (message: string, cause?: unknown): void =>
        reject(new MemcloudError('ERR_MOUNT_TRANSPORT', `${directory}: ${message}`, { cause }));
      const timer = setTimeout(
        () => fail(`libfuse did not mount within ${MOUNT_TIMEOUT_MS} ms`),
        MOUNT_TIMEOUT_MS,
      );
      mount.mount((error) => {
        clearTimeout(timer);
        if (error === null) resolve();
        else fail(`libfuse did not mount: ${error.message}`, error);
      });
    });
  }

  #ended(): void {
    clearInterval(this.#watch);
    this.#watch = undefined;
    this.#calls.close();
    this.#options.onEnded();
  }
}
