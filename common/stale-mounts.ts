/**
 * Takes away the mounts that a memnode has left that was killed: the one after it does so at its start, and a
 * service manager when there is no one after it. What is not in the register, or is another mount than
 * the one that was entered there, is somebody else's and stays.
 */
import { asMemcloudError } from './errors.ts';
import { MOUNT, tryUnmount } from './libc.ts';
import type { Logger } from './log.ts';
import type { MountRegister, RegisteredMount } from './mount-register.ts';
import { isFuse, mountAt, type MountRow } from './mount-table.ts';
import { processStart } from './process-start.ts';
import { runTool } from './tool.ts';

/** A process of a mount that is told to end has so long until it is killed, and then to be gone. */
const ORPHAN_LOOK_COUNT = 30;
const ORPHAN_LOOK_MS = 50;

/** The machine. */
export interface StaleWorld {
  /** Every mount now. */
  readonly table: () => readonly MountRow[];
  /** Takes a mount away whose process is gone, without waiting for who still uses it. */
  readonly detach: (directory: string) => Promise<boolean>;
  /** Told what is done. */
  readonly logger: Logger;
}

/**
 * Takes a mount away whose process is gone. Root asks the kernel; who is not root asks the program that
 * mounted it. Neither looks into the mount. With a process that lives and is stopped it may wait for that.
 *
 * @throws MemcloudError `ERR_NATIVE`, `ERR_UNSUPPORTED` without fusermount3
 */
export async function detachMount(directory: string): Promise<boolean> {
  if (process.geteuid?.() === 0) return tryUnmount(directory, MOUNT.MNT_DETACH);
  await runTool('fusermount3', ['-u', '-z', '--', directory]);
  return true;
}

/** True while the mount that was entered is there, whoever serves it. */
export function isStillMounted(
  { directory, device }: Pick<RegisteredMount, 'directory' | 'device'>,
  table: readonly MountRow[],
): boolean {
  const row = mountAt(table, directory);
  return row?.device === device && isFuse(row);
}

/** Takes a mount away if it is the one that is meant; its process must be gone. */
export async function detachIfOurs(
  mount: Pick<RegisteredMount, 'directory' | 'device'>,
  { table, detach, logger }: StaleWorld,
): Promise<void> {
  if (!isStillMounted(mount, table())) return;
  const { directory } = mount;
  const failed = (err: string): void =>
    logger.error({ directory, err }, 'a mount whose process is gone could not be taken away');
  try {
    if (!(await detach(directory))) return failed('umount2');
    logger.warn({ directory }, 'a mount whose process is gone was taken away');
  } catch (error) {
    failed(asMemcloudError(error).message);
  }
}

/** True while the process that was entered lives, and not a later one of its number. */
export function isServed({ pid, started }: Pick<RegisteredMount, 'pid' | 'started'>): boolean {
  return started !== '' && processStart(pid) === started;
}

/** Takes away all that is in the register, which is empty then. */
export async function takeAwayStale(register: MountRegister, world: StaleWorld): Promise<void> {
  for (const left of register.load()) {
    await endOrphan(left);
    await detachIfOurs(left, world);
    register.remove(left.directory);
  }
}

/** Ends the process of a mount whose daemon is gone, if it has not ended by itself. */
async function endOrphan(left: RegisteredMount): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!isServed(left)) return;
    try {
      process.kill(left.pid, signal);
    } catch {
      return;
    }
    for (let looks = 0; isServed(left) && looks < ORPHAN_LOOK_COUNT; looks += 1) {
      await new Promise((resolve) => setTimeout(resolve, ORPHAN_LOOK_MS));
    }
  }
}
