/**
 * One daemon for each state directory: two would fight over the identity and the trust store. The
 * lock is a flock(2) on a file in it, which the kernel drops with the process, however that ends: a
 * process id would lie after the number was used again, and in containers that share a directory.
 * The id in the file only tells people who holds it.
 */
import fs from 'node:fs';
import path from 'node:path';
import { MemcloudError } from '../common/errors.ts';
import { tryLockFile } from '../common/libc.ts';
import { makeDirectory } from '../common/directory.ts';

const LOCK_NAME = 'memnode.pid';
/** A holder that ends between our open and our lock removes the file; then we try again. */
const LOCK_ATTEMPT_COUNT_MAX = 8;

/** The lock of a state directory. */
export interface StateLock {
  /** The locked file: who has a copy of the descriptor shares the lock. */
  readonly fd: number;
  /** Gives the lock back and removes the file. */
  release(): void;
}

/**
 * Makes the state directory if need be, 0700, and takes its lock.
 *
 * @param program - who asks, and presumably holds it
 * @throws MemcloudError `ERR_DAEMON_BUSY` when a live daemon holds it, `ERR_NATIVE` when the
 *   directory cannot be made or written
 */
export function lockStateDirectory(directory: string, program = 'memnode'): StateLock {
  const file = path.join(directory, LOCK_NAME);
  try {
    makeDirectory(directory, 0o700);
    return lockFile(file, program);
  } catch (cause) {
    if (cause instanceof MemcloudError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw new MemcloudError('ERR_NATIVE', `cannot use state directory ${directory}: ${code}`, {
      cause,
    });
  }
}

/**
 * Takes over the lock from the process that had it and is about to end.
 *
 * @param fd - a copy of its {@link StateLock.fd}, ours from now on
 */
export function inheritStateLock(directory: string, fd: number): StateLock {
  return heldLock(path.join(directory, LOCK_NAME), fd);
}

function heldLock(file: string, fd: number): StateLock {
  fs.ftruncateSync(fd);
  fs.writeSync(fd, `${process.pid}\n`, 0);
  const release = (): void => {
    fs.rmSync(file, { force: true });
    fs.closeSync(fd);
  };
  return { fd, release };
}

function lockFile(file: string, program: string): StateLock {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = fs.constants;
  for (let attempt = 1; attempt <= LOCK_ATTEMPT_COUNT_MAX; attempt += 1) {
    const fd = fs.openSync(file, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
    const locked = tryLockFile(fd);
    if (locked && fs.statSync(file, { throwIfNoEntry: false })?.ino === fs.fstatSync(fd).ino) {
      return heldLock(file, fd);
    }
    const holder = fs.readFileSync(fd, 'utf8').trim();
    fs.closeSync(fd);
    if (!locked) throw busy(file, program, holder);
  }
  throw busy(file, program, '');
}

function busy(file: string, program: string, holder: string): MemcloudError {
  const who = /^\d+$/.test(holder) ? `${program} with process id ${holder}` : `another ${program}`;
  return new MemcloudError(
    'ERR_DAEMON_BUSY',
    `${who} uses ${path.dirname(file)}; stop it or choose another --state`,
  );
}
