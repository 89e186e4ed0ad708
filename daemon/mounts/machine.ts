/** The mounts of a daemon on the machine that it runs on. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MOUNT, tryUnmount } from '../../common/libc.ts';
import type { Logger } from '../../common/log.ts';
import { readMountTable } from '../../common/mount-table.ts';
import { runTool } from '../../common/tool.ts';
import type { DaemonConfig } from '../config.ts';
import { makeDirectory } from '../directory.ts';
import { Mounts, type MountsParts } from './mounts.ts';
import { MountRegister } from './register.ts';

/** This file is `dist/daemon/mounts/machine.js`. */
const PROGRAM_FILE = fileURLToPath(new URL('../mount-main.js', import.meta.url));
const PACKAGE_ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const DIRECTORY_MODE = 0o755;

/**
 * Takes a mount away whose process is gone. Root asks the kernel; who is not root asks the program that
 * mounted it. Neither looks into the mount.
 */
async function detach(directory: string): Promise<boolean> {
  if (process.geteuid?.() === 0) return tryUnmount(directory, MOUNT.MNT_DETACH);
  await runTool('fusermount3', ['-u', '-z', '--', directory]);
  return true;
}

/** A path as it is written, and as it is without links. */
function bothWays(file: string): string[] {
  const written = path.resolve(file);
  try {
    return [written, fs.realpathSync(written)];
  } catch {
    return [written];
  }
}

/** What a mount may not hide: the daemon's own files, and its program. */
function preciousFiles(config: DaemonConfig): string[] {
  const { stateDirectory, socketPath, memoryDirectory = '/dev/shm' } = config;
  const files = [stateDirectory, socketPath, memoryDirectory, process.execPath, PACKAGE_ROOT];
  return ['/proc', '/sys', '/dev', ...files.flatMap(bothWays)];
}

/**
 * Makes the registry of mounts; it has none yet.
 *
 * @param hostId - names this machine to peers
 * @param parts - what the daemon knows
 */
export function machineMounts(
  config: DaemonConfig,
  hostId: string,
  logger: Logger,
  parts: Pick<MountsParts, 'peers' | 'quarantine' | 'isVolume'>,
): Mounts {
  const { stateDirectory, name, zone, leaseTtlMs, peerDeadMs, memoryDirectory, logLevel } = config;
  return new Mounts({
    ...parts,
    logger,
    program: { file: PROGRAM_FILE },
    setting: {
      ...{ stateDirectory, name, hostId, zone, leaseTtlMs, peerDeadMs },
      ...{ memoryDirectory, logLevel },
    },
    world: {
      table: readMountTable,
      lstat: (place) => fs.promises.lstat(place),
      readlink: (place) => fs.promises.readlink(place),
      makeDirectory: (place) => makeDirectory(place, DIRECTORY_MODE),
      precious: preciousFiles(config),
    },
    removeDirectory: (place) => {
      // Somebody may have put something there meanwhile: then it stays.
      fs.rmdir(place, () => undefined);
    },
    detach,
    register: new MountRegister(`${config.socketPath}.mounts.json`),
  });
}
