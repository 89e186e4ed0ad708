/**
 * Files that only this user may read and that are never half written: the identity key and the trust
 * store. A write goes to a temporary file beside the target, is synced, and takes the target's name
 * by rename, so that a crash leaves the old file or the new one; then the directory is synced, so
 * that the rename itself is on disk.
 */
import fs from 'node:fs';
import path from 'node:path';
import { makeDirectory } from '../common/directory.ts';

/** Permission bits of others and of the group. */
const NOT_OURS_MASK = 0o077;

/**
 * Reads a private file.
 *
 * @param sizeMaxBytes - longer files are refused unread
 * @returns the bytes, or undefined when there is no such file
 * @throws Error when it is no plain file, not this user's, open to others, or too long
 */
export function readPrivateFile(file: string, sizeMaxBytes: number): Buffer | undefined {
  let fd;
  try {
    fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) throw new Error('it is not a plain file');
    if (stat.uid !== process.geteuid?.()) throw new Error('another user owns it');
    if ((stat.mode & NOT_OURS_MASK) !== 0) {
      const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
      throw new Error(`others may read it (mode ${mode}, expected 0600)`);
    }
    if (stat.size > sizeMaxBytes) {
      throw new Error(`expected at most ${sizeMaxBytes} bytes, got ${stat.size}`);
    }
    return fs.readFileSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/**
 * Writes a private file, atomically, mode 0600. Makes the directory, mode 0700, if there is none.
 *
 * @param mode - `create` fails with EEXIST when the file is there, `replace` takes its place
 */
export function writePrivateFile(
  file: string,
  bytes: Uint8Array,
  mode: 'create' | 'replace',
): void {
  const directory = path.dirname(file);
  makeDirectory(directory, 0o700);
  const temporary = `${file}.tmp-${process.pid}`;
  fs.rmSync(temporary, { force: true });
  const fd = fs.openSync(temporary, 'wx', 0o600);
  try {
    fs.writeFileSync(fd, bytes);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  try {
    // link(2) fails when the name is taken: two daemons that start at once agree on one identity.
    if (mode === 'create') fs.linkSync(temporary, file);
    else fs.renameSync(temporary, file);
  } finally {
    fs.rmSync(temporary, { force: true });
  }
  const directoryFd = fs.openSync(directory, 'r');
  try {
    fs.fsyncSync(directoryFd);
  } finally {
    fs.closeSync(directoryFd);
  }
}
