/**
 * Where things are by default. Root's daemon follows the file system hierarchy, a user's the XDG
 * base directories; both can be moved with `--state` and `--socket` or the environment.
 */
import os from 'node:os';
import path from 'node:path';

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
