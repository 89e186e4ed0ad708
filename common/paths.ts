/**
 * Where things are by default. Root's daemon follows the file system hierarchy, a user's the XDG
 * base directories; both can be moved with `--state` and `--socket` or the environment.
 */
import os from 'node:os';
import path from 'node:path';
import { MemcloudError } from './errors.ts';
import { shellWord } from './shell-word.ts';

/** Bytes of a Unix socket path at most: sun_path of unix(7) without its closing NUL. */
const SOCKET_PATH_SIZE_MAX_BYTES = 107;

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** The state directory: identity and trust. `MEMCLOUD_STATE` overrides. */
export function defaultStateDirectory(): string {
  const { MEMCLOUD_STATE, XDG_STATE_HOME } = process.env;
  if (MEMCLOUD_STATE !== undefined) return MEMCLOUD_STATE;
  if (isRoot()) return '/var/lib/memcloud';
  return path.join(XDG_STATE_HOME ?? path.join(os.homedir(), '.local/state'), 'memcloud');
}

/** The RPC socket. `MEMCLOUD_SOCKET` overrides. */
export function defaultSocketPath(): string {
  const { MEMCLOUD_SOCKET, XDG_RUNTIME_DIR } = process.env;
  if (MEMCLOUD_SOCKET !== undefined) return MEMCLOUD_SOCKET;
  if (isRoot()) return '/run/memcloud/memcloud.sock';
  return path.join(XDG_RUNTIME_DIR ?? defaultStateDirectory(), 'memcloud.sock');
}

/** The state directory of a control node. */
export function controlStateDirectory(): string {
  if (isRoot()) return '/var/lib/memcloud-control';
  const { XDG_STATE_HOME } = process.env;
  return path.join(XDG_STATE_HOME ?? path.join(os.homedir(), '.local/state'), 'memcloud-control');
}

/** The RPC socket of a control node. `MEMCLOUD_CONTROL_SOCKET` overrides. */
export function controlSocketPath(): string {
  const { MEMCLOUD_CONTROL_SOCKET, XDG_RUNTIME_DIR } = process.env;
  if (MEMCLOUD_CONTROL_SOCKET !== undefined) return MEMCLOUD_CONTROL_SOCKET;
  // A folder of its own: a service manager gives it to the service's own user.
  if (isRoot()) return '/run/memcloud-control/control.sock';
  if (XDG_RUNTIME_DIR !== undefined) return path.join(XDG_RUNTIME_DIR, 'memcloud-control.sock');
  return path.join(controlStateDirectory(), 'control.sock');
}

/**
 * Refuses a path that the kernel would not take for a Unix socket; Node would cut it short in
 * silence and open another one.
 *
 * @returns the path
 * @throws MemcloudError `ERR_USAGE`
 */
export function checkSocketPath(socketPath: string): string {
  const sizeBytes = Buffer.byteLength(socketPath);
  if (sizeBytes > 0 && sizeBytes <= SOCKET_PATH_SIZE_MAX_BYTES && !socketPath.includes('\0')) {
    return socketPath;
  }
  throw new MemcloudError(
    'ERR_USAGE',
    `socket path: expected 1 to ${SOCKET_PATH_SIZE_MAX_BYTES} bytes, got ${sizeBytes}: ${socketPath}`,
  );
}

/** The command by which a person starts a daemon that is to answer there. */
export function startCommand(socketPath: string): string {
  if (socketPath === defaultSocketPath()) return 'memcloud node start';
  return `memcloud --socket ${shellWord(socketPath)} node start`;
}
