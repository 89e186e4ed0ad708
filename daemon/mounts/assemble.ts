/** The mounts of a daemon on the machine that it runs on. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from '../../common/log.ts';
import { MountRegister, mountRegisterFile } from '../../common/mount-register.ts';
import { readMountTable } from '../../common/mount-table.ts';
import { detachMount } from '../../common/stale-mounts.ts';
import type { DaemonConfig } from '../config.ts';
import type { Peers } from '../../peer/peers.ts';
import type { Quarantines } from '../../peer/quarantines.ts';
import { makeDirectory } from '../../common/directory.ts';
import type { Volumes } from '../volumes.ts';
import { Mounts } from './mounts.ts';

/** This file is `dist/daemon/mounts/assemble.js`. */
const PROGRAM_FILE = fileURLToPath(new URL('../mount-main.js', import.meta.url));
const PACKAGE_ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const DIRECTORY_MODE = 0o755;

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

/** Other parts of the daemon. */
export interface MountsNeighbours {
  /** Whom it knows. */
  readonly peers: Peers;
  /** Whom it does not believe. */
  readonly quarantines: Quarantines;
  /** What else has a name. */
  readonly volumes: Volumes;
  /** The process of a mount ended and could not give its memory back. */
  readonly onKilled: () => void;
}

/**
 * Makes the registry of mounts; it has none yet.
 *
 * @param hostId - names this machine to peers
 */
export function machineMounts(
  config: DaemonConfig,
  hostId: string,
  logger: Logger,
  { peers, quarantines, volumes, onKilled }: MountsNeighbours,
): Mounts {
  const { stateDirectory, name, zone, leaseTtlMs, peerDeadMs, memoryDirectory, logLevel } = config;
  return new Mounts({
    isVolume: (name) => volumes.has(name),
    peers: () =>
      peers.laneTargets().map(({ publicKey, ...target }) => ({
        ...target,
        publicKey: Buffer.from(publicKey).toString('base64'),
      })),
    quarantine: (nodeId, reason) => {
      const name = peers.list().find((source) => source.nodeId === nodeId)?.nodeName ?? '';
      quarantines.put(nodeId, name, reason);
    },
    logger,
    onKilled,
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
    detach: detachMount,
    register: new MountRegister(mountRegisterFile(config.socketPath)),
  });
}
