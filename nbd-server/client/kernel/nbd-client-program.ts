/**
 * The fallback way to attach: Debian's `nbd-client`, for a kernel or a policy under which our own
 * netlink client does not work. It cannot reconnect a dead device (version 3.24 knows no
 * `dead_conn_timeout`) and hears nothing of dead connections, which is why it is only a fallback.
 */
import { execFile } from 'node:child_process';
import { MemcloudError } from '../../../common/errors.ts';
import type { NbdAddress } from '../handshake.ts';
import {
  deviceIndex,
  devicePath,
  deviceSizeBytes,
  deviceUser,
  freeDevices,
  waitUntilFree,
} from './devices.ts';

const PROGRAM_TIMEOUT_MS = 30_000;
const DETACH_TIMEOUT_MS = 10_000;
const SIZE_TIMEOUT_MS = 10_000;
const SIZE_LOOK_INTERVAL_MS = 20;
/** Root often has no sbin in its PATH under a service manager. */
const PROGRAM_PATH = `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

/** What nbd-client can be told. */
export interface NbdClientProgramOptions {
  /** Where the server listens. */
  readonly address: NbdAddress;
  /** The export. */
  readonly exportName: string;
  /** Connections, default 1. */
  readonly connections?: number;
  /** `/dev/nbdN`; default: the first free one. */
  readonly device?: string;
  /** As in AttachOptions: seconds, default 30. */
  readonly timeoutS?: number;
}

/**
 * The arguments for attaching: version 3.24, nbd-client(8).
 *
 * @param index - N of /dev/nbdN
 */
export function nbdClientArguments(options: NbdClientProgramOptions, index: number): string[] {
  const { address, exportName, connections = 1, timeoutS = 30 } = options;
  const target =
    'path' in address
      ? ['-unix', address.path, devicePath(index)]
      : [address.host, `${address.port}`, devicePath(index)];
  return [
    ...target,
    ...['-N', exportName, '-b', '4096', '-t', `${timeoutS}`, '-C', `${connections}`],
  ];
}

/**
 * Attaches by running nbd-client.
 *
 * @returns the device and its size
 * @throws MemcloudError `ERR_UNSUPPORTED` when there is no nbd-client, `ERR_NBD_ATTACH`, `ERR_TIMEOUT`
 */
export async function attachByNbdClient(
  options: NbdClientProgramOptions,
): Promise<{ device: string; sizeBytes: number }> {
  const index = options.device === undefined ? freeDevices()[0] : deviceIndex(options.device);
  if (index === undefined) {
    throw new MemcloudError(
      'ERR_NBD_ATTACH',
      'there is no free network block device; run: modprobe nbd nbds_max=16',
    );
  }
  if (deviceUser(index) !== undefined) {
    throw new MemcloudError('ERR_NBD_ATTACH', `${devicePath(index)} is in use; name another one`);
  }
  await runNbdClient(nbdClientArguments(options, index));
  const deadlineMs = performance.now() + SIZE_TIMEOUT_MS;
  while (deviceSizeBytes(index) === 0) {
    if (performance.now() > deadlineMs) {
      throw new MemcloudError('ERR_TIMEOUT', `${devicePath(index)} did not get a size`);
    }
    await new Promise((resolve) => setTimeout(resolve, SIZE_LOOK_INTERVAL_MS));
  }
  return { device: devicePath(index), sizeBytes: deviceSizeBytes(index) };
}

/** Takes a device away by running nbd-client. Errors as {@link attachByNbdClient}. */
export async function detachByNbdClient(device: string): Promise<void> {
  const index = deviceIndex(device);
  await runNbdClient(['-d', devicePath(index)]);
  await waitUntilFree(index, { timeoutMs: DETACH_TIMEOUT_MS });
}

function runNbdClient(programArguments: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(
      'nbd-client',
      programArguments,
      { timeout: PROGRAM_TIMEOUT_MS, env: { ...process.env, PATH: PROGRAM_PATH, LC_ALL: 'C' } },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve();
        } else if (error.code === 'ENOENT') {
          const text = 'nbd-client is not installed; run: apt-get install nbd-client';
          reject(new MemcloudError('ERR_UNSUPPORTED', text, { cause: error }));
        } else {
          const last = `${stdout}\n${stderr}`.trim().split('\n').at(-1) ?? error.message;
          reject(new MemcloudError('ERR_NBD_ATTACH', `nbd-client: ${last}`, { cause: error }));
        }
      },
    );
  });
}
