/** Where the daemon is: what a program says, what its environment says, and where daemons usually are. */
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { MemcloudError } from '../common/errors.ts';
import { defaultSocketPath, defaultStateDirectory } from '../common/paths.ts';
import type { RpcEndpoint } from './client.ts';
import type { SealKey } from './seal.ts';

/** Which daemon to use, and how to call it. */
export interface MemCloudOptions {
  /** Path of its Unix socket. Default: `MEMCLOUD_SOCKET`, this user's daemon, or the machine's. */
  readonly socketPath?: string | undefined;
  /** A loopback address; only with {@link MemCloudOptions.tcpPort}. Default: 127.0.0.1. */
  readonly tcpHost?: string | undefined;
  /** Port of its `rpc-tcp`; then the Unix socket is not used. */
  readonly tcpPort?: number | undefined;
  /** The token for TCP. Default: `MEMCLOUD_TOKEN`, or the file `rpc-token` of its state directory. */
  readonly token?: string | undefined;
  /** Milliseconds that a call may take unless it says otherwise. Default: 30 000. */
  readonly timeoutMs?: number | undefined;
  /**
   * What seals and opens values: a key, or the file of one. Default: `MEMCLOUD_SEAL_KEY`, or
   * `memcloud/seal.key` in the user's configuration, made when something is sealed for the first time.
   */
  readonly sealKey?: SealKey | string | undefined;
}

const MACHINE_SOCKET = '/run/memcloud/memcloud.sock';
const MACHINE_STATE = '/var/lib/memcloud';
const LOOPBACK_PATTERN = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1|localhost)$/;

/** The socket that is meant when nobody says which. */
function usualSocketPath(): string {
  const own = defaultSocketPath();
  if (process.env['MEMCLOUD_SOCKET'] !== undefined || fs.existsSync(own)) return own;
  return fs.existsSync(MACHINE_SOCKET) ? MACHINE_SOCKET : own;
}

/** @throws MemcloudError `ERR_RPC_DENIED` when there is none to be read */
function usualToken(): string {
  const { MEMCLOUD_TOKEN } = process.env;
  if (MEMCLOUD_TOKEN !== undefined) return MEMCLOUD_TOKEN;
  const files = [defaultStateDirectory(), MACHINE_STATE].map((directory) =>
    path.join(directory, 'rpc-token'),
  );
  for (const file of files) {
    try {
      return fs.readFileSync(file, 'utf8').trim();
    } catch {
      // Not there, or not for us: perhaps the next one is.
    }
  }
  throw new MemcloudError(
    'ERR_RPC_DENIED',
    `RPC over TCP wants a token: give it, or MEMCLOUD_TOKEN, or be able to read ${files.join(' or ')}`,
  );
}

/**
 * Reads what the constructor of the SDK was given.
 *
 * @param given - nothing, a socket path, a loopback port, or options
 * @throws MemcloudError `ERR_USAGE`, `ERR_RPC_DENIED`
 */
export function endpointOf(given: string | number | MemCloudOptions | undefined): RpcEndpoint {
  if (given === undefined) return { socketPath: usualSocketPath() };
  if (typeof given === 'string') return { socketPath: given };
  const {
    socketPath,
    tcpHost = '127.0.0.1',
    tcpPort,
    token,
  } = typeof given === 'number' ? { tcpPort: given } : given;
  if (tcpPort === undefined) return { socketPath: socketPath ?? usualSocketPath() };
  if (!Number.isInteger(tcpPort) || tcpPort < 1 || tcpPort > 65_535) {
    throw new MemcloudError('ERR_USAGE', `port: expected 1 to 65535, got ${tcpPort}`);
  }
  if (!LOOPBACK_PATTERN.test(tcpHost) || (tcpHost !== 'localhost' && net.isIP(tcpHost) === 0)) {
    const text = `host: expected a loopback address, got "${tcpHost}": the token would travel open`;
    throw new MemcloudError('ERR_USAGE', text);
  }
  return { host: tcpHost, port: tcpPort, token: token ?? usualToken() };
}
