/**
 * The directory of the embedded store: its lock, and its data file before lmdb takes it. The lock is a
 * flock(2), which the kernel drops with the process, however that ends; the process id in the file only
 * tells people who holds it.
 */
import fs from 'node:fs';
import path from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import { makeDirectory } from '../common/directory.ts';
import { MemcloudError } from '../common/errors.ts';
import { tryLockFile } from '../common/libc.ts';
import { checkLmdbFile } from './lmdb-file-codec.ts';
import { storeError } from './meta-checks.ts';

const LOCK_NAME = 'in-use';
const DATA_NAME = 'data.mdb';

/** One ordered map of bytes to bytes. */
export type Records = RootDatabase<Buffer, Buffer>;

/** Turns anything that was thrown into an error of this store. */
export function asStoreError(directory: string, cause: unknown): MemcloudError {
  if (cause instanceof MemcloudError) return cause;
  const { message } = cause as Error;
  return storeError(`the embedded store in ${directory} cannot be used: ${message}`, cause);
}

/** Runs `use`; what it throws is an error of this store. */
export function guarded<T>(directory: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw asStoreError(directory, error);
  }
}

/**
 * Makes the directory if need be, 0700, and takes its lock.
 *
 * @returns the descriptor that holds the lock
 * @throws MemcloudError `ERR_DAEMON_BUSY` when another process has it, or the system's error
 */
export function lockDirectory(directory: string): number {
  makeDirectory(directory, 0o700);
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = fs.constants;
  const fd = fs.openSync(path.join(directory, LOCK_NAME), O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  if (tryLockFile(fd)) {
    fs.ftruncateSync(fd);
    fs.writeSync(fd, `${process.pid}\n`, 0);
    return fd;
  }
  const holder = fs.readFileSync(fd, 'utf8').trim();
  fs.closeSync(fd);
  const who = /^\d+$/.test(holder) ? `the control node with process id ${holder}` : 'another';
  throw new MemcloudError(
    'ERR_DAEMON_BUSY',
    `${who} uses the store in ${directory}; stop it or choose another --store`,
  );
}

/** Opens the records in a directory whose lock this process has. @throws MemcloudError `ERR_CONTROL_STORE`, or what lmdb throws */
export function openRecords(directory: string): Records {
  prepareData(directory);
  const records: Records = open({
    path: directory,
    noSubdir: false,
    encoding: 'binary',
    keyEncoding: 'binary',
    // A commit resolves when it is synced; we gather the changes of one commit ourselves.
    overlappingSync: false,
    eventTurnBatching: false,
  });
  for (const name of [DATA_NAME, 'lock.mdb']) fs.chmodSync(path.join(directory, name), 0o600);
  return records;
}

/** Makes the data file, or looks whether lmdb can take it: it ends the process for one that it cannot. */
function prepareData(directory: string): void {
  // Made by us, since lmdb would make it readable to all.
  const fd = fs.openSync(path.join(directory, DATA_NAME), 'a+', 0o600);
  try {
    const sizeBytes = fs.fstatSync(fd).size;
    if (sizeBytes === 0) {
      syncDirectory(directory);
      syncDirectory(path.dirname(directory));
      return;
    }
    const neededBytes = checkLmdbFile((offsetBytes, lengthBytes) => {
      const bytes = Buffer.alloc(lengthBytes);
      return bytes.subarray(0, fs.readSync(fd, bytes, 0, lengthBytes, offsetBytes));
    });
    // Free pages at the end may never have been written; read beyond the end they would end the process.
    if (sizeBytes < neededBytes) fs.ftruncateSync(fd, neededBytes);
  } finally {
    fs.closeSync(fd);
  }
}

function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, 'r');
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}
