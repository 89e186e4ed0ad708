/** Hard and symbolic links, nodes that are no files, and files without a name. */
import * as sys from '../../helpers/posix-calls.ts';
import { SocketCalls } from '../socket-calls.ts';
import { done, equal, refused, letTimePass, isLater, holds } from '../case.ts';
import { NOBODY, type PosixCase, type PosixGroup, type Room } from '../case.ts';

const { O, S_IF } = sys;

const hard: readonly PosixCase[] = [
  {
    name: 'two names are one inode: bytes, mode, owner and count are shared',
    run: (room: Room): void => {
      room.file('f', 'x');
      done(sys.link(room.at('f'), room.at('g')));
      const [first, second] = [room.status(room.at('f')), room.status(room.at('g'))];
      equal(first, second);
      equal(first.nlink, 2);
      const fd = room.open(room.at('g'), O.WRONLY);
      equal(sys.pwrite(fd, 'changed', 0), 7);
      sys.close(fd);
      done(sys.chmod(room.at('g'), 0o600));
      equal(room.contents(room.at('f')), 'changed');
      equal(room.status(room.at('f')).mode, 0o100600);
      done(sys.unlink(room.at('f')));
      equal(room.status(room.at('g')).nlink, 1);
      equal(room.contents(room.at('g')), 'changed');
    },
  },
  {
    name: 'link refuses what is taken, missing, a directory, or through a file',
    run: (room: Room): void => {
      room.file('f');
      room.file('g');
      room.directory('d');
      refused(sys.link(room.at('f'), room.at('g')), 'EEXIST');
      refused(sys.link(room.at('missing'), room.at('h')), 'ENOENT');
      refused(sys.link(room.at('f'), room.at('missing/h')), 'ENOENT');
      refused(sys.link(room.at('d'), room.at('h')), 'EPERM');
      refused(sys.link(room.at('f/x'), room.at('h')), 'ENOTDIR');
      refused(sys.link(room.at('f'), room.at('g/h')), 'ENOTDIR');
      done(sys.symlink('nowhere', room.at('l')));
      refused(sys.link(room.at('f'), room.at('l')), 'EEXIST');
    },
  },
  {
    name: 'links to a symbolic link and to a fifo are links to them',
    run: (room: Room): void => {
      done(sys.symlink('target', room.at('l')));
      done(sys.link(room.at('l'), room.at('m')));
      equal(sys.readlink(room.at('m')), 'target');
      equal(room.status(room.at('l')).nlink, 2);
      done(sys.mknod(room.at('p'), S_IF.FIFO | 0o600));
      done(sys.link(room.at('p'), room.at('q')));
      equal(room.status(room.at('q')).ino, room.status(room.at('p')).ino);
    },
  },
  {
    name: 'AT_SYMLINK_FOLLOW links the target',
    run: (room: Room): void => {
      room.file('f', 'x');
      done(sys.symlink('f', room.at('l')));
      done(sys.link(room.at('l'), room.at('g'), sys.AT.SYMLINK_FOLLOW));
      equal(room.status(room.at('g')).ino, room.status(room.at('f')).ino);
    },
  },
  {
    name: 'link and unlink move the change time of the file',
    run: (room: Room): void => {
      room.file('f');
      const first = room.status(room.at('f')).ctime;
      letTimePass();
      done(sys.link(room.at('f'), room.at('g')));
      const second = room.status(room.at('f')).ctime;
      letTimePass();
      done(sys.unlink(room.at('f')));
      const third = room.status(room.at('g')).ctime;
      holds(isLater(second, first), 'link');
      holds(isLater(third, second), 'unlink');
    },
  },
  {
    name: 'five thousand names of one file count right, up and down',
    run: (room: Room): void => {
      room.file('f', 'x');
      for (let i = 0; i < 5000; i += 1) done(sys.link(room.at('f'), room.at(`g${i}`)));
      equal(room.status(room.at('g4999')).nlink, 5001);
      for (let i = 0; i < 5000; i += 1) done(sys.unlink(room.at(`g${i}`)));
      equal(room.status(room.at('f')).nlink, 1);
      equal(room.contents(room.at('f')), 'x');
    },
  },
  {
    name: 'inode numbers of files that live at once differ',
    run: (room: Room): void => {
      const seen = new Set<bigint>();
      for (let i = 0; i < 500; i += 1) {
        room.file(`f${i}`);
        seen.add(room.status(room.at(`f${i}`)).ino);
      }
      equal(seen.size, 500);
    },
  },
];

const symbolic: readonly PosixCase[] = [
  {
    name: 'a link has the size of its target, mode 0777, and follows to it',
    run: (room: Room): void => {
      room.file('f', 'x');
      done(sys.symlink('f', room.at('l')));
      const status = room.status(room.at('l'));
      equal([status.mode, status.size, status.nlink], [0o120777, 1, 1]);
      equal(sys.readlink(room.at('l')), 'f');
      equal(room.contents(room.at('l')), 'x');
    },
  },
  {
    name: 'targets of 1 to 4095 bytes come back; longer and empty ones are refused',
    run: (room: Room): void => {
      for (const length of [1, 59, 60, 128, 1000, 4094, 4095]) {
        const target = 't'.repeat(length);
        done(sys.symlink(target, room.at(`l${length}`)));
        equal(sys.readlink(room.at(`l${length}`)), target);
        equal(room.status(room.at(`l${length}`)).size, length);
      }
      refused(sys.symlink('t'.repeat(4096), room.at('m')), 'ENAMETOOLONG');
      refused(sys.symlink('', room.at('m')), 'ENOENT');
    },
  },
  {
    name: 'symlink and readlink refuse what is taken, missing or no link',
    run: (room: Room): void => {
      room.file('f');
      refused(sys.symlink('x', room.at('f')), 'EEXIST');
      refused(sys.symlink('x', room.at('missing/l')), 'ENOENT');
      refused(sys.symlink('x', room.at('f/l')), 'ENOTDIR');
      refused(sys.readlink(room.at('f')), 'EINVAL');
      refused(sys.readlink(room.at('missing')), 'ENOENT');
    },
  },
  {
    name: 'loops and chains of more than 40 links are ELOOP, 40 are followed',
    run: (room: Room): void => {
      done(sys.symlink('b', room.at('a')));
      done(sys.symlink('a', room.at('b')));
      refused(sys.open(room.at('a'), O.RDONLY), 'ELOOP');
      refused(sys.stat(room.at('a')), 'ELOOP');
      room.file('l0', 'end');
      for (let i = 1; i <= 41; i += 1) done(sys.symlink(`l${i - 1}`, room.at(`l${i}`)));
      equal(room.contents(room.at('l40')), 'end');
      refused(sys.open(room.at('l41'), O.RDONLY), 'ELOOP');
    },
  },
  {
    name: 'the owner and times of a link are its own',
    needs: 'root',
    run: (room: Room): void => {
      room.file('f');
      done(sys.symlink('f', room.at('l')));
      done(sys.lchown(room.at('l'), 5, 6));
      done(sys.utimens(room.at('l'), [11, 12], [13, 14], sys.AT.SYMLINK_NOFOLLOW));
      const status = room.status(room.at('l'));
      equal([status.uid, status.gid, status.mtime], [5, 6, [13, 14]]);
      equal(room.status(room.at('f')).uid, 0);
    },
  },
  {
    name: 'a link that was replaced shows its new target at once',
    run: (room: Room): void => {
      done(sys.symlink('one', room.at('l')));
      equal(sys.readlink(room.at('l')), 'one');
      done(sys.symlink('two', room.at('m')));
      done(sys.rename(room.at('m'), room.at('l')));
      equal(sys.readlink(room.at('l')), 'two');
    },
  },
];

const nodes: readonly PosixCase[] = [
  {
    name: 'mknod makes regular files, fifos and sockets for everyone',
    run: (room: Room): void => {
      for (const [type, name] of [
        [S_IF.REG, 'f'],
        [S_IF.FIFO, 'p'],
        [S_IF.SOCK, 's'],
      ] as const) {
        done(sys.mknod(room.at(name), type | 0o640));
        equal(room.status(room.at(name)).mode, type | 0o640);
        refused(sys.mknod(room.at(name), type | 0o640), 'EEXIST');
      }
      refused(sys.mknod(room.at('d'), S_IF.DIR | 0o755), 'EPERM', 'EINVAL');
      refused(sys.mknod(room.at('l'), S_IF.LNK | 0o755), 'EINVAL');
      refused(sys.mknod(room.at('missing/p'), S_IF.FIFO | 0o600), 'ENOENT');
    },
  },
  {
    name: 'device nodes keep their numbers, and only root makes them',
    needs: 'root',
    run: (room: Room): void => {
      // Major and minor as glibc packs them into dev_t.
      const device = (major: number, minor: number): number =>
        ((major & 0xfff) << 8) | (minor & 0xff) | ((minor & 0xfff00) << 12);
      for (const [major, minor] of [
        [1, 3],
        [254, 255],
        [4095, 0],
        [7, 0x7fff],
      ] as const) {
        done(sys.mknod(room.at(`c${major}`), S_IF.CHR | 0o600, device(major, minor)));
        done(sys.mknod(room.at(`b${major}`), S_IF.BLK | 0o600, device(major, minor)));
        equal(room.status(room.at(`c${major}`)).rdev, [major, minor]);
        equal(room.status(room.at(`b${major}`)).mode, S_IF.BLK | 0o600);
      }
      done(sys.chmod(room.path, 0o777));
      sys.asUser(NOBODY, NOBODY, () => {
        refused(sys.mknod(room.at('x'), S_IF.CHR | 0o600, device(1, 3)), 'EPERM');
      });
    },
  },
  {
    name: 'a fifo carries bytes, keeps no contents, and refuses a writer without a reader',
    run: (room: Room): void => {
      done(sys.mknod(room.at('p'), S_IF.FIFO | 0o600));
      refused(sys.open(room.at('p'), O.WRONLY | O.NONBLOCK), 'ENXIO');
      const fd = room.open(room.at('p'), O.RDWR);
      equal(sys.write(fd, 'through'), 7);
      const into = Buffer.alloc(20);
      equal(sys.read(fd, into), 7);
      equal(into.toString('latin1', 0, 7), 'through');
      refused(sys.lseek(fd, 0, sys.SEEK.SET), 'ESPIPE');
      sys.close(fd);
      equal(room.status(room.at('p')).size, 0);
    },
  },
  {
    name: 'a socket is bound, connected to, and its name refuses a second binding',
    run: (room: Room): void => {
      // The path of a socket has 107 bytes at most, so it is bound through a short way.
      const calls = new SocketCalls(room.path);
      done(calls.listen('s'));
      equal(room.status(room.at('s')).mode & S_IF.MASK, S_IF.SOCK);
      done(calls.connect('s'));
      refused(calls.listen('s'), 'EADDRINUSE');
      calls.close();
      refused(sys.open(room.at('s'), O.RDONLY), 'ENXIO');
    },
  },
];

const temporary: readonly PosixCase[] = [
  {
    name: 'O_TMPFILE makes a file with no name that goes with its descriptor',
    run: (room: Room): void => {
      const fd = room.open(room.path, O.TMPFILE | O.RDWR, 0o600);
      equal(sys.pwrite(fd, 'secret', 0), 6);
      const status = sys.fstat(fd);
      equal(
        typeof status === 'object' && [status.nlink, status.mode, status.size],
        [0, 0o100600, 6],
      );
      equal(sys.listDirectory(room.path), []);
      done(sys.close(fd));
    },
  },
  {
    name: 'linkat gives such a file a name, by /proc and AT_SYMLINK_FOLLOW',
    run: (room: Room): void => {
      const fd = room.open(room.path, O.TMPFILE | O.RDWR, 0o640);
      equal(sys.pwrite(fd, 'kept', 0), 4);
      const source = `/proc/self/fd/${fd}`;
      done(sys.link(source, room.at('f'), sys.AT.SYMLINK_FOLLOW));
      refused(sys.link(source, room.at('f'), sys.AT.SYMLINK_FOLLOW), 'EEXIST');
      done(sys.link(source, room.at('g'), sys.AT.SYMLINK_FOLLOW));
      equal(room.status(room.at('f')).nlink, 2);
      sys.close(fd);
      equal(room.contents(room.at('g')), 'kept');
      equal(room.status(room.at('g')).mode, 0o100640);
    },
  },
  {
    name: 'with O_EXCL such a file can never have a name',
    run: (room: Room): void => {
      const fd = room.open(room.path, O.TMPFILE | O.RDWR | O.EXCL, 0o600);
      const source = `/proc/self/fd/${fd}`;
      refused(sys.link(source, room.at('f'), sys.AT.SYMLINK_FOLLOW), 'ENOENT');
      sys.close(fd);
    },
  },
  {
    name: 'O_TMPFILE refuses reading only, a file, and what is missing',
    run: (room: Room): void => {
      room.file('f');
      refused(sys.open(room.path, O.TMPFILE | O.RDONLY), 'EINVAL');
      refused(sys.open(room.at('f'), O.TMPFILE | O.RDWR), 'ENOTDIR');
      refused(sys.open(room.at('missing'), O.TMPFILE | O.RDWR), 'ENOENT');
    },
  },
];

/** Links and nodes. */
export const links: PosixGroup[] = [
  { name: 'hard links', cases: hard },
  { name: 'symbolic links', cases: symbolic },
  { name: 'mknod', cases: nodes },
  { name: 'O_TMPFILE', cases: temporary },
];
