/**
 * One daemon for each state directory: two would fight over the identity and the trust store. The
 * lock is a file with the process id in it; one left by a daemon that died is taken over.
 */
import fs from 'node:fs';
import path from 'node:path';
import { MemcloudError } from '../common/errors.ts';

const LOCK_NAME = 'memnode.pid';

function isMemnodeAlive(pid: number): boolean {
  try {
    // The number may have gone to another program since: only a node process can be the holder.
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('main.js');
  } catch {
    return false;
  }
}

/**
 * Makes the state directory if need be, 0700, and takes its lock.
 *
 * @returns a function that gives the lock back
 * @throws MemcloudError `ERR_DAEMON_BUSY` when a live daemon holds it, `ERR_NATIVE` when the
 *   directory cannot be made or written
 */
export function lockStateDirectory(directory: string): () => void {
  const file = path.join(directory, LOCK_NAME);
  try {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    const holder = fs.existsSync(file) ? Number(fs.readFileSync(file, 'utf8')) : 0;
    if (holder > 0 && holder !== process.pid && isMemnodeAlive(holder)) {
      throw new MemcloudError(
        'ERR_DAEMON_BUSY',
        `memnode with process id ${holder} uses ${directory}; stop it or choose another --state`,
      );
    }
    fs.writeFileSync(file, `${process.pid}\n`, { mode: 0o600 });
  } catch (cause) {
    if (cause instanceof MemcloudError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw new MemcloudError('ERR_NATIVE', `cannot use state directory ${directory}: ${code}`, {
      cause,
    });
  }
  return () => fs.rmSync(file, { force: true });
}
