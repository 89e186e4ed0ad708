/** Locks of the three kinds, and what a watch tells. */
import { spawnSync } from 'node:child_process';
import * as sys from '../../helpers/posix-calls.ts';
import { done, equal, refused, type PosixCase, type PosixGroup, type Room } from '../case.ts';

const { O, F, LOCK, IN } = sys;

/** What another process gets when it tries a record lock: `0` or the errno. */
function tryFromOutside(room: Room, type: number, start: number, length: number): string {
  const worker = new URL('../../helpers/posix-worker/main.js', import.meta.url).pathname;
  const args = [worker, 'try-lock', room.at('f'), `${type}`, `${start}`, `${length}`];
  return spawnSync(process.execPath, args, { encoding: 'utf8' }).stdout.trim();
}

const locking: readonly PosixCase[] = [
  {
    name: 'flock: shared with shared, exclusive with none, between open files of one process',
    run: (room: Room): void => {
      const path = room.file('f');
      const [a, b] = [room.open(path, O.RDWR), room.open(path, O.RDWR)];
      done(sys.flock(a, LOCK.SH));
      done(sys.flock(b, LOCK.SH | LOCK.NB));
      refused(sys.flock(b, LOCK.EX | LOCK.NB), 'EAGAIN');
      // A change that fails may have let go of the shared lock.
      done(sys.flock(b, LOCK.UN));
      done(sys.flock(a, LOCK.EX | LOCK.NB));
      refused(sys.flock(b, LOCK.SH | LOCK.NB), 'EAGAIN');
      sys.close(a);
      done(sys.flock(b, LOCK.EX | LOCK.NB));
      sys.close(b);
    },
  },
  {
    name: 'flock works on a directory and on a descriptor for reading',
    run: (room: Room): void => {
      const [a, b] = [room.open(room.path, O.RDONLY), room.open(room.path, O.RDONLY)];
      done(sys.flock(a, LOCK.EX | LOCK.NB));
      refused(sys.flock(b, LOCK.EX | LOCK.NB), 'EAGAIN');
      sys.close(a);
      sys.close(b);
    },
  },
  {
    name: 'locks of open file descriptions: ranges, shared and exclusive',
    run: (room: Room): void => {
      const path = room.file('f');
      const [a, b] = [room.open(path, O.RDWR), room.open(path, O.RDWR)];
      done(sys.lockRange(a, F.OFD_SETLK, F.WRLCK, 0, 100));
      refused(sys.lockRange(b, F.OFD_SETLK, F.RDLCK, 50, 10), 'EAGAIN');
      equal(sys.lockRange(b, F.OFD_GETLK, F.RDLCK, 50, 10), F.WRLCK);
      done(sys.lockRange(b, F.OFD_SETLK, F.WRLCK, 100, 100));
      done(sys.lockRange(a, F.OFD_SETLK, F.UNLCK, 40, 20));
      done(sys.lockRange(b, F.OFD_SETLK, F.RDLCK, 45, 10));
      equal(sys.lockRange(a, F.OFD_GETLK, F.WRLCK, 45, 1), F.RDLCK);
      sys.close(a);
      done(sys.lockRange(b, F.OFD_SETLK, F.WRLCK, 0, 0));
      sys.close(b);
    },
  },
  {
    name: 'record locks of fcntl stand between processes and go with any close of the file',
    run: (room: Room): void => {
      const path = room.file('f');
      const fd = room.open(path, O.RDWR);
      done(sys.lockRange(fd, F.SETLK, F.WRLCK, 0, 10));
      done(sys.lockRange(fd, F.SETLK, F.RDLCK, 10, 10));
      equal(tryFromOutside(room, F.WRLCK, 0, 1), 'EAGAIN');
      equal(tryFromOutside(room, F.RDLCK, 12, 1), '0');
      equal(tryFromOutside(room, F.WRLCK, 12, 1), 'EAGAIN');
      equal(tryFromOutside(room, F.WRLCK, 20, 1), '0');
      sys.close(room.open(path, O.RDONLY));
      equal(tryFromOutside(room, F.WRLCK, 0, 0), '0');
      sys.close(fd);
    },
  },
  {
    name: 'a lock goes with the process that held it',
    run: (room: Room): void => {
      const path = room.file('f');
      const fd = room.open(path, O.RDWR);
      equal(tryFromOutside(room, F.WRLCK, 0, 0), '0');
      done(sys.lockRange(fd, F.SETLK, F.WRLCK, 0, 0));
      sys.close(fd);
    },
  },
  {
    name: 'locks need the access that they guard, and a sane range',
    run: (room: Room): void => {
      const path = room.file('f');
      const reader = room.open(path, O.RDONLY);
      const writer = room.open(path, O.WRONLY);
      refused(sys.lockRange(reader, F.SETLK, F.WRLCK, 0, 1), 'EBADF');
      refused(sys.lockRange(writer, F.SETLK, F.RDLCK, 0, 1), 'EBADF');
      refused(sys.lockRange(writer, F.SETLK, F.WRLCK, -5, 1), 'EINVAL');
      sys.close(reader);
      sys.close(writer);
    },
  },
];

const watching: readonly PosixCase[] = [
  {
    name: 'a watch on a directory tells of names that come, move and go',
    run: (room: Room): void => {
      const fd = done(sys.inotifyInit());
      done(sys.inotifyAdd(fd, room.path, IN.CREATE | IN.DELETE | IN.MOVED_FROM | IN.MOVED_TO));
      room.file('f');
      room.directory('d');
      done(sys.rename(room.at('f'), room.at('g')));
      done(sys.link(room.at('g'), room.at('h')));
      done(sys.unlink(room.at('g')));
      done(sys.rmdir(room.at('d')));
      equal(
        sys.inotifyRead(fd).map(({ mask, name }) => [mask, name]),
        [
          [IN.CREATE, 'f'],
          [IN.CREATE | IN.ISDIR, 'd'],
          [IN.MOVED_FROM, 'f'],
          [IN.MOVED_TO, 'g'],
          [IN.CREATE, 'h'],
          [IN.DELETE, 'g'],
          [IN.DELETE | IN.ISDIR, 'd'],
        ],
      );
      sys.close(fd);
    },
  },
  {
    name: 'a watch on a file tells of opening, writing, attributes and closing',
    run: (room: Room): void => {
      const path = room.file('f');
      const fd = done(sys.inotifyInit());
      done(sys.inotifyAdd(fd, path, IN.OPEN | IN.MODIFY | IN.ATTRIB | IN.CLOSE_WRITE));
      const file = room.open(path, O.WRONLY);
      equal(sys.pwrite(file, 'x', 0), 1);
      done(sys.fchmod(file, 0o600));
      done(sys.ftruncate(file, 0));
      sys.close(file);
      equal(
        sys.inotifyRead(fd).map(({ mask }) => mask),
        [IN.OPEN, IN.MODIFY, IN.ATTRIB, IN.MODIFY, IN.CLOSE_WRITE],
      );
      sys.close(fd);
    },
  },
  {
    name: 'a watch on a file tells that it was deleted',
    run: (room: Room): void => {
      const path = room.file('f');
      const fd = done(sys.inotifyInit());
      done(sys.inotifyAdd(fd, path, IN.DELETE_SELF));
      done(sys.unlink(path));
      equal(
        sys.inotifyRead(fd).some(({ mask }) => (mask & IN.DELETE_SELF) !== 0),
        true,
      );
      sys.close(fd);
    },
  },
];

/** Locks and watches. */
export const locks: PosixGroup[] = [
  { name: 'locks', cases: locking },
  { name: 'inotify', cases: watching },
];
