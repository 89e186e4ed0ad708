/** Starts and ends the mounts of main.ts, each a process of its own: a test must never serve what it reads. */
import { fork, type ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MOUNT, tryUnmount } from '../../../common/libc.ts';

/** How a mount is to be. */
export interface FuseMountOptions {
  /** Absolute path of a directory that is there. */
  readonly directory: string;
  /** Quota, bytes, a whole number of pages. */
  readonly sizeBytes: number;
  /** Where bytes are kept: pages of a device in memory, of the real one, or one buffer a file. `pages` unless given. */
  readonly store?: 'pages' | 'own' | 'flat';
  /** `default` unless given. */
  readonly profile?: 'default' | 'build-cache';
  /** How requests come; `kernel` unless given. */
  readonly transport?: 'kernel' | 'native';
  /** Let other users in; true unless given. */
  readonly allowOther?: boolean;
  /** Mount by fusermount3 although we are root. */
  readonly helper?: boolean;
  /** Owner of the root directory; 0. */
  readonly uid?: number;
  /** Group of the root directory; 0. */
  readonly gid?: number;
  /** Permission bits of the root directory; 1777 unless given, as /tmp. */
  readonly mode?: number;
  /** 0 never spins. */
  readonly spinWindowUs?: number;
  /** User and group of the process that serves; this process's unless given. */
  readonly runAs?: { readonly uid: number; readonly gid: number };
}

/** What a mount says of itself. */
export interface FuseMountStatus {
  readonly requestCount: number;
  readonly errorCount: number;
  readonly malformedCount: number;
  readonly defectCount: number;
  readonly interruptedCount: number;
  readonly refusedReplyCount: number;
  readonly waitingCount: number;
  readonly inodeCount: number;
  readonly metadataBytes: number;
  readonly residentBytes: number;
}

/** From the parent. */
export type ToFuseMount =
  { readonly type: 'stop'; readonly lazy: boolean } | { readonly type: 'status' };

/** From the child. */
export type FromFuseMount =
  | { readonly type: 'mounted' }
  | { readonly type: 'failed'; readonly code: string; readonly message: string }
  | { readonly type: 'status'; readonly status: FuseMountStatus }
  | { readonly type: 'busy' };

/** A mount that is served. */
export interface FuseMount {
  readonly directory: string;
  readonly pid: number;
  /** Asks it. */
  status(): Promise<FuseMountStatus>;
  /**
   * Unmounts and waits for the end of the process; a mount in use is unmounted lazily.
   *
   * @returns `busy` when it was in use
   */
  stop(): Promise<'unmounted' | 'busy'>;
  /** Tries to unmount once. @returns false when the mount is in use, and stays */
  tryStop(): Promise<boolean>;
  /** Kills the process and takes the dead mount away. */
  kill(): Promise<void>;
}

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 30_000;
const PROGRAM = fileURLToPath(new URL('./main.js', import.meta.url));

/** Linux include/uapi/linux/capability.h: a bit of `CapEff`. */
const CAP_SYS_ADMIN = 1n << 21n;

/** Why mounts cannot be made here, or undefined. */
export function fuseMissing(): string | undefined {
  try {
    fs.closeSync(fs.openSync('/dev/fuse', 'r+'));
  } catch {
    return '/dev/fuse is missing or cannot be opened';
  }
  if (process.getuid?.() !== 0) return 'mounting needs root';
  const status = fs.readFileSync('/proc/self/status', 'utf8');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return (effective & CAP_SYS_ADMIN) === 0n ? 'mounting needs CAP_SYS_ADMIN' : undefined;
}

function within<T>(promise: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took too long`)), timeoutMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The next message of one of the kinds; fails when the child ends first. */
function answer<K extends FromFuseMount['type']>(
  child: ChildProcess,
  kinds: readonly K[],
): Promise<Extract<FromFuseMount, { type: K }>> {
  return new Promise((resolve, reject) => {
    const onMessage = (message: FromFuseMount): void => {
      if (!(kinds as readonly string[]).includes(message.type)) return;
      forget();
      resolve(message as Extract<FromFuseMount, { type: K }>);
    };
    const onExit = (code: number | null): void => {
      forget();
      reject(new Error(`the process of the mount ended: ${code}`));
    };
    const forget = (): void => {
      child.off('message', onMessage);
      child.off('exit', onExit);
    };
    child.on('message', onMessage);
    child.on('exit', onExit);
  });
}

/** Makes a mount and serves it from a new process. @throws Error with the child's `code` */
export async function startMount(options: FuseMountOptions): Promise<FuseMount> {
  const { runAs } = options;
  const child = fork(PROGRAM, [JSON.stringify(options)], { ...runAs, cwd: '/' });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const { directory } = options;
  const detach = (): void => {
    tryUnmount(directory, MOUNT.MNT_DETACH);
  };
  const onParentExit = (): void => {
    child.kill('SIGKILL');
    detach();
  };
  process.once('exit', onParentExit);
  void exited.then(() => process.off('exit', onParentExit));
  const first = await within(answer(child, ['mounted', 'failed']), START_TIMEOUT_MS, 'mounting');
  if (first.type === 'failed') {
    await exited;
    throw Object.assign(new Error(first.message), { code: first.code });
  }
  const tryStop = async (): Promise<boolean> => {
    const busy = answer(child, ['busy']).then(
      () => false,
      () => true,
    );
    child.send({ type: 'stop', lazy: false } satisfies ToFuseMount);
    return within(Promise.race([busy, exited.then(() => true)]), STOP_TIMEOUT_MS, 'unmounting');
  };
  return {
    directory,
    pid: child.pid ?? 0,
    async status() {
      const reply = answer(child, ['status']);
      child.send({ type: 'status' } satisfies ToFuseMount);
      return (await within(reply, STOP_TIMEOUT_MS, 'asking for the status')).status;
    },
    tryStop,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return 'unmounted';
      if (await tryStop()) return 'unmounted';
      child.send({ type: 'stop', lazy: true } satisfies ToFuseMount);
      // Whoever uses it still keeps it alive: the process is ended, and they get ENOTCONN.
      await within(exited, 2000, 'ending lazily').catch(() => child.kill('SIGKILL'));
      await exited;
      return 'busy';
    },
    async kill() {
      child.kill('SIGKILL');
      await exited;
      detach();
    },
  };
}
