/** Regular files: how they are made, opened, written, cut, and kept alive without a name. */
import { spawnSync } from 'node:child_process';
import { NativeMemory } from '../../../common/native-memory.ts';
import * as sys from '../../helpers/posix-calls.ts';
import {
  done,
  equal,
  holds,
  refused,
  NOBODY,
  type PosixCase,
  type PosixGroup,
  type Room,
} from '../case.ts';

const { O } = sys;
/** Longest wait for a kernel to forget an inode, milliseconds. */
const FORGET_WAIT_MS = 5000;

/** Inodes that the file system can hold, and how many of them are free. */
function inodes(room: Room): { total: number; free: number } {
  const status = sys.statfs(room.path);
  if (typeof status === 'number') throw new Error(`statfs: ${sys.outcome(status)}`);
  return { total: status.files, free: status.freeFiles };
}

const creation: readonly PosixCase[] = [
  {
    name: 'a new file is empty, has one link, the mode asked for, and its maker as owner',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.EXCL | O.WRONLY, 0o640);
      const status = room.status(room.at('f'));
      equal(status.mode, 0o100640);
      equal([status.nlink, status.size, status.blocks], [1, 0, 0]);
      equal(status.uid, process.getuid?.());
      sys.close(fd);
    },
  },
  {
    name: 'O_EXCL refuses a file, a directory and a dangling link that are there',
    run: (room: Room): void => {
      room.file('f');
      room.directory('d');
      done(sys.symlink('nowhere', room.at('l')));
      for (const name of ['f', 'd', 'l']) {
        refused(sys.open(room.at(name), O.CREAT | O.EXCL | O.WRONLY), 'EEXIST');
      }
    },
  },
  {
    name: 'O_CREAT through a dangling link makes the target',
    run: (room: Room): void => {
      done(sys.symlink('target', room.at('l')));
      sys.close(room.open(room.at('l'), O.CREAT | O.WRONLY));
      equal(room.status(room.at('target')).mode & sys.S_IF.MASK, sys.S_IF.REG);
    },
  },
  {
    name: 'O_CREAT on a file that is there leaves its mode and bytes',
    run: (room: Room): void => {
      room.file('f', 'bytes', 0o600);
      sys.close(room.open(room.at('f'), O.CREAT | O.RDWR, 0o777));
      equal(room.status(room.at('f')).mode, 0o100600);
      equal(room.contents(room.at('f')), 'bytes');
    },
  },
  {
    name: 'O_TRUNC empties a file and gives back its room',
    run: (room: Room): void => {
      const path = room.file('f', Buffer.alloc(65536, 1));
      sys.close(room.open(path, O.WRONLY | O.TRUNC));
      const status = room.status(path);
      equal([status.size, status.blocks], [0, 0]);
    },
  },
  {
    name: 'O_APPEND writes at the end whatever the position is',
    run: (room: Room): void => {
      const path = room.file('f', 'one');
      const first = room.open(path, O.WRONLY | O.APPEND);
      const second = room.open(path, O.WRONLY | O.APPEND);
      equal(sys.write(first, ' two'), 4);
      equal(sys.write(second, ' three'), 6);
      done(sys.lseek(first, 0, sys.SEEK.SET));
      equal(sys.write(first, ' four'), 5);
      equal(room.contents(path), 'one two three four');
      sys.close(first);
      sys.close(second);
    },
  },
  {
    name: 'opening what is not there, below what is no directory, or a directory for writing',
    run: (room: Room): void => {
      room.file('f');
      room.directory('d');
      refused(sys.open(room.at('missing'), O.RDONLY), 'ENOENT');
      refused(sys.open(room.at('missing/f'), O.CREAT | O.WRONLY), 'ENOENT');
      refused(sys.open(room.at('f/g'), O.CREAT | O.WRONLY), 'ENOTDIR');
      refused(sys.open(room.at('d'), O.WRONLY), 'EISDIR');
      refused(sys.open(room.at('d'), O.RDWR), 'EISDIR');
      refused(sys.open(room.at('d'), O.CREAT | O.WRONLY), 'EISDIR');
      refused(sys.open(room.at('f'), O.RDONLY | O.DIRECTORY), 'ENOTDIR');
      refused(sys.open(room.at('f/'), O.RDONLY), 'ENOTDIR');
      refused(sys.open(room.at('new/'), O.CREAT | O.WRONLY), 'EISDIR');
    },
  },
  {
    name: 'O_NOFOLLOW refuses a symbolic link',
    run: (room: Room): void => {
      room.file('f');
      done(sys.symlink('f', room.at('l')));
      refused(sys.open(room.at('l'), O.RDONLY | O.NOFOLLOW), 'ELOOP');
    },
  },
  {
    name: 'a descriptor for reading does not write, one for writing does not read',
    run: (room: Room): void => {
      const path = room.file('f', 'x');
      const reader = room.open(path, O.RDONLY);
      const writer = room.open(path, O.WRONLY);
      refused(sys.pwrite(reader, 'y', 0), 'EBADF');
      refused(sys.pread(writer, Buffer.alloc(1), 0), 'EBADF');
      refused(sys.ftruncate(reader, 0), 'EINVAL');
      sys.close(reader);
      sys.close(writer);
    },
  },
  {
    name: 'a directory cannot be read as a file',
    run: (room: Room): void => {
      const fd = room.open(room.path, O.RDONLY | O.DIRECTORY);
      refused(sys.pread(fd, Buffer.alloc(10), 0), 'EISDIR');
      sys.close(fd);
    },
  },
  {
    name: 'umask takes bits from a new file, directory and fifo',
    run: (room: Room): void => {
      const before = sys.umask(0o027);
      try {
        sys.close(room.open(room.at('f'), O.CREAT | O.WRONLY, 0o666));
        done(sys.mkdir(room.at('d'), 0o777));
        done(sys.mknod(room.at('p'), sys.S_IF.FIFO | 0o666));
      } finally {
        sys.umask(before);
      }
      equal(room.status(room.at('f')).mode, 0o100640);
      equal(room.status(room.at('d')).mode, 0o040750);
      equal(room.status(room.at('p')).mode, 0o010640);
    },
  },
  {
    name: 'a file made with mode 0 can be written by the one who made it, through that descriptor',
    needs: 'root',
    run: (room: Room): void => {
      done(sys.chmod(room.path, 0o777));
      sys.asUser(NOBODY, NOBODY, () => {
        const fd = done(sys.open(room.at('f'), O.CREAT | O.RDWR, 0));
        equal(sys.pwrite(fd, 'x', 0), 1);
        refused(sys.open(room.at('f'), O.RDONLY), 'EACCES');
        sys.close(fd);
      });
    },
  },
];

const contents: readonly PosixCase[] = [
  {
    name: 'bytes come back at every offset around a page, through another descriptor',
    run: (room: Room): void => {
      const path = room.file('f');
      const writer = room.open(path, O.RDWR);
      const model = Buffer.alloc(3 * 4096);
      for (const [offset, length] of [
        [4095, 2],
        [0, 1],
        [4096, 4096],
        [8191, 4097],
        [1, 4094],
        [100, 9000],
      ] as const) {
        const bytes = Buffer.alloc(length, offset % 251);
        bytes.copy(model, offset);
        equal(sys.pwrite(writer, bytes, offset), length);
        const reader = room.open(path, O.RDONLY);
        const size = room.status(path).size;
        const into = Buffer.alloc(size + 10);
        equal(sys.pread(reader, into, 0), size, 'bytes read');
        holds(into.subarray(0, size).equals(model.subarray(0, size)), `bytes after ${offset}`);
        sys.close(reader);
      }
      sys.close(writer);
    },
  },
  {
    name: 'eight MiB written in odd pieces come back byte by byte',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      const all = Buffer.alloc(8 << 20);
      for (let i = 0; i < all.length; i += 4) all.writeUInt32LE((i * 2654435761) >>> 0, i);
      for (let at = 0; at < all.length;) {
        const length = Math.min(all.length - at, 300_007);
        equal(sys.pwrite(fd, all.subarray(at, at + length), at), length);
        at += length;
      }
      const into = Buffer.alloc(all.length);
      for (let at = 0; at < all.length;) {
        at += done(sys.pread(fd, into.subarray(at, at + 131_101), at));
      }
      holds(into.equals(all), 'the bytes are the same');
      sys.close(fd);
    },
  },
  {
    name: 'a hole reads as zeroes and takes no room',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      equal(sys.pwrite(fd, 'end', 10 << 20), 3);
      done(sys.fsync(fd));
      const status = room.status(room.at('f'));
      equal(status.size, (10 << 20) + 3);
      holds(status.blocks <= 64, `blocks: at most 64, got ${status.blocks}`);
      const into = Buffer.alloc(70_000, 1);
      equal(sys.pread(fd, into, 5 << 20), 70_000);
      holds(into.equals(Buffer.alloc(70_000)), 'zeroes');
      sys.close(fd);
    },
  },
  {
    name: 'reading at and behind the end gives nothing, across the end gives what is there',
    run: (room: Room): void => {
      const fd = room.open(room.file('f', 'hello'), O.RDONLY);
      equal(sys.pread(fd, Buffer.alloc(10), 5), 0);
      equal(sys.pread(fd, Buffer.alloc(10), 5_000_000), 0);
      equal(sys.pread(fd, Buffer.alloc(10), 3), 2);
      sys.close(fd);
    },
  },
  {
    name: 'a file cut inside a page and grown again reads zeroes there',
    run: (room: Room): void => {
      const path = room.file('f', Buffer.alloc(10_000, 'a'));
      for (const size of [5000, 4096, 1, 0]) {
        done(sys.truncate(path, size));
        equal(room.status(path).size, size);
        done(sys.truncate(path, 10_000));
        const text = room.contents(path);
        equal(text.length, 10_000);
        equal(text.slice(size), '\0'.repeat(10_000 - size), `zeroes behind ${size}`);
      }
    },
  },
  {
    name: 'a write behind the end leaves zeroes between, also after a cut',
    run: (room: Room): void => {
      const path = room.file('f', Buffer.alloc(4000, 'a'));
      done(sys.truncate(path, 100));
      const fd = room.open(path, O.WRONLY);
      equal(sys.pwrite(fd, 'z', 6000), 1);
      sys.close(fd);
      equal(room.contents(path), 'a'.repeat(100) + '\0'.repeat(5900) + 'z');
    },
  },
  {
    name: 'truncate refuses what is no file, negative sizes, and what is not there',
    run: (room: Room): void => {
      room.directory('d');
      refused(sys.truncate(room.at('d'), 0), 'EISDIR');
      refused(sys.truncate(room.at('missing'), 0), 'ENOENT');
      refused(sys.truncate(room.file('f'), -1), 'EINVAL');
    },
  },
  {
    name: 'O_DIRECT reads and writes whole pages, and sees what the cache holds',
    run: (room: Room): void => {
      const path = room.file('f', Buffer.alloc(8192, 'c'));
      const fd = sys.open(path, O.RDWR | O.DIRECT);
      // tmpfs takes O_DIRECT since Linux 6.6.
      if (sys.outcome(fd) === 'EINVAL') return;
      done(fd);
      const memory = new NativeMemory(4096);
      const page = memory.bytes;
      equal(sys.pread(fd, page, 4096), 4096);
      equal(page.toString('latin1', 0, 3), 'ccc');
      page.fill('d');
      equal(sys.pwrite(fd, page, 0), 4096);
      sys.close(fd);
      memory.free();
      equal(room.contents(path), 'd'.repeat(4096) + 'c'.repeat(4096));
    },
  },
  {
    name: 'two descriptors see each other at once',
    run: (room: Room): void => {
      const path = room.file('f');
      const [first, second] = [room.open(path, O.RDWR), room.open(path, O.RDWR)];
      for (let i = 0; i < 50; i += 1) {
        equal(sys.pwrite(i % 2 ? first : second, `${i % 10}`, i), 1);
        const into = Buffer.alloc(1);
        equal(sys.pread(i % 2 ? second : first, into, i), 1);
        equal(into.toString(), `${i % 10}`);
      }
      sys.close(first);
      sys.close(second);
    },
  },
  {
    name: 'a program on it runs, also after its name is gone, and cannot be written meanwhile',
    run: (room: Room): void => {
      room.file('script', '#!/bin/sh\necho "$0" ran\n', 0o755);
      const run = spawnSync(room.at('script'), { encoding: 'utf8' });
      equal(run.stdout, `${room.at('script')} ran\n`);
      equal(spawnSync('cp', ['/bin/sleep', room.at('sleep')]).status, 0);
      const child = spawnSync('/bin/sh', [
        '-c',
        '"$1" 5 & sleep 0.2; (echo x >>"$1") 2>/dev/null && exit 7; rm "$1"; kill $!',
        'sh',
        room.at('sleep'),
      ]);
      equal(child.status, 0, 'ETXTBSY for a running program');
    },
  },
];

const unlinked: readonly PosixCase[] = [
  {
    name: 'a file without a name lives until it is closed',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      equal(sys.pwrite(fd, 'before', 0), 6);
      done(sys.unlink(room.at('f')));
      equal(sys.pwrite(fd, ' after', 6), 6);
      const into = Buffer.alloc(20);
      equal(sys.pread(fd, into, 0), 12);
      equal(into.toString('latin1', 0, 12), 'before after');
      const status = sys.fstat(fd);
      equal(typeof status === 'object' && [status.nlink, status.size], [0, 12]);
      done(sys.ftruncate(fd, 3));
      done(sys.fchmod(fd, 0o600));
      done(sys.fsync(fd));
      refused(sys.lstat(room.at('f')), 'ENOENT');
      done(sys.close(fd));
    },
  },
  {
    name: 'a name can be used again while the old file is open, and is another file',
    run: (room: Room): void => {
      const path = room.file('f', 'old');
      const old = room.open(path, O.RDONLY);
      done(sys.unlink(path));
      room.file('f', 'new!');
      const into = Buffer.alloc(10);
      equal(sys.pread(old, into, 0), 3);
      equal(into.toString('latin1', 0, 3), 'old');
      equal(room.contents(path), 'new!');
      sys.close(old);
    },
  },
  {
    name: 'a file that rename replaced lives until it is closed',
    run: (room: Room): void => {
      const path = room.file('f', 'old');
      const old = room.open(path, O.RDWR);
      done(sys.rename(room.file('g', 'new'), path));
      equal(sys.pwrite(old, 'x', 3), 1);
      const into = Buffer.alloc(10);
      equal(sys.pread(old, into, 0), 4);
      equal(room.contents(path), 'new');
      sys.close(old);
    },
  },
  {
    name: 'a directory that was removed while open is gone to its readers and takes no new names',
    run: (room: Room): void => {
      const fd = room.open(room.directory('d'), O.RDONLY | O.DIRECTORY);
      done(sys.rmdir(room.at('d')));
      refused(sys.getdents(fd), 'ENOENT');
      refused(sys.open('f', O.CREAT | O.WRONLY, 0o644, fd), 'ENOENT');
      refused(sys.mkdir('e', 0o755, fd), 'ENOENT');
      const status = sys.fstat(fd);
      equal(typeof status === 'object' && status.nlink, 0);
      sys.close(fd);
    },
  },
  {
    name: 'unlink refuses a directory, what is missing, and a path through a file',
    run: (room: Room): void => {
      room.directory('d');
      room.file('f');
      refused(sys.unlink(room.at('d')), 'EISDIR');
      refused(sys.unlink(room.at('missing')), 'ENOENT');
      refused(sys.unlink(room.at('f/x')), 'ENOTDIR');
      refused(sys.unlink(room.at('f/')), 'ENOTDIR');
    },
  },
  {
    name: 'fifty thousand turns of create, write, unlink leave the room as it was',
    needs: 'large',
    run: (room: Room): void => {
      const before = inodes(room);
      for (let i = 0; i < 50_000; i += 1) {
        const fd = done(sys.open(room.at('f'), O.CREAT | O.WRONLY | O.EXCL));
        equal(sys.write(fd, 'x'), 1);
        sys.close(fd);
        done(sys.unlink(room.at('f')));
      }
      // A kernel forgets an inode a moment after its last name went: also those of the cases before
      // this one, so that there may be more room than there was, but never less.
      const endMs = performance.now() + FORGET_WAIT_MS;
      while (inodes(room).free < before.free && performance.now() < endMs) {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
      }
      const after = inodes(room);
      equal(after.total, before.total);
      equal(Math.max(0, before.free - after.free), 0);
    },
  },
];

/** Regular files. */
export const files: PosixGroup[] = [
  { name: 'create and open', cases: creation },
  { name: 'contents and size', cases: contents },
  { name: 'unlink', cases: unlinked },
];
