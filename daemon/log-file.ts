/**
 * The log as a file of its own (`--log-file`): stderr becomes it, so that everything that would be said
 * there is in it, the last words of a crash and the lines of the mount processes included. When it is
 * long it is copied to `FILE.1` and cut to nothing: whoever writes to it has it open for appending and goes
 * on at its new end. So the two never hold much more than twice the limit.
 */
import fs from 'node:fs';
import path from 'node:path';
import { makeDirectory } from '../common/directory.ts';
import { MemcloudError } from '../common/errors.ts';
import { duplicateDescriptor } from '../common/libc.ts';

/** A log longer than this is put aside. */
const LOG_SIZE_MAX_BYTES = 4 * 2 ** 20;
const LOOK_INTERVAL_MS = 2_000;
const STDERR_FD = 2;

function openLog(file: string): number {
  const { O_WRONLY, O_CREAT, O_APPEND, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  try {
    makeDirectory(path.dirname(file), 0o700);
    const fd = fs.openSync(file, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0o600);
    if (fs.fstatSync(fd).isFile()) return fd;
    fs.closeSync(fd);
  } catch (cause) {
    const { code = String(cause) } = cause as NodeJS.ErrnoException;
    throw new MemcloudError('ERR_CONFIG', `log-file: cannot open ${file}: ${code}`, { cause });
  }
  throw new MemcloudError('ERR_CONFIG', `log-file: expected a file, got ${file}`);
}

/** Points stderr at the file, made if it is not there. */
function pointStderrAt(file: string): void {
  const fd = openLog(file);
  fs.fchmodSync(fd, 0o600);
  duplicateDescriptor(fd, STDERR_FD);
  fs.closeSync(fd);
}

/**
 * Keeps the open log below its limit. A log that somebody else has moved away is begun anew.
 *
 * @param sizeMaxBytes - the limit
 */
export function tendLog(file: string, sizeMaxBytes: number = LOG_SIZE_MAX_BYTES): void {
  const open = fs.fstatSync(STDERR_FD);
  const there = fs.statSync(file, { throwIfNoEntry: false });
  if (there?.ino !== open.ino || there.dev !== open.dev) return pointStderrAt(file);
  if (open.size <= sizeMaxBytes) return;
  const older = `${file}.1`;
  const copy = `${older}.next`;
  try {
    fs.rmSync(copy, { force: true });
    fs.copyFileSync(file, copy);
    fs.chmodSync(copy, 0o600);
    fs.renameSync(copy, older);
  } finally {
    // A full disk must not make the log grow.
    fs.ftruncateSync(STDERR_FD);
  }
}

/** Makes `file` stderr from now on. @throws MemcloudError `ERR_CONFIG` */
export function keepLogFile(file: string): void {
  pointStderrAt(file);
  setInterval(() => {
    try {
      tendLog(file);
    } catch {
      // Whoever was to read of it cannot be told; the next look tries again.
    }
  }, LOOK_INTERVAL_MS).unref();
}
