/**
 * The second transport: the same file system through the package fuse-native and libfuse 2. Each
 * request names a path; we walk to the node, act on it, and take the walk's lookups back, so that here
 * too a node lives by its links and handles. It stands beside the kernel's own protocol as a way out and
 * as a yardstick, with the limits of what lies beneath it:
 *
 * - utimens comes with the access time twice, and never with one time alone: times of contents that tar,
 *   cp and touch set are lost. All times have milliseconds, and one before 1970 is refused.
 * - Who asks is not known: what is made belongs to the user who mounts.
 * - libfuse renames a file that is removed while it is open (`.fuse_hidden...`), so its directory is not
 *   empty, and the kernel caches pages for each name of a file, not for each file.
 * - There are no rename flags, fallocate, SEEK_DATA, copy_file_range, O_TMPFILE, ACLs or default ACLs,
 *   no writeback cache, and no requests above 128 KiB. Names that are not UTF-8 are refused.
 * - A directory comes as one list, and a thread of libfuse waits for each request.
 *
 * The package's own unmount is not used: it puts the mount point into a shell command, where `$(...)` in a
 * name would be run. The package does not say when a mount has ended, by us or by umount(8): libfuse closes its /dev/fuse
 * then, and that is what is looked for.
 */
import fs from 'node:fs';
import { MemcloudError } from '../common/errors.ts';
import { MOUNT_SOURCE, unmountFuse } from './mounting.ts';
import { loadFuseNative, mend, type NativeClass } from './native-binding.ts';
import { NativeCalls } from './native-calls.ts';
import { NativeServer } from './native-operations.ts';
import type { FileCompletionSink, FileOperations } from './operations.ts';
import type { Transport, TransportOptions } from './transport.ts';

const DEVICE = '/dev/fuse';
const DESCRIPTORS = '/proc/self/fd';
const WATCH_INTERVAL_MS = 100;
const MOUNT_TIMEOUT_MS = 10_000;
/** The package keeps the path in a field of this size and a NUL, and would cut it short. */
const DIRECTORY_SIZE_MAX = 1023;

/** What this transport needs besides. */
export interface NativeTransportOptions extends TransportOptions {
  /** To whom what is made belongs. */
  readonly uid: number;
  /** Its group. */
  readonly gid: number;
}

function deviceDescriptors(): Set<string> {
  return new Set(fs.readdirSync(DESCRIPTORS).filter(isDevice));
}

function isDevice(fd: string): boolean {
  try {
    return fs.readlinkSync(`${DESCRIPTORS}/${fd}`) === DEVICE;
  } catch {
    return false;
  }
}

/** A mount through fuse-native. libfuse leaves threads behind: its process should end with it. */
export class NativeTransport implements Transport {
  readonly #options: NativeTransportOptions;
  readonly #calls = new NativeCalls();
  #server: NativeServer | undefined;
  /** The kernel has the mount, but has not begun to ask. */
  #isMounted = false;
  #watch: NodeJS.Timeout | undefined;

  constructor(options: NativeTransportOptions) {
    this.#options = options;
  }

  /** @inheritDoc */
  get sink(): FileCompletionSink {
    return this.#calls;
  }

  /** @inheritDoc */
  get requestCount(): number {
    return this.#server?.requestCount ?? 0;
  }

  /** @inheritDoc */
  get waitingCount(): number {
    return this.#calls.waitingCount;
  }

  /** @inheritDoc */
  async mount(files: FileOperations): Promise<void> {
    const { directory, uid, gid } = this.#options;
    if (Buffer.byteLength(directory) > DIRECTORY_SIZE_MAX) {
      const message = `mount point: expected at most ${DIRECTORY_SIZE_MAX} bytes for this transport`;
      throw new MemcloudError('ERR_MOUNT_TRANSPORT', message);
    }
    const FuseNative = loadFuseNative();
    this.#server = new NativeServer(files, this.#calls, { uid, gid, pid: process.pid });
    const before = deviceDescriptors();
    try {
      await this.#start(FuseNative, this.#server);
    } catch (error) {
      if (this.#isMounted) await unmountFuse(directory, { lazy: true }).catch(() => undefined);
      throw error;
    }
    const own = [...deviceDescriptors()].filter((fd) => !before.has(fd));
    this.#watch = setInterval(() => {
      if (own.some(isDevice)) return;
      clearInterval(this.#watch);
      this.#options.onEnd(undefined);
    }, WATCH_INTERVAL_MS);
  }

  /** @inheritDoc */
  close(): void {
    clearInterval(this.#watch);
  }

  /** @inheritDoc */
  free(): void {
    this.#calls.close();
  }

  #start(FuseNative: NativeClass, server: NativeServer): Promise<void> {
    const { directory, allowOther } = this.#options;
    const mount = new FuseNative(directory, server.operations(), {
      timeout: false,
      allowOther,
      defaultPermissions: true,
      fsname: MOUNT_SOURCE,
      subtype: `${MOUNT_SOURCE},big_writes,use_ino`,
      // Names of one file are nodes of their own to the kernel: what it kept of one could be old.
      attrTimeout: '0',
    });
    mend(mount, server);
    return new Promise((resolve, reject) => {
      const fail = (message: string, cause?: unknown): void =>
        reject(new MemcloudError('ERR_MOUNT_TRANSPORT', `${directory}: ${message}`, { cause }));
      const timer = setTimeout(() => {
        this.#isMounted = true;
        fail(`the kernel did not begin within ${MOUNT_TIMEOUT_MS} ms`);
      }, MOUNT_TIMEOUT_MS);
      mount.mount((error) => {
        clearTimeout(timer);
        if (error === null) resolve();
        else fail(`libfuse did not mount: ${error.message}`, error);
      });
    });
  }
}
