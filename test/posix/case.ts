/**
 * One fact about a POSIX file system, and the room in which it is tried. Cases are data: the same list
 * judges tmpfs, which must pass all of it, and then any file system that wants to be taken for tmpfs.
 */
import assert from 'node:assert/strict';
import * as sys from '../helpers/posix-calls.ts';

/** A fact and the trial that proves it. */
export interface PosixCase {
  /** The fact, unique in its group. */
  name: string;
  /** `root`: other identities or devices; `large`: many files or much time, left out of short runs. */
  needs?: 'root' | 'large';
  /** Throws when the fact does not hold. */
  run: (room: Room) => void;
}

/** A number of cases on one subject. */
export interface PosixGroup {
  name: string;
  cases: readonly PosixCase[];
}

/** An unprivileged user, and one of a group of its own. */
export const NOBODY = 65534;
/** Another unprivileged user. */
export const SOMEBODY = 54321;

/** A fresh directory for one case, with what cases say again and again. */
export class Room {
  /** The directory, 0755, of the user who runs the suite. */
  readonly path: string;

  /** @param path - an empty directory */
  constructor(path: string) {
    this.path = path;
  }

  /** The path of a name in the room. */
  at(name: string): string {
    return `${this.path}/${name}`;
  }

  /** The path of a name of raw bytes in the room. */
  raw(name: Buffer): Buffer {
    return Buffer.concat([Buffer.from(`${this.path}/`), name]);
  }

  /** Makes a file with contents. @returns its path */
  file(name: string, contents: string | Buffer = '', mode = 0o644): string {
    const path = this.at(name);
    const fd = this.open(path, sys.O.CREAT | sys.O.RDWR | sys.O.TRUNC, 0o600);
    if (contents.length > 0) equal(sys.pwrite(fd, contents, 0), Buffer.byteLength(contents));
    done(sys.fchmod(fd, mode));
    done(sys.close(fd));
    return path;
  }

  /** Makes a directory. @returns its path */
  directory(name: string, mode = 0o755): string {
    const path = this.at(name);
    done(sys.mkdir(path, 0o755));
    done(sys.chmod(path, mode));
    return path;
  }

  /** Opens what must open. */
  open(path: sys.PathName, flags: number, mode = 0o644): number {
    return done(sys.open(path, flags, mode));
  }

  /** All bytes of a file, in latin1. */
  contents(path: sys.PathName): string {
    const fd = this.open(path, sys.O.RDONLY);
    const size = statusOf(sys.fstat(fd)).size;
    const into = Buffer.alloc(size + 1);
    const length = done(sys.pread(fd, into, 0));
    sys.close(fd);
    return into.toString('latin1', 0, length);
  }

  /** The status of what must be there; links are not followed. */
  status(path: sys.PathName): sys.Status {
    return statusOf(sys.lstat(path));
  }
}

/** A result that is no refusal. */
export function done(result: number, what = 'the call'): number {
  if (result < 0) assert.fail(`${what}: expected success, got ${sys.outcome(result)}`);
  return result;
}

/** A result that is the refusal with this name, or one of these. */
export function refused(result: unknown, ...errnos: string[]): void {
  const got = typeof result === 'number' ? sys.outcome(result) : 'success';
  if (!errnos.includes(String(got))) assert.fail(`expected ${errnos.join(' or ')}, got ${got}`);
}

/** The status, or a failure of the case. */
export function statusOf(status: sys.Status | number): sys.Status {
  if (typeof status === 'number') assert.fail(`stat: got ${sys.outcome(status)}`);
  return status;
}

/** Equal, deeply and of the same type. */
export function equal(actual: unknown, expected: unknown, what?: string): void {
  if (what === undefined) assert.deepEqual(actual, expected);
  else
    assert.deepEqual(actual, expected, `${what}: expected ${show(expected)}, got ${show(actual)}`);
}

function show(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'bigint' ? `${part}n` : part,
  ).slice(0, 400);
}

/** Waits until the kernel's coarse clock has moved for certain. */
export function letTimePass(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 25);
}

/** True when `later` is behind `earlier`. */
export function isLater(later: sys.TimeSpec, earlier: sys.TimeSpec): boolean {
  return later[0] > earlier[0] || (later[0] === earlier[0] && later[1] > earlier[1]);
}

/** The case fails with `what` unless `condition` holds. */
export function holds(condition: boolean, what: string): void {
  assert.ok(condition, what);
}
