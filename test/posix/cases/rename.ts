/** rename(2) and renameat2(2): what moves, what is replaced, and every refusal. */
import * as sys from '../../helpers/posix-calls.ts';
import {
  done,
  equal,
  holds,
  refused,
  type PosixCase,
  type PosixGroup,
  type Room,
} from '../case.ts';

const { NOREPLACE, EXCHANGE } = sys.RENAME;

/** What may stand at a name in the tables below. */
type Kind = 'file' | 'directory' | 'full' | 'link' | 'fifo' | 'nothing';

function make(room: Room, name: string, kind: Kind): string {
  const path = room.at(name);
  switch (kind) {
    case 'file':
      return room.file(name, `was ${name}`);
    case 'directory':
      return room.directory(name);
    case 'full':
      room.directory(name);
      room.file(`${name}/inside`, `was ${name}`);
      return path;
    case 'link':
      done(sys.symlink(`to-${name}`, path));
      return path;
    case 'fifo':
      done(sys.mknod(path, sys.S_IF.FIFO | 0o600));
      return path;
    case 'nothing':
      return path;
  }
}

/** From, onto, flags, and the errno or `ok`. */
const table: readonly (readonly [from: Kind, onto: Kind, flags: number, expected: string])[] = [
  ['file', 'nothing', 0, 'ok'],
  ['file', 'file', 0, 'ok'],
  ['file', 'link', 0, 'ok'],
  ['file', 'fifo', 0, 'ok'],
  ['file', 'directory', 0, 'EISDIR'],
  ['link', 'nothing', 0, 'ok'],
  ['link', 'file', 0, 'ok'],
  ['link', 'directory', 0, 'EISDIR'],
  ['fifo', 'file', 0, 'ok'],
  ['directory', 'nothing', 0, 'ok'],
  ['directory', 'directory', 0, 'ok'],
  ['full', 'directory', 0, 'ok'],
  ['directory', 'full', 0, 'ENOTEMPTY'],
  ['full', 'full', 0, 'ENOTEMPTY'],
  ['directory', 'file', 0, 'ENOTDIR'],
  ['directory', 'link', 0, 'ENOTDIR'],
  ['nothing', 'nothing', 0, 'ENOENT'],
  ['nothing', 'file', 0, 'ENOENT'],
  ['file', 'nothing', NOREPLACE, 'ok'],
  ['directory', 'nothing', NOREPLACE, 'ok'],
  ['file', 'file', NOREPLACE, 'EEXIST'],
  ['file', 'directory', NOREPLACE, 'EEXIST'],
  ['directory', 'directory', NOREPLACE, 'EEXIST'],
  ['nothing', 'nothing', NOREPLACE, 'ENOENT'],
  ['file', 'file', EXCHANGE, 'ok'],
  ['file', 'directory', EXCHANGE, 'ok'],
  ['full', 'file', EXCHANGE, 'ok'],
  ['full', 'full', EXCHANGE, 'ok'],
  ['link', 'directory', EXCHANGE, 'ok'],
  ['file', 'nothing', EXCHANGE, 'ENOENT'],
  ['nothing', 'file', EXCHANGE, 'ENOENT'],
  ['file', 'file', NOREPLACE | EXCHANGE, 'EINVAL'],
  ['file', 'nothing', 0x100, 'EINVAL'],
];

/** Inode and type, or nothing: what tells whether a thing moved. */
function identity(path: string): string {
  const status = sys.lstat(path);
  return typeof status === 'number' ? 'nothing' : `${status.ino} ${status.mode >> 12}`;
}

function tableCase(across: boolean, row: (typeof table)[number]): PosixCase {
  const [from, onto, flags, expected] = row;
  const words = ['', ' without replacing', ' in exchange', ' both at once'][flags] ?? ' oddly';
  return {
    name: `${from} onto ${onto}${words}${across ? ', across directories' : ''}: ${expected}`,
    run: (room: Room): void => {
      const [a, b] = [room.directory('a'), across ? room.directory('b') : room.at('a')];
      make(room, 'a/from', from);
      make(room, across ? 'b/onto' : 'a/onto', onto);
      const [source, target] = [`${a}/from`, `${b}/onto`];
      const before = [identity(source), identity(target)];
      const links = (): number[] => [room.status(a).nlink, room.status(b).nlink];
      const linksBefore = links();
      const result = sys.rename(source, target, flags === 0 ? undefined : flags);
      if (expected !== 'ok') {
        refused(result, expected);
        equal([identity(source), identity(target)], before, 'nothing moved');
        equal(links(), linksBefore, 'links of the directories');
        return;
      }
      done(result);
      const swapped = flags === EXCHANGE;
      equal(identity(target), before[0], 'the thing moved');
      equal(identity(source), swapped ? before[1] : 'nothing', 'the old name');
      const [aCount, bCount] = [a, b].map(
        (path) =>
          sys.listDirectory(path).filter((name) => {
            const { mode } = room.status(`${path}/${name}`);
            return (mode & sys.S_IF.MASK) === sys.S_IF.DIR;
          }).length + 2,
      );
      equal(links(), [aCount, bCount], 'links of the directories');
      const dotdot = `${target}/..`;
      if (from === 'directory' || from === 'full') {
        equal(room.status(dotdot).ino, room.status(b).ino, '`..` of the moved directory');
      }
    },
  };
}

const others: readonly PosixCase[] = [
  {
    name: 'two names of one file: rename does nothing, and both stay',
    run: (room: Room): void => {
      room.file('f', 'x');
      done(sys.link(room.at('f'), room.at('g')));
      done(sys.rename(room.at('f'), room.at('g')));
      equal(sys.listDirectory(room.path), ['f', 'g']);
      equal(room.status(room.at('f')).nlink, 2);
    },
  },
  {
    name: 'onto itself is fine, and refused without replacing',
    run: (room: Room): void => {
      room.file('f', 'x');
      done(sys.rename(room.at('f'), room.at('f')));
      refused(sys.rename(room.at('f'), room.at('f'), NOREPLACE), 'EEXIST');
      equal(room.contents(room.at('f')), 'x');
    },
  },
  {
    name: 'a directory does not go into itself, or below itself, or onto a parent',
    run: (room: Room): void => {
      room.directory('d');
      room.directory('d/e');
      refused(sys.rename(room.at('d'), room.at('d/x')), 'EINVAL');
      refused(sys.rename(room.at('d'), room.at('d/e/x')), 'EINVAL');
      refused(sys.rename(room.at('d'), room.at('d/e')), 'EINVAL');
      refused(sys.rename(room.at('d/e'), room.at('d')), 'ENOTEMPTY');
      refused(sys.rename(room.at('d'), room.at('d/e'), EXCHANGE), 'EINVAL');
      refused(sys.rename(room.at('d/e'), room.at('d'), EXCHANGE), 'EINVAL', 'ENOTEMPTY');
    },
  },
  {
    name: '`.` and `..` are not renamed',
    run: (room: Room): void => {
      room.directory('d');
      refused(sys.rename(room.at('d/.'), room.at('e')), 'EBUSY', 'EINVAL');
      refused(sys.rename(room.at('d/..'), room.at('e')), 'EBUSY', 'EINVAL');
    },
  },
  {
    name: 'parents that are missing or files are refused',
    run: (room: Room): void => {
      room.file('f');
      refused(sys.rename(room.at('f'), room.at('missing/f')), 'ENOENT');
      refused(sys.rename(room.at('f/x'), room.at('g')), 'ENOTDIR');
      refused(sys.rename(room.at('f'), room.at('f/x')), 'ENOTDIR');
      refused(sys.rename(room.at('f'), room.at('g/')), 'ENOTDIR');
    },
  },
  {
    name: 'to another file system is EXDEV',
    run: (room: Room): void => {
      room.file('f');
      refused(sys.rename(room.at('f'), '/proc/memcloud-test'), 'EXDEV');
      refused(sys.link(room.at('f'), '/dev/memcloud-test'), 'EXDEV');
    },
  },
  {
    name: 'replacing takes a link from the file that was there',
    run: (room: Room): void => {
      room.file('f', 'new');
      room.file('g', 'old');
      done(sys.link(room.at('g'), room.at('h')));
      equal(room.status(room.at('h')).nlink, 2);
      done(sys.rename(room.at('f'), room.at('g')));
      equal(room.status(room.at('h')).nlink, 1);
      equal(room.contents(room.at('h')), 'old');
      equal(room.contents(room.at('g')), 'new');
    },
  },
  {
    name: 'rename moves the change time of the thing and the times of both directories',
    run: (room: Room): void => {
      room.directory('a');
      room.directory('b');
      room.file('a/f', 'x');
      for (const name of ['a', 'b']) done(sys.utimens(room.at(name), [5, 0], [5, 0]));
      done(sys.utimens(room.at('a/f'), [7, 0], [7, 0]));
      done(sys.rename(room.at('a/f'), room.at('b/f')));
      equal(room.status(room.at('b/f')).mtime, [7, 0], 'the file keeps its mtime');
      for (const name of ['a', 'b']) {
        holds(room.status(room.at(name)).mtime[0] > 1_000_000, `mtime of ${name}`);
      }
    },
  },
  {
    name: 'an open file follows its name: what is written later is there',
    run: (room: Room): void => {
      const fd = room.open(room.file('f', 'one'), sys.O.RDWR);
      done(sys.rename(room.at('f'), room.at('g')));
      equal(sys.pwrite(fd, ' two', 3), 4);
      sys.close(fd);
      equal(room.contents(room.at('g')), 'one two');
    },
  },
  {
    name: 'a tree moves whole, and paths below it change at once',
    run: (room: Room): void => {
      room.directory('d');
      room.directory('d/e');
      room.file('d/e/f', 'deep');
      equal(room.contents(room.at('d/e/f')), 'deep');
      done(sys.rename(room.at('d'), room.at('x')));
      refused(sys.lstat(room.at('d/e/f')), 'ENOENT');
      equal(room.contents(room.at('x/e/f')), 'deep');
    },
  },
];

/** Rename. */
export const renames: PosixGroup[] = [
  { name: 'rename in one directory', cases: table.map((row) => tableCase(false, row)) },
  { name: 'rename across directories', cases: table.map((row) => tableCase(true, row)) },
  { name: 'rename besides', cases: others },
];
