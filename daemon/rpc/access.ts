/**
 * Who may use the RPC of this daemon. On the Unix socket the kernel says who is there: root, the user that
 * the daemon runs as, and the members of one group. On loopback TCP nobody says, so the client shows a token
 * that only those can read who can read the daemon's state.
 */
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';
import { groupId, type PeerCredentials } from '../../common/libc.ts';
import { replaceFile } from '../../common/replace-file.ts';

/** In the state directory. */
export const TOKEN_FILE_NAME = 'rpc-token';
const TOKEN_SIZE_BYTES = 32;
const TOKEN_PATTERN = /^[0-9a-f]{64}$/;

/** Whose connections are taken. */
export interface RpcGroup {
  /** Its name. */
  readonly name: string;
  /** Its number; undefined when this machine has no such group. */
  readonly id: number | undefined;
}

/** Looks a group up. An empty name is no group. */
export function findRpcGroup(name: string): RpcGroup {
  return { name, id: name === '' ? undefined : groupId(name) };
}

/** Whether a process with these credentials may use the RPC of a daemon that runs as `ownUid`. */
export function mayUse(
  client: PeerCredentials,
  ownUid: number,
  group: number | undefined,
): boolean {
  if (client.uid === 0 || client.uid === ownUid) return true;
  return group !== undefined && (client.gid === group || client.groups.includes(group));
}

/**
 * Reads the token, or makes it. A file that others can read, or that holds something else, is replaced.
 *
 * @throws MemcloudError `ERR_NATIVE`
 */
export function loadRpcToken(stateDirectory: string): string {
  const file = path.join(stateDirectory, TOKEN_FILE_NAME);
  try {
    const found = fs.lstatSync(file, { throwIfNoEntry: false });
    if (found?.isFile() === true && (found.mode & 0o077) === 0) {
      const token = fs.readFileSync(file, 'utf8').trim();
      if (TOKEN_PATTERN.test(token)) return token;
    }
    const token = crypto.randomBytes(TOKEN_SIZE_BYTES).toString('hex');
    fs.rmSync(`${file}.next`, { force: true });
    replaceFile(file, `${token}\n`, 0o600);
    return token;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new MemcloudError('ERR_NATIVE', `cannot keep the RPC token in ${file}: ${code}`, {
      cause,
    });
  }
}

/** Compares in constant time, whatever came. */
export function isSameToken(shown: unknown, token: string): boolean {
  if (typeof shown !== 'string') return false;
  const digest = (text: string): Buffer => crypto.createHash('sha256').update(text).digest();
  return crypto.timingSafeEqual(digest(shown), digest(token));
}
