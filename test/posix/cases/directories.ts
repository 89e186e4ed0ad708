/** Directories: making, removing and reading them, names of every length and byte, long paths. */
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

const { O } = sys;

/** Files of the case with many; `POSIX_FILES=1000000` is the long form. */
const FILE_COUNT = Number(process.env['POSIX_FILES'] ?? 100_000);

const making: readonly PosixCase[] = [
  {
    name: 'a directory has two links, one more for each directory in it',
    run: (room: Room): void => {
      room.directory('d', 0o755);
      equal(room.status(room.at('d')).nlink, 2);
      room.directory('d/e');
      room.directory('d/f');
      room.file('d/g');
      equal(room.status(room.at('d')).nlink, 4);
      done(sys.rmdir(room.at('d/e')));
      equal(room.status(room.at('d')).nlink, 3);
    },
  },
  {
    name: 'mkdir takes the mode, with the sticky bit and less the umask',
    run: (room: Room): void => {
      const before = sys.umask(0);
      try {
        done(sys.mkdir(room.at('a'), 0o1777));
        done(sys.mkdir(room.at('b'), 0o700));
      } finally {
        sys.umask(before);
      }
      equal(room.status(room.at('a')).mode, 0o041777);
      equal(room.status(room.at('b')).mode, 0o040700);
    },
  },
  {
    name: 'mkdir refuses a name that is taken, a parent that is missing or a file',
    run: (room: Room): void => {
      room.file('f');
      room.directory('d');
      done(sys.symlink('nowhere', room.at('l')));
      for (const name of ['f', 'd', 'l', '.', '..']) refused(sys.mkdir(room.at(name)), 'EEXIST');
      refused(sys.mkdir(room.at('missing/d')), 'ENOENT');
      refused(sys.mkdir(room.at('f/d')), 'ENOTDIR');
      refused(sys.mkdir(''), 'ENOENT');
    },
  },
  {
    name: 'rmdir refuses what is not empty, not a directory, missing, `.` and `..`',
    run: (room: Room): void => {
      room.directory('d');
      room.file('d/f');
      refused(sys.rmdir(room.at('d')), 'ENOTEMPTY');
      refused(sys.rmdir(room.at('d/f')), 'ENOTDIR');
      refused(sys.rmdir(room.at('missing')), 'ENOENT');
      refused(sys.rmdir(room.at('d/.')), 'EINVAL');
      refused(sys.rmdir(room.at('d/..')), 'ENOTEMPTY');
      done(sys.symlink('d', room.at('l')));
      refused(sys.rmdir(room.at('l')), 'ENOTDIR');
    },
  },
  {
    name: 'making and removing names moves the times of the directory',
    run: (room: Room): void => {
      room.directory('d');
      const steps: (() => number)[] = [
        () => sys.close(sys.open(room.at('d/f'), O.CREAT | O.WRONLY)),
        () => sys.mkdir(room.at('d/e')),
        () => sys.link(room.at('d/f'), room.at('d/g')),
        () => sys.symlink('x', room.at('d/s')),
        () => sys.mknod(room.at('d/p'), sys.S_IF.FIFO | 0o600),
        () => sys.rename(room.at('d/f'), room.at('d/h')),
        () => sys.unlink(room.at('d/g')),
        () => sys.rmdir(room.at('d/e')),
      ];
      for (const [i, step] of steps.entries()) {
        done(sys.utimens(room.at('d'), [5, 0], [5, 0]));
        done(step(), `step ${i}`);
        const { mtime, ctime } = room.status(room.at('d'));
        holds(mtime[0] > 1_000_000, `mtime after step ${i}`);
        equal(mtime, ctime, `ctime after step ${i}`);
      }
    },
  },
];

/** Names that must work, and the longest that must not. */
const names: readonly PosixCase[] = [
  {
    name: 'a name has 255 bytes at most, for every call that takes one',
    run: (room: Room): void => {
      const longest = 'n'.repeat(255);
      const longer = 'n'.repeat(256);
      room.file(longest, 'x');
      equal(room.contents(room.at(longest)), 'x');
      equal(sys.listDirectory(room.path), [longest]);
      room.file('f');
      for (const [call, result] of Object.entries({
        open: sys.open(room.at(longer), O.CREAT | O.WRONLY),
        lookup: sys.lstat(room.at(longer)),
        mkdir: sys.mkdir(room.at(longer)),
        mknod: sys.mknod(room.at(longer), sys.S_IF.FIFO | 0o600),
        symlink: sys.symlink('x', room.at(longer)),
        link: sys.link(room.at('f'), room.at(longer)),
        rename: sys.rename(room.at('f'), room.at(longer)),
        unlink: sys.unlink(room.at(longer)),
        rmdir: sys.rmdir(room.at(longer)),
      })) {
        holds(sys.outcome(result as number) === 'ENAMETOOLONG', call);
      }
    },
  },
  {
    name: 'every byte but NUL and slash is a name of its own',
    run: (room: Room): void => {
      const expected: string[] = [];
      for (let byte = 1; byte < 256; byte += 1) {
        if (byte === 0x2e || byte === 0x2f) continue;
        const fd = done(sys.open(room.raw(Buffer.from([byte])), O.CREAT | O.EXCL | O.WRONLY));
        done(sys.write(fd, Buffer.from([byte])));
        sys.close(fd);
        expected.push(String.fromCharCode(byte));
      }
      equal(sys.listDirectory(room.path), expected.sort());
      for (const name of expected) {
        equal(room.contents(room.raw(Buffer.from(name, 'latin1'))), name);
      }
    },
  },
  {
    name: 'names that are not UTF-8 are renamed, linked, listed and removed as they are',
    run: (room: Room): void => {
      const wild = Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0x80, 0x20, 0x0a]);
      sys.close(done(sys.open(room.raw(wild), O.CREAT | O.WRONLY)));
      const half = wild.subarray(0, 3);
      done(sys.link(room.raw(wild), room.raw(half)));
      done(sys.rename(room.raw(wild), room.raw(Buffer.from([0xed, 0xa0, 0x80]))));
      equal(sys.listDirectory(room.path), [half.toString('latin1'), '\xed\xa0\x80'].sort());
      done(sys.symlink(wild, room.at('l')));
      equal(sys.readlink(room.at('l')), wild.toString('latin1'));
      done(sys.unlink(room.raw(half)));
    },
  },
  {
    name: 'names differ by case and by Unicode form',
    run: (room: Room): void => {
      for (const name of ['a', 'A', '\u00e9', 'e\u0301', ' ', '...', '~']) room.file(name, name);
      for (const name of ['a', 'A', '\u00e9', 'e\u0301', ' ', '...', '~']) {
        equal(Buffer.from(room.contents(room.at(name)), 'latin1').toString(), name);
      }
    },
  },
  {
    name: 'a path of 4095 bytes works, one of 4096 is too long',
    run: (room: Room): void => {
      let path = room.path;
      while (path.length + 202 < 4095 - 256) {
        path += `/${'d'.repeat(200)}`;
        done(sys.mkdir(path));
      }
      const padded = `${path}/./${'./'.repeat(2048)}`;
      const fit = (length: number): string => {
        const stem = padded.slice(0, length - 2);
        return (stem.endsWith('/') ? stem : `${stem}/`).slice(0, length - 1).padEnd(length, 'f');
      };
      const exact = fit(4095);
      equal(Buffer.byteLength(exact), 4095);
      const fd = done(sys.open(exact, O.CREAT | O.WRONLY));
      sys.close(fd);
      done(sys.unlink(exact));
      refused(sys.open(fit(4096), O.CREAT | O.WRONLY), 'ENAMETOOLONG');
    },
  },
  {
    name: 'a tree deeper than any path is built and removed through descriptors',
    run: (room: Room): void => {
      const depth = 64;
      const name = 'x'.repeat(255);
      const fds = [room.open(room.path, O.RDONLY | O.DIRECTORY)];
      for (let i = 0; i < depth; i += 1) {
        const parent = fds.at(-1) as number;
        done(sys.mkdir(name, 0o755, parent));
        fds.push(done(sys.open(name, O.RDONLY | O.DIRECTORY, 0, parent)));
      }
      for (let i = depth; i > 0; i -= 1) {
        sys.close(fds.pop() as number);
        done(sys.rmdirAt(name, fds.at(-1) as number));
      }
      sys.close(fds.pop() as number);
    },
  },
];

const DT = { FIFO: 1, CHR: 2, DIR: 4, REG: 8, LNK: 10, SOCK: 12 } as const;

const reading: readonly PosixCase[] = [
  {
    name: 'entries tell inode numbers and types, `.` and `..` among them',
    run: (room: Room): void => {
      room.file('f');
      room.directory('d');
      done(sys.symlink('f', room.at('l')));
      done(sys.mknod(room.at('p'), sys.S_IF.FIFO | 0o600));
      done(sys.mknod(room.at('s'), sys.S_IF.SOCK | 0o600));
      const fd = room.open(room.path, O.RDONLY | O.DIRECTORY);
      const entries = sys.getdents(fd);
      sys.close(fd);
      if (typeof entries === 'number') return done(entries) as never;
      const found = new Map(entries.map((entry) => [entry.name, entry]));
      equal([...found.entries()].map(([name, { type }]) => [name, type]).sort(), [
        ['.', DT.DIR],
        ['..', DT.DIR],
        ['d', DT.DIR],
        ['f', DT.REG],
        ['l', DT.LNK],
        ['p', DT.FIFO],
        ['s', DT.SOCK],
      ]);
      for (const name of ['.', 'f', 'd', 'l', 'p', 's']) {
        equal(found.get(name)?.ino, room.status(room.at(name)).ino, `inode of ${name}`);
      }
    },
  },
  {
    name: 'a name that stays comes exactly once while others come and go',
    run: (room: Room): void => {
      const staying = new Set<string>();
      for (let i = 0; i < 600; i += 1) {
        room.file(`stay${i}`);
        room.file(`go${i}`);
        staying.add(`stay${i}`);
      }
      const fd = room.open(room.path, O.RDONLY | O.DIRECTORY);
      const seen: string[] = [];
      for (let turn = 0; ; turn += 1) {
        const entries = sys.getdents(fd, 600);
        if (typeof entries === 'number') return done(entries) as never;
        if (entries.length === 0) break;
        seen.push(...entries.map(({ name }) => name));
        for (let i = turn * 8; i < turn * 8 + 8 && i < 600; i += 1) {
          done(sys.unlink(room.at(`go${i}`)));
          room.file(`new${i}`);
        }
      }
      sys.close(fd);
      equal(seen.filter((name) => staying.has(name)).sort(), [...staying].sort());
      equal(new Set(seen).size, seen.length, 'no name comes twice');
    },
  },
  {
    name: 'removing while reading empties a directory, as rm -r does',
    run: (room: Room): void => {
      for (let i = 0; i < 2000; i += 1) room.file(`file-with-a-longer-name-${i}`);
      const fd = room.open(room.path, O.RDONLY | O.DIRECTORY);
      for (;;) {
        const entries = sys.getdents(fd, 4096);
        if (typeof entries === 'number') return done(entries) as never;
        if (entries.length === 0) break;
        for (const { name } of entries) {
          if (name !== '.' && name !== '..') done(sys.unlink(room.at(name)));
        }
      }
      sys.close(fd);
      equal(sys.listDirectory(room.path), []);
    },
  },
  {
    name: 'rewinding shows what is there now, and a place taken before is found again',
    run: (room: Room): void => {
      for (let i = 0; i < 100; i += 1) room.file(`f${i}`);
      const fd = room.open(room.path, O.RDONLY | O.DIRECTORY);
      const first = sys.getdents(fd, 400);
      const second = sys.getdents(fd, 400);
      if (typeof first === 'number' || typeof second === 'number') throw new Error('getdents64');
      done(sys.lseek(fd, (first.at(-1) as sys.DirectoryEntry).offset, sys.SEEK.SET));
      equal(sys.getdents(fd, 400), second, 'the same entries from the same place');
      room.file('late');
      done(sys.lseek(fd, 0, sys.SEEK.SET));
      const all: string[] = [];
      for (;;) {
        const entries = sys.getdents(fd);
        if (typeof entries === 'number') return done(entries) as never;
        if (entries.length === 0) break;
        all.push(...entries.map(({ name }) => name));
      }
      equal(all.length, 103);
      holds(all.includes('late'), 'the new name');
      sys.close(fd);
    },
  },
  {
    name: 'a directory of very many files counts, lists, finds and empties',
    needs: 'large',
    run: (room: Room): void => {
      for (let i = 0; i < FILE_COUNT; i += 1) {
        done(sys.mknod(room.at(`f${i}`), sys.S_IF.REG | 0o600), `file ${i}`);
      }
      const listed = sys.listDirectory(room.path);
      equal(listed.length, FILE_COUNT);
      equal(new Set(listed).size, FILE_COUNT);
      equal(room.status(room.at(`f${FILE_COUNT - 1}`)).nlink, 1);
      refused(sys.lstat(room.at(`f${FILE_COUNT}`)), 'ENOENT');
      for (let i = 0; i < FILE_COUNT; i += 1) done(sys.unlink(room.at(`f${i}`)), `file ${i}`);
      equal(sys.listDirectory(room.path), []);
    },
  },
];

/** Directories and names. */
export const directories: PosixGroup[] = [
  { name: 'mkdir and rmdir', cases: making },
  { name: 'names and paths', cases: names },
  { name: 'readdir', cases: reading },
];
