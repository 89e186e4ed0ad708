/**
 * The same random operations on two directories, one of them on tmpfs: each must answer the same, and
 * the trees must be equal at the end. A seed gives the whole history, so that a failing one replays.
 *
 * Not compared, because file systems may differ: inode numbers (but which names share one is),
 * sizes of directories, blocks, and times that come from the clock. A time that an operation set lies
 * before 2015; where either side shows such a time as mtime, both must.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { MMAN, mmap, munmap, viewMemory } from '../../common/libc.ts';
import * as sys from '../helpers/posix-calls.ts';
import { NOBODY } from './case.ts';

const { O } = sys;

/** A difference between the two sides, or a limit of this test that was broken. */
export class DifferenceError extends Error {
  override name = 'DifferenceError';
}

/** Numbers from a seed (mulberry32). */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to `bound` - 1. */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound);
  }

  /** One of these. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
}

/** What one operation needs: one side's directory and open files. */
interface Side {
  readonly base: string;
  /** Open files by slot; -1 for an empty slot. */
  readonly fds: number[];
}

/** A directory and all below it, a line for each name, and its longest path in bytes. */
interface Tree {
  readonly lines: readonly string[];
  readonly pathLengthMax: number;
}

/** An operation with its arguments drawn: does it on one side, and says what came of it. */
type Operation = (side: Side) => string;

const SLOT_COUNT = 12;
/** Sizes and offsets stay below this, so that whole contents can be compared often. */
const SIZE_MAX = 1 << 20;
/** Operations that a difference is told with; `MODEL_TRACE=100000` for the whole history. */
const TRACE_LENGTH = Number(process.env['MODEL_TRACE'] ?? 60);
/** Operations between two comparisons of the whole trees; `MODEL_COMPARE=1` finds the very operation. */
const COMPARE_INTERVAL = Number(process.env['MODEL_COMPARE'] ?? 1500);
/** Bytes of a path beyond which both trees are removed, far below PATH_MAX (4096). */
const PATH_LENGTH_MAX = 1500;
/** Before this second a time was set, and not taken from the clock: 2015. */
const CLOCK_SECONDS_MIN = 1_420_070_400;

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f', 'x'.repeat(255), '\u00e9', 'with space', '.hidden'];
const ATTRIBUTES = ['user.one', 'user.two', 'user.three'];

function shortStatus(status: sys.Status | number): string {
  if (typeof status === 'number') return String(sys.outcome(status));
  const { mode, nlink, uid, gid, size, mtime } = status;
  const isDirectory = (mode & sys.S_IF.MASK) === sys.S_IF.DIR;
  // Bytes through a fifo move its time in the kernel's memory alone, unless the file system is tmpfs.
  const isFifo = (mode & sys.S_IF.MASK) === sys.S_IF.FIFO;
  const time = isFifo ? '-' : mtime[0] < CLOCK_SECONDS_MIN ? mtime.join('.') : 'clock';
  return `${mode.toString(8)} ${nlink} ${uid}:${gid} ${isDirectory ? '-' : size} ${time}`;
}

function digest(bytes: Buffer): string {
  return createHash('sha1').update(bytes).digest('hex').slice(0, 12);
}

function readAll(fd: number): string {
  const status = sys.fstat(fd);
  if (typeof status === 'number') return String(sys.outcome(status));
  const into = Buffer.alloc(status.size + 1);
  let at = 0;
  while (at < into.length) {
    const length = sys.pread(fd, into.subarray(at), at);
    if (length < 0) return String(sys.outcome(length));
    if (length === 0) break;
    at += length;
  }
  return `${at} ${digest(into.subarray(0, at))}`;
}

/** Maps the whole file for a moment and changes some bytes; a file without bytes has no mapping. */
function changeMapped(fd: number, at: number, bytes: Buffer): string {
  const status = sys.fstat(fd);
  if (typeof status === 'number' || status.size === 0) return 'nothing to map';
  try {
    const length = status.size;
    const options = { length, protection: 3, flags: MMAN.MAP_SHARED, fd, offset: 0 };
    const address = mmap(options);
    const view = viewMemory(address, length);
    const copied = bytes.copy(view, Math.min(at, length - 1));
    munmap(address, length);
    return `changed ${copied}`;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Draws operations, does them on both sides, compares. */
export class RandomOperations {
  readonly #dice: Dice;
  readonly #sides: readonly [Side, Side];
  readonly #root: boolean;
  readonly #attributes: boolean;
  readonly #trace: string[] = [];
  readonly #done = new Map<string, { tried: number; succeeded: number }>();
  #count = 0;

  /**
   * @param directories - two empty directories, the oracle first
   * @param attributes - also draw operations on extended attributes
   */
  constructor(directories: readonly [string, string], seed: number, attributes: boolean) {
    this.#attributes = attributes;
    this.#dice = new Dice(seed);
    this.#root = process.getuid?.() === 0;
    this.#sides = [this.#side(directories[0]), this.#side(directories[1])];
    sys.umask(0o022);
  }

  #side(base: string): Side {
    sys.chmod(base, 0o777);
    return { base, fds: new Array<number>(SLOT_COUNT).fill(-1) };
  }

  /** Operations so far. */
  get count(): number {
    return this.#count;
  }

  /** How often each kind of operation was tried and succeeded, by name. */
  get tally(): ReadonlyMap<string, { tried: number; succeeded: number }> {
    return this.#done;
  }

  /**
   * One operation on both sides.
   *
   * @param leaveOut - does it on the oracle alone: so a test shows that the comparison sees it
   * @throws DifferenceError with the last operations
   */
  step(leaveOut = false): void {
    const [name, operation] = this.#draw();
    const asNobody = this.#root && this.#dice.below(12) === 0 && name !== 'close';
    const run = (side: Side): string =>
      asNobody ? sys.asUser(NOBODY, NOBODY, () => operation(side)) : operation(side);
    const label = `${this.#count} ${name}${asNobody ? ' as nobody' : ''}`;
    this.#count += 1;
    const expected = run(this.#sides[0]);
    this.#remember(`${label} -> ${expected}`);
    const tally = this.#done.get(name.split(' ')[0] as string) ?? { tried: 0, succeeded: 0 };
    tally.tried += 1;
    if (!/^E[A-Z0-9]+$/.test(expected)) tally.succeeded += 1;
    this.#done.set(name.split(' ')[0] as string, tally);
    const got = leaveOut ? expected : run(this.#sides[1]);
    if (got !== expected) this.#differ(`expected ${expected}, got ${got}`);
    if (this.#count % COMPARE_INTERVAL === 0) this.compareTrees();
  }

  #remember(line: string): void {
    this.#trace.push(line);
    if (this.#trace.length > TRACE_LENGTH) this.#trace.shift();
  }

  #differ(what: string): never {
    throw new DifferenceError(`${what}; the last operations:\n${this.#trace.join('\n')}`);
  }

  /** Closes all files and compares the trees for the last time. */
  finish(): void {
    for (const side of this.#sides) {
      side.fds.forEach((fd) => fd >= 0 && sys.close(fd));
      side.fds.fill(-1);
    }
    this.compareTrees();
  }

  /** @throws DifferenceError when the trees differ */
  compareTrees(): void {
    const describe = ({ base }: Side): Tree => describeTree(base, this.#attributes);
    const [oracle, judged] = this.#sides.map(describe) as [Tree, Tree];
    const [expected, got] = [oracle.lines, judged.lines];
    for (let i = 0; i < Math.max(expected.length, got.length); i += 1) {
      if (expected[i] !== got[i]) {
        this.#differ(`the trees: expected ${expected[i] ?? 'an end'}, got ${got[i] ?? 'an end'}`);
      }
    }
    if (oracle.pathLengthMax > PATH_LENGTH_MAX) this.#beginAnew();
  }

  /** Directories moved into each other make paths that no call takes any more: both trees go. */
  #beginAnew(): void {
    for (const { base } of this.#sides) {
      for (const name of fs.readdirSync(base)) {
        fs.rmSync(`${base}/${name}`, { recursive: true });
      }
    }
    this.#remember(`${this.#count} everything is removed`);
  }

  /** A path of one to three names; short ones are likely to be there. */
  #path(): string {
    const depth = this.#dice.pick([1, 1, 1, 1, 2, 2, 2, 3]);
    const names: string[] = [];
    for (let i = 0; i < depth; i += 1) {
      names.push(this.#dice.pick(i < depth - 1 ? NAMES.slice(0, 3) : NAMES));
    }
    return names.join('/');
  }

  #slot(): number {
    return this.#dice.below(SLOT_COUNT);
  }

  #bytes(): Buffer {
    const length = this.#dice.pick([1, 10, 512, 4095, 4096, 4097, 8192, 30_000, 65_536]);
    const bytes = Buffer.alloc(length, this.#dice.below(255) + 1);
    bytes.writeUInt8(this.#dice.below(256), this.#dice.below(length));
    return bytes;
  }

  #offset(): number {
    const pages = this.#dice.below(SIZE_MAX / 4096 / 4);
    return this.#dice.pick([pages * 4096, pages * 4096 + this.#dice.below(4096), 0, 4096]);
  }

  /** An operation with all that is random in it decided, and its name with its arguments. */
  #draw(): [name: string, operation: Operation] {
    const roll = this.#dice.below(100);
    if (roll < 45) return this.#drawOpenFile();
    if (roll < 75) return this.#drawName();
    return this.#drawAttribute();
  }

  #drawOpenFile(): [string, Operation] {
    const slot = this.#slot();
    const dice = this.#dice;
    const onFile =
      (body: (fd: number) => string | number): Operation =>
      (side) => {
        const fd = side.fds[slot] as number;
        if (fd < 0) return 'EBADF';
        const result = body(fd);
        return typeof result === 'number' ? String(sys.outcome(result)) : result;
      };
    const keep =
      (open: (side: Side) => number): Operation =>
      (side) => {
        const old = side.fds[slot] as number;
        const closed = old < 0 ? 0 : sys.close(old);
        const fd = open(side);
        side.fds[slot] = fd < 0 ? -1 : fd;
        return `${fd < 0 ? sys.outcome(fd) : 'opened'}${closed < 0 ? ' EIO at close' : ''}`;
      };
    switch (dice.below(16)) {
      case 0:
      case 1:
      case 2: {
        const path = this.#path();
        const flags =
          dice.pick([O.RDWR, O.RDWR, O.RDWR, O.WRONLY, O.RDONLY]) |
          dice.pick([O.CREAT, O.CREAT, O.CREAT | O.EXCL, 0, O.CREAT | O.TRUNC, O.CREAT | O.APPEND]);
        const mode = dice.pick([0o644, 0o600, 0o666, 0o4755]);
        // A fifo must not make the opener wait.
        const open = (side: Side): number =>
          sys.open(`${side.base}/${path}`, flags | O.NONBLOCK, mode);
        return [`open ${path} ${flags.toString(8)} in ${slot}`, keep(open)];
      }
      case 3: {
        const path = dice.pick(['', 'a', 'b']);
        const open = (side: Side): number =>
          sys.open(`${side.base}/${path}`, O.TMPFILE | O.RDWR, 0o640);
        return [`open-temporary ${path} in ${slot}`, keep(open)];
      }
      case 4:
      case 5:
      case 6:
      case 7: {
        const [bytes, offset] = [this.#bytes(), this.#offset()];
        const write = onFile((fd) => sys.pwrite(fd, bytes, offset));
        return [`pwrite ${slot} ${bytes.length} at ${offset}`, write];
      }
      case 8: {
        const bytes = this.#bytes();
        return [`write ${slot} ${bytes.length}`, onFile((fd) => sys.write(fd, bytes))];
      }
      case 9:
        return [`read ${slot}`, onFile(readAll)];
      case 10: {
        const size = this.#offset();
        return [`ftruncate ${slot} ${size}`, onFile((fd) => sys.ftruncate(fd, size))];
      }
      case 11: {
        const mode = dice.pick([0, 1, 3, 3]);
        const [offset, length] = [this.#offset(), dice.pick([1, 4096, 10_000, 100_000])];
        return [
          `fallocate ${slot} ${mode} ${offset}+${length}`,
          onFile((fd) => sys.fallocate(fd, mode, offset, length)),
        ];
      }
      case 12: {
        const target = this.#slot();
        const [from, to, length] = [this.#offset(), this.#offset(), dice.pick([1, 5000, 80_000])];
        return [
          `copy ${slot} ${from} to ${target} ${to} ${length}`,
          (side) => copyAll(side.fds[slot] as number, from, side.fds[target] as number, to, length),
        ];
      }
      case 13: {
        const [bytes, offset] = [this.#bytes(), this.#offset()];
        const change = onFile((fd) => changeMapped(fd, offset, bytes));
        return [`mmap ${slot} ${bytes.length} at ${offset}`, change];
      }
      case 14:
        return [`fsync ${slot}`, onFile((fd) => sys.fsync(fd))];
      default: {
        const close: Operation = (side) => {
          const fd = side.fds[slot] as number;
          side.fds[slot] = -1;
          return fd < 0 ? 'EBADF' : String(sys.outcome(sys.close(fd)));
        };
        return [`close ${slot}`, close];
      }
    }
  }

  #drawName(): [string, Operation] {
    const dice = this.#dice;
    const path = this.#path();
    const other = this.#path();
    const call =
      (body: (path: string, other: string) => number): Operation =>
      (side) =>
        String(sys.outcome(body(`${side.base}/${path}`, `${side.base}/${other}`)));
    switch (dice.below(12)) {
      case 0:
      case 1: {
        const mode = dice.pick([0o755, 0o777, 0o700, 0o1777, 0o2775]);
        return [`mkdir ${path} ${mode.toString(8)}`, call((path) => sys.mkdir(path, mode))];
      }
      case 2:
        return [`rmdir ${path}`, call((path) => sys.rmdir(path))];
      case 3:
      case 4:
        return [`unlink ${path}`, call((path) => sys.unlink(path))];
      case 5:
      case 6:
      case 7: {
        const flags = dice.pick([undefined, undefined, 1, 2]);
        return [
          `rename ${path} ${other} ${flags ?? 0}`,
          call((path, other) => sys.rename(path, other, flags)),
        ];
      }
      case 8:
        return [`link ${path} ${other}`, call((path, other) => sys.link(path, other))];
      case 9:
        return [`symlink to ${other} at ${path}`, call((path) => sys.symlink(other, path))];
      case 10: {
        const type = dice.pick([sys.S_IF.FIFO, sys.S_IF.REG, sys.S_IF.SOCK]);
        return [`mknod ${path} ${type.toString(8)}`, call((path) => sys.mknod(path, type | 0o644))];
      }
      default: {
        const slot = this.#slot();
        const link: Operation = (side) => {
          const fd = side.fds[slot] as number;
          if (fd < 0) return 'EBADF';
          const from = `/proc/self/fd/${fd}`;
          return String(sys.outcome(sys.link(from, `${side.base}/${path}`, sys.AT.SYMLINK_FOLLOW)));
        };
        return [`link-open ${slot} ${path}`, link];
      }
    }
  }

  #drawAttribute(): [string, Operation] {
    const dice = this.#dice;
    const path = this.#path();
    const on =
      (body: (path: string) => string | number): Operation =>
      (side) => {
        const result = body(`${side.base}/${path}`);
        return typeof result === 'number' ? String(sys.outcome(result)) : result;
      };
    const kinds = [0, 1, 2, 3, 4, 8, 9, 10, 11, ...(this.#attributes ? [5, 6, 7] : [])];
    switch (dice.pick(kinds)) {
      case 0:
      case 1:
        return [`lstat ${path}`, on((path) => shortStatus(sys.lstat(path)))];
      case 2: {
        const mode = dice.pick([0o644, 0o755, 0o777, 0o600, 0o6755, 0o1777, 0]);
        return [`chmod ${path} ${mode.toString(8)}`, on((path) => sys.chmod(path, mode))];
      }
      case 3: {
        // Not -1 twice: the kernel does not tell FUSE that set-user-id is to fall then.
        const [uid, gid] = [dice.pick([0, NOBODY]), dice.pick([-1, 0, NOBODY])];
        if (!this.#root) return [`lstat ${path}`, on((path) => shortStatus(sys.lstat(path)))];
        return [`chown ${path} ${uid}:${gid}`, on((path) => sys.lchown(path, uid, gid))];
      }
      case 4: {
        const times = [dice.below(CLOCK_SECONDS_MIN) - 1000, dice.below(1e9)] as const;
        const set = on((path) => sys.utimens(path, times, times, sys.AT.SYMLINK_NOFOLLOW));
        return [`utimens ${path} ${times.join('.')}`, set];
      }
      case 5: {
        const [name, value] = [dice.pick(ATTRIBUTES), 'v'.repeat(dice.pick([0, 1, 100, 3000]))];
        const flags = dice.pick([0, 0, 1, 2]);
        return [
          `setxattr ${path} ${name} ${value.length} ${flags}`,
          on((path) => sys.setxattr(path, name, value, flags)),
        ];
      }
      case 6: {
        const name = dice.pick(ATTRIBUTES);
        return [`removexattr ${path} ${name}`, on((path) => sys.removexattr(path, name))];
      }
      case 7:
        return [`attributes ${path}`, on(allAttributes)];
      case 8: {
        const size = this.#offset();
        // To the size that it has, with room promised behind it, moves mtime on tmpfs alone.
        const truncate = (path: string): string | number => {
          const status = sys.stat(path);
          const same = typeof status === 'object' && status.size === size;
          return same ? 'no change' : sys.truncate(path, size);
        };
        return [`truncate ${path} ${size}`, on(truncate)];
      }
      case 9:
        return [`readlink ${path}`, on((path) => sys.readlink(path))];
      case 10:
        return [`list ${path}`, on(listOrErrno)];
      default: {
        const read = (path: string): string | number => {
          const fd = sys.open(path, O.RDONLY | O.NONBLOCK);
          if (fd < 0) return fd;
          const status = sys.fstat(fd);
          const isFile = typeof status === 'object' && status.mode >> 12 === 8;
          const text = isFile ? readAll(fd) : 'no file';
          sys.close(fd);
          return text;
        };
        return [`contents ${path}`, on(read)];
      }
    }
  }
}

function listOrErrno(path: string): string | number {
  const fd = sys.open(path, O.RDONLY | O.DIRECTORY | O.NONBLOCK);
  if (fd < 0) return fd;
  sys.close(fd);
  return digest(Buffer.from(sys.listDirectory(path).join('/'), 'latin1'));
}

function allAttributes(path: string): string | number {
  const names = sys.listxattr(path);
  if (typeof names === 'number') return names;
  return names
    .map((name) => {
      const value = sys.getxattr(path, name);
      return `${name}=${typeof value === 'number' ? sys.outcome(value) : digest(value)}`;
    })
    .join(' ');
}

function copyAll(from: number, at: number, to: number, target: number, length: number): string {
  if (from < 0 || to < 0) return 'EBADF';
  let copied = 0;
  while (copied < length) {
    const step = sys.copyRange(from, at + copied, to, target + copied, length - copied);
    if (step < 0)
      return copied > 0 ? `${copied} then ${sys.outcome(step)}` : `${sys.outcome(step)}`;
    if (step === 0) break;
    copied += step;
  }
  return `copied ${copied}`;
}

/** Bytes of a file as the file system itself holds them, past the kernel's cache where it can. */
function storedBytes(path: string): string {
  let fd = sys.open(path, O.RDONLY | O.DIRECT);
  if (fd < 0) fd = sys.open(path, O.RDONLY);
  if (fd < 0) return String(sys.outcome(fd));
  const text = readAll(fd);
  sys.close(fd);
  return text;
}

/** Everything about a tree that both sides must share, a line for each name. */
function describeTree(base: string, withAttributes: boolean): Tree {
  const lines: string[] = [];
  let pathLengthMax = 0;
  const firstNames = new Map<bigint, string>();
  const walk = (relative: string): void => {
    for (const name of sys.listDirectory(Buffer.from(`${base}${relative}`, 'latin1'))) {
      const path = `${relative}/${name}`;
      const full = Buffer.from(`${base}${path}`, 'latin1');
      pathLengthMax = Math.max(pathLengthMax, full.length);
      const status = sys.lstat(full);
      if (typeof status === 'number') throw new DifferenceError(`${path}: ${sys.outcome(status)}`);
      const same = firstNames.get(status.ino);
      firstNames.set(status.ino, same ?? path);
      const type = status.mode & sys.S_IF.MASK;
      const text =
        type === sys.S_IF.REG
          ? storedBytes(full.toString())
          : type === sys.S_IF.LNK
            ? sys.readlink(full)
            : '';
      const attributes = withAttributes ? allAttributes(full.toString()) : '';
      lines.push(`${path} ${shortStatus(status)} ${text} ${attributes} ${same ?? ''}`);
      if (type === sys.S_IF.DIR) walk(path);
    }
  };
  walk('');
  return { lines, pathLengthMax };
}
